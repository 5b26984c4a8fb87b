package schedule

import (
	"bytes"
	"slices"
	"strconv"
)

// SetSchedule puts other decisions into the file. Only the literals that change
// are rewritten, and what says how many there are: the counts num_affected_steps,
// num_affected_blocks, num_affected_blocks_single and total_num_affected_blocks
// in "attributes", where they are present, and the hash in "ecadx". Metrics stay;
// they are those of the old decisions, see [File.ClearMetrics]. The shape must be
// the file's (an error wraps [ErrShape] otherwise); make a new file to change it.
func (f *File) SetSchedule(s *Schedule) error {
	if err := s.shape.Fits(f.Shape()); err != nil {
		return err
	}
	if s.Equal(f.schedule) {
		return nil
	}
	var edits []edit
	w := walker{scanner: scanner{data: f.data, pos: f.parts.steps.start}, shape: s.shape}
	w.cell = func(index int, compute bool, at span) {
		if want := s.AtFlat(index) == Compute; want != compute {
			edits = append(edits, edit{at, strconv.AppendBool(nil, want)})
		}
	}
	if err := w.walk(); err != nil {
		return err
	}
	if f.parts.attributes.ok() {
		for _, a := range affected(s) {
			at, ok := f.find(f.parts.attributes, a.Key)
			if _, err := strconv.ParseUint(string(f.data[at.start:at.end]), 10, 64); ok && err == nil {
				edits = append(edits, edit{at, strconv.AppendInt(nil, int64(a.Value), 10)})
			}
		}
	}
	if f.parts.ecadx.ok() {
		edits = append(edits, f.put(f.parts.ecadx, 2, "hash", appendQuoted(nil, s.Hash().String())))
	}
	return f.apply(edits)
}

// SetName changes the schedule's name.
func (f *File) SetName(name string) error {
	return f.apply([]edit{f.put(f.parts.cache, 2, "name", appendQuoted(nil, name))})
}

// SetOrigin writes the member "ecadx": family, steps and hash of the schedule,
// and where it came from. Its other members stay.
func (f *File) SetOrigin(origin string) error {
	if !f.parts.ecadx.ok() {
		w := &writer{depth: 1}
		w.meta(f.schedule, origin)
		return f.apply([]edit{f.put(f.parts.top, 1, "ecadx", w.buf)})
	}
	for _, m := range []struct{ key, value string }{
		{"family", string(appendQuoted(nil, f.Shape().Family.String()))},
		{"steps", strconv.Itoa(f.Shape().Steps)},
		{"hash", string(appendQuoted(nil, f.schedule.Hash().String()))},
		{"origin", string(appendQuoted(nil, origin))},
	} {
		if err := f.apply([]edit{f.put(f.parts.ecadx, 2, m.key, []byte(m.value))}); err != nil {
			return err
		}
	}
	return nil
}

// ClearMetrics empties the member "metrics", if there is one.
func (f *File) ClearMetrics() error {
	if !f.parts.metrics.ok() {
		return nil
	}
	return f.apply([]edit{{f.parts.metrics, []byte("{}")}})
}

// edit replaces a piece of the file.
type edit struct {
	at   span
	with []byte
}

// apply makes the edits, which must not overlap, and reads the result.
func (f *File) apply(edits []edit) error {
	slices.SortFunc(edits, func(a, b edit) int { return a.at.start - b.at.start })
	grow := 0
	for _, e := range edits {
		grow += len(e.with)
	}
	out := make([]byte, 0, len(f.data)+grow)
	last := 0
	for _, e := range edits {
		out = append(append(out, f.data[last:e.at.start]...), e.with...)
		last = e.at.end
	}
	changed, err := decode(append(out, f.data[last:]...))
	if err != nil {
		return err
	}
	*f = *changed
	return nil
}

// find returns the place of a member's value in an object.
func (f *File) find(object span, name string) (span, bool) {
	var at span
	s := scanner{data: f.data, pos: object.start}
	// The text has been checked, so that reading it again cannot fail.
	_ = s.object(func(key int) error {
		value, err := s.value()
		if s.decoded(key) == name {
			at = value
		}
		return err
	})
	return at, at.ok()
}

// put replaces a member's value, or adds the member at the end of its object,
// indented like the first member, or by four spaces per level.
func (f *File) put(object span, depth int, name string, value []byte) edit {
	if at, ok := f.find(object, name); ok {
		return edit{at, value}
	}
	inside := f.data[object.start+1 : object.end-1]
	trimmed := bytes.TrimRight(inside, " \n\r\t")
	end := object.start + 1 + len(trimmed)
	member := append(append(appendQuoted(nil, name), ": "...), value...)
	if len(trimmed) == 0 {
		w := &writer{depth: depth}
		w.line()
		w.buf = append(w.buf, member...)
		w.depth--
		w.line()
		return edit{span{end, object.end - 1}, w.buf}
	}
	lead := inside[:len(inside)-len(bytes.TrimLeft(inside, " \n\r\t"))]
	return edit{span{end, end}, append(append([]byte{','}, lead...), member...)}
}
