package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
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
	out, code, err := c.command(filepath.Join(c.dir, "tests", "ecad_probe"), "--peaks")
	if err != nil || code != 0 {
		r.fail("ecad_probe --peaks: exit code %d, %v: %s", code, err, lastLine(out))
		return
	}
	p := &peaks{}
	if err := json.Unmarshal([]byte(lastLine(out)), p); err != nil || p.MMA <= 0 || p.CopyGBs <= 0 {
		r.fail("ecad_probe --peaks: %v: %s", err, lastLine(out))
		return
	}
	c.peaks = p
	r.Passed++
	r.Data = json.RawMessage(lastLine(out))
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

// aims are the shares of measured peaks that ops at these shapes are built for: products of 4096 rows or more and joint attention of the device's matrix speed, chains
// of its copies.
var aims = []struct {
	op, shape string
	share     float64
}{
	{"linear", "pixart-1024", 0.84}, {"linear", "flux-1024", 0.84}, {"attention", "flux-1024 joint", 0.70}, {"attention", "pixart-1024 self", 0.50}, {"chain", "", 0.85},
}

func aimOf(t opTime) float64 {
	for _, a := range aims {
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
		out, code, err := c.command(filepath.Join(c.dir, "tests", "cuda_bench"), gemm)
		if code == exitSkipped {
			r.skip("%s", lastLine(out))
			return
		}
		var times []opTime
		if err == nil && code == 0 {
			err = json.Unmarshal([]byte(out), &times)
		}
		if err != nil || code != 0 || len(times) == 0 {
			r.fail("cuda_bench %s: exit code %d, %v: %s", gemm, code, err, lastLine(out))
			return
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

// bench measures a model; name is what its step is remembered by. Its JSON goes into check.json as it is. optional: text of an error for which it is skipped.
func (c *checker) bench(name, model, optional string, args ...string) func(*result) {
	return func(r *result) {
		out, err := c.ecadx(append([]string{"bench", "--json", "--quiet", "--transformer-only", "--model", model, "--device", "cuda", "--dtype", "bfloat16"}, args...)...)
		if err != nil && optional != "" && strings.Contains(err.Error(), optional) {
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
		c.steps[name] = b.Step.Median
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

// compareSteps says how much longer a step took that was measured in another way.
func (c *checker) compareSteps(r *result, name, other, what string) {
	if ours, theirs := c.steps[name], c.steps[other]; ours > 0 && theirs > 0 {
		r.note("%s: %.3f ms against %.3f ms, %.2f times", what, theirs, ours, theirs/ours)
	}
}
