package program

import (
	"cmp"
	"slices"
)

// Stats is what a program needs and what was taken out of it.
type Stats struct {
	ArenaBytes      int64
	ArenaLowerBound int64 // the most bytes alive at one op
	PersistentBytes int64 // slots included
	SlotBytes       int64
	ConstantBytes   int64
	Slots           []SlotStat
	Sections        []SectionStat
	Components      []ComponentStat // by section, block, component
	Removed         []RemovedOp     // none for a decoded program: its bytes do not tell
	RemovedCost     Cost
	Narrowed        []NarrowedOp // none for a decoded program
	Demoted         []string     // persistent buffers that became activations; none for a decoded program
	Dropped         []string     // persistent buffers that nothing used; none for a decoded program
}

// SlotStat is the memory of the cache slots of one component of one block.
type SlotStat struct {
	Block, Component int
	Names            []string
	Bytes            int64
}

// SectionStat is the work of one run of a section.
type SectionStat struct {
	Section    SectionID
	Ops        int
	Cost       Cost
	ArenaBytes int64 // the end of the highest arena buffer that it uses
}

// ComponentStat is the work of one component in one run of a section; block and component are -1 for ops of none.
type ComponentStat struct {
	Section          SectionID
	Block, Component int
	Ops              int
	Cost             Cost
}

// Stats counts.
func (p *Program) Stats() Stats {
	s := Stats{ArenaBytes: p.ArenaBytes, ConstantBytes: int64(len(p.Constants)), ArenaLowerBound: p.lowerBound()}
	for i := range p.Buffers {
		b := &p.Buffers[i]
		if b.Kind != Persistent {
			continue
		}
		s.PersistentBytes += b.Bytes
		if b.Slot {
			s.SlotBytes += b.Bytes
			s.addSlot(b)
		}
	}
	slices.SortStableFunc(s.Slots, func(x, y SlotStat) int {
		return cmp.Or(cmp.Compare(x.Block, y.Block), cmp.Compare(x.Component, y.Component))
	})
	for i := range p.Sections {
		s.addSection(p, SectionID(i))
	}
	if p.report != nil {
		s.Removed, s.Narrowed = slices.Clone(p.report.removed), slices.Clone(p.report.narrowed)
		for _, r := range s.Removed {
			s.RemovedCost = s.RemovedCost.Plus(r.Cost)
		}
		for _, b := range p.report.demoted {
			s.Demoted = append(s.Demoted, b.Name)
		}
		for _, b := range p.report.dropped {
			s.Dropped = append(s.Dropped, b.Name)
		}
	}
	return s
}

func (s *Stats) addSlot(b *Buffer) {
	for i := range s.Slots {
		if s.Slots[i].Block == b.Block && s.Slots[i].Component == b.Component {
			s.Slots[i].Names = append(s.Slots[i].Names, b.Name)
			s.Slots[i].Bytes += b.Bytes
			return
		}
	}
	s.Slots = append(s.Slots, SlotStat{Block: b.Block, Component: b.Component, Names: []string{b.Name}, Bytes: b.Bytes})
}

func (s *Stats) addSection(p *Program, id SectionID) {
	sec := p.Sections[id]
	stat := SectionStat{Section: id, Ops: sec.Count}
	type key struct{ block, component int }
	byKey := map[key]*ComponentStat{}
	var keys []key
	for i := sec.First; i < sec.First+sec.Count; i++ {
		op := &p.Ops[i]
		cost := p.Cost(i)
		stat.Cost = stat.Cost.Plus(cost)
		k := key{op.Block, op.Component}
		if byKey[k] == nil {
			byKey[k] = &ComponentStat{Section: id, Block: op.Block, Component: op.Component}
			keys = append(keys, k)
		}
		byKey[k].Ops++
		byKey[k].Cost = byKey[k].Cost.Plus(cost)
		for _, tid := range op.Out {
			if tid == absent {
				continue
			}
			if b := &p.Buffers[p.Tensors[tid].Buffer]; b.Kind == Arena {
				stat.ArenaBytes = max(stat.ArenaBytes, b.Offset+b.Bytes)
			}
		}
	}
	slices.SortFunc(keys, func(x, y key) int {
		return cmp.Or(cmp.Compare(x.block, y.block), cmp.Compare(x.component, y.component))
	})
	s.Sections = append(s.Sections, stat)
	for _, k := range keys {
		s.Components = append(s.Components, *byKey[k])
	}
}

// lowerBound is the most arena bytes alive at one op of any section.
func (p *Program) lowerBound() int64 {
	sections := make([][]liveRange, len(p.Sections))
	for i := range p.Sections {
		sections[i], _ = liveRanges(p.SectionOps(i), p.Tensors, p.Buffers) // validated: it does not fail
	}
	return lowerBound(sections, p.Buffers)
}

// ScheduleCost is the work of one run of schedule i.
func (p *Program) ScheduleCost(i int) Cost {
	costs := make([]Cost, len(p.Sections))
	for s := range p.Sections {
		for op := p.Sections[s].First; op < p.Sections[s].First+p.Sections[s].Count; op++ {
			costs[s] = costs[s].Plus(p.Cost(op))
		}
	}
	var total Cost
	for _, it := range p.Schedules[i].Items {
		total = total.Plus(costs[it.Section])
	}
	return total
}
