package program

import (
	"cmp"
	"slices"
)

// arenaPlan is where arena buffers go.
type arenaPlan struct {
	offsets    []int64 // by buffer
	bytes      int64
	lowerBound int64 // the most bytes alive at one op: no plan is smaller
}

// planArena places buffers so that no two that live at the same op of a section share bytes. Each buffer has one offset for all sections.
// It tries three orders of greedy best fit and keeps the smallest arena.
func planArena(sections [][]liveRange, buffers []Buffer) arenaPlan {
	uses := make([][]use, len(buffers))
	var used []uint32
	for s, ranges := range sections {
		for _, r := range ranges {
			if uses[r.buffer] == nil {
				used = append(used, r.buffer)
			}
			uses[r.buffer] = append(uses[r.buffer], use{section: s, first: r.first, last: r.last})
		}
	}
	size := func(b uint32) int64 { return alignUp(buffers[b].Bytes) }
	life := func(b uint32) int64 {
		ops := int64(0)
		for _, u := range uses[b] {
			ops += int64(u.last - u.first + 1)
		}
		return ops
	}
	orders := [...]func(a, b uint32) int{
		func(a, b uint32) int { return cmp.Compare(size(b), size(a)) },
		func(a, b uint32) int { return cmp.Compare(size(b)*life(b), size(a)*life(a)) },
		func(a, b uint32) int { return cmp.Compare(uses[a][0].first, uses[b][0].first) },
	}
	plan := arenaPlan{lowerBound: lowerBound(sections, buffers)}
	for i, order := range orders {
		slices.SortFunc(used, func(a, b uint32) int { return cmp.Or(order(a, b), cmp.Compare(a, b)) })
		offsets, bytes := place(used, uses, sections, buffers)
		if i == 0 || bytes < plan.bytes {
			plan.offsets, plan.bytes = offsets, bytes
		}
		if plan.bytes == plan.lowerBound {
			break
		}
	}
	return plan
}

// use is a live range of a known buffer in a section.
type use struct{ section, first, last int }

// place puts buffers, in the order given, each into the smallest gap that fits among those placed that live at the same time.
func place(order []uint32, uses [][]use, sections [][]liveRange, buffers []Buffer) ([]int64, int64) {
	offsets := make([]int64, len(buffers))
	for i := range offsets {
		offsets[i] = -1
	}
	total := int64(0)
	type span struct{ from, to int64 }
	var taken []span
	for _, b := range order {
		taken = taken[:0]
		for _, u := range uses[b] {
			for _, r := range sections[u.section] {
				if offsets[r.buffer] >= 0 && r.first <= u.last && u.first <= r.last {
					taken = append(taken, span{offsets[r.buffer], offsets[r.buffer] + alignUp(buffers[r.buffer].Bytes)})
				}
			}
		}
		slices.SortFunc(taken, func(x, y span) int { return cmp.Or(cmp.Compare(x.from, y.from), cmp.Compare(x.to, y.to)) })
		need, at, bestGap := alignUp(buffers[b].Bytes), int64(-1), int64(0)
		end := int64(0)
		for _, t := range taken {
			if gap := t.from - end; gap >= need && (at < 0 || gap < bestGap) {
				at, bestGap = end, gap
			}
			end = max(end, t.to)
		}
		if at < 0 {
			at = end
		}
		offsets[b] = at
		total = max(total, at+need)
	}
	return offsets, total
}

// lowerBound is the most bytes that live at one op.
func lowerBound(sections [][]liveRange, buffers []Buffer) int64 {
	most := int64(0)
	for _, ranges := range sections {
		ops := 0
		for _, r := range ranges {
			ops = max(ops, r.last+1)
		}
		change := make([]int64, ops+1)
		for _, r := range ranges {
			change[r.first] += alignUp(buffers[r.buffer].Bytes)
			change[r.last+1] -= alignUp(buffers[r.buffer].Bytes)
		}
		live := int64(0)
		for _, c := range change {
			live += c
			most = max(most, live)
		}
	}
	return most
}
