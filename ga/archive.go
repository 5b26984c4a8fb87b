package ga

import (
	"bytes"
	"slices"
	"sort"

	"ecadx/schedule"
)

// Entry is an evaluated schedule in an Archive.
type Entry struct {
	Hash       schedule.Hash
	Schedule   *schedule.Schedule // canonical; read only
	Point      Point
	Generation int // the generation that found it; 0 for uncached and baselines
}

// Archive remembers every schedule that was evaluated and keeps their Pareto front. The zero value is empty. Its
// contents depend on what was added, not on the order.
type Archive struct {
	known map[schedule.Hash]bool
	// front is sorted by ascending cost and, the entries being non-dominated with distinct points, ascending quality.
	front []Entry
}

// Known reports whether a schedule was added.
func (a *Archive) Known(h schedule.Hash) bool { return a.known[h] }

// Len returns the number of schedules that were added.
func (a *Archive) Len() int { return len(a.known) }

// Mark records a schedule as evaluated without letting it into the front: an invalid or infeasible one.
func (a *Archive) Mark(h schedule.Hash) {
	if a.known == nil {
		a.known = make(map[schedule.Hash]bool)
	}
	a.known[h] = true
}

// Add records an evaluated schedule and reports whether it entered the front. Of schedules with equal cost and quality
// the one with the smallest hash stays. O(log n) to look up, O(n) to insert.
func (a *Archive) Add(e Entry) bool {
	if a.Known(e.Hash) {
		return false
	}
	a.Mark(e.Hash)
	// The first entry that costs more than e; those before it are candidates to dominate e.
	i := sort.Search(len(a.front), func(i int) bool { return a.front[i].Point.Cost > e.Point.Cost })
	if i > 0 {
		p := a.front[i-1].Point
		switch {
		case p == e.Point:
			if bytes.Compare(e.Hash[:], a.front[i-1].Hash[:]) > 0 {
				return false
			}
		case p.Quality >= e.Point.Quality:
			return false
		}
	}
	lo, hi := i, i
	if lo > 0 && a.front[lo-1].Point.Cost == e.Point.Cost {
		lo--
	}
	for hi < len(a.front) && a.front[hi].Point.Quality <= e.Point.Quality {
		hi++
	}
	a.front = slices.Replace(a.front, lo, hi, e)
	return true
}

// Front returns the non-dominated schedules by ascending cost. The slice is the caller's.
func (a *Archive) Front() []Entry { return slices.Clone(a.front) }

// Points returns the points of the front by ascending cost.
func (a *Archive) Points() []Point {
	p := make([]Point, len(a.front))
	for i, e := range a.front {
		p[i] = e.Point
	}
	return p
}

// Thin returns at most n entries of a front by ascending cost: the most crowded one is left out again and again, both ends stay.
func Thin(front []Entry, n int) []Entry {
	list := make([]Individual, len(front))
	at := make(map[*float64]int, len(front))
	for i, e := range front {
		list[i] = Individual{F: Objectives(e.Point)}
		at[&list[i].F[0]] = i
	}
	var out []Entry
	for _, ind := range prune(list, n) {
		out = append(out, front[at[&ind.F[0]]])
	}
	slices.SortFunc(out, func(a, b Entry) int { return compareFloat(a.Point.Cost, b.Point.Cost) })
	return out
}
