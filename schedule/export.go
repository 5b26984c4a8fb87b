package schedule

import (
	"encoding/json"
	"fmt"
	"strings"
)

// SCM is a steps computation mask of cache-dit: for each step 1 if it is
// computed, 0 if the whole transformer's output may come from the cache.
type SCM struct {
	NumInferenceSteps int    `json:"num_inference_steps"`
	Mask              []int  `json:"steps_computation_mask"`
	Policy            string `json:"steps_computation_policy"` // "static": exactly this mask
}

// YAML writes the mask as a cache-dit configuration file.
func (m SCM) YAML() string {
	return fmt.Sprintf("cache_config:\n  num_inference_steps: %d\n  steps_computation_mask: %s\n  steps_computation_policy: %s\n",
		m.NumInferenceSteps, strings.ReplaceAll(fmt.Sprint(m.Mask), " ", ", "), m.Policy)
}

// ExportSCM makes cache-dit's mask: a step computes if at least the share
// threshold (0 to 1; 0.5 is a majority) of its cells does. A threshold of 0
// would compute every step and is refused, as is anything else outside. lossy
// says, line by line, what the mask does not carry over; it is never empty.
func ExportSCM(s *Schedule, threshold float64) (mask SCM, lossy []string, err error) {
	if !(threshold > 0 && threshold <= 1) {
		return SCM{}, nil, fmt.Errorf("ecadx/schedule: threshold %v: use a number above 0 and up to 1", threshold)
	}
	mask = SCM{NumInferenceSteps: s.shape.Steps, Policy: "static"}
	lossy = []string{"what is kept differs: cache-dit keeps the residual of a run of blocks, the schedule one output per component; even whole-step reuse gives other numbers"}
	var mixed []int
	changed := 0
	for step := range s.shape.Steps {
		computed := 0
		for _, d := range s.Row(step) {
			if d == Compute || step == 0 {
				computed++
			}
		}
		n := s.shape.RowLen()
		if float64(computed) >= threshold*float64(n) {
			mask.Mask = append(mask.Mask, 1)
			changed += n - computed
		} else {
			mask.Mask = append(mask.Mask, 0)
			changed += computed
		}
		if computed > 0 && computed < n {
			mixed = append(mixed, step)
		}
	}
	if len(mixed) > 0 {
		lossy = append(lossy, fmt.Sprintf("steps %s compute some cells and reuse others; the mask has one decision per step: %d of %d cells changed",
			ranges(mixed), changed, s.shape.Cells()))
	}
	return mask, lossy, nil
}

// ImportSCM makes the schedule of a mask: every cell of a step as its entry
// says, 1 computed and 0 reused. The mask must have one entry per step.
func ImportSCM(mask []int, shape Shape) (*Schedule, error) {
	s, err := New(shape)
	if err != nil {
		return nil, err
	}
	if len(mask) != shape.Steps {
		return nil, fmt.Errorf("%w: the mask has %d steps, the run %d", ErrShape, len(mask), shape.Steps)
	}
	for step, entry := range mask {
		if entry != 0 && entry != 1 {
			return nil, fmt.Errorf("%w: entry %d of the mask is %d: use 1 (compute) or 0 (reuse)", ErrShape, step, entry)
		}
	}
	s.reuseWhere(func(step, _ int, _ Component) bool { return mask[step] == 0 })
	return s, nil
}

// ExportSmoothCache makes SmoothCache's JSON: per component a list with one
// entry per step, 1 if all blocks compute it, 0 if all reuse it. Where blocks
// disagree the majority decides, a tie computes. lossy says where; it is empty
// if nothing is lost.
func ExportSmoothCache(s *Schedule) (data []byte, lossy []string) {
	var b strings.Builder
	b.WriteByte('{')
	for i, component := range s.shape.Family.Components() {
		first, n := 0, s.shape.Blocks
		if component.Kind() == SingleBlock {
			first, n = s.shape.Blocks, s.shape.SingleBlocks
		}
		var list, mixed []int
		for step := range s.shape.Steps {
			computed := 0
			for block := first; block < first+n; block++ {
				if step == 0 || s.At(step, block, component.Index()) == Compute {
					computed++
				}
			}
			entry := 0
			if 2*computed >= n {
				entry = 1
			}
			list = append(list, entry)
			if computed > 0 && computed < n {
				mixed = append(mixed, step)
			}
		}
		if len(mixed) > 0 {
			lossy = append(lossy, fmt.Sprintf("%v: at steps %s some blocks compute and others reuse; the list has one decision per step, the majority's",
				component, ranges(mixed)))
		}
		text, _ := json.Marshal(list) // a list of numbers always marshals
		fmt.Fprintf(&b, "%s%q: %s", ", "[:2*min(i, 1)], component.String(), text)
	}
	b.WriteByte('}')
	return []byte(b.String()), lossy
}

// ImportSmoothCache makes the schedule of a SmoothCache JSON: each list counts
// for all blocks, a component without a list is computed. A list must have one
// entry, 1 or 0, per step. Errors about the text are of type *[FormatError].
func ImportSmoothCache(data []byte, shape Shape) (*Schedule, error) {
	schedule, err := New(shape)
	if err != nil {
		return nil, err
	}
	s := &scanner{data: data}
	s.space()
	err = s.object(func(key int) error {
		component, err := ParseComponent(s.decoded(key))
		if err != nil || !containsComponent(shape.Family, component) {
			return s.fail("no component of %v: use %v", shape.Family, shape.Family.Components())
		}
		step := 0
		err = s.array(func() error {
			entry, err := s.whole(1)
			if err != nil {
				return err
			}
			if step >= shape.Steps {
				return s.fail("more entries than the %d steps of the run", shape.Steps)
			}
			if entry == 0 {
				schedule.reuseStep(step, component)
			}
			step++
			return nil
		})
		if err == nil && step < shape.Steps {
			err = s.fail("%d entries for the %d steps of the run", step, shape.Steps)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.space(); s.pos < len(data) {
		return nil, s.fail("want nothing after the last }, found %s", s.found())
	}
	return schedule, nil
}

func containsComponent(f Family, component Component) bool {
	for _, c := range f.Components() {
		if c == component {
			return true
		}
	}
	return false
}

// reuseStep reuses a component in all blocks of one step.
func (s *Schedule) reuseStep(step int, component Component) {
	for block := range s.shape.TotalBlocks() {
		if s.shape.Kind(block) == component.Kind() {
			s.Set(step, block, component.Index(), Reuse)
		}
	}
}
