package schedule

import (
	"fmt"
	"strconv"
	"strings"
)

// Meta is what the product adds to a schedule file, under the member "ecadx".
// Zero values are members that are missing.
type Meta struct {
	Family Family // "family"
	Steps  int    // "steps"
	Hash   string // "hash": of the schedule when it was written; compare with [Schedule.Hash]
	Origin string // "origin": where it came from, such as a heuristic's reference or a study
}

// Config is what a file's "config" says about the run it was made for. Zero
// values are members that are missing or null.
type Config struct {
	Height, Width      int // pixels
	Guidance           float64
	TransformerWeights string
	PipelineWeights    string
	Pipeline           string // name of the pipeline, such as "tgate"
	GateStep           int    // of the tgate pipeline
}

// Shape returns the shape of the file's schedule.
func (f *File) Shape() Shape { return f.schedule.Shape() }

// Schedule returns the decisions, a copy.
func (f *File) Schedule() *Schedule { return f.schedule.Clone() }

// Bytes returns the text of the file. It must not be changed.
func (f *File) Bytes() []byte { return f.data }

// Meta returns the member "ecadx".
func (f *File) Meta() Meta { return f.meta }

// Name returns the schedule's name, "" if it has none.
func (f *File) Name() string {
	if !f.parts.name.ok() {
		return ""
	}
	return (&scanner{data: f.data}).decoded(f.parts.name.start)
}

// CustomFunctions lists the functions that the file names in place of the usual
// rule. A schedule with any cannot run where they are not implemented.
func (f *File) CustomFunctions() []CustomFunction {
	return append([]CustomFunction(nil), f.custom...)
}

// Unsupported returns in words what the file asks for besides its decisions:
// custom functions and ECAD's graph rewiring. Running a file for which it
// returns anything would not do what the file says.
func (f *File) Unsupported() []string {
	var what []string
	for _, c := range f.custom {
		what = append(what, fmt.Sprintf("custom function %s (%s, %d blocks)", c.Name, c.Member, c.Cells))
	}
	if f.parts.graph.ok() && strings.TrimSpace(string(f.data[f.parts.graph.start:f.parts.graph.end])) != "null" {
		what = append(what, "dit_schedule")
	}
	return what
}

// MACs counts the file's run as ECAD does, T-GATE's function included. A custom
// function that ECAD does not know counts as the usual rule, as it runs in ECAD.
func (f *File) MACs(d Dims) (Tally, error) {
	cells := f.Shape().Steps * f.Shape().TotalBlocks()
	for _, c := range f.custom {
		if c.Member != "custom_compute_attn" || !strings.EqualFold(c.Name, tgateFunction) {
			continue
		}
		if c.Cells != cells || c.GateStep < 1 {
			return Tally{}, fmt.Errorf("%w: %s with gate step %d in %d of %d blocks: it is counted only with one gate step, from 1 on, in all",
				ErrShape, c.Name, c.GateStep, c.Cells, cells)
		}
		return f.schedule.TGateMACs(d, c.GateStep)
	}
	return f.schedule.MACs(d)
}

// tgateFunction is ECAD's name of the custom cross-attention function.
const tgateFunction = "compute_attn_tgate"

// decoded returns the string that starts at pos.
func (s *scanner) decoded(pos int) string {
	end := pos + 1
	for r := rune(0); ; {
		var next int
		if r, next = s.char(end); r < 0 {
			break
		}
		end = next
	}
	return string(s.text(pos, make([]byte, 0, end-pos+4)))
}

// stringOrNull reads a string, "" for null.
func (s *scanner) stringOrNull() (string, error) {
	if s.word() == "null" {
		return "", s.skip()
	}
	start := s.pos
	if err := s.str(); err != nil {
		return "", err
	}
	return s.decoded(start), nil
}

// wholeOrNull reads a whole number, 0 for null.
func (s *scanner) wholeOrNull(limit int) (int, error) {
	if s.word() == "null" {
		return 0, s.skip()
	}
	return s.whole(limit)
}

// members reads an object with a function for each known member.
func (s *scanner) members(known map[string]func() error) error {
	return s.object(func(key int) error {
		var scratch [32]byte
		if read, ok := known[string(s.text(key, scratch[:0]))]; ok {
			return read()
		}
		return s.skip()
	})
}

// readMeta reads the member "ecadx".
func (f *File) readMeta(s *scanner) (span, error) {
	if s.word() == "null" {
		return span{}, s.skip()
	}
	start := s.pos
	err := s.members(map[string]func() error{
		"family": func() error {
			name, err := s.stringOrNull()
			if err == nil && name != "" {
				if f.meta.Family, err = ParseFamily(name); err != nil {
					return s.fail("%.40q is no family: use pixart or flux", name)
				}
			}
			return err
		},
		"steps":  func() (err error) { f.meta.Steps, err = s.wholeOrNull(MaxSteps); return err },
		"hash":   func() (err error) { f.meta.Hash, err = s.stringOrNull(); return err },
		"origin": func() (err error) { f.meta.Origin, err = s.stringOrNull(); return err },
	})
	return span{start, s.pos}, err
}

// Config reads the member "config"; what it does not know is ignored. An error
// is a *[FormatError].
func (f *File) Config() (Config, error) {
	var c Config
	if !f.parts.config.ok() {
		return c, nil
	}
	s := &scanner{data: f.data, pos: f.parts.config.start}
	text := func(to *string) func() error {
		return func() (err error) { *to, err = s.stringOrNull(); return err }
	}
	pixels := func(to *int) func() error {
		return func() (err error) { *to, err = s.wholeOrNull(1 << 20); return err }
	}
	err := s.members(map[string]func() error{
		"height":              pixels(&c.Height),
		"width":               pixels(&c.Width),
		"transformer_weights": text(&c.TransformerWeights),
		"pipeline_weights":    text(&c.PipelineWeights),
		"guidance_scale": func() error {
			start := s.pos
			if s.word() == "null" {
				return s.skip()
			}
			err := s.number()
			if err == nil {
				if c.Guidance, err = strconv.ParseFloat(string(s.data[start:s.pos]), 64); err != nil {
					err = s.fail("%.24s is no guidance scale", s.data[start:s.pos])
				}
			}
			return err
		},
		"pipeline": func() error {
			if s.word() == "null" {
				return s.skip()
			}
			return s.members(map[string]func() error{
				"name": text(&c.Pipeline),
				"kwargs": func() error {
					if s.word() == "null" {
						return s.skip()
					}
					return s.members(map[string]func() error{
						"gate_step": func() (err error) { c.GateStep, err = s.wholeOrNull(MaxSteps); return err },
					})
				},
			})
		},
	})
	if e, ok := err.(*FormatError); ok {
		e.Path = strings.TrimSuffix("config."+e.Path, ".")
	}
	return c, err
}
