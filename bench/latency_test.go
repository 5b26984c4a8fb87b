package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/schedule"
)

// tiny is the smallest measurement of the miniature.
func tiny(t *testing.T, ref string) Config {
	t.Helper()
	m := openFirst(t, "mini-pixart", 2)
	c := Config{Model: m, Device: ecad.DeviceConfig{Backend: ecad.CPU, Threads: 1}, Steps: 3, Batch: 2, Guidance: 2.5, TextTokens: 8, Repeats: 2, ScheduleName: ref}
	g, err := schedule.Resolve(ref, m.Shape(c.Steps))
	if err != nil {
		t.Fatal(err)
	}
	c.Schedule = g.Schedule
	return c
}

func measure(t *testing.T, c Config) *Report {
	t.Helper()
	r, err := Measure(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMeasure(t *testing.T) {
	c := tiny(t, "fora:2")
	r := measure(t, c)
	dims, err := ModelDims(c.Model, Size{LatentHeight: 16, LatentWidth: 16}, c.Guidance)
	if err != nil {
		t.Fatal(err)
	}
	tally, err := c.Schedule.Canonical().MACs(dims)
	if err != nil {
		t.Fatal(err)
	}
	if r.MACs != tally.Total || r.UncachedMACs != tally.Uncached || r.MACsRatio != tally.Ratio {
		t.Errorf("MACs %d of %d, want %d of %d", r.MACs, r.UncachedMACs, tally.Total, tally.Uncached)
	}
	cost, err := FLOPsCost(c.Model, dit.Sizes{Batch: 2, Height: 16, Width: 16, TextTokens: 8}, 3, c.Guidance)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := cost.Cost(c.Schedule); float64(r.FLOPs) != math.Trunc(want) || r.UncachedFLOPs <= r.FLOPs {
		t.Errorf("FLOPs %d of %d, want %v", r.FLOPs, r.UncachedFLOPs, want)
	}
	// Two slots of 2 x 2 rows, 64 tokens of 144 channels in float32 per component.
	slot := int64(4 * 64 * 144 * 4)
	if m := r.Memory; m.Slots != 6*slot || m.Weights < 1 || m.Activations < slot || m.Runtime < 1 || m.DevicePeak < m.Weights+m.Activations+m.Slots {
		t.Errorf("memory %+v, slots of %d each", m, slot)
	}
	if len(r.Components) != 6 || r.Components[4].Block != 1 || r.Components[4].Component != "attn2" {
		t.Fatalf("components %+v", r.Components)
	}
	if r.TextMS == nil || r.DecodeMS == nil || r.Rounds != 2 || len(r.StepTimes) != 3 {
		t.Errorf("text %v, decoder %v, %d rounds, %d steps", r.TextMS, r.DecodeMS, r.Rounds, len(r.StepTimes))
	}
	for i, want := range []int{6, 0, 6} {
		if r.StepTimes[i].Computed != want || r.StepTimes[i].Cells != 6 {
			t.Errorf("step %d: %+v, want %d computed", i, r.StepTimes[i], want)
		}
	}
	checkTimes(t, r)
}

// checkTimes holds of any measurement: every time is positive and finite, quantiles are in order, flops and bytes are counted.
func checkTimes(t *testing.T, r *Report) {
	t.Helper()
	ordered := func(name string, s Spread) {
		t.Helper()
		if !(s.P10 > 0 && s.P10 <= s.Median && s.Median <= s.P90 && !math.IsInf(s.P90, 0)) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	ordered("step", r.StepMS)
	ordered("run", r.RunSpread)
	ordered("uncached run", r.UncachedRunSpread)
	for _, c := range r.Components {
		ordered(c.Component, c.ComputeMS)
		if s := c.ReuseMS; !(s.P10 >= 0 && s.P10 <= s.Median && s.Median <= s.P90) { // a slope between tiny chains may come out as 0
			t.Errorf("%s reused: %+v", c.Component, s)
		}
		if c.FLOPs < 1 || c.Bytes < 1 {
			t.Errorf("%s: %d flops, %d bytes", c.Component, c.FLOPs, c.Bytes)
		}
	}
	if !(r.RunMS == r.RunSpread.Median && r.Speedup == r.UncachedRunMS/r.RunMS && r.PredictedRunMS > 0 && r.OtherMS > 0 && r.PrologueMS > 0) {
		t.Errorf("run %v of %v, speedup %v, predicted %v, other %v, prologue %v", r.RunMS, r.UncachedRunMS, r.Speedup, r.PredictedRunMS, r.OtherMS, r.PrologueMS)
	}
}

// The members of the JSON that scripts read, in order (CLI.md).
var promised = []string{"model", "device", "dtype", "resolution", "batch", "steps", "guidance", "schedule", "step_ms", "run_ms", "uncached_run_ms", "speedup", "macs",
	"uncached_macs", "macs_ratio", "flops", "uncached_flops", "flops_ratio", "memory_bytes", "components"}

func TestReportJSON(t *testing.T) {
	c := tiny(t, "none")
	c.Guidance, c.DType, c.TransformerOnly, c.Height, c.Width = 1, dit.BFloat16, true, 64, 32
	r := measure(t, c)
	checkTimes(t, r)
	if r.Speedup != 1 || r.FLOPsRatio != 1 || r.MACsRatio != 1 || r.Memory.Slots != 0 || r.TextMS != nil || r.DecodeMS != nil {
		t.Errorf("without a schedule: speedup %v, ratios %v %v, slots %d, text %v, decoder %v", r.Speedup, r.FLOPsRatio, r.MACsRatio, r.Memory.Slots, r.TextMS, r.DecodeMS)
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got := memberNames(t, data); !slices.Equal(got[:len(promised)], promised) {
		t.Errorf("members %v, want first %v", got, promised)
	}
	var doc struct {
		Resolution string             `json:"resolution"`
		Step       map[string]float64 `json:"step_ms"`
		Memory     map[string]int64   `json:"memory_bytes"`
		Components []map[string]any   `json:"components"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Resolution != "64x32" {
		t.Errorf("resolution %q", doc.Resolution)
	}
	for _, name := range []string{"median", "p10", "p90"} {
		if _, ok := doc.Step[name]; !ok {
			t.Errorf("step_ms lacks %s", name)
		}
	}
	for _, name := range []string{"weights", "activations", "slots", "runtime"} {
		if _, ok := doc.Memory[name]; !ok {
			t.Errorf("memory_bytes lacks %s", name)
		}
	}
	for _, name := range []string{"block", "component", "compute_ms", "reuse_ms", "flops", "bytes"} {
		if _, ok := doc.Components[0][name]; !ok {
			t.Errorf("components lack %s", name)
		}
	}
	again, err := DecodeReport(data)
	if err != nil {
		t.Fatal(err)
	}
	back, err := again.Encode()
	if err != nil || !bytes.Equal(data, back) {
		t.Errorf("a report changes when it is read and written: %v", err)
	}
}

// memberNames lists the members of an object in order.
func memberNames(t *testing.T, data []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	var names []string
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

func TestDecodeReportRefuses(t *testing.T) {
	for _, text := range []string{"", "null", "{}", "[]", `{"model":"m","steps":2}`, `{"model":"m","steps":2,"step_ms":{"median":1},"resolution":"wide"}`} {
		if _, err := DecodeReport([]byte(text)); err == nil {
			t.Errorf("%q was read as a report", text)
		}
	}
}

func TestMeasureRefuses(t *testing.T) {
	c := tiny(t, "fora:2")
	c.Steps = 5
	if _, err := Measure(t.Context(), c); !errors.Is(err, schedule.ErrShape) {
		t.Errorf("a schedule of 3 steps in a run of 5: %v", err)
	}
	c = tiny(t, "none")
	c.Height = 63
	if _, err := Measure(t.Context(), c); err == nil {
		t.Error("63 pixels were measured")
	}
	c = tiny(t, "none")
	c.Device.Backend = ecad.CUDA
	if n, _ := ecad.DeviceCount(ecad.CUDA); n == 0 {
		if _, err := Measure(t.Context(), c); !errors.Is(err, ecad.ErrNoDevice) {
			t.Errorf("CUDA where there is none: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	c = tiny(t, "none")
	c.Progress = func(what string) {
		if what == "runs" {
			cancel()
		}
	}
	if _, err := Measure(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestProbe(t *testing.T) {
	for _, blocks := range []int{1, 2, 5, 8} {
		m := openFirst(t, "mini-pixart", blocks)
		s, err := probeSchedule(m)
		if err != nil {
			t.Fatal(err)
		}
		computed := map[schedule.Cell]bool{}
		for cell, d := range s.All() {
			if cell.Step > 0 && d == schedule.Compute {
				step := cell.Step
				cell.Step = 0
				if computed[cell] || step == 1 {
					t.Errorf("%d blocks: step %d computes %v", blocks, step, cell)
				}
				computed[cell] = true
			}
		}
		if want := 3 * min(blocks, 4); len(computed) != want || s.Shape().Steps != want+2 {
			t.Errorf("%d blocks: %d components probed in %d steps, want %d", blocks, len(computed), s.Shape().Steps, want)
		}
	}
}

func TestProcBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(path, []byte("Name:\tx\nVmHWM:\t    2048 kB\nVmBad:\tmany kB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int64{"VmHWM:": 2048 * 1024, "VmBad:": 0, "VmRSS:": 0} {
		if got := procBytes(path, key); got != want {
			t.Errorf("%s %d, want %d", key, got, want)
		}
	}
	if procBytes(path+".none", "VmHWM:") != 0 || residentBytes() < 1<<20 {
		t.Errorf("no file gives %d, this process %d", procBytes(path+".none", "VmHWM:"), residentBytes())
	}
}

// Whatever is read as a report can be printed, compared and made a table of, or is refused.
func FuzzDecodeReport(f *testing.F) {
	data, err := madeUpReport().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"model":"m","steps":1,"step_ms":{"median":1},"blocks":[1024],"family":"pixart","resolution":"1x2","steps_ms":[{"ms":1e308}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeReport(data)
		if err != nil {
			return
		}
		if err := r.WriteText(io.Discard, TableOptions{Detail: true}); err != nil {
			t.Fatal(err)
		}
		if err := CompareReports("", r, madeUpReport()).WriteText(io.Discard); err != nil {
			t.Fatal(err)
		}
		if table, err := NewLatencyTable(r); err == nil {
			if err := table.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
