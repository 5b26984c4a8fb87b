package schedule

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// FileOptions say what a new file holds besides the decisions.
type FileOptions struct {
	Name       string
	Attributes []Attribute
	Config     Config
	Origin     string // where the schedule came from, for the member "ecadx"
	TGateStep  int    // if not 0, every block names T-GATE's function with this gate step
}

// NewFile makes a schedule file as ECAD's writer does (Python's json with an
// indent of 4, no newline at the end), with the product's member "ecadx" after
// ECAD's own.
func NewFile(s *Schedule, o FileOptions) (*File, error) {
	if o.TGateStep != 0 && (s.shape.Family != PixArt || o.TGateStep < 0 || o.TGateStep > MaxSteps) {
		return nil, fmt.Errorf("%w: T-GATE's function with gate step %d in a %v schedule", ErrShape, o.TGateStep, s.shape.Family)
	}
	w := &writer{}
	w.open()
	w.key("cache_schedule")
	w.cacheSchedule(s, o)
	w.key("config")
	w.config(o)
	w.key("metrics")
	w.open()
	w.close()
	w.key("ecadx")
	w.meta(s, o.Origin)
	w.close()
	return Decode(w.buf)
}

// File makes the schedule file of a heuristic's result; see [NewFile]. ECAD names
// FLUX's all-compute schedule by resolution and guidance; so does this, where
// config has them.
func (g *Generated) File(config Config) (*File, error) {
	if g.TGateStep > 0 {
		config.Pipeline, config.GateStep = "tgate", g.TGateStep
	}
	name := g.Name
	if name == "default" && g.Schedule.shape.Family == Flux && config.Height > 0 && config.Width > 0 && config.Guidance > 0 {
		name = fmt.Sprintf("default_%dx%d_gs_%s", config.Height, config.Width, strconv.FormatFloat(config.Guidance, 'f', -1, 64))
	}
	return NewFile(g.Schedule, FileOptions{
		Name: name, Attributes: g.Attributes, Config: config, Origin: g.Ref, TGateStep: g.TGateStep,
	})
}

// writer writes JSON as Python's json.dump(..., indent=4) does.
type writer struct {
	buf   []byte
	depth int
	empty bool // nothing written yet in the open object
}

func (w *writer) open() {
	w.buf = append(w.buf, '{')
	w.depth++
	w.empty = true
}

func (w *writer) close() {
	w.depth--
	if !w.empty {
		w.line()
	}
	w.buf = append(w.buf, '}')
	w.empty = false
}

func (w *writer) line() {
	w.buf = append(w.buf, '\n')
	for range w.depth {
		w.buf = append(w.buf, "    "...)
	}
}

func (w *writer) key(name string) {
	if !w.empty {
		w.buf = append(w.buf, ',')
	}
	w.empty = false
	w.line()
	w.buf = append(appendQuoted(w.buf, name), ": "...)
}

func (w *writer) number(name string, n int) {
	w.key(name)
	w.buf = strconv.AppendInt(w.buf, int64(n), 10)
}

func (w *writer) text(name, value string) {
	w.key(name)
	w.buf = appendQuoted(w.buf, value)
}

func (w *writer) cacheSchedule(s *Schedule, o FileOptions) {
	w.open()
	w.number("num_blocks", s.shape.Blocks)
	w.number("num_inference_steps", s.shape.Steps)
	w.text("name", o.Name)
	w.key("attributes")
	w.open()
	for _, a := range o.Attributes {
		w.number(a.Key, a.Value)
	}
	w.close()
	w.key("schedule")
	w.open()
	for step := range s.shape.Steps {
		w.key(fmt.Sprintf("%03d", step))
		w.open()
		for block := range s.shape.TotalBlocks() {
			w.key(s.shape.BlockName(block))
			w.open()
			for comp, component := range s.shape.Kind(block).Components() {
				w.key(component.String())
				w.buf = strconv.AppendBool(w.buf, s.At(step, block, comp) == Compute)
			}
			if o.TGateStep > 0 {
				w.key("custom_compute_attn")
				w.call(tgateFunction, o.TGateStep)
			}
			w.close()
		}
		w.close()
	}
	w.close()
	if s.shape.Family == Flux {
		w.number("num_single_blocks", s.shape.SingleBlocks)
	}
	w.close()
}

// call writes {"name": ..., "kwargs": {...}}, the gate step left out if it is 0.
func (w *writer) call(name string, gate int) {
	w.open()
	w.text("name", name)
	w.key("kwargs")
	w.open()
	if gate > 0 {
		w.number("gate_step", gate)
	}
	w.close()
	w.close()
}

func (w *writer) config(o FileOptions) {
	c := o.Config
	w.open()
	if c.Height > 0 {
		w.number("height", c.Height)
	}
	if c.Width > 0 {
		w.number("width", c.Width)
	}
	if c.Guidance > 0 {
		w.key("guidance_scale")
		w.buf = strconv.AppendFloat(w.buf, c.Guidance, 'f', -1, 64)
	}
	if c.TransformerWeights != "" {
		w.text("transformer_weights", c.TransformerWeights)
	}
	if c.PipelineWeights != "" {
		w.text("pipeline_weights", c.PipelineWeights)
	}
	if c.Pipeline != "" {
		w.key("pipeline")
		w.call(c.Pipeline, c.GateStep)
	}
	w.close()
}

func (w *writer) meta(s *Schedule, origin string) {
	w.open()
	w.text("family", s.shape.Family.String())
	w.number("steps", s.shape.Steps)
	w.text("hash", s.Hash().String())
	w.text("origin", origin)
	w.close()
}

// appendQuoted writes a string as Python's json does: ASCII only, everything
// else as \u escapes.
func appendQuoted(buf []byte, text string) []byte {
	buf = append(buf, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			buf = append(buf, '\\', byte(r))
		case r == '\n':
			buf = append(buf, `\n`...)
		case r == '\r':
			buf = append(buf, `\r`...)
		case r == '\t':
			buf = append(buf, `\t`...)
		case r == '\b':
			buf = append(buf, `\b`...)
		case r == '\f':
			buf = append(buf, `\f`...)
		case r >= ' ' && r <= '~':
			buf = utf8.AppendRune(buf, r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			buf = fmt.Appendf(buf, `\u%04x\u%04x`, high, low)
		default:
			buf = fmt.Appendf(buf, `\u%04x`, r)
		}
	}
	return append(buf, '"')
}
