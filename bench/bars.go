package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// part is one stretch of a step's bar.
type part struct {
	name  string
	ms    float64
	block rune // in a terminal
	ascii rune
	class string // in the SVG
}

// parts are the stretches of a step's bar in order; what the schedule saves against the step that computes everything comes last.
func (r *Report) parts(s StepTime) []part {
	saved := max(0, r.StepMS.Median-s.MS)
	if s.Computed == s.Cells { // the median of all such steps is a little more than some of them
		saved = 0
	}
	return []part{
		{"computed", s.ComputedMS, '█', '#', "computed"},
		{"reused", s.ReusedMS, '▓', '=', "reused"},
		{"other", s.OtherMS, '▒', '-', "other"},
		{"saved", saved, '·', '.', "saved"},
	}
}

// longestBar is the time that spans the whole width.
func (r *Report) longestBar() float64 {
	longest := 0.0
	for _, s := range r.StepTimes {
		longest = max(longest, s.MS, r.StepMS.Median)
	}
	return longest
}

// writeBars draws the steps of the run, the longest one over the whole width.
func (r *Report) writeBars(w io.Writer, o TableOptions) {
	longest := r.longestBar()
	if longest <= 0 || len(r.StepTimes) == 0 {
		return
	}
	mark := func(p part) rune {
		if o.ASCII {
			return p.ascii
		}
		return p.block
	}
	fmt.Fprint(w, "\nsteps, components computed:")
	for _, p := range r.parts(StepTime{}) {
		fmt.Fprintf(w, "  %c %s", mark(p), p.name)
	}
	fmt.Fprintln(w)
	cells := max(10, o.width()-32)
	for _, s := range r.StepTimes {
		fmt.Fprintf(w, "step %3d %9s ms %3d/%-3d ", s.Step, msText(s.MS), s.Computed, s.Cells)
		list := r.parts(s)
		for i, n := range columns(list, longest, cells) {
			fmt.Fprint(w, strings.Repeat(string(mark(list[i])), n))
		}
		fmt.Fprintln(w)
	}
}

// columns gives each part its share of the width, rounded so that the ends of parts, not their lengths, are off by half a column at most.
func columns(list []part, longest float64, width int) []int {
	out := make([]int, len(list))
	sum, at := 0.0, 0
	for i, p := range list {
		sum += p.ms
		end := int(math.Round(min(1, sum/longest) * float64(width)))
		out[i] = max(0, end-at)
		at = max(at, end)
	}
	return out
}
