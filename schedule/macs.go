package schedule

import "fmt"

// ComponentTally is the work of one component over a whole run.
type ComponentTally struct {
	Component Component `json:"component"`
	Computed  int       `json:"computed"` // evaluations, over all steps and blocks
	Cells     int       `json:"cells"`    // of so many
	MACs      int64     `json:"macs"`
}

// Tally is the work of a whole run, in multiply-accumulates. What it counts
// depends on the [Cost] it was made from.
type Tally struct {
	Total      int64            `json:"total_macs"`
	Uncached   int64            `json:"uncached_macs"` // of the run that computes everything
	Ratio      float64          `json:"macs_ratio"`    // uncached / total: 2 means half the work
	Base       int64            `json:"base_macs"`     // what no schedule saves, over all steps
	Steps      []int64          `json:"steps"`
	Components []ComponentTally `json:"components"`
}

// MACs counts a run as ECAD does: a component is computed if its bit says so or
// if nothing is kept yet, that is, in step 0. It counts the schedule as it
// stands; what is computed for nothing is included, as in ECAD's files (count
// the canonical form to leave it out). See [Dims.MACs] for what a component
// costs.
func (s *Schedule) MACs(d Dims) (Tally, error) {
	c, err := d.MACs(s.shape)
	if err != nil {
		return Tally{}, err
	}
	return s.tally(c, c, s.shape.Steps), nil
}

// TGateMACs counts a run with T-GATE's custom cross-attention function: from the
// gate step on the batch has half the rows (no second pass for guidance) and
// cross-attention is never computed, whatever the schedule says. The gate must
// be at step 1 or later and the number of rows even.
func (s *Schedule) TGateMACs(d Dims, gate int) (Tally, error) {
	if s.shape.Family != PixArt {
		return Tally{}, fmt.Errorf("%w: T-GATE's function is for pixart, the schedule is for %v", ErrShape, s.shape.Family)
	}
	if gate < 1 || d.BatchRows%2 != 0 {
		return Tally{}, fmt.Errorf("%w: T-GATE with gate step %d and %d rows: the gate must be at 1 or later, the rows even",
			ErrDims, gate, d.BatchRows)
	}
	before, err := d.MACs(s.shape)
	if err != nil {
		return Tally{}, err
	}
	d.BatchRows /= 2
	after, err := d.MACs(s.shape)
	if err != nil {
		return Tally{}, err
	}
	after.Components[CrossAttn] = 0
	return s.tally(before, after, min(gate, s.shape.Steps)), nil
}

// Count adds up a run from the cost of each part, with the rules of
// [Schedule.MACs]; use it for costs other than linear MACs.
func (s *Schedule) Count(c Cost) Tally { return s.tally(c, c, s.shape.Steps) }

// tally adds up a run whose steps cost before, and after from step gate on.
// A component that costs nothing after the gate is not evaluated there.
func (s *Schedule) tally(before, after Cost, gate int) Tally {
	t := Tally{Steps: make([]int64, s.shape.Steps)}
	var byComponent [numComponents]ComponentTally
	for step := range t.Steps {
		cost := before
		if step >= gate {
			cost = after
		}
		t.Base += cost.Base
		t.Steps[step] = cost.Base
		for block := range s.shape.TotalBlocks() {
			for comp, component := range s.shape.Kind(block).Components() {
				c := &byComponent[component]
				c.Cells++
				skipped := step >= gate && cost.Components[component] == 0 && before.Components[component] != 0
				if step > 0 && s.At(step, block, comp) == Reuse || skipped {
					continue
				}
				c.Computed++
				c.MACs += cost.Components[component]
				t.Steps[step] += cost.Components[component]
			}
		}
		t.Total += t.Steps[step]
	}
	for _, component := range s.shape.Family.Components() {
		c := byComponent[component]
		c.Component = component
		t.Components = append(t.Components, c)
	}
	t.Uncached = before.Step(s.shape) * int64(s.shape.Steps)
	if t.Total > 0 {
		t.Ratio = float64(t.Uncached) / float64(t.Total)
	}
	return t
}
