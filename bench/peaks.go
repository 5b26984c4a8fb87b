package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
)

// Peaks are what the device reached on nothing but one large matrix product, and on nothing but one large copy, each the best of several
// runs of that one op through libecad on the very device and threads that the model runs on. They are measured, not taken from a data
// sheet, so a share of more than 1 is possible: an op whose operands stay in a cache moves them faster than memory copies, and a product of
// another shape may suit the processor better.
type Peaks struct {
	DType         string  `json:"dtype"`
	Matmul        float64 `json:"matmul_gflops"`         // GFLOP/s in dtype, a multiplication and an addition counted as two
	MatmulFloat32 float64 `json:"matmul_float32_gflops"` // GFLOP/s
	Copy          float64 `json:"copy_gb_per_s"`         // 1e9 bytes a second, bytes read and bytes written both counted
	Method        string  `json:"method"`
}

// peakSizes are the operands of the two measurements: x [m, k] times w [n, k], and a copy of half of copyBytes to the other half.
type peakSizes struct {
	m, n, k   int
	copyBytes int64
}

// peakTime bounds each of the measurements once it has run minPeakRuns times.
const (
	peakTime    = 700 * time.Millisecond
	minPeakRuns = 3
)

// Sizes that fill the device for milliseconds: the reference backend is thousands of times slower than a GPU.
func peakSizesOf(backend ecad.Backend) peakSizes {
	switch backend {
	case ecad.CUDA:
		return peakSizes{8192, 8192, 8192, 1 << 30}
	case ecad.CPU:
		return peakSizes{1024, 2048, 2048, min(max(8*lastCacheBytes(), 128<<20), 1<<30)}
	}
	return peakSizes{128, 256, 256, 16 << 20}
}

// lastCacheBytes is the size of the largest cache of the first core, 16 MiB where the system does not say.
func lastCacheBytes() int64 {
	most := int64(16 << 20)
	files, _ := filepath.Glob("/sys/devices/system/cpu/cpu0/cache/index*/size")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		text, unit := strings.TrimSpace(string(data)), int64(1)
		if t, ok := strings.CutSuffix(text, "K"); ok {
			text, unit = t, 1<<10
		} else if t, ok := strings.CutSuffix(text, "M"); ok {
			text, unit = t, 1<<20
		}
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			most = max(most, n*unit)
		}
	}
	return most
}

// MeasurePeaks runs both measurements on a device; dtype is that of the model.
func MeasurePeaks(ctx context.Context, dev *ecad.Device, dtype dit.DType) (*Peaks, error) {
	info, err := dev.Info()
	if err != nil {
		return nil, err
	}
	s := peakSizesOf(info.Backend)
	p := &Peaks{DType: dtype.String()}
	p.Method = fmt.Sprintf("best of repeated runs: linear of [%d, %d] by [%d, %d]; copy of %s to as much, read and written bytes counted", s.m, s.k, s.n, s.k, bytesText(s.copyBytes/2))
	if p.MatmulFloat32, err = matmulPeak(ctx, dev, s, program.Float32); err != nil {
		return nil, fmt.Errorf("peak of matrix products: %w", err)
	}
	if p.Matmul = p.MatmulFloat32; dtype == dit.BFloat16 {
		if p.Matmul, err = matmulPeak(ctx, dev, s, program.BFloat16); err != nil {
			return nil, fmt.Errorf("peak of matrix products: %w", err)
		}
	}
	if p.Copy, err = copyPeak(ctx, dev, s.copyBytes); err != nil {
		return nil, fmt.Errorf("peak of copies: %w", err)
	}
	return p, nil
}

// matmulPeak is the GFLOP/s of one linear op whose weights are packed, as a model's are.
func matmulPeak(ctx context.Context, dev *ecad.Device, s peakSizes, dtype program.DType) (float64, error) {
	b := program.NewBuilder(1)
	x := b.Persistent("x", dtype, s.m, s.k)
	b.Input("x", x)
	y := b.Persistent("y", dtype, s.m, s.n)
	b.Output("y", y)
	b.Begin(program.Step, "peak")
	b.Linear("peak", program.LinearSpec{X: []program.Tensor{x}, W: []program.Tensor{b.Weight("w", s.n, s.k)}}, y)
	b.Schedule("peak", []program.Item{{Section: b.End()}})
	p, err := b.Finish()
	if err != nil {
		return 0, err
	}
	w := make([]float32, s.n*s.k)
	for i := range w {
		w[i] = float32(i%61-30) / 1024
	}
	var pin runtime.Pinner // the library keeps a pointer to them
	pin.Pin(&w[0])
	defer pin.Unpin()
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 4*len(w))
	weights, err := dev.NewWeights([]ecad.TensorDesc{{Name: "w", DType: ecad.Float32, Shape: []int64{int64(s.n), int64(s.k)}, Data: bytes}}, nil)
	if err != nil {
		return 0, err
	}
	best, err := bestTime(ctx, dev, weights, p, func(state *ecad.State) error {
		if dtype == program.BFloat16 {
			return ecad.Write(state, "x", slices.Repeat([]uint16{0x3C80, 0xBC80, 0x3D00}, s.m*s.k/3+1)[:s.m*s.k]) // 1/64, -1/64, 1/32
		}
		return ecad.Write(state, "x", w[:s.m*s.k])
	})
	return perSecond(p.Cost(0).Flops, best), errors.Join(err, weights.Close())
}

// copyPeak is the GB/s of one copy of memory that no cache holds.
func copyPeak(ctx context.Context, dev *ecad.Device, bytes int64) (float64, error) {
	const width = 1 << 14
	rows := max(1, int(bytes/2/4/width))
	b := program.NewBuilder(1)
	x, y := b.Persistent("x", program.Float32, rows, width), b.Persistent("y", program.Float32, rows, width)
	b.Output("x", x)
	b.Output("y", y)
	row := b.Float32s("row", slices.Repeat([]float32{1}, width), 1, width)
	b.Begin(program.Prologue, "fill") // touches every page, so that no measured run pays for the system's zeroing
	b.Copy("fill", b.Expand(row, rows, width), x)
	prologue := b.End()
	b.Begin(program.Step, "peak")
	b.Copy("peak", x, y)
	b.Schedule("peak", []program.Item{{Section: prologue}, {Section: b.End()}})
	p, err := b.Finish()
	if err != nil {
		return 0, err
	}
	best, err := bestTime(ctx, dev, nil, p, func(*ecad.State) error { return nil })
	return perSecond(2*4*width*int64(rows), best), err
}

// bestTime is the shortest time of a program's last item in milliseconds, once it does not get shorter any more.
func bestTime(ctx context.Context, dev *ecad.Device, weights *ecad.Weights, p *program.Program, prepare func(*ecad.State) error) (float64, error) {
	start, at := time.Now(), 0 // at: the run that was the shortest
	samples, err := lastItemTimes(ctx, dev, weights, p, prepare, func(ms []float64) bool {
		if n := len(ms) - 1; ms[n] < ms[at] {
			at = n
		}
		return len(ms) >= minPeakRuns && (len(ms)-1-at >= minPeakRuns || time.Since(start) > peakTime)
	})
	if err != nil {
		return 0, err
	}
	return samples[at], nil
}

// lastItemTimes runs schedule 0 of a program, then its last item again and again until enough says so of the milliseconds that it took.
func lastItemTimes(ctx context.Context, dev *ecad.Device, weights *ecad.Weights, p *program.Program, prepare func(*ecad.State) error, enough func(ms []float64) bool) (ms []float64, err error) {
	data, err := p.Encode()
	if err != nil {
		return nil, err
	}
	loaded, err := dev.LoadProgram(weights, data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, loaded.Close()) }()
	items, err := loaded.Schedule(0)
	if err != nil {
		return nil, err
	}
	state, err := loaded.NewState()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	if err := prepare(state); err != nil {
		return nil, err
	}
	for len(ms) == 0 || !enough(ms) {
		times, err := state.Run(ctx, loaded, items, ecad.RunOptions{Times: true})
		if err != nil {
			return nil, err
		}
		ms = append(ms, itemTime(times, len(items)-1))
		items = items[len(items)-1:] // what comes before has run once
	}
	return ms, nil
}

// itemTime is how long item i of a run took, in milliseconds: from its first op to the end of its last.
func itemTime(times []ecad.OpTime, i int) float64 {
	first, last := -1, -1
	for k := range times {
		if int(times[k].Item) == i {
			if last = k; first < 0 {
				first = k
			}
		}
	}
	if first < 0 {
		return 0
	}
	return float64(times[last].StartNS+times[last].DurNS-times[first].StartNS) / 1e6
}
