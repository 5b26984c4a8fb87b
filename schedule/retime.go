package schedule

import (
	"fmt"
	"math"
)

// Retime carries a schedule over to another number of steps, another sampler or both, by position in the noise schedule. from[i] is the
// position of step i of s, to[j] that of step j of the result: timesteps or any other measure of noise that both share, in any unit, most
// noise first and never rising.
//
// The rule: what step i computes (i > 0) is computed at the step of the result whose position is nearest to from[i]; every other cell but
// those of step 0, which computes everything, reuses. Of equally near steps it is the first behind the one that step i-1 went to, else the
// last. So an output stays in use over the same stretch of noise as in s, give or take half a step of the result: how far outputs drift
// depends on that stretch. More steps keep the number of computations and save a larger share; fewer steps merge computations that fall
// on one step, and save less.
//
// It follows that equal positions give the canonical step 0 and otherwise s itself, that a schedule which computes more than another in
// every cell does so after re-timing, and that steps which are near one another keep their order. Errors wrap [ErrShape].
func Retime(s *Schedule, from, to []float64) (*Schedule, error) {
	shape := s.Shape()
	if len(from) != shape.Steps {
		return nil, fmt.Errorf("%w: %d positions for the %d steps of the schedule", ErrShape, len(from), shape.Steps)
	}
	for _, positions := range [2][]float64{from, to} {
		for i, p := range positions {
			if math.IsNaN(p) || math.IsInf(p, 0) || i > 0 && p > positions[i-1] {
				return nil, fmt.Errorf("%w: step %d is at noise position %v: positions are finite and never rise", ErrShape, i, p)
			}
		}
	}
	target := shape
	target.Steps = len(to)
	out, err := New(target)
	if err != nil {
		return nil, err
	}
	row := shape.RowLen()
	for i := row; i < target.Cells(); i++ {
		out.SetFlat(i, Reuse)
	}
	at := 0
	for step := 1; step < shape.Steps; step++ {
		at = nearestStep(to, from[step], at)
		for i := range row {
			if s.AtFlat(step*row+i) == Compute {
				out.SetFlat(at*row+i, Compute)
			}
		}
	}
	return out, nil
}

// nearestStep is the step whose position is nearest to p; of equally near ones the first behind last, else the last of them.
func nearestStep(to []float64, p float64, last int) int {
	best := 0
	for j := range to {
		d, least := math.Abs(to[j]-p), math.Abs(to[best]-p)
		if d < least || d == least && best <= last {
			best = j
		}
	}
	return best
}
