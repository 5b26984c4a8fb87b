package ga

import (
	"slices"

	"ecadx/schedule"
)

// Operator is a way to make a child in mode ecadx. Where the reference cuts and flips a flat string of genes, these follow the tensor of steps,
// blocks and components. The numbers are part of a study's trajectory: they never change.
type Operator uint8

// The operators. Those up to crossovers mix two parents, the others change one.
const (
	CrossRows       Operator = iota // whole steps between two to four cuts come from the other parent
	CrossBlocks                     // a range of blocks, from a step on
	CrossComponents                 // one component, in every block, from a step on
	MutateStepRun                   // one component of one block becomes compute or reuse over a run of steps
	MutateBlockRun                  // one component of one step, over a run of blocks
	MutateBlock                     // all components of one block over a run of steps
	MutateShift                     // the computation of a component in a run of blocks moves one step earlier or later
	MutateRowSwap                   // two steps exchange their rows
	MutateFlip                      // one to four genes flip
	numOperators

	crossovers = MutateStepRun
)

var operatorNames = [numOperators]string{"rows", "blocks", "components", "step run", "block run", "block", "shift", "row swap", "flip"}

// String names the operator.
func (o Operator) String() string { return operatorNames[o] }

// tensor applies operators to genomes of one shape. Children are changed in place.
type tensor struct{ shape schedule.Shape }

func (t tensor) at(step, block, comp int) int {
	return t.shape.Index(schedule.Cell{Step: step, Block: block, Comp: comp})
}

// span is a random range of [0, n): its length is geometric with the given mean, at least 1.
func span(s *Stream, n int, mean float64) (lo, hi int) {
	length := 1
	for length < n && s.Float64() >= 1/mean {
		length++
	}
	lo = s.IntN(n - length + 1)
	return lo, lo + length
}

// Edits lean to later steps: what differs late shares all the work before it.

// lateStep is the later of two random steps of [0, n).
func lateStep(s *Stream, n int) int { return max(s.IntN(n), s.IntN(n)) }

// lateSpan is the later of two spans of steps.
func lateSpan(s *Stream, n int, mean float64) (lo, hi int) {
	lo, hi = span(s, n, mean)
	if l, h := span(s, n, mean); l > lo {
		lo, hi = l, h
	}
	return lo, hi
}

// cross replaces parts of child by those of other.
func (t tensor) cross(o Operator, child, other Genome, s *Stream) {
	sh := t.shape
	switch o {
	case CrossRows:
		if sh.Steps < 3 { // step 0 never differs, so there is nothing to cut
			return
		}
		cuts := make([]int, 2+2*s.IntN(2))
		for i := range cuts {
			cuts[i] = 1 + lateStep(s, sh.Steps) // Steps itself: to the end
		}
		slices.Sort(cuts)
		for i := 0; i < len(cuts); i += 2 {
			copyRange(child, other, cuts[i]*sh.RowLen(), min(cuts[i+1], sh.Steps)*sh.RowLen())
		}
	case CrossBlocks:
		lo, hi := span(s, sh.TotalBlocks(), max(1, float64(sh.TotalBlocks())/2))
		for step := max(1, lateStep(s, sh.Steps)); step < sh.Steps; step++ {
			copyRange(child, other, t.at(step, lo, 0), t.at(step, hi-1, schedule.ComponentsPerBlock-1)+1)
		}
	case CrossComponents:
		comp := s.IntN(schedule.ComponentsPerBlock)
		for step := max(1, lateStep(s, sh.Steps)); step < sh.Steps; step++ {
			for block := range sh.TotalBlocks() {
				i := t.at(step, block, comp)
				child.Set(i, other.Get(i))
			}
		}
	}
}

// meanRun is the mean length of the runs that mutations change: long enough to matter, short enough to be an edit.
const meanRun = 3

// mutate edits child.
func (t tensor) mutate(o Operator, child Genome, s *Stream) {
	sh := t.shape
	if sh.Steps < 2 {
		return
	}
	switch o {
	case MutateStepRun:
		block, comp, compute := s.IntN(sh.TotalBlocks()), s.IntN(schedule.ComponentsPerBlock), s.IntN(2) == 1
		lo, hi := lateSpan(s, sh.Steps-1, meanRun)
		for step := lo + 1; step <= hi; step++ {
			child.Set(t.at(step, block, comp), compute)
		}
	case MutateBlockRun:
		step, comp, compute := 1+lateStep(s, sh.Steps-1), s.IntN(schedule.ComponentsPerBlock), s.IntN(2) == 1
		lo, hi := span(s, sh.TotalBlocks(), meanRun)
		for block := lo; block < hi; block++ {
			child.Set(t.at(step, block, comp), compute)
		}
	case MutateBlock:
		block, compute := s.IntN(sh.TotalBlocks()), s.IntN(2) == 1
		lo, hi := lateSpan(s, sh.Steps-1, meanRun)
		for step := lo + 1; step <= hi; step++ {
			for comp := range schedule.ComponentsPerBlock {
				child.Set(t.at(step, block, comp), compute)
			}
		}
	case MutateShift:
		t.shift(child, s)
	case MutateRowSwap:
		if sh.Steps < 3 {
			return
		}
		a := 1 + lateStep(s, sh.Steps-1)
		b := 1 + s.IntN(sh.Steps-2)
		if b >= a {
			b++
		}
		for i := range sh.RowLen() {
			x, y := a*sh.RowLen()+i, b*sh.RowLen()+i
			u, v := child.Get(x), child.Get(y)
			child.Set(x, v)
			child.Set(y, u)
		}
	case MutateFlip:
		for range 1 + s.IntN(4) {
			child.Flip((1+lateStep(s, sh.Steps-1))*sh.RowLen() + s.IntN(sh.RowLen()))
		}
	}
}

// shift moves what a component computes at one step to the next or the one before, in a run of blocks. The cost stays nearly the same:
// the search for the right moment.
func (t tensor) shift(child Genome, s *Stream) {
	sh := t.shape
	if sh.Steps < 3 {
		return
	}
	step, comp := 1+lateStep(s, sh.Steps-2), s.IntN(schedule.ComponentsPerBlock)
	lo, hi := span(s, sh.TotalBlocks(), meanRun)
	for block := lo; block < hi; block++ {
		x, y := t.at(step, block, comp), t.at(step+1, block, comp)
		u, v := child.Get(x), child.Get(y)
		child.Set(x, v)
		child.Set(y, u)
	}
}

// copyRange sets the genes [lo, hi) of dst to those of src.
func copyRange(dst, src Genome, lo, hi int) {
	if lo >= hi {
		return
	}
	other := src.Clone()
	swapRange(dst, other, lo, hi)
}

// flatCross is the reference's four-point crossover, one child of it.
func flatCross(child, other Genome, s *Stream) {
	cuts := []int{s.IntN(child.n + 1), s.IntN(child.n + 1), s.IntN(child.n + 1), s.IntN(child.n + 1)}
	slices.Sort(cuts)
	copyRange(child, other, cuts[0], cuts[1])
	copyRange(child, other, cuts[2], cuts[3])
}

// flatFlips flips each gene with one chance in their number.
func flatFlips(child Genome, s *Stream) {
	for i := range child.n {
		if s.IntN(child.n) == 0 {
			child.Flip(i)
		}
	}
}

// credits adapts how often operators are used to how often their children enter the archive: probability matching (Goldberg 1990; Thierens
// 2005) with a floor, so that none dies out.
type credits struct {
	tries, wins [numOperators]float64
}

// Share of the choices that the floor gives to all operators together, and how much a generation's counts are worth in the next one.
const (
	creditFloor = 0.3
	creditDecay = 0.8
)

// pick returns an operator of [lo, hi).
func (c *credits) pick(lo, hi Operator, s *Stream) Operator {
	n := float64(hi - lo)
	total := 0.0
	rate := func(o Operator) float64 { return (c.wins[o] + 1) / (c.tries[o] + 2) }
	for o := lo; o < hi; o++ {
		total += rate(o)
	}
	u := s.Float64()
	for o := lo; o+1 < hi; o++ {
		if u -= creditFloor/n + (1-creditFloor)*rate(o)/total; u < 0 {
			return o
		}
	}
	return hi - 1
}

// age makes the past count less.
func (c *credits) age() {
	for o := range c.tries {
		c.tries[o] *= creditDecay
		c.wins[o] *= creditDecay
	}
}

// note counts a child of an operator.
func (c *credits) note(o Operator, won bool) {
	c.tries[o]++
	if won {
		c.wins[o]++
	}
}
