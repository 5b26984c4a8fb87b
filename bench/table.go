package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// TableOptions say how a report is printed.
type TableOptions struct {
	Detail bool // a line per block as well
	Width  int  // columns of the terminal; 0 means 100
	ASCII  bool // bars of # instead of blocks
}

// WriteText prints the report for people: what was measured, a table of components, and a bar per step.
func (r *Report) WriteText(w io.Writer, o TableOptions) error {
	fmt.Fprintf(w, "%s, %s on %s (%s, %s)\n", r.Model, r.DType, r.Device, r.Hardware.Name, plural(r.Hardware.Threads, "thread"))
	fmt.Fprintf(w, "%s px, batch %d, %s, guidance %g, %d text tokens, blocks %s, schedule %s\n", r.Resolution, r.Batch, plural(r.Steps, "step"),
		r.Guidance, r.TextTokens, strings.Trim(fmt.Sprint(r.Blocks), "[]"), r.Schedule)
	fmt.Fprintf(w, "\nstep %s ms (p10 %s, p90 %s), computed in full: %.1f GFLOP/s\n", msText(r.StepMS.Median), msText(r.StepMS.P10), msText(r.StepMS.P90),
		perSecond(r.stepFLOPs(), r.StepMS.Median))
	fmt.Fprintf(w, "run  %s ms, uncached %s ms: speedup %.2f; MACs %.2f, FLOPs %.2f times less (%s, median of %d)\n", msText(r.RunMS), msText(r.UncachedRunMS),
		r.Speedup, r.MACsRatio, r.FLOPsRatio, "in turns", r.Rounds)
	fmt.Fprintf(w, "     %s ms by the component times; prologue %s ms", msText(r.PredictedRunMS), msText(r.PrologueMS))
	if r.TextMS != nil {
		fmt.Fprintf(w, "; text encoder %s ms", msText(*r.TextMS))
	}
	if r.DecodeMS != nil {
		fmt.Fprintf(w, "; decoder %s ms", msText(*r.DecodeMS))
	}
	m := r.Memory
	fmt.Fprintf(w, "\nmemory: weights %s, activations %s, slots %s, runtime %s\n\n", bytesText(m.Weights), bytesText(m.Activations), bytesText(m.Slots), bytesText(m.Runtime))
	if err := r.writeComponents(w, o); err != nil {
		return err
	}
	r.writeBars(w, o)
	return nil
}

// writeComponents prints a line per kind of component and, with detail, per block.
func (r *Report) writeComponents(w io.Writer, o TableOptions) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "component\tblocks\tms a step\tp10\tp90\tshare\tGFLOP/s\tGB/s\treused ms\tsaves\t")
	line := func(name, blocks string, compute, reuse Spread, flops, bytes int64) {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%.1f %%\t%.1f\t%.2f\t%s\t%.1f %%\t\n", name, blocks, msText(compute.Median), msText(compute.P10), msText(compute.P90),
			100*ratio(compute.Median, r.StepMS.Median), perSecond(flops, compute.Median), perSecond(bytes, compute.Median), msText(reuse.Median),
			100*(1-ratio(reuse.Median, compute.Median)))
	}
	for _, k := range byKind(r) {
		line(k.name, fmt.Sprint(k.blocks), k.compute, k.reuse, k.flops, k.bytes)
	}
	fmt.Fprintf(tw, "other\t\t%s\t\t\t%.1f %%\t\t\t\t\t\n", msText(r.OtherMS), 100*ratio(r.OtherMS, r.StepMS.Median))
	if o.Detail {
		for _, c := range r.Components {
			line(c.Component, fmt.Sprintf("#%d", c.Block), c.ComputeMS, c.ReuseMS, c.FLOPs, c.Bytes)
		}
	}
	return tw.Flush()
}

// writeBars draws the steps of the run, the longest one over the whole width.
func (r *Report) writeBars(w io.Writer, o TableOptions) {
	longest := 0.0
	for _, s := range r.StepTimes {
		longest = max(longest, s.MS)
	}
	if longest <= 0 {
		return
	}
	width := o.Width
	if width <= 0 {
		width = 100
	}
	cells := max(10, width-40)
	fmt.Fprintln(w)
	for _, s := range r.StepTimes {
		fmt.Fprintf(w, "step %3d  %9s ms  %3d/%d  %s\n", s.Step, msText(s.MS), s.Computed, s.Cells, bar(s.MS/longest, cells, o.ASCII))
	}
}

// bar is a share of the width, to an eighth of a column.
func bar(share float64, width int, ascii bool) string {
	share = min(max(share, 0), 1)
	if ascii {
		return strings.Repeat("#", max(1, int(math.Round(share*float64(width)))))
	}
	eighths := max(1, int(math.Round(share*float64(width)*8)))
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return text
}

// stepFLOPs is the work of one fully computed step on the batch.
func (r *Report) stepFLOPs() int64 {
	total := int64(0)
	for _, c := range r.Components {
		total += c.FLOPs
	}
	return total
}

// perSecond is work per second in units of 1e9; ms may be 0.
func perSecond(work int64, ms float64) float64 { return ratio(float64(work), ms*1e6) }

// msText writes milliseconds with three digits that count.
func msText(ms float64) string {
	switch {
	case ms == 0:
		return "0"
	case ms < 1:
		return fmt.Sprintf("%.4f", ms)
	case ms < 100:
		return fmt.Sprintf("%.2f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

// bytesText writes bytes with a binary unit.
func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
