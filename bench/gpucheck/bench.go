package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// peaks are the device's own speeds, of which the others are shares.
type peaks struct {
	Device  string  `json:"device"`
	WGMMA   float64 `json:"wgmma_tflops"` // 0: it has none
	MMA     float64 `json:"mma_tflops"`
	CopyGBs float64 `json:"copy_gb_per_s"`
}

func (p *peaks) tflops() float64 { return max(p.WGMMA, p.MMA) }

// measurePeaks times products that never leave registers, and copies.
func (c *checker) measurePeaks(r *result) {
	o := c.command(c.test("ecad_probe"), "--peaks")
	if o.err != nil || o.code != 0 {
		r.fail("ecad_probe --peaks: exit code %d, %v: %s", o.code, o.err, o.last())
		return
	}
	line := lastLine(o.stdout)
	p := &peaks{}
	if err := json.Unmarshal([]byte(line), p); err != nil || p.MMA <= 0 || p.CopyGBs <= 0 {
		r.fail("ecad_probe --peaks: %v: %s", err, line)
		return
	}
	c.peaks = p
	r.Passed++
	r.Data = json.RawMessage(line)
	r.note("wgmma %.0f TFLOP/s, mma.sync %.0f TFLOP/s, copy %.0f GB/s", p.WGMMA, p.MMA, p.CopyGBs)
}

// opTime is what cuda_bench says of one op.
type opTime struct {
	Op     string  `json:"op"` // linear, attention or chain
	Shape  string  `json:"shape"`
	US     float64 `json:"us"`
	TFLOPs float64 `json:"tflops"`
	GBs    float64 `json:"gb_per_s"`
	Share  float64 `json:"share,omitempty"` // of the peak that limits it, where peaks were measured
	Aim    float64 `json:"aim,omitempty"`   // for the share
}

func aimOf(t opTime) float64 {
	for _, a := range opAims {
		if t.Op == a.op && strings.HasPrefix(t.Shape, a.shape) {
			return a.share
		}
	}
	return 0
}

// share is that of the peak that a chain (memory) or another op (products) is limited by.
func (p *peaks) share(t opTime) float64 {
	switch {
	case p == nil:
		return 0
	case t.Op == "chain" || strings.Contains(t.Shape, "cross"):
		return t.GBs / p.CopyGBs
	}
	return t.TFLOPs / p.tflops()
}

// ops times single ops; gemm: ecad or cublaslt.
func (c *checker) ops(gemm string) func(*result) {
	return func(r *result) {
		o := c.command(c.test("cuda_bench"), gemm)
		if o.code == exitSkipped {
			r.skip("%s", o.last())
			return
		}
		times, err := opTimes(o)
		if err != nil {
			r.fail("cuda_bench %s: exit code %d, %v: %s", gemm, o.code, err, o.last()) // what it measured before that counts
		}
		for i := range times {
			t := &times[i]
			t.Share, t.Aim = c.peaks.share(*t), aimOf(*t)
			r.note("%s", c.describe(*t))
		}
		if gemm == "ecad" {
			c.ours = times
		}
		r.Passed = len(times)
		r.Data, _ = json.Marshal(times)
	}
}

// opTimes reads the array that cuda_bench prints, as far as it got.
func opTimes(o output) ([]opTime, error) {
	var times []opTime
	d := json.NewDecoder(strings.NewReader(o.stdout))
	if _, err := d.Token(); err != nil {
		return nil, errors.Join(o.err, err)
	}
	for d.More() {
		var t opTime
		if err := d.Decode(&t); err != nil {
			return times, errors.Join(o.err, err)
		}
		times = append(times, t)
	}
	_, err := d.Token()
	switch {
	case o.err != nil || err != nil:
		return times, errors.Join(o.err, err)
	case o.code != 0:
		return times, errors.New("it failed")
	case len(times) == 0:
		return nil, errors.New("it measured nothing")
	}
	return times, nil
}

func (c *checker) describe(t opTime) string {
	text := fmt.Sprintf("%-9s %-24s %9.1f us %7.1f TFLOP/s %6.0f GB/s", t.Op, t.Shape, t.US, t.TFLOPs, t.GBs)
	if t.Share > 0 {
		text += fmt.Sprintf(" %4.0f %% of peak", 100*t.Share)
	}
	if t.Share > 0 && t.Aim > 0 {
		text += fmt.Sprintf(", aim %.0f %%: %s", 100*t.Aim, map[bool]string{true: "met", false: "missed"}[t.Share >= t.Aim])
	}
	for _, o := range c.ours {
		if o.Op == t.Op && o.Shape == t.Shape && o.US > 0 {
			text += fmt.Sprintf(", %.2f times our time", t.US/o.US)
		}
	}
	return text
}

// modelBench is what the sections need of the JSON of ecadx bench.
type modelBench struct {
	Step       spread  `json:"step_ms"`
	Run        float64 `json:"run_ms"`
	Uncached   float64 `json:"uncached_run_ms"`
	Speedup    float64 `json:"speedup"`
	Ratio      float64 `json:"flops_ratio"`
	Efficiency float64 `json:"efficiency"`
	Components []struct {
		Component string `json:"component"`
		Compute   spread `json:"compute_ms"`
		Reuse     spread `json:"reuse_ms"`
		FLOPs     int64  `json:"flops"`
		Bytes     int64  `json:"bytes"`
	} `json:"components"`
	Reuse struct {
		Step  spread  `json:"step_ms"`
		Floor spread  `json:"floor_ms"`
		Ratio float64 `json:"ratio"`
	} `json:"reuse"`
}

type spread struct {
	Median float64 `json:"median"`
}

// noCublasLt is what ecadx says where the library is missing.
const noCublasLt = "cuBLASLt is not found"

// bench measures a model; name is what others remember it by. Its JSON goes into check.json as it is.
func (c *checker) bench(name, model string, args ...string) func(*result) {
	return func(r *result) {
		out, err := c.ecadx(append([]string{"bench", "--json", "--quiet", "--transformer-only", "--model", model, "--device", "cuda", "--dtype", "bfloat16"}, args...)...)
		if err != nil && strings.Contains(err.Error(), noCublasLt) {
			r.skip("%v", err)
			return
		}
		if err != nil {
			r.fail("%v", err)
			return
		}
		b := &modelBench{}
		if err := json.Unmarshal([]byte(out), b); err != nil {
			r.fail("bench: %v", err)
			return
		}
		r.Passed++
		r.Data = json.RawMessage(out)
		if c.models == nil {
			c.models = map[string]*modelBench{}
		}
		c.models[name] = b
		r.note("guided step %.3f ms; run %.2f ms, uncached %.2f ms: %.2f times as fast with %.2f times less work (%.2f of what was saved)", b.Step.Median, b.Run, b.Uncached, b.Speedup, b.Ratio, b.Efficiency)
		r.note("a step that reuses everything: %.3f ms, its floor %.3f ms, ratio %.2f", b.Reuse.Step.Median, b.Reuse.Floor.Median, b.Reuse.Ratio)
		c.noteComponents(r, b)
	}
}

// noteComponents sums each component over its blocks.
func (c *checker) noteComponents(r *result, b *modelBench) {
	type sum struct {
		blocks, flops, bytes int64
		compute, reuse       float64
	}
	sums := map[string]*sum{}
	var names []string
	for _, t := range b.Components {
		s := sums[t.Component]
		if s == nil {
			s = &sum{}
			sums[t.Component] = s
			names = append(names, t.Component)
		}
		s.blocks++
		s.flops += t.FLOPs
		s.bytes += t.Bytes
		s.compute += t.Compute.Median
		s.reuse += t.Reuse.Median
	}
	for _, name := range names {
		s := sums[name]
		tflops, gbs := float64(s.flops)/s.compute*1e-9, float64(s.bytes)/s.compute*1e-6
		text := fmt.Sprintf("%s of %d blocks: computed %.3f ms, reused %.4f ms, %.1f TFLOP/s, %.0f GB/s", name, s.blocks, s.compute, s.reuse, tflops, gbs)
		if c.peaks != nil {
			text += fmt.Sprintf(" (%.0f %% and %.0f %% of peak)", 100*tflops/c.peaks.tflops(), 100*gbs/c.peaks.CopyGBs)
		}
		r.note("%s", text)
	}
}

// against benches the model of section pixart-256 in another way, and says how much longer a step took.
func (c *checker) against(what, name, model string, args ...string) func(*result) {
	return func(r *result) {
		c.bench(name, model, args...)(r)
		if ours, theirs := c.models["pixart-256"], c.models[name]; ours != nil && theirs != nil && ours.Step.Median > 0 {
			r.note("%s: %.3f ms against %.3f ms, %.2f times", what, theirs.Step.Median, ours.Step.Median, theirs.Step.Median/ours.Step.Median)
		}
	}
}
