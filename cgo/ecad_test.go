package ecad_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit/program"
)

var backends = []ecad.Backend{ecad.Reference, ecad.CPU}

// doubling is a program of `steps` steps, each of which doubles x and adds it to the io "sum".
func doubling(t *testing.T, steps, n int) []byte {
	t.Helper()
	b := program.NewBuilder(steps)
	x, sum := b.Persistent("x", program.Float32, n), b.Persistent("sum", program.Float32, n)
	b.InOut("x", x)
	b.InOut("sum", sum)
	one := b.Float64s("one", []float64{1, 1}, 2)
	two := b.Float64s("two", []float64{2}, 1)
	b.Begin(program.Step, "double")
	b.Lincomb("double", []program.Tensor{x}, two, nil, x)
	b.Lincomb("sum", []program.Tensor{sum, x}, one, nil, sum)
	section := b.End()
	var items []program.Item
	for i := range steps {
		items = append(items, program.Item{Section: section, Step: i})
	}
	b.Schedule("all", items)
	p, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t *testing.T, backend ecad.Backend) *ecad.Device {
	t.Helper()
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: backend, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

func start(t *testing.T, dev *ecad.Device, steps int) (*ecad.Program, *ecad.State, []ecad.Item) {
	t.Helper()
	p, err := dev.LoadProgram(nil, doubling(t, steps, 3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s, err := p.NewState()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	items, err := p.Schedule(0)
	if err != nil {
		t.Fatal(err)
	}
	return p, s, items
}

func TestRun(t *testing.T) {
	for _, backend := range backends {
		p, s, items := start(t, open(t, backend), 4)
		if err := errors.Join(ecad.Write(s, "x", []float32{1, 2, -3}), ecad.Write(s, "sum", []float32{0, 0, 100})); err != nil {
			t.Fatal(err)
		}
		f, err := s.Fork()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		calls := 0
		times, err := s.Run(context.Background(), p, items, ecad.RunOptions{Times: true, OnItem: func(done, of int) {
			if calls++; done != calls || of != 4 {
				t.Errorf("item %d of %d at call %d", done, of, calls)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if calls != 4 || len(times) != 8 {
			t.Errorf("%v: %d calls of OnItem, %d op times; want 4 and 8", backend, calls, len(times))
		}
		got := make([]float32, 3)
		if err := ecad.Read(s, "sum", got); err != nil {
			t.Fatal(err)
		}
		if got[0] != 30 || got[1] != 60 || got[2] != 10 {
			t.Errorf("%v: sum %v, want [30 60 10]", backend, got)
		}
		if err := ecad.Read(f, "x", got); err != nil || got[0] != 1 {
			t.Errorf("%v: the fork sees %v (%v) after the other side ran, want 1", backend, got, err)
		}
	}
}

func TestErrors(t *testing.T) {
	dev := open(t, ecad.CPU)
	p, s, items := start(t, dev, 2)
	if _, err := s.Run(context.Background(), p, items, ecad.RunOptions{}); !errors.Is(err, ecad.ErrNotReady) || !strings.Contains(err.Error(), "x") {
		t.Errorf("run before x was written: %v", err)
	}
	if err := ecad.Write(s, "x", []float32{1}); err == nil || !strings.Contains(err.Error(), "x") {
		t.Errorf("short write: %v", err)
	}
	if err := ecad.Write(s, "y", []float32{1}); err == nil || !strings.Contains(err.Error(), "y") {
		t.Errorf("unknown io: %v", err)
	}
	if err := errors.Join(ecad.Write(s, "x", []float32{1, 1, float32(math.NaN())}), ecad.Write(s, "sum", make([]float32, 3))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(context.Background(), p, items, ecad.RunOptions{CheckFinite: true}); err == nil || !strings.Contains(err.Error(), "double") {
		t.Errorf("NaN: %v, want an error that names the op", err)
	}
	if _, err := s.Run(context.Background(), p, []ecad.Item{{Section: 7}}, ecad.RunOptions{Times: true}); err == nil {
		t.Error("section 7 of 1: no error")
	}
	if _, err := dev.LoadProgram(nil, []byte("not a program")); !errors.Is(err, ecad.ErrBadProgram) {
		t.Errorf("no program: %v", err)
	}
	if err := ecad.CheckProgram(nil); !errors.Is(err, ecad.ErrBadProgram) {
		t.Errorf("empty program: %v", err)
	}
	if _, err := dev.OpenWeights("testdata/none.safetensors"); err == nil || !strings.Contains(err.Error(), "none.safetensors") {
		t.Errorf("missing weights: %v", err)
	}
	if _, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: ecad.CUDA}); !errors.Is(err, ecad.ErrNoDevice) {
		if n, _ := ecad.DeviceCount(ecad.CUDA); n == 0 {
			t.Errorf("CUDA without a device: %v", err)
		}
	}
	if _, err := ecad.OpenDevice(ecad.DeviceConfig{Threads: -1}); err == nil {
		t.Error("-1 threads: no error")
	}
}

func TestCancel(t *testing.T) {
	for _, backend := range backends {
		p, s, items := start(t, open(t, backend), 1000)
		if err := errors.Join(ecad.Write(s, "x", make([]float32, 3)), ecad.Write(s, "sum", make([]float32, 3))); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		_, err := s.Run(ctx, p, items, ecad.RunOptions{OnItem: func(done, of int) {
			cancel()
			time.Sleep(time.Millisecond) // a thousand chances to see it
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v: cancelled run returns %v", backend, err)
		}
		if _, err := s.Run(ctx, p, items, ecad.RunOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: run under a done context returns %v", backend, err)
		}
	}
}

func TestCloseInAnyOrder(t *testing.T) {
	dev := open(t, ecad.CPU)
	p, s, items := start(t, dev, 2)
	if err := errors.Join(ecad.Write(s, "x", []float32{1, 1, 1}), ecad.Write(s, "sum", make([]float32, 3)), dev.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(context.Background(), p, items, ecad.RunOptions{}); err != nil {
		t.Errorf("run after the device handle was closed: %v", err)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(context.Background(), p, items, ecad.RunOptions{}); !errors.Is(err, ecad.ErrClosed) {
		t.Errorf("run of a closed program: %v", err)
	}
	if _, err := dev.Info(); !errors.Is(err, ecad.ErrClosed) {
		t.Errorf("info of a closed device: %v", err)
	}
}

// Two devices run side by side, many goroutines share one.
func TestConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for range 2 {
		dev := open(t, ecad.CPU)
		p, err := dev.LoadProgram(nil, doubling(t, 5, 3))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		items, err := p.Schedule(0)
		if err != nil {
			t.Fatal(err)
		}
		for k := range 8 {
			wg.Go(func() {
				s, err := p.NewState()
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				got := make([]float32, 3)
				err = errors.Join(ecad.Write(s, "x", []float32{float32(k), 1, 1}), ecad.Write(s, "sum", make([]float32, 3)))
				if _, e := s.Run(context.Background(), p, items, ecad.RunOptions{}); e != nil {
					err = errors.Join(err, e)
				}
				if err = errors.Join(err, ecad.Read(s, "sum", got)); err != nil || got[0] != float32(62*k) {
					t.Errorf("goroutine %d: sum %v (%v), want %d", k, got, err, 62*k)
				}
			})
		}
	}
	wg.Wait()
}
