package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// measured is what sections leave for those behind them.
type measured struct {
	peaks  *peaks                 // nil: not measured
	ours   []opTime               // by our own kernels
	models map[string]*modelBench // by name
	peer   []torchLine            // PyTorch's
}

// aim is one speed that this project is built for, beside what was measured. None that is missed fails a check: a figure is right when it is right.
type aim struct {
	What   string  `json:"what"`
	Got    float64 `json:"got"`
	Aim    float64 `json:"aim"`
	AtMost bool    `json:"at_most"` // or at least
	Unit   string  `json:"unit"`
	Met    bool    `json:"met"`
}

func (a aim) String() string {
	verdict, bound := "missed", "at least"
	if a.Met {
		verdict = "met"
	}
	if a.AtMost {
		bound = "at most"
	}
	return fmt.Sprintf("%-6s  %s: %.3g %s, aim %s %.3g", verdict, a.What, a.Got, a.Unit, bound, a.Aim)
}

// opAims are the shares of measured peaks that ops at these shapes are built for: products of 4096 rows or more and joint attention of the device's matrix speed, chains
// of its copies.
var opAims = []struct {
	op, shape string
	share     float64
}{
	{"linear", "pixart-1024", 0.84}, {"linear", "flux-1024", 0.84}, {"attention", "flux-1024 joint", 0.70}, {"attention", "pixart-1024 self", 0.50}, {"chain", "", 0.85},
}

// h200Copy is the copy speed of an H200 in GB/s, for which the milliseconds of stepAims are.
const h200Copy = 4300

// stepAims are milliseconds of a guided step. byMemory: on a device that copies slower than an H200 they are as much longer.
var stepAims = []struct {
	name     string
	ms       float64
	byMemory bool
}{
	{"pixart-256", 2.2, true}, {"pixart-256 b100", 110, false}, {"pixart-1024", 27, false},
}

// reuseOverFloor and reuseExtra: a step that reuses everything takes at most so many times its floor, and so many milliseconds more.
const (
	reuseOverFloor = 1.3
	reuseExtra     = 0.02
)

// keptSpeedup is the part of the saved arithmetic that is to be saved time, where a step is long enough for its arithmetic to count.
const keptSpeedup = 0.9

// aims sets what was measured beside what it is built for.
func (c *checker) aims(r *result) {
	list, missing := c.opAims()
	for _, s := range stepAims {
		b := c.models[s.name]
		if b == nil {
			missing = append(missing, "guided step of "+s.name)
			continue
		}
		ms := s.ms
		if s.byMemory && c.peaks != nil && c.peaks.CopyGBs < h200Copy {
			ms *= h200Copy / c.peaks.CopyGBs
		}
		list = append(list, atMost("guided step of "+s.name, "ms", b.Step.Median, ms))
	}
	for _, name := range []string{"pixart-256", "pixart-1024", "pixart-256 b100"} {
		if b := c.models[name]; b != nil && b.Reuse.Floor.Median > 0 {
			list = append(list, atMost("step of "+name+" that reuses everything", "ms", b.Reuse.Step.Median, reuseOverFloor*b.Reuse.Floor.Median+reuseExtra))
		} else {
			missing = append(missing, "step of "+name+" that reuses everything")
		}
	}
	for _, name := range []string{"pixart-1024", "pixart-1024, half reused", "pixart-256 b100"} {
		if b := c.models[name]; b != nil {
			list = append(list, atLeast("speedup of "+name+" over the arithmetic saved", "", b.Efficiency, keptSpeedup))
		} else {
			missing = append(missing, "speedup of "+name)
		}
	}
	compiled, without := c.compiledAims()
	list, missing = append(list, compiled...), append(missing, without...)
	met := 0
	for _, a := range list {
		if a.Met {
			met++
		}
		r.note("%v", a)
	}
	for _, what := range missing {
		r.skip("not measured: %s", what)
	}
	if len(list) > 0 {
		r.Passed = met
		r.note("%d of %d aims met, %d not measured", met, len(list), len(missing))
	}
	r.Data, _ = json.Marshal(list)
}

func atMost(what, unit string, got, aimed float64) aim {
	return aim{what, got, aimed, true, unit, got > 0 && got <= aimed}
}

func atLeast(what, unit string, got, aimed float64) aim {
	return aim{what, got, aimed, false, unit, got >= aimed}
}

// opAims are those of single ops, and which of them have no figure.
func (c *checker) opAims() (list []aim, missing []string) {
	for _, a := range opAims {
		found := false
		for _, t := range c.ours {
			if t.Op != a.op || !strings.HasPrefix(t.Shape, a.shape) || t.Share == 0 {
				continue
			}
			found = true
			list = append(list, atLeast(t.Op+" "+t.Shape, "% of peak", 100*t.Share, 100*a.share))
		}
		if !found {
			missing = append(missing, strings.TrimSpace(a.op+" "+a.shape))
		}
	}
	return list, missing
}

// compiledAims: ours is ahead of compiled PyTorch at every size.
func (c *checker) compiledAims() (list []aim, missing []string) {
	for _, s := range stepAims {
		theirs := 0.0
		for _, l := range c.peer {
			if strings.HasPrefix(l.What, "compiled") && l.Name == s.name {
				theirs = l.MS
			}
		}
		if b := c.models[s.name]; b != nil && theirs > 0 {
			list = append(list, atLeast("compiled PyTorch's step over ours, "+s.name, "times", theirs/b.Step.Median, 1))
		} else {
			missing = append(missing, "compiled PyTorch, "+s.name)
		}
	}
	return list, missing
}
