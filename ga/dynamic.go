package ga

import (
	"fmt"
	"math"

	"ecadx/schedule"
)

// Drift says how wrong a component's output is when it is kept: what one uncached pass over a few images tells about every schedule.
type Drift struct {
	Shape schedule.Shape
	// Errors holds, per cell of a row (block by block, component by component), a Steps x Steps matrix, row-major: entry (t0, t), t0 < t, is
	// the error that step t makes by reading the output of step t0. Errors of different cells and steps are taken to add. Finite, not negative.
	Errors [][]float64
}

// Validate returns an error that names the first entry that cannot be.
func (d Drift) Validate() error {
	if err := d.Shape.Validate(); err != nil {
		return err
	}
	if len(d.Errors) != d.Shape.RowLen() {
		return fmt.Errorf("%w: drift of %d cells for %v, which has %d in a row", ErrConfig, len(d.Errors), d.Shape, d.Shape.RowLen())
	}
	s := d.Shape.Steps
	for cell, m := range d.Errors {
		if len(m) != s*s {
			return fmt.Errorf("%w: drift of cell %d has %d entries instead of %d x %d", ErrConfig, cell, len(m), s, s)
		}
		for t0 := range s {
			for t := t0 + 1; t < s; t++ {
				if v := m[t0*s+t]; !finite(v) || v < 0 {
					return fmt.Errorf("%w: drift of cell %d from step %d to %d is %v; it must be finite and not negative", ErrConfig, cell, t0, t, v)
				}
			}
		}
	}
	return nil
}

// Seeds returns up to n schedules that trade the sum of errors against cost, from mild to bold: for a price per unit of cost, the best steps at
// which to compute each component are found exactly, by dynamic programming over the step that was computed last; n costs between computing
// everything and computing step 0 alone, closer together where they are low, select the prices. (A Lagrangian relaxation: Everett 1963.) Where runs of fewer steps
// are allowed, that is done for each number of steps, and of the schedules within a cost the one of the least error is taken. Those that coincide
// are listed once. Names are "dynamic:SHARE", the share of the uncached cost, with "@STEPS" behind it for a shorter run.
func (d Drift) Seeds(cost CostModel, fewer []int, n int) ([]Named, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	programmes := make([]*programme, 1+len(fewer))
	for i, steps := range append([]int{d.Shape.Steps}, fewer...) {
		var err error
		if programmes[i], err = newProgramme(d.At(steps), cost); err != nil {
			return nil, err
		}
		programmes[i].shorter = d.shorter(steps)
	}
	var out []Named
	seen := make(map[schedule.Hash]bool)
	whole := programmes[0]
	for i := range n {
		target := whole.least + (whole.most-whole.least)*math.Pow(float64(n-i)/float64(n+1), boldness)
		s, name, err := cheapest(programmes, target)
		if err != nil {
			return nil, err
		}
		if h := s.Hash(); !seen[h] {
			seen[h] = true
			out = append(out, Named{Name: name, Schedule: s})
		}
	}
	return out, nil
}

// boldness is the exponent that spaces the costs: 1 would space them evenly, though quality changes fastest where little is computed.
const boldness = 1.5

// cheapest returns the schedule of the least error within a cost, and its name. The first programme is that of the whole run.
func cheapest(programmes []*programme, target float64) (best *schedule.Schedule, name string, err error) {
	least := math.Inf(1)
	for i, p := range programmes {
		if p.least > target && i > 0 {
			continue // even one computed step costs more
		}
		s, c, err := p.within(target)
		if err != nil {
			return nil, "", err
		}
		if e := p.shorter + p.d.total(GenomeOf(s)); e < least {
			least, best, name = e, s, fmt.Sprintf("dynamic:%.3f", c/programmes[0].most)
			if i > 0 {
				name += fmt.Sprintf("@%d", p.d.Shape.Steps)
			}
		}
	}
	return best, name, nil
}

// shorter is what a run of n steps that computes everything errs, in the unit of the others: H(n)^2 / H(1), where H(n) is the error of a whole run
// that computes n steps and keeps all outputs between them. Kept outputs err with the distance to where they were computed; a sampler knows how
// far it steps, and errs with the square of it. On both miniatures, at a quarter to three quarters of 20 steps, that is within a factor of 4 of
// the error at which caching costs as many decibels.
func (d Drift) shorter(n int) float64 {
	kept := func(n int) float64 {
		all := NewGenome(n * d.Shape.RowLen())
		all.SetAll(true)
		return d.total(retimed(d.Shape, all, d.Shape.Steps))
	}
	worst := kept(1)
	if n == d.Shape.Steps || worst == 0 {
		return 0
	}
	return kept(n) / worst * kept(n)
}

// Error is the sum of the errors that are expected of a schedule, with what a run of fewer steps errs besides, in the unit of Errors. An error when
// the schedule is of another model.
func (d Drift) Error(s *schedule.Schedule) (float64, error) {
	n := s.Shape().Steps
	want := d.Shape
	want.Steps = n
	if err := s.Shape().Fits(want); err != nil {
		return 0, err
	}
	return d.shorter(n) + d.At(n).total(GenomeOf(s)), nil
}

// total is the sum of the errors of a schedule of the drift's number of steps.
func (d Drift) total(g Genome) float64 {
	row, s := d.Shape.RowLen(), d.Shape.Steps
	computed := make([]int, row)
	sum := 0.0
	for i := row; i < g.Len(); i++ {
		if cell := i % row; g.Get(i) {
			computed[cell] = i / row
		} else {
			sum += d.Errors[cell][computed[cell]*s+i/row]
		}
	}
	return sum
}

// At is the drift of a run with n steps, as far as that of one with more tells: what happens between the nearest of its steps, a step of the shorter
// run counting for as many as it replaces.
func (d Drift) At(n int) Drift {
	s := d.Shape.Steps
	if n == s {
		return d
	}
	out := Drift{Shape: d.Shape, Errors: make([][]float64, len(d.Errors))}
	out.Shape.Steps = n
	nearest := func(step int) int { return min(s-1, (2*step*s+n)/(2*n)) }
	for cell, m := range d.Errors {
		e := make([]float64, n*n)
		for t0 := range n {
			for t := t0 + 1; t < n; t++ {
				e[t0*n+t] = m[nearest(t0)*s+nearest(t)] * float64(s) / float64(n)
			}
		}
		out.Errors[cell] = e
	}
	return out
}

// programme finds the best schedule for a price.
type programme struct {
	d           Drift
	cost        CostModel
	saves       []float64 // per cell of a row: what one reuse saves
	least, most float64   // costs of computing step 0 alone, and everything
	high        float64   // a price at which nothing but step 0 is computed
	shorter     float64   // what the run errs that computes everything
}

func newProgramme(d Drift, cost CostModel) (*programme, error) {
	p := &programme{d: d, cost: cost}
	all, err := schedule.New(d.Shape)
	if err != nil {
		return nil, err
	}
	if p.most, err = cost.Cost(all); err != nil {
		return nil, err
	}
	total := 0.0
	for cell, m := range d.Errors {
		one := all.Clone()
		if d.Shape.Steps > 1 {
			one.SetFlat(d.Shape.RowLen()+cell, schedule.Reuse)
		}
		c, err := cost.Cost(one)
		if err != nil {
			return nil, err
		}
		p.saves = append(p.saves, p.most-c)
		worst := 0.0
		for _, v := range m {
			worst += v
		}
		if s := p.most - c; s > 0 {
			total = max(total, worst/s)
		}
	}
	p.high = total + 1
	bold, err := p.at(p.high)
	if err != nil {
		return nil, err
	}
	p.least, err = cost.Cost(bold)
	return p, err
}

// within returns the schedule of the lowest price whose cost is at most target, by bisection: cost falls as the price rises.
func (p *programme) within(target float64) (*schedule.Schedule, float64, error) {
	lo, hi := p.high*1e-15, p.high
	best, err := p.at(hi)
	if err != nil {
		return nil, 0, err
	}
	cost := p.least
	for range 60 {
		mid := math.Sqrt(lo * hi)
		s, err := p.at(mid)
		if err != nil {
			return nil, 0, err
		}
		c, err := p.cost.Cost(s)
		if err != nil {
			return nil, 0, err
		}
		if c <= target {
			best, cost, hi = s, c, mid
		} else {
			lo = mid
		}
	}
	return best, cost, nil
}

// at returns the best schedule at a price, in canonical form.
func (p *programme) at(price float64) (*schedule.Schedule, error) {
	sh := p.d.Shape
	s, err := schedule.New(sh)
	if err != nil {
		return nil, err
	}
	for cell, m := range p.d.Errors {
		computed := computeSteps(m, sh.Steps, price*p.saves[cell])
		for step := 1; step < sh.Steps; step++ {
			if !computed[step] {
				s.SetFlat(step*sh.RowLen()+cell, schedule.Reuse)
			}
		}
	}
	return s.Canonical(), nil
}

// computeSteps returns at which steps to compute one component so that the errors of the others plus price per computation are least. best[t] is the
// least total of steps t to the end when t computes. Of equal choices the one that computes later next wins. O(steps^2).
func computeSteps(errors []float64, steps int, price float64) []bool {
	best, next := make([]float64, steps+1), make([]int, steps)
	for t := steps - 1; t >= 0; t-- {
		best[t], next[t] = math.Inf(1), steps
		sum := price
		for u := t + 1; u <= steps; u++ { // u computes next; those between read the output of t
			if total := sum + best[u]; total <= best[t] {
				best[t], next[t] = total, u
			}
			if u < steps {
				sum += errors[t*steps+u]
			}
		}
	}
	computed := make([]bool, steps)
	for t := 0; t < steps; t = next[t] {
		computed[t] = true
	}
	return computed
}
