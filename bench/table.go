package bench

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// TableOptions say how a report is printed.
type TableOptions struct {
	Detail bool // a line per block as well
	Width  int  // columns of the terminal; 0 means 100
	ASCII  bool // bars of letters instead of blocks
}

// wideTable is the width from which tables show percentiles.
const wideTable = 96

func (o TableOptions) width() int {
	if o.Width <= 0 {
		return 100
	}
	return o.Width
}

// WriteText prints the report for people: what was measured, memory, runs, components, and a bar per step.
func (r *Report) WriteText(w io.Writer, o TableOptions) error {
	fmt.Fprintf(w, "%s, %s on %s (%s, %s)\n", r.Model, r.DType, r.Device, r.Hardware.Name, plural(r.Hardware.Threads, "thread"))
	fmt.Fprintf(w, "%s px, batch %d, %s, guidance %g, %d text tokens, blocks %s, schedule %s\n\n", r.Resolution, r.Batch, plural(r.Steps, "step"),
		r.Guidance, r.TextTokens, strings.Trim(fmt.Sprint(r.Blocks), "[]"), r.Schedule)
	if p := r.Peaks; p != nil {
		fmt.Fprintf(w, "peaks   products %.0f GFLOP/s", p.Matmul)
		if p.DType != "float32" {
			fmt.Fprintf(w, " (float32 %.0f)", p.MatmulFloat32)
		}
		fmt.Fprintf(w, ", copies %.1f GB/s, as measured here\n", p.Copy)
	}
	fmt.Fprintf(w, "memory  %s\n", strings.Replace(r.Memory.String(), ": ", "\n        ", 1))
	if r.Memory.ProcessPeak > 0 {
		fmt.Fprintf(w, "        the process reached %s\n", bytesText(r.Memory.ProcessPeak))
	}
	fmt.Fprintln(w)
	if err := r.writeRuns(w, o); err != nil {
		return err
	}
	r.writeSavings(w)
	if err := r.writeComponents(w, o); err != nil {
		return err
	}
	r.writeNotes(w)
	r.writeBars(w, o)
	return nil
}

// String is the plan for people.
func (m Memory) String() string {
	return fmt.Sprintf("%s planned: weights %s, activations %s, slots %s, runtime %s", bytesText(m.Total), bytesText(m.Weights), bytesText(m.Activations), bytesText(m.Slots), bytesText(m.Runtime))
}

// writeRuns prints the times of steps, runs and stages.
func (r *Report) writeRuns(w io.Writer, o TableOptions) error {
	t := newTable(w, o)
	t.row("", "ms", "p10", "p90", "GFLOP/s", "GB/s", "of peak", "by")
	work := func(name string, s Spread, x Work) {
		t.row(name, msText(s.Median), msText(s.P10), msText(s.P90), fmt.Sprintf("%.1f", x.GFLOPs), fmt.Sprintf("%.1f", x.GBs), x.share(), string(x.Bound))
	}
	work("step, all computed", r.StepMS, r.StepWork)
	if r.ScheduleHash != "" && r.Schedule != "none" {
		work("run under the schedule", r.RunSpread, r.RunWork)
	}
	work("run, all computed", r.UncachedRunSpread, r.UncachedRunWork)
	stage := func(name string, s *Spread) {
		if s != nil {
			t.row(name, msText(s.Median), msText(s.P10), msText(s.P90), "", "", "", "")
		}
	}
	stage("of it the prologue", &Spread{r.PrologueMS, r.PrologueMS, r.PrologueMS})
	stage("text encoder", r.TextSpread)
	stage("decoder", r.DecodeSpread)
	return t.flush()
}

// writeSavings prints what the schedule saves, and what a step costs that reuses everything.
func (r *Report) writeSavings(w io.Writer) {
	fmt.Fprintf(w, "\nspeedup %.2f: %.0f %% of the %.2f times fewer FLOPs (MACs %.2f times fewer)\n", r.Speedup, 100*r.Efficiency, r.FLOPsRatio, r.MACsRatio)
	fmt.Fprintf(w, "runs in turns, median of %d; the component times add up to %s ms a run\n", r.Rounds, msText(r.PredictedRunMS))
	if u := r.Reuse; u.FloorMS.Median > 0 {
		of := ""
		if blocks := r.allBlocks(); u.Blocks < blocks {
			of = fmt.Sprintf(" (first %d of %d blocks)", u.Blocks, blocks)
		}
		fmt.Fprintf(w, "a step that reuses everything%s: %s ms,\n%.2f times reading its %s of slots once (%s ms)\n", of, msText(u.StepMS.Median), u.Ratio, bytesText(u.SlotBytes), msText(u.FloorMS.Median))
	}
	fmt.Fprintln(w)
}

func (r *Report) allBlocks() int {
	n := 0
	for _, b := range r.Blocks {
		n += b
	}
	return n
}

// writeComponents prints a line per kind of component and, with detail, per block.
func (r *Report) writeComponents(w io.Writer, o TableOptions) error {
	t := newTable(w, o)
	t.row("component", "ms a step", "p10", "p90", "share", "GFLOP/s", "GB/s", "of peak", "by", "reused ms", "saves")
	line := func(name string, compute, reuse Spread, flops, bytes int64) {
		x := r.Peaks.rate(flops, bytes, compute.Median)
		t.row(name, msText(compute.Median), msText(compute.P10), msText(compute.P90), fmt.Sprintf("%.1f %%", 100*ratio(compute.Median, r.StepMS.Median)),
			fmt.Sprintf("%.1f", x.GFLOPs), fmt.Sprintf("%.1f", x.GBs), x.share(), string(x.Bound), msText(reuse.Median),
			fmt.Sprintf("%.1f %%", 100*(1-ratio(reuse.Median, compute.Median))))
	}
	for _, k := range byKind(r) {
		line(fmt.Sprintf("%s x %d", k.name, k.blocks), k.compute, k.reuse, k.flops, k.bytes)
	}
	t.row("other", msText(r.OtherMS), "", "", fmt.Sprintf("%.1f %%", 100*ratio(r.OtherMS, r.StepMS.Median)), "", "", "", "", "", "")
	if o.Detail {
		for _, c := range r.Components {
			line(fmt.Sprintf("#%d %s", c.Block, c.Component), c.ComputeMS, c.ReuseMS, c.FLOPs, c.Bytes)
		}
	}
	return t.flush()
}

// writeNotes explains what readers ask about.
func (r *Report) writeNotes(w io.Writer) {
	if r.Peaks == nil {
		return
	}
	most := max(r.StepWork.PeakShare, r.RunWork.PeakShare)
	for _, k := range byKind(r) {
		most = max(most, r.Peaks.rate(k.flops, k.bytes, k.compute.Median).PeakShare)
	}
	fmt.Fprintln(w, "\nof peak: least time that the peaks allow / time taken; by: what sets that time")
	if most > 1 {
		fmt.Fprintln(w, "over 100 %: operands in a cache move faster than memory copies, or products of\nthese shapes are faster than the one measured")
	}
}

// share is the share of peak for people.
func (r Rate) share() string {
	if r.Bound == "" {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*r.PeakShare)
}

// table aligns columns: the first to the left, the others to the right. Some are left out where there is no room.
type table struct {
	w      io.Writer
	narrow bool
	rows   [][]string
}

func newTable(w io.Writer, o TableOptions) *table { return &table{w: w, narrow: o.width() < wideTable} }

// row adds a row; the first one names the columns.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) flush() error {
	head := t.rows[0]
	widths := make([]int, len(head))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, row := range t.rows {
		line := fmt.Sprintf("%-*s", widths[0], row[0])
		for i, c := range row[1:] {
			if h := head[i+1]; !t.narrow || h != "p10" && h != "p90" && h != "GB/s" {
				line += fmt.Sprintf("  %*s", widths[i+1], c)
			}
		}
		if _, err := fmt.Fprintln(t.w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
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
