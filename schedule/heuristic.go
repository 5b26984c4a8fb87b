package schedule

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ParamKind is the type of a heuristic's parameter.
type ParamKind uint8

// The kinds of parameter.
const (
	IntParam       ParamKind = iota // a whole number between Min and Max
	FractionParam                   // a number from 0 to 1
	SeedParam                       // a whole number from 0 to 2^64-1
	ComponentParam                  // one of Choices
)

// Param describes one parameter of a heuristic.
type Param struct {
	Name    string    `json:"name"`
	Kind    ParamKind `json:"-"`
	Default string    `json:"default,omitempty"` // empty: it must be given
	Min     int       `json:"min,omitempty"`     // of an IntParam
	Max     int       `json:"max,omitempty"`     // of an IntParam
	Choices []string  `json:"choices,omitempty"` // of a ComponentParam
	Doc     string    `json:"doc"`
}

// Heuristic is a family of schedules written by hand, with its parameters.
type Heuristic struct {
	Name     string   `json:"name"`
	Params   []Param  `json:"params"`
	Families []Family `json:"families"`
	Doc      string   `json:"doc"`
	Example  string   `json:"example"`
	// build fills the all-compute schedule g.Schedule. It may return an error
	// about a value that the shape does not allow.
	build func(g *Generated, a []argument) error
}

// argument is the parsed value of a parameter.
type argument struct {
	num      int
	fraction float64
	seed     uint64
	text     string // as written, normalised
}

// Attribute is one member of the free "attributes" object of a schedule file.
type Attribute struct {
	Key   string
	Value int
}

// Generated is a schedule made by a heuristic, with what ECAD's own generator
// would say about it.
type Generated struct {
	Schedule *Schedule
	// Ref is the reference with every argument written out; resolving it again
	// for the same shape gives the same schedule.
	Ref string
	// Name is the name ECAD's generator gives, or one in its style.
	Name string
	// Attributes describe the schedule in its file, in order.
	Attributes []Attribute
	// TGateStep is the gate step of the custom cross-attention function that the
	// file must name, or 0 if there is none.
	TGateStep int
}

// Usage returns the heuristic's syntax, such as "random:P[:SEED]".
func (h Heuristic) Usage() string {
	var b strings.Builder
	b.WriteString(h.Name)
	optional := 0
	for _, p := range h.Params {
		if p.Default != "" {
			b.WriteByte('[')
			optional++
		}
		b.WriteString(":" + p.Name)
	}
	b.WriteString(strings.Repeat("]", optional))
	return b.String()
}

// For reports whether the heuristic makes schedules of the family.
func (h Heuristic) For(f Family) bool { return slices.Contains(h.Families, f) }

// Heuristics returns all heuristics. The slice is the caller's.
func Heuristics() []Heuristic { return slices.Clone(heuristics) }

// IsHeuristic reports whether a schedule reference is meant as a heuristic: its
// part before the first colon is the name of one. Otherwise it is a file.
func IsHeuristic(ref string) bool {
	name, _, _ := strings.Cut(ref, ":")
	_, ok := lookup(name)
	return ok
}

func lookup(name string) (Heuristic, bool) {
	i := slices.IndexFunc(heuristics, func(h Heuristic) bool { return h.Name == name })
	if i < 0 {
		return Heuristic{}, false
	}
	return heuristics[i], true
}

// Resolve makes the schedule that a reference such as "none", "fora:3" or
// "random:0.5:7" stands for. The bits are those of ECAD's generator of that
// name, step 0 included; use [Schedule.Canonical] before comparing. Errors name
// the reference, the parameter and what it takes.
func Resolve(ref string, shape Shape) (*Generated, error) {
	fields := strings.Split(ref, ":")
	h, ok := lookup(fields[0])
	if !ok {
		var names []string
		for _, h := range heuristics {
			names = append(names, h.Name)
		}
		return nil, fmt.Errorf("schedule %.80q: no heuristic of that name: use one of %s, or a file", ref, strings.Join(names, ", "))
	}
	if len(fields)-1 > len(h.Params) {
		return nil, fmt.Errorf("schedule %.80q: too many values: write %s, for example %s", ref, h.Usage(), h.Example)
	}
	args := make([]argument, len(h.Params))
	normal := h.Name
	for i, p := range h.Params {
		text := p.Default
		if i+1 < len(fields) {
			text = fields[i+1]
		}
		if text == "" {
			return nil, fmt.Errorf("schedule %.80q: %s is missing: write %s, for example %s", ref, p.Name, h.Usage(), h.Example)
		}
		a, err := p.parse(text)
		if err != nil {
			return nil, fmt.Errorf("schedule %.80q: %s: %w: write %s, for example %s", ref, p.Name, err, h.Usage(), h.Example)
		}
		args[i] = a
		normal += ":" + a.text
	}
	s, err := New(shape)
	if err != nil {
		return nil, fmt.Errorf("schedule %.80q: %w", ref, err)
	}
	if !h.For(shape.Family) {
		return nil, fmt.Errorf("schedule %.80q: there is no %s for %v: see ecadx schedule list", ref, h.Name, shape.Family)
	}
	g := &Generated{Schedule: s, Ref: normal}
	if err := h.build(g, args); err != nil {
		return nil, fmt.Errorf("schedule %.80q: %w", ref, err)
	}
	return g, nil
}

// parse reads one value; the error says what the parameter takes.
func (p Param) parse(text string) (argument, error) {
	switch p.Kind {
	case IntParam:
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil || int(n) < p.Min || int(n) > p.Max {
			return argument{}, fmt.Errorf("%.40q is not a whole number from %d to %d", text, p.Min, p.Max)
		}
		return argument{num: int(n), text: strconv.FormatUint(n, 10)}, nil
	case FractionParam:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !(f >= 0 && f <= 1) {
			return argument{}, fmt.Errorf("%.40q is not a number from 0 to 1", text)
		}
		f = math.Abs(f) // no -0 in the reference
		return argument{fraction: f, text: strconv.FormatFloat(f, 'g', -1, 64)}, nil
	case SeedParam:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return argument{}, fmt.Errorf("%.40q is not a whole number from 0 to 2^64-1", text)
		}
		return argument{seed: n, text: strconv.FormatUint(n, 10)}, nil
	}
	if !slices.Contains(p.Choices, text) {
		return argument{}, fmt.Errorf("%.40q is not one of %s", text, strings.Join(p.Choices, ", "))
	}
	return argument{text: text}, nil
}

// affected returns ECAD's attributes of a schedule that differs from the
// all-compute one: steps with at least one reuse, distinct blocks with one, and
// pairs of step and block with one. FLUX counts single-stream blocks apart.
func affected(s *Schedule) []Attribute {
	shape := s.Shape()
	steps, pairs := 0, 0
	blocks := make([]bool, shape.TotalBlocks())
	for step := range shape.Steps {
		before := pairs
		for block := range blocks {
			if slices.ContainsFunc([]int{0, 1, 2}, func(c int) bool { return s.At(step, block, c) == Reuse }) {
				blocks[block] = true
				pairs++
			}
		}
		if pairs > before {
			steps++
		}
	}
	first, single := 0, 0
	for block, hit := range blocks {
		switch {
		case hit && shape.Kind(block) == SingleBlock:
			single++
		case hit:
			first++
		}
	}
	attrs := []Attribute{{"num_affected_steps", steps}, {"num_affected_blocks", first}}
	if shape.Family == Flux {
		attrs = append(attrs, Attribute{"num_affected_blocks_single", single})
	}
	return append(attrs, Attribute{"total_num_affected_blocks", pairs})
}

// EvolvedAttributes returns the attributes ECAD's search writes for a schedule:
// how many steps, blocks and (step, block) pairs have at least one reuse.
func EvolvedAttributes(s *Schedule) []Attribute { return affected(s) }
