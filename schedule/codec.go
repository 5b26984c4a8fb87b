package schedule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"
)

// MaxFileSize is the largest schedule file that is read, in bytes.
const MaxFileSize = 256 << 20

// File is a schedule file in ECAD's JSON. It keeps the text it was read from:
// [File.Bytes] returns that text, changed only where a Set method changed it.
type File struct {
	data     []byte
	schedule *Schedule
	parts    parts
	custom   []CustomFunction
	meta     Meta
}

// parts are the places of the members that the package knows.
type parts struct {
	top, cache, steps, name, attributes, config, metrics, ecadx, graph span
}

// CustomFunction is a function that a file names in place of the usual rule for
// a component.
type CustomFunction struct {
	Member   string `json:"member"` // "custom_compute_attn" or "custom_compute_ff"
	Name     string `json:"name"`   // as written, such as "compute_attn_tgate"
	GateStep int    `json:"gate_step,omitempty"`
	Cells    int    `json:"cells"` // in so many blocks, counted over all steps
}

// Decode reads a schedule file. It keeps data, which must not be changed
// afterwards, and allocates at most the size of data and 1 MiB.
//
// Accepted is what ECAD's reader accepts, except that numbers Python alone knows
// (NaN, Infinity) and members that occur twice are errors; so are wrong types,
// missing steps, blocks or components and sizes past [MaxSteps] and [MaxBlocks].
// Entries for steps past num_inference_steps are ignored, as are members the
// package does not know; both stay in the file. The file is for FLUX if
// cache_schedule has num_single_blocks, for PixArt otherwise. Errors are of type
// *[FormatError].
func Decode(data []byte) (*File, error) {
	f, err := decode(data)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// DecodeSchedule reads the decisions of a schedule file and nothing else. Errors
// are those of [Decode]. It keeps nothing of data.
func DecodeSchedule(data []byte) (*Schedule, error) {
	f, err := decode(data)
	if err != nil {
		return nil, err
	}
	return f.schedule, nil
}

// ReadFile reads a schedule file from disk; errors name the path. See [Decode].
func ReadFile(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s: is a directory: name a schedule file", path)
	case info.Size() > MaxFileSize:
		return nil, fmt.Errorf("%s: %d bytes: a schedule file has at most %d", path, info.Size(), MaxFileSize)
	}
	// Sized by the file, limited for what has no size (a pipe).
	text := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := text.ReadFrom(io.LimitReader(file, MaxFileSize+1)); err != nil {
		return nil, err
	}
	f, err := Decode(text.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func decode(data []byte) (*File, error) {
	s := &scanner{data: data}
	switch {
	case len(data) > MaxFileSize:
		return nil, s.fail("%d bytes: a schedule file has at most %d", len(data), MaxFileSize)
	case strings.HasPrefix(string(data[:min(3, len(data))]), "\ufeff"):
		return nil, s.fail("starts with a byte order mark: save it as UTF-8 without one")
	}
	f := &File{data: data}
	shape, err := f.outline(s)
	if err != nil {
		return nil, err
	}
	if f.schedule, err = f.decisions(shape); err != nil {
		return nil, err
	}
	return f, nil
}

// outline checks the whole text, notes where the known members are and returns
// the shape.
func (f *File) outline(s *scanner) (Shape, error) {
	shape := Shape{Family: PixArt, Blocks: -1, Steps: -1}
	s.space()
	f.parts.top.start = s.pos
	err := s.object(func(key int) error {
		var err error
		var scratch [32]byte
		switch string(s.text(key, scratch[:0])) {
		case "cache_schedule":
			f.parts.cache.start = s.pos
			err = f.cacheSchedule(s, &shape)
			f.parts.cache.end = s.pos
		case "config":
			f.parts.config, err = s.objectOrNull()
		case "metrics":
			f.parts.metrics, err = s.objectOrNull()
		case "dit_schedule":
			f.parts.graph, err = s.value()
		case "ecadx":
			f.parts.ecadx, err = f.readMeta(s)
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return shape, err
	}
	f.parts.top.end = s.pos
	if s.space(); s.pos < len(s.data) {
		return shape, s.fail("want nothing after the last }, found %s", s.found())
	}
	if !f.parts.cache.ok() {
		return shape, s.fail("no member cache_schedule: this is no cache schedule of ECAD's")
	}
	for _, m := range []struct {
		name    string
		missing bool
	}{{"num_blocks", shape.Blocks < 0}, {"num_inference_steps", shape.Steps < 0}, {"schedule", !f.parts.steps.ok()}} {
		if m.missing {
			return shape, f.failAt(f.parts.cache.start, "cache_schedule", "no member %s: add it", m.name)
		}
	}
	if err := shape.Validate(); err != nil {
		return shape, f.failAt(f.parts.cache.start, "cache_schedule", "%s", strings.TrimPrefix(err.Error(), ErrShape.Error()+": "))
	}
	if f.meta.Family != 0 && f.meta.Family != shape.Family {
		return shape, f.failAt(f.parts.ecadx.start, "ecadx.family", "%v, but cache_schedule is for %v: num_single_blocks says which",
			f.meta.Family, shape.Family)
	}
	return shape, nil
}

// failAt makes an error at a place that is known by name.
func (f *File) failAt(pos int, path, format string, args ...any) error {
	err := (&scanner{data: f.data, pos: pos}).fail(format, args...)
	err.(*FormatError).Path = path
	return err
}

// objectOrNull reads an object, or null, which counts as missing.
func (s *scanner) objectOrNull() (span, error) {
	if s.word() == "null" {
		return span{}, s.skip()
	}
	if s.peek() != '{' {
		return span{}, s.fail("want an object, found %s", s.found())
	}
	return s.value()
}

// cacheSchedule reads the member of that name.
func (f *File) cacheSchedule(s *scanner, shape *Shape) error {
	return s.object(func(key int) error {
		var err error
		var scratch [32]byte
		switch string(s.text(key, scratch[:0])) {
		case "num_blocks":
			shape.Blocks, err = s.whole(MaxBlocks)
		case "num_inference_steps":
			shape.Steps, err = s.whole(MaxSteps)
		case "num_single_blocks":
			if s.word() == "null" {
				return s.skip()
			}
			shape.Family = Flux
			shape.SingleBlocks, err = s.whole(MaxBlocks)
		case "name":
			start := s.pos
			err = s.str()
			f.parts.name = span{start, s.pos}
		case "attributes":
			f.parts.attributes, err = s.objectOrNull()
		case "schedule":
			if s.peek() != '{' {
				return s.fail("want an object, found %s", s.found())
			}
			f.parts.steps, err = s.value()
		default:
			err = s.skip()
		}
		return err
	})
}

// decisions reads the tensor.
func (f *File) decisions(shape Shape) (*Schedule, error) {
	// Each decision takes at least 10 bytes, so what a file cannot hold is not
	// allocated; below 256 KiB it is, to tell which decision is missing.
	if shape.Cells() > 1<<20 && shape.Cells() > len(f.data)/10 {
		return nil, f.failAt(f.parts.steps.start, "cache_schedule.schedule",
			"too small for %v: write every step, block and component", shape)
	}
	schedule, err := New(shape)
	if err != nil {
		return nil, err
	}
	missing := schedule.Words()
	w := walker{scanner: scanner{data: f.data, pos: f.parts.steps.start}, shape: shape}
	w.cell = func(index int, compute bool, _ span) {
		missing[index/64] &^= 1 << (index % 64)
		if !compute {
			schedule.SetFlat(index, Reuse)
		}
	}
	w.function = f.addCustom
	if err := w.walk(); err != nil {
		return nil, err
	}
	for i, word := range missing {
		if word != 0 {
			return nil, f.missing(&w, missing, shape.Cell(i*64+bits.TrailingZeros64(word)))
		}
	}
	return schedule, nil
}

// missing reports the first missing decision, or the whole block or step if all
// of it is.
func (f *File) missing(w *walker, missing []uint64, c Cell) error {
	shape, path := w.shape, fmt.Sprintf("cache_schedule.schedule.%03d", c.Step)
	if w.seen[c.Step/64]>>(c.Step%64)&1 == 0 {
		return f.failAt(f.parts.steps.start, path, "step is missing: the file says it is for %v", shape)
	}
	path += "." + shape.BlockName(c.Block)
	components := shape.Kind(c.Block).Components()
	for comp := range ComponentsPerBlock {
		if i := shape.Index(Cell{c.Step, c.Block, comp}); missing[i/64]>>(i%64)&1 == 0 {
			return f.failAt(f.parts.steps.start, path+"."+components[c.Comp].String(),
				"component is missing: write true (compute) or false (reuse)")
		}
	}
	return f.failAt(f.parts.steps.start, path, "block is missing or has none of %v, %v, %v: the file says it is for %v",
		components[0], components[1], components[2], shape)
}

// maxCustom bounds how many different custom functions a file may name.
const maxCustom = 64

var errCustom = errors.New("too many")

// addCustom counts a custom function of one block at one step. ECAD's names of
// the usual rule, in any case of letters, are no custom functions.
func (f *File) addCustom(c CustomFunction) error {
	switch strings.ToLower(c.Name) {
	case "compute_attn_cached", "compute_ff_cached":
		return nil
	}
	for i := range f.custom {
		have := &f.custom[i]
		if have.Member == c.Member && have.Name == c.Name && have.GateStep == c.GateStep {
			have.Cells++
			return nil
		}
	}
	if len(f.custom) == maxCustom {
		return errCustom
	}
	c.Cells = 1
	f.custom = append(f.custom, c)
	return nil
}
