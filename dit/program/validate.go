package program

import (
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// validate checks every rule of the program format that is not about bytes.
func (p *Program) validate() error {
	if p.Steps < 1 || p.Steps > maxDim {
		return errorf("%d steps: wants 1 to %d", p.Steps, int64(maxDim))
	}
	if p.ArenaBytes < 0 || p.ArenaBytes > maxBytes || int64(len(p.Constants)) > maxBytes {
		return errorf("arena of %d bytes: at most 2^48", p.ArenaBytes)
	}
	if err := p.validateTables(); err != nil {
		return err
	}
	for i := range p.Ops {
		if err := p.validateOp(i); err != nil {
			return err
		}
	}
	if err := p.validateRuns(); err != nil {
		return err
	}
	for i := range p.Sections {
		if err := p.validateArena(i); err != nil {
			return err
		}
	}
	if p.LayoutHash != p.layoutHash() {
		return errorf("layout hash does not fit the persistent buffers")
	}
	return nil
}

func (p *Program) validateTables() error {
	for _, t := range [...]struct {
		what     string
		n, limit int
	}{{"buffers", len(p.Buffers), maxTable}, {"tensors", len(p.Tensors), maxTable}, {"ops", len(p.Ops), maxTable},
		{"sections", len(p.Sections), maxShort}, {"ios", len(p.IOs), maxShort}, {"schedules", len(p.Schedules), maxShort}} {
		if t.n > t.limit {
			return errorf("%d %s: at most %d", t.n, t.what, t.limit)
		}
	}
	keys := map[string]bool{}
	state := int64(0)
	for i := range p.Buffers {
		b := &p.Buffers[i]
		if err := p.validateBuffer(b); err != nil {
			return errorf("buffer %d %q: %w", i, b.Name, err)
		}
		if b.Kind == Persistent {
			if state += b.Bytes; state > 1<<60 {
				return errorf("persistent buffers of more than 2^60 bytes")
			}
		}
		if b.Kind == Weight {
			if keys[b.Name] {
				return errorf("buffer %d: weight %q is there twice", i, b.Name)
			}
			keys[b.Name] = true
		}
	}
	shapes := make([]int32, len(p.Buffers)) // of weights: their tensor + 1
	for i := range p.Tensors {
		v := &p.Tensors[i]
		if err := p.validateTensor(v); err != nil {
			return errorf("tensor %d: %w", i, err)
		}
		if p.Buffers[v.Buffer].Kind != Weight {
			continue
		}
		if first := shapes[v.Buffer]; first == 0 {
			shapes[v.Buffer] = int32(i + 1)
		} else if w := &p.Tensors[first-1]; w.Rank != v.Rank || w.Dims != v.Dims {
			return errorf("tensor %d: weight %q is %s and %s: one shape per key", i, p.Buffers[v.Buffer].Name, shapeText(w), shapeText(v))
		}
	}
	return nil
}

func (p *Program) validateBuffer(b *Buffer) error {
	limit := int64(maxBytes)
	switch b.Kind {
	case Arena:
		limit = p.ArenaBytes
	case Constant:
		limit = int64(len(p.Constants))
	case Persistent, Weight:
		if b.Offset != 0 {
			return fmt.Errorf("%s at offset %d: wants 0", b.Kind, b.Offset)
		}
		if b.Name == "" {
			return fmt.Errorf("%s without a name", b.Kind)
		}
	default:
		return fmt.Errorf("%v is unknown", b.Kind)
	}
	if (b.Kind == Weight) != (b.Bytes == 0) || b.Bytes < 0 || b.Bytes > maxBytes {
		return fmt.Errorf("%s of %d bytes", b.Kind, b.Bytes)
	}
	if b.Offset < 0 || b.Offset%alignment != 0 || b.Offset > limit || b.Bytes > limit-b.Offset {
		return fmt.Errorf("%s of %d bytes at offset %d: wants a multiple of %d inside %d bytes", b.Kind, b.Bytes, b.Offset, alignment, limit)
	}
	if b.Slot && b.Kind != Persistent || !validLabel(b.Block, b.Component) {
		return fmt.Errorf("%s of block %d, component %d, slot %t", b.Kind, b.Block, b.Component, b.Slot)
	}
	if !validName(b.Name) {
		return fmt.Errorf("its name is not UTF-8 of at most %d bytes", maxName)
	}
	return nil
}

func (p *Program) validateTensor(v *View) error {
	if int64(v.Buffer) >= int64(len(p.Buffers)) {
		return fmt.Errorf("buffer %d of %d", v.Buffer, len(p.Buffers))
	}
	b := &p.Buffers[v.Buffer]
	if v.DType >= numDTypes || (v.DType == Any) != (b.Kind == Weight) {
		return fmt.Errorf("%v in a %s buffer", v.DType, b.Kind)
	}
	if v.Rank < 1 || v.Rank > maxRank {
		return fmt.Errorf("rank %d", v.Rank)
	}
	count := int64(1)
	for i, d := range v.Dims {
		if d < 1 || d > maxDim || (i >= v.Rank && d != 1) {
			return fmt.Errorf("dims %v of rank %d", v.Dims, v.Rank)
		}
		if count *= d; count > maxCount {
			return fmt.Errorf("dims %v: more than 2^40 elements", v.Dims)
		}
	}
	if b.Kind == Arena && v.StepStride != 0 {
		return fmt.Errorf("an arena tensor does not move with the step")
	}
	if v.Offset < 0 || v.Offset > maxBytes || v.StepStride < 0 || v.StepStride > maxBytes {
		return fmt.Errorf("offset %d, step stride %d", v.Offset, v.StepStride)
	}
	last, ok := lastElement(v, b.Kind == Constant)
	if !ok {
		return fmt.Errorf("strides %v with dims %v overlap or overflow", v.Strides, v.Dims)
	}
	if b.Kind == Weight {
		if !v.dense() || v.Offset != 0 || v.StepStride != 0 {
			return fmt.Errorf("a weight is viewed dense and whole")
		}
		return nil
	}
	hi, moved := bits.Mul64(uint64(p.Steps-1), uint64(v.StepStride))
	if hi != 0 || moved > maxBytes || v.Offset+last+int64(moved) >= b.Bytes/v.DType.Size() {
		return fmt.Errorf("%s at offset %d with step stride %d over %d steps leaves its buffer of %d bytes", shapeText(v), v.Offset, v.StepStride, p.Steps, b.Bytes)
	}
	return nil
}

// lastElement checks strides and gives the position of the last element behind the first.
func lastElement(v *View, mayRepeat bool) (int64, bool) {
	if v.Strides[v.Rank-1] != 1 {
		return 0, false
	}
	pos := int64(0)
	repeats := false
	for i := maxRank - 1; i >= 0; i-- {
		s, d := v.Strides[i], v.Dims[i]
		if i >= v.Rank {
			if s != 0 {
				return 0, false
			}
			continue
		}
		if s < 0 || s > maxBytes {
			return 0, false
		}
		if d == 1 {
			continue
		}
		if s == 0 && mayRepeat {
			repeats = true
			continue
		}
		hi, by := bits.Mul64(uint64(d-1), uint64(s))
		if repeats || s < pos+1 || hi != 0 || by > maxBytes {
			return 0, false
		}
		pos += int64(by)
	}
	return pos, true
}

// operands are the views of ids, nil where absent.
func (p *Program) operands(ids []uint32) []*View {
	vs := make([]*View, len(ids))
	for i, id := range ids {
		if id != absent {
			vs[i] = &p.Tensors[id]
		}
	}
	return vs
}

func (p *Program) validateOp(i int) error {
	op := &p.Ops[i]
	err := func() error {
		for _, ids := range [2][]uint32{op.In, op.Out} {
			for _, id := range ids {
				if id != absent && int64(id) >= int64(len(p.Tensors)) {
					return fmt.Errorf("operand %d of %d tensors", id, len(p.Tensors))
				}
			}
		}
		if !validLabel(op.Block, op.Component) || !validName(op.Name) {
			return fmt.Errorf("block %d, component %d, name of %d bytes: not possible", op.Block, op.Component, len(op.Name))
		}
		in, out := p.operands(op.In), p.operands(op.Out)
		if err := checkOp(op, in, out); err != nil {
			return err
		}
		if err := checkAliases(op, in, out, p.Steps); err != nil {
			return err
		}
		for _, v := range out {
			if v == nil {
				continue
			}
			if err := checkWrite(v, &p.Buffers[v.Buffer]); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		return errorf("op %d %s %q: %w", i, op.Code, op.Name, err)
	}
	return nil
}

// checkWrite wants that an op may write v of buffer b.
func checkWrite(v *View, b *Buffer) error {
	switch {
	case v.StepStride != 0:
		return fmt.Errorf("writes %s, which moves with the step", shapeText(v))
	case b.Kind == Constant || b.Kind == Weight:
		return fmt.Errorf("writes the %s %q", b.Kind, b.Name)
	case b.Kind == Persistent && !v.whole(b):
		return fmt.Errorf("writes a part of %q: a persistent buffer is written whole", b.Name)
	}
	return nil
}

func (p *Program) validateRuns() error {
	next := 0
	for i, s := range p.Sections {
		if s.Kind >= numSectionKinds || s.First != next || s.Count < 0 || s.Count > len(p.Ops)-next || !validName(s.Name) {
			return errorf("section %d %q: %v, ops %d to %d of %d, wants them to start at %d", i, s.Name, s.Kind, s.First, s.First+s.Count, len(p.Ops), next)
		}
		next += s.Count
	}
	if next != len(p.Ops) {
		return errorf("%d ops belong to no section", len(p.Ops)-next)
	}
	names := map[string]bool{}
	for i, io := range p.IOs {
		if names[io.Name] || !validIOName(io.Name) {
			return errorf("io %d: name %q is empty, longer than %d bytes or there twice", i, io.Name, maxIOName)
		}
		names[io.Name] = true
		if int64(io.Tensor) >= int64(len(p.Tensors)) || io.Direction < In || io.Direction > InOut {
			return errorf("io %q: tensor %d of %d, %v", io.Name, io.Tensor, len(p.Tensors), io.Direction)
		}
		v := &p.Tensors[io.Tensor]
		if b := &p.Buffers[v.Buffer]; b.Kind != Persistent || !v.whole(b) {
			return errorf("io %q: wants a whole persistent buffer", io.Name)
		}
	}
	items := 0
	for i, s := range p.Schedules {
		items += len(s.Items)
		if items > maxTable || !validName(s.Name) {
			return errorf("schedule %d %q: more than %d items in all", i, s.Name, maxTable)
		}
		for j, it := range s.Items {
			if it.Section < 0 || int(it.Section) >= len(p.Sections) || it.Step < 0 || it.Step >= p.Steps {
				return errorf("schedule %d %q: item %d is section %d of %d at step %d of %d", i, s.Name, j, it.Section, len(p.Sections), it.Step, p.Steps)
			}
		}
	}
	return nil
}

// validName says whether s can be a name in a program.
func validName(s string) bool { return len(s) <= maxName && utf8.ValidString(s) }

func validIOName(s string) bool {
	return s != "" && len(s) <= maxIOName && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

func validLabel(block, component int) bool {
	return block >= -1 && component >= -1 && block <= maxDim && component <= maxDim
}
