package bench

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Verdict says how a time compares to an earlier one.
type Verdict string

// The verdicts.
const (
	Same    Verdict = "same" // within the spread of both measurements
	Slower  Verdict = "slower"
	Faster  Verdict = "faster"
	Unknown Verdict = "unknown" // one of them was measured once: there is no spread to judge by
)

// Change is one time in two reports.
type Change struct {
	Name    string  `json:"name"`
	Before  Spread  `json:"before"`
	After   Spread  `json:"after"`
	Ratio   float64 `json:"ratio"` // after / before: below 1 is faster
	Verdict Verdict `json:"verdict"`
}

// Setting is something that differs between two reports.
type Setting struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Comparison is a report beside an earlier one.
type Comparison struct {
	File     string    `json:"file"`
	Settings []Setting `json:"settings"` // that differ
	Changes  []Change  `json:"changes"`
}

// Comparable tells whether a report measured the model and sizes of a configuration, so that times can be set side by side; the error says what differs.
// Another device, dtype, schedule or number of steps is what one may want to compare.
func (c Config) Comparable(before *Report) error {
	size, err := SizeOf(c.Model, c.Height, c.Width)
	if err != nil {
		return err
	}
	tokens := c.TextTokens
	if tokens == 0 {
		tokens = c.Model.Defaults().TextTokens
	}
	var differs []string
	setting := func(name string, x, y any) {
		if a, b := fmt.Sprint(x), fmt.Sprint(y); a != b {
			differs = append(differs, fmt.Sprintf("%s %s, now %s", name, a, b))
		}
	}
	setting("model", filepath.Clean(before.Model), filepath.Clean(c.Model.Ref()))
	setting("resolution", before.Resolution, Resolution{size.Height, size.Width})
	setting("batch", before.Batch, max(c.Batch, 1))
	setting("blocks", before.Blocks, blocksOf(c.Model.Shape(c.Steps)))
	setting("text tokens", before.TextTokens, tokens)
	if len(differs) == 0 {
		return nil
	}
	return fmt.Errorf("it measured other work (%s)", strings.Join(differs, "; "))
}

// CompareReports sets a report beside an earlier one. Components are taken together by name.
func CompareReports(file string, before, after *Report) *Comparison {
	c := &Comparison{File: file, Settings: []Setting{}, Changes: []Change{}}
	setting := func(name string, x, y any) {
		if a, b := fmt.Sprint(x), fmt.Sprint(y); a != b {
			c.Settings = append(c.Settings, Setting{name, a, b})
		}
	}
	setting("device", before.Device, after.Device)
	setting("hardware", before.Hardware.Name, after.Hardware.Name)
	setting("threads", before.Hardware.Threads, after.Hardware.Threads)
	setting("dtype", before.DType, after.DType)
	setting("steps", before.Steps, after.Steps)
	setting("guidance", before.Guidance, after.Guidance)
	setting("schedule", before.Schedule, after.Schedule)
	change := func(name string, x, y Spread) {
		if x.Median > 0 && y.Median > 0 {
			c.Changes = append(c.Changes, Change{name, x, y, y.Median / x.Median, judge(x, y)})
		}
	}
	change("step", before.StepMS, after.StepMS)
	change("run", runSpread(before.RunSpread, before.RunMS), runSpread(after.RunSpread, after.RunMS))
	change("uncached run", runSpread(before.UncachedRunSpread, before.UncachedRunMS), runSpread(after.UncachedRunSpread, after.UncachedRunMS))
	earlier := map[string]kindTime{}
	for _, k := range byKind(before) {
		earlier[k.name] = k
	}
	for _, k := range byKind(after) {
		if e, ok := earlier[k.name]; ok {
			change(k.name+" computed", e.compute, k.compute)
			change(k.name+" reused", e.reuse, k.reuse)
		}
	}
	stage := func(name string, x, y *Spread) {
		if x != nil && y != nil {
			change(name, *x, *y)
		}
	}
	stage("text encoder", before.TextSpread, after.TextSpread)
	stage("decoder", before.DecodeSpread, after.DecodeSpread)
	return c
}

// runSpread is the spread of a run, or its time alone in reports that hold no more.
func runSpread(s Spread, ms float64) Spread {
	if s.Median > 0 {
		return s
	}
	return Spread{ms, ms, ms}
}

// judge calls a change real when each median lies outside of what 80 % of the other measurement's samples took.
func judge(before, after Spread) Verdict {
	switch {
	case before.P10 == before.P90 || after.P10 == after.P90:
		return Unknown
	case after.Median > before.P90 && before.Median < after.P10:
		return Slower
	case after.Median < before.P10 && before.Median > after.P90:
		return Faster
	}
	return Same
}

// kindTime is one component of all blocks of a step taken together.
type kindTime struct {
	name           string
	blocks         int
	compute, reuse Spread // summed over blocks: of a step
	flops, bytes   int64
}

// byKind sums components of equal name, in the order of the model.
func byKind(r *Report) []kindTime {
	var list []kindTime
	place := map[string]int{}
	for _, c := range r.Components {
		i, ok := place[c.Component]
		if !ok {
			i = len(list)
			place[c.Component] = i
			list = append(list, kindTime{name: c.Component})
		}
		k := &list[i]
		k.blocks++
		k.compute, k.reuse = k.compute.plus(c.ComputeMS), k.reuse.plus(c.ReuseMS)
		k.flops += c.FLOPs
		k.bytes += c.Bytes
	}
	return list
}

// plus adds quantile by quantile, an upper bound of the spread of the sum.
func (s Spread) plus(o Spread) Spread {
	return Spread{s.Median + o.Median, s.P10 + o.P10, s.P90 + o.P90}
}

// WriteText prints the comparison for people.
func (c *Comparison) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "\ncompared with %s (ratio: now / before, below 1 is faster)\n", c.File)
	for _, s := range c.Settings {
		fmt.Fprintf(w, "  %s was %s, is %s\n", s.Name, s.Before, s.After)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tbefore ms\tnow ms\tratio\t\t")
	for _, x := range c.Changes {
		mark := string(x.Verdict)
		switch x.Verdict {
		case Same:
			mark = "within the spread of both"
		case Unknown:
			mark = "measured once, no spread to judge by"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%.3f\t%s\t\n", x.Name, msText(x.Before.Median), msText(x.After.Median), x.Ratio, mark)
	}
	return tw.Flush()
}
