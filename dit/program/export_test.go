package program

// Raw is the builder's program before Finish: every op, every buffer apart from the others. For comparison with what Finish makes.
func Raw(b *Builder) *Program {
	p := &Program{Steps: b.steps, Buffers: append([]Buffer(nil), b.buffers...), Tensors: b.tensors, Ops: b.ops, Sections: b.sections,
		IOs: b.ios, Schedules: b.schedules}
	for i := range p.Buffers {
		buf := &p.Buffers[i]
		switch buf.Kind {
		case Arena:
			buf.Offset = p.ArenaBytes
			p.ArenaBytes += alignUp(buf.Bytes)
		case Constant:
			for len(p.Constants)%alignment != 0 {
				p.Constants = append(p.Constants, 0)
			}
			buf.Offset = int64(len(p.Constants))
			p.Constants = append(p.Constants, b.data[i]...)
		}
	}
	return p
}

// Without is p without op i.
func (p *Program) Without(i int) *Program {
	q := *p
	q.Ops = append(append([]Op(nil), p.Ops[:i]...), p.Ops[i+1:]...)
	q.Sections = append([]Section(nil), p.Sections...)
	for s := range q.Sections {
		sec := &q.Sections[s]
		switch {
		case i < sec.First:
			sec.First--
		case i < sec.First+sec.Count:
			sec.Count--
		}
	}
	return &q
}

// MayShare, Validate and ValidateArena are for comparison with slow twins.
var MayShare = mayShare

func (p *Program) Validate() error                 { return p.validate() }
func (p *Program) ValidateArena(section int) error { return p.validateArena(section) }
func (p *Program) SetLayoutHash()                  { p.LayoutHash = p.layoutHash() }

// ViewOf is the view of a builder's tensor.
func ViewOf(b *Builder, t Tensor) *View { return b.view(t) }

// PlanRanges plans buffers of the given sizes; ranges are {buffer, first, last} by section.
func PlanRanges(sizes []int64, sections [][][3]int) (offsets []int64, bytes, bound int64) {
	buffers := make([]Buffer, len(sizes))
	for i := range buffers {
		buffers[i].Bytes = sizes[i]
	}
	live := make([][]liveRange, len(sections))
	for s, ranges := range sections {
		for _, r := range ranges {
			live[s] = append(live[s], liveRange{uint32(r[0]), r[1], r[2]})
		}
	}
	plan := planArena(live, buffers)
	return plan.offsets, plan.bytes, plan.lowerBound
}

// DropReport forgets what Finish did, which the bytes do not hold.
func DropReport(p *Program) { p.report = nil }

// EncodeUnchecked is Encode without validation.
func EncodeUnchecked(p *Program) []byte { return p.encode() }
