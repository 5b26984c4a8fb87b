package program

import (
	"slices"
)

// liveRange is when one section uses an arena buffer: ops first..last of the section, both included.
type liveRange struct {
	buffer      uint32
	first, last int
}

// liveRanges are the arena buffers of a section by first write. It fails on a read before a write.
func liveRanges(ops []Op, tensors []View, buffers []Buffer) ([]liveRange, error) {
	var ranges []liveRange
	index := map[uint32]int{}
	for i := range ops {
		for _, id := range ops[i].In {
			if id == absent || buffers[tensors[id].Buffer].Kind != Arena {
				continue
			}
			at, ok := index[tensors[id].Buffer]
			if !ok {
				return nil, errorf("op %s %q (%d of its section) reads %s before anything writes it", ops[i].Code, ops[i].Name, i, shapeText(&tensors[id]))
			}
			ranges[at].last = i
		}
		for _, id := range ops[i].Out {
			if id == absent || buffers[tensors[id].Buffer].Kind != Arena {
				continue
			}
			buf := tensors[id].Buffer
			at, ok := index[buf]
			if !ok {
				at = len(ranges)
				index[buf] = at
				ranges = append(ranges, liveRange{buffer: buf, first: i})
			}
			ranges[at].last = i
		}
	}
	return ranges, nil
}

// validateArena checks that no two arena buffers of section i share bytes while both live.
func (p *Program) validateArena(i int) error {
	ranges, err := liveRanges(p.SectionOps(i), p.Tensors, p.Buffers)
	if err != nil {
		return err
	}
	cover := newCoverage(p.Buffers, ranges)
	ends := slices.Clone(ranges)
	slices.SortFunc(ends, func(a, b liveRange) int { return a.last - b.last })
	for _, r := range ranges {
		for len(ends) > 0 && ends[0].last < r.first {
			b := &p.Buffers[ends[0].buffer]
			cover.add(b.Offset, b.Offset+b.Bytes, -1)
			ends = ends[1:]
		}
		b := &p.Buffers[r.buffer]
		if cover.max(b.Offset, b.Offset+b.Bytes) > 0 {
			return errorf("section %d %q: arena buffer %d, written by op %d, shares bytes with another that lives then", i, p.Sections[i].Name, r.buffer, r.first)
		}
		cover.add(b.Offset, b.Offset+b.Bytes, 1)
	}
	return nil
}

// coverage counts how many intervals cover each point: a segment tree over the ends of all intervals, so that hostile programs with
// very many buffers cost n log n.
type coverage struct {
	points []int64
	most   []int32 // maximum below a node, without its ancestors' added
	added  []int32
}

func newCoverage(buffers []Buffer, ranges []liveRange) *coverage {
	c := &coverage{}
	for _, r := range ranges {
		b := &buffers[r.buffer]
		c.points = append(c.points, b.Offset, b.Offset+b.Bytes)
	}
	slices.Sort(c.points)
	c.points = slices.Compact(c.points)
	c.most = make([]int32, 4*len(c.points)+4)
	c.added = make([]int32, 4*len(c.points)+4)
	return c
}

func (c *coverage) span(from, to int64) (int, int) {
	lo, _ := slices.BinarySearch(c.points, from)
	hi, _ := slices.BinarySearch(c.points, to)
	return lo, hi
}

func (c *coverage) add(from, to int64, by int32) {
	lo, hi := c.span(from, to)
	c.update(1, 0, len(c.points), lo, hi, by)
}

func (c *coverage) update(node, from, to, lo, hi int, by int32) {
	if hi <= from || to <= lo {
		return
	}
	if lo <= from && to <= hi {
		c.most[node] += by
		c.added[node] += by
		return
	}
	mid := (from + to) / 2
	c.update(2*node, from, mid, lo, hi, by)
	c.update(2*node+1, mid, to, lo, hi, by)
	c.most[node] = max(c.most[2*node], c.most[2*node+1]) + c.added[node]
}

func (c *coverage) max(from, to int64) int32 {
	lo, hi := c.span(from, to)
	return c.query(1, 0, len(c.points), lo, hi)
}

func (c *coverage) query(node, from, to, lo, hi int) int32 {
	if hi <= from || to <= lo {
		return 0
	}
	if lo <= from && to <= hi {
		return c.most[node]
	}
	mid := (from + to) / 2
	return max(c.query(2*node, from, mid, lo, hi), c.query(2*node+1, mid, to, lo, hi)) + c.added[node]
}
