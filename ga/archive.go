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

// Subset returns, by ascending cost, the at most n entries of a front (as Front gives it, all better than the reference point) that keep the most
// of its hypervolume. Exact, by the dynamic programme for two objectives (Auger, Bader, Brockhoff and Zitzler 2009): with a cheapest entry i, the
// entries from i on are worth its quality times the way to the next, and the best of what follows. Of equal choices the cheaper entries. O(n m^2)
// for a front of m.
func Subset(front []Entry, n int, reference Point) []Entry {
	m := len(front)
	if n >= m {
		return slices.Clone(front)
	}
	best, next := make([]float64, m), make([][]int, n) // with k+1 entries, the first of them i
	for k := range n {
		before := slices.Clone(best)
		next[k] = make([]int, m)
		for i := range m {
			p := front[i].Point
			height := p.Quality - reference.Quality
			best[i], next[k][i] = height*(reference.Cost-p.Cost), -1
			for j := i + 1; k > 0 && j < m; j++ {
				if v := float64(height*(front[j].Point.Cost-p.Cost)) + before[j]; v > best[i] {
					best[i], next[k][i] = v, j
				}
			}
		}
	}
	var out []Entry
	at := 0
	for i := range best {
		if best[i] > best[at] {
			at = i
		}
	}
	for k := n - 1; k >= 0 && at >= 0; k-- {
		out = append(out, front[at])
		at = next[k][at]
	}
	return out
}
