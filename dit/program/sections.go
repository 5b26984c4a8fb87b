package program

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Begin opens a section. Ops come between Begin and End.
func (b *Builder) Begin(kind SectionKind, name string) {
	if b.open {
		b.errorf("begin %q inside it: End comes first", name)
		b.End()
	}
	if kind >= numSectionKinds || !validName(name) {
		b.errorf("section %q of kind %v: not possible", name, kind)
	}
	b.open = true
	b.block, b.component = -1, noComponent
	b.sections = append(b.sections, Section{Kind: kind, Name: name, First: len(b.ops)})
}

// At says which component of which block the following ops belong to, until the next At or End; -1, -1: none.
func (b *Builder) At(block, component int) {
	if !validLabel(block, component) {
		b.errorf("at block %d, component %d: wants -1 or more", block, component)
		block, component = -1, noComponent
	}
	b.block, b.component = block, component
}

// End closes the section and names it. A section with the same ops on the same tensors as an earlier one (activations may differ, names
// of sections too) is that earlier one.
func (b *Builder) End() SectionID {
	if !b.open {
		b.errorf("end without begin")
		return 0
	}
	s := &b.sections[len(b.sections)-1]
	s.Count = len(b.ops) - s.First
	b.open = false
	key := sectionKey(s.Kind, b.ops[s.First:], b.tensors, b.buffers)
	if id, ok := b.sectionBy[key]; ok {
		b.ops = b.ops[:s.First]
		b.sections = b.sections[:len(b.sections)-1]
		return id
	}
	id := SectionID(len(b.sections) - 1)
	b.sectionBy[key] = id
	return id
}

// Schedule adds a run: items in order. Returns its index.
func (b *Builder) Schedule(name string, items []Item) int {
	if !validName(name) {
		b.errorf("schedule %q: its name is not UTF-8 of at most 255 bytes", name)
	}
	for i, it := range items {
		if it.Section < 0 || int(it.Section) >= len(b.sections) || it.Step < 0 || it.Step >= b.steps {
			b.errorf("schedule %q: item %d is section %d at step %d of %d sections, %d steps", name, i, it.Section, it.Step, len(b.sections), b.steps)
			return len(b.schedules)
		}
	}
	b.schedules = append(b.schedules, Schedule{Name: name, Items: append([]Item(nil), items...)})
	return len(b.schedules) - 1
}

// add appends an op after checking it. Operands that are bad make it vanish: their mistake was told.
func (b *Builder) add(op Op, in, out []Tensor) bool {
	for _, t := range append(in[:len(in):len(in)], out...) {
		if t.bad() {
			return false
		}
	}
	op.Block, op.Component = b.block, b.component
	label := fmt.Sprintf("%s %q", op.Code, op.Name)
	if op.Block >= 0 {
		label = fmt.Sprintf("block %d component %d %s", op.Block, op.Component, label)
	}
	if !b.open {
		b.errorf("%s: outside of a section, Begin comes first", label)
		return false
	}
	if !validName(op.Name) {
		b.errorf("%s: its name is not UTF-8 of at most 255 bytes", label)
		return false
	}
	inViews, outViews := b.views(in), b.views(out)
	err := checkOp(&op, inViews, outViews)
	if err == nil {
		err = checkAliases(&op, inViews, outViews, b.steps)
	}
	for _, v := range outViews {
		if err != nil || v == nil {
			continue
		}
		err = checkWrite(v, &b.buffers[v.Buffer])
	}
	if err != nil {
		b.errorf("%s: %w", label, err)
		return false
	}
	op.In, op.Out = operandIDs(in), operandIDs(out)
	b.ops = append(b.ops, op)
	return true
}

func (b *Builder) views(ts []Tensor) []*View {
	vs := make([]*View, len(ts))
	for i, t := range ts {
		vs[i] = b.view(t)
	}
	return vs
}

func operandIDs(ts []Tensor) []uint32 {
	ids := make([]uint32, len(ts))
	for i, t := range ts {
		ids[i] = uint32(t.id - 1) // the zero Tensor gives `absent`
	}
	return ids
}

// sectionKey is equal for sections that compute the same: ops, attributes, operands, with arena buffers numbered by appearance since
// their content does not outlive the section.
func sectionKey(kind SectionKind, ops []Op, tensors []View, buffers []Buffer) string {
	le := binary.LittleEndian
	key := le.AppendUint32(nil, uint32(kind))
	arena := map[uint32]uint64{}
	for i := range ops {
		op := &ops[i]
		key = le.AppendUint32(key, uint32(op.Code))
		key = le.AppendUint64(key, uint64(op.Block))
		key = le.AppendUint64(key, uint64(op.Component))
		key = le.AppendUint32(key, uint32(len(op.Name)))
		key = append(key, op.Name...)
		for _, a := range op.Attr {
			key = le.AppendUint32(key, uint32(a))
		}
		for _, f := range op.FAttr {
			key = le.AppendUint64(key, math.Float64bits(f))
		}
		for _, ids := range [2][]uint32{op.In, op.Out} {
			key = le.AppendUint32(key, uint32(len(ids)))
			for _, id := range ids {
				key = appendViewKey(key, id, tensors, buffers, arena)
			}
		}
	}
	return string(key)
}

func appendViewKey(key []byte, id uint32, tensors []View, buffers []Buffer, arena map[uint32]uint64) []byte {
	le := binary.LittleEndian
	if id == absent {
		return le.AppendUint64(key, math.MaxUint64)
	}
	v := tensors[id]
	if buffers[v.Buffer].Kind != Arena {
		return le.AppendUint64(key, uint64(id)) // equal views have one id
	}
	n, ok := arena[v.Buffer]
	if !ok {
		n = uint64(len(arena))
		arena[v.Buffer] = n
	}
	key = le.AppendUint64(key, 1<<40|n)
	key = le.AppendUint64(key, uint64(buffers[v.Buffer].Bytes))
	for _, x := range [...]int64{int64(v.DType), int64(v.Rank), v.Dims[0], v.Dims[1], v.Dims[2], v.Dims[3],
		v.Strides[0], v.Strides[1], v.Strides[2], v.Strides[3], v.Offset, v.StepStride} {
		key = le.AppendUint64(key, uint64(x))
	}
	return key
}
