package program

import "fmt"

// RemovedOp is an op that Finish took out because nobody reads what it writes.
type RemovedOp struct {
	Section          SectionID
	Block, Component int
	Name             string
	Code             Opcode
	Cost             Cost
}

// report is what Finish did to the program.
type report struct {
	removed  []RemovedOp
	narrowed []NarrowedOp
	demoted  []Buffer        // persistent buffers that became activations
	dropped  []Buffer        // persistent buffers that nothing uses
	rows     map[string]span // of persistent buffers that do not keep all
}

// Finish makes the program: it takes out ops whose results nobody reads under any schedule, and the rows that nobody reads out of others, makes activations of
// persistent buffers that no section reads before writing, places activations in the arena and drops what is not used. It returns the mistakes made so far
// instead, if there are any. The Builder is not changed.
func (b *Builder) Finish() (*Program, error) {
	if b.open {
		b.errorf("finish before its End")
	}
	if err := b.Err(); err != nil {
		return nil, err
	}
	f := newFlow(b)
	if err := f.checkStarts(); err != nil {
		return nil, err
	}
	n := f.narrow()
	buffers, rep := f.demote(n)
	p := &Program{Steps: b.steps, report: rep}
	a := &assembly{p: p, b: b, buffers: buffers, views: n.views, bufferIDs: make([]uint32, len(buffers)), tensorIDs: make([]uint32, len(n.views))}
	a.collect(f)
	if err := a.plan(); err != nil {
		return nil, err
	}
	p.LayoutHash = p.layoutHash()
	if b.match != nil && p.LayoutHash != b.match.LayoutHash {
		return nil, layoutMismatch(p, b.match)
	}
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("%w (after planning: a bug of the builder)", err)
	}
	return p, nil
}

// checkStarts wants what a schedule reads of the state it is given to be there: an io or kept buffer, or written by another schedule or
// a section outside of schedules.
func (f *flow) checkStarts() error {
	given := newBitset(len(f.persistent))
	for _, io := range f.b.ios {
		if io.Direction&In != 0 {
			given.set(f.index[f.b.tensors[io.Tensor].Buffer])
		}
	}
	for buf := range f.b.keep {
		given.set(f.index[buf])
	}
	for i := range f.sections {
		if !f.used[i] {
			given.union(f.sections[i].writes)
		}
	}
	for i, s := range f.b.schedules {
		missing := append(bitset(nil), f.atStart[i]...)
		missing.subtract(given)
		for j, other := range f.b.schedules {
			for _, it := range other.Items {
				if j != i {
					missing.subtract(f.sections[it.Section].writes)
				}
			}
		}
		if err := f.firstRead(s, missing); err != nil {
			return err
		}
	}
	return nil
}

// firstRead names the first item of s that reads one of missing before it is written.
func (f *flow) firstRead(s Schedule, missing bitset) error {
	for j, it := range s.Items {
		sec := &f.sections[it.Section]
		bad := -1
		sec.reads.each(func(k int) {
			if bad < 0 && missing.has(k) {
				bad = k
			}
		})
		for k, e := range sec.guarded {
			for _, g := range e.guards {
				if missing.has(k) && g.reads(it.Step) && (bad < 0 || k < bad) {
					bad = k
				}
			}
		}
		if bad >= 0 {
			return errorf("schedule %q: item %d (section %q at step %d) reads %q before anything writes it; compute it first, or make it an input",
				s.Name, j, f.b.sections[it.Section].Name, it.Step, f.b.buffers[f.persistent[bad]].Name)
		}
		missing.subtract(sec.writes)
	}
	return nil
}

// demote is the builder's buffers with the rows that n keeps, and with those persistent ones that need not be turned into arena buffers.
func (f *flow) demote(narrowed *narrowing) ([]Buffer, *report) {
	b := f.b
	n := len(f.persistent)
	needed, touched := newBitset(n), newBitset(n)
	for _, io := range b.ios {
		needed.set(f.index[b.tensors[io.Tensor].Buffer])
	}
	for buf := range b.keep {
		needed.set(f.index[buf])
	}
	for i := range f.sections {
		e := f.sections[i].exposed()
		needed.union(e)
		touched.union(e)
		touched.union(f.sections[i].writes)
	}
	matched := map[string]bool{}
	if b.match != nil {
		for i := range b.match.Buffers {
			matched[b.match.Buffers[i].Name] = b.match.Buffers[i].Kind == Persistent || matched[b.match.Buffers[i].Name]
		}
	}
	rep := &report{narrowed: narrowed.done, rows: map[string]span{}}
	buffers := append([]Buffer(nil), b.buffers...)
	for i := range buffers {
		fr := &narrowed.frames[i]
		if all := buffers[i].Bytes; fr.bytes(all) < all {
			buffers[i].Bytes = fr.bytes(all)
			if buffers[i].Kind == Persistent {
				rep.rows[buffers[i].Name] = fr.wanted
			}
		}
	}
	for j, id := range f.persistent {
		buf := &buffers[id]
		if needed.has(j) || b.keepAll || matched[buf.Name] {
			continue
		}
		if touched.has(j) {
			rep.demoted = append(rep.demoted, *buf)
		} else {
			rep.dropped = append(rep.dropped, *buf)
		}
		buf.Kind, buf.Slot, buf.Block, buf.Component = Arena, false, -1, noComponent
	}
	for i := range f.sections {
		for k, alive := range f.sections[i].alive {
			if alive {
				continue
			}
			op := &b.ops[b.sections[i].First+k]
			rep.removed = append(rep.removed, RemovedOp{Section: SectionID(i), Block: op.Block, Component: op.Component, Name: op.Name,
				Code: op.Code, Cost: costOf(op, b.tensors)})
		}
	}
	return buffers, rep
}

// assembly builds the tables of a program from what is left.
type assembly struct {
	p         *Program
	b         *Builder
	buffers   []Buffer
	views     []View   // after narrowing
	bufferIDs []uint32 // new id + 1
	tensorIDs []uint32
}

func (a *assembly) buffer(id uint32) uint32 {
	if a.bufferIDs[id] == 0 {
		buf := a.buffers[id]
		if buf.Kind == Constant {
			for int64(len(a.p.Constants))%alignment != 0 {
				a.p.Constants = append(a.p.Constants, 0)
			}
			buf.Offset = int64(len(a.p.Constants))
			a.p.Constants = append(a.p.Constants, a.b.data[id]...)
		}
		a.p.Buffers = append(a.p.Buffers, buf)
		a.bufferIDs[id] = uint32(len(a.p.Buffers))
	}
	return a.bufferIDs[id] - 1
}

func (a *assembly) tensor(id uint32) uint32 {
	if id == absent {
		return absent
	}
	if a.tensorIDs[id] == 0 {
		v := a.views[id]
		v.Buffer = a.buffer(v.Buffer)
		a.p.Tensors = append(a.p.Tensors, v)
		a.tensorIDs[id] = uint32(len(a.p.Tensors))
	}
	return a.tensorIDs[id] - 1
}

func (a *assembly) tensorsOf(ids []uint32) []uint32 {
	out := make([]uint32, len(ids))
	for i, id := range ids {
		out[i] = a.tensor(id)
	}
	return out
}

// collect fills all tables; arena offsets are still 0.
func (a *assembly) collect(f *flow) {
	p, b := a.p, a.b
	for _, id := range f.persistent { // first, in the order they were declared: their order is part of the layout
		if a.buffers[id].Kind == Persistent {
			a.buffer(id)
		}
	}
	for i := range f.sections {
		s := b.sections[i]
		s.First, s.Count = len(p.Ops), 0
		for k, op := range f.sections[i].ops {
			if f.sections[i].alive[k] {
				op.In, op.Out = a.tensorsOf(op.In), a.tensorsOf(op.Out)
				p.Ops = append(p.Ops, op)
				s.Count++
			}
		}
		p.Sections = append(p.Sections, s)
	}
	for _, io := range b.ios {
		io.Tensor = a.tensor(io.Tensor)
		p.IOs = append(p.IOs, io)
	}
	for _, s := range b.schedules {
		p.Schedules = append(p.Schedules, Schedule{Name: s.Name, Items: append([]Item(nil), s.Items...)})
	}
}

func (a *assembly) plan() error {
	p := a.p
	sections := make([][]liveRange, len(p.Sections))
	for i := range p.Sections {
		ranges, err := liveRanges(p.SectionOps(i), p.Tensors, p.Buffers)
		if err != nil {
			return fmt.Errorf("%w, in section %q", err, p.Sections[i].Name)
		}
		sections[i] = ranges
	}
	plan := planArena(sections, p.Buffers)
	for i := range p.Buffers {
		if p.Buffers[i].Kind == Arena {
			p.Buffers[i].Offset = plan.offsets[i]
		}
	}
	p.ArenaBytes = max(plan.bytes, a.b.reserve)
	if m := a.b.match; m != nil {
		if plan.bytes > m.ArenaBytes {
			return errorf("the arena needs %d bytes, the layout to match has %d: reserve more when compiling that program", plan.bytes, m.ArenaBytes)
		}
		p.ArenaBytes = m.ArenaBytes
	}
	return nil
}

// layoutMismatch says how the layout of p differs from want's.
func layoutMismatch(p, want *Program) error {
	if p.Steps != want.Steps {
		return errorf("layouts differ: %d steps, the one to match has %d", p.Steps, want.Steps)
	}
	mine, theirs := p.persistentBuffers(), want.persistentBuffers()
	for i := 0; i < max(len(mine), len(theirs)); i++ {
		switch {
		case i >= len(mine):
			return errorf("layouts differ: persistent buffer %q of the one to match is not declared", theirs[i].Name)
		case i >= len(theirs):
			return errorf("layouts differ: persistent buffer %q is not in the one to match", mine[i].Name)
		case mine[i] != theirs[i]:
			return errorf("layouts differ: persistent buffer %d is %q of %d bytes, %q of %d bytes in the one to match", i, mine[i].Name, mine[i].Bytes, theirs[i].Name, theirs[i].Bytes)
		}
	}
	return errorf("layouts differ")
}

func (p *Program) persistentBuffers() []Buffer {
	var bs []Buffer
	for _, b := range p.Buffers {
		if b.Kind == Persistent {
			bs = append(bs, b)
		}
	}
	return bs
}
