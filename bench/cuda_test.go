//go:build cuda

package bench

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	ecad "ecadx/cgo"
	"ecadx/cgo/cudev"
	"ecadx/dit/program"
)

// TestCUDARuntimeAndDriverInOneProcess asks the CUDA runtime (in libecad) and the driver (through gorgonia.org/cu): both in this process, in turns,
// and they say the same, with a GPU and without.
func TestCUDARuntimeAndDriverInOneProcess(t *testing.T) {
	for range 2 {
		n, why := ecad.DeviceCount(ecad.CUDA)
		devices, driver := cudev.Devices()
		if n != len(devices) {
			t.Fatalf("libecad finds %d devices (%s), the driver %d (%s)", n, why, len(devices), driver)
		}
		if n == 0 && (why == "" || driver == "") {
			t.Fatalf("no device, but no reason: libecad %q, driver %q", why, driver)
		}
		if n == 0 && strings.Contains(why, "built without") {
			t.Fatalf("this build has CUDA, libecad says %q", why)
		}
	}
	devices, why := cudev.Devices()
	if len(devices) == 0 {
		t.Skipf("SKIP: no GPU: %s", why)
	}
	for _, d := range devices {
		checkPrimaryContext(t, d.Ordinal)
		dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: ecad.CUDA, Ordinal: d.Ordinal})
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		info, err := dev.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.MemoryTotal != uint64(d.MemoryTotal) || !strings.Contains(info.Name, d.Name) {
			t.Errorf("libecad says %q with %d bytes, the driver %q with %d", info.Name, info.MemoryTotal, d.Name, d.MemoryTotal)
		}
	}
}

// checkPrimaryContext puts bytes into memory of the driver's and gets them back, between two events.
func checkPrimaryContext(t *testing.T, ordinal int) {
	t.Helper()
	c, err := cudev.Open(ordinal)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 7)
	}
	m, err := c.Alloc(int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(data))
	taken, err := c.Timed(func() error { return errors.Join(m.Write(data), m.Read(back)) })
	if err := errors.Join(err, m.Free()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back, data) || taken <= 0 {
		t.Errorf("device %d: bytes come back as they were: %v, in %v", ordinal, bytes.Equal(back, data), taken)
	}
	if m.Write(data[1:]) == nil {
		t.Error("too few bytes are copied")
	}
}

// TestCUDARuntimeAndDriverWithCuBLASLt multiplies by cuBLASLt in a process in which the driver was asked before and is asked after, and by libecad's own kernels:
// integers, so both must be exact.
func TestCUDARuntimeAndDriverWithCuBLASLt(t *testing.T) {
	if devices, why := cudev.Devices(); len(devices) == 0 {
		t.Skipf("SKIP: no GPU: %s", why)
	}
	const m, n, k = 256, 192, 320
	var results [2][]float32
	for i, gemm := range []ecad.GEMM{ecad.GEMMECAD, ecad.GEMMCuBLASLt} {
		dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: ecad.CUDA, GEMM: gemm})
		if err != nil && strings.Contains(err.Error(), "cuBLASLt is not found") {
			t.Skipf("SKIP: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		results[i] = integerProduct(t, dev, m, n, k)
		if info, err := dev.Info(); err != nil || strings.Contains(info.Features, "cuBLASLt") != (gemm == ecad.GEMMCuBLASLt) {
			t.Errorf("the device says %q, %v", info.Features, err)
		}
		dev.Close()
	}
	if !slices.Equal(results[0], results[1]) {
		t.Error("cuBLASLt and libecad multiply integers to different results")
	}
	if devices, why := cudev.Devices(); len(devices) == 0 {
		t.Errorf("the devices are gone: %s", why)
	}
}

// integerProduct multiplies in scratch memory, where cuBLASLt may.
func integerProduct(t *testing.T, dev *ecad.Device, m, n, k int) []float32 {
	t.Helper()
	b := program.NewBuilder(1)
	x, y := b.Persistent("x", program.Float32, m, k), b.Persistent("y", program.Float32, m, n)
	b.Input("x", x)
	b.Output("y", y)
	b.Begin(program.Step, "product")
	rows := b.Copy("rows", x, b.Activation(program.BFloat16, m, k))
	product := b.Linear("product", program.LinearSpec{X: []program.Tensor{rows}, W: []program.Tensor{b.Weight("w", n, k)}}, b.Activation(program.BFloat16, m, n))
	b.Copy("result", product, y)
	b.Schedule("product", []program.Item{{Section: b.End()}})
	p, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	integers := func(count int) []float32 {
		v := make([]float32, count)
		for i := range v {
			v[i] = float32(i*7%5 - 2)
		}
		return v
	}
	w := integers(n * k)
	var pin runtime.Pinner
	pin.Pin(&w[0])
	defer pin.Unpin()
	weights, err := dev.NewWeights([]ecad.TensorDesc{{Name: "w", DType: ecad.Float32, Shape: []int64{int64(n), int64(k)}, Data: unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 4*len(w))}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer weights.Close()
	loaded, err := dev.LoadProgram(weights, data)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	state, err := loaded.NewState()
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	items, err := loaded.Schedule(0)
	if err == nil {
		err = ecad.Write(state, "x", integers(m*k))
	}
	for range 3 { // as it is, captured, replayed
		if err == nil {
			_, err = state.Run(t.Context(), loaded, items, ecad.RunOptions{})
		}
	}
	out := make([]float32, m*n)
	if err == nil {
		err = ecad.Read(state, "y", out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}
