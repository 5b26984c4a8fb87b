//go:build cuda

package bench

import (
	"strings"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/cgo/cudev"
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
