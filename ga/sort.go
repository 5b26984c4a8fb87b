package ga

import (
	"math"
	"slices"
)

// Relation says how two objective vectors compare under Pareto dominance.
type Relation int

// The relations of two objective vectors. Equal vectors are Indifferent.
const (
	Indifferent Relation = iota
	Dominates
	Dominated
)

// Compare returns how a relates to b when every objective is minimised: a Dominates b when no objective is worse and
// one is better. Both have the same length.
func Compare(a, b []float64) Relation {
	r := Indifferent
	for i, x := range a {
		switch {
		case x < b[i]:
			if r == Dominated {
				return Indifferent
			}
			r = Dominates
		case x > b[i]:
			if r == Dominates {
				return Indifferent
			}
			r = Dominated
		}
	}
	return r
}

// NonDominatedSort splits the indices of f (n vectors of m minimised objectives) into fronts: no member of a front is
// dominated by a member of the same or a later front. It stops after the front that brings the number of ranked
// indices to at least stop; stop <= 0 ranks all.
//
// Within a front the order is that of pymoo 0.6.1.3: ascending in the first front, afterwards the order in which the
// fast non-dominated sort discovers the members (Deb et al. 2002, section III-A). It matters because survival keeps it
// and tournaments draw by position. O(m n^2).
func NonDominatedSort(f [][]float64, stop int) [][]int {
	n := len(f)
	if n == 0 {
		return nil
	}
	if stop <= 0 || stop > n {
		stop = n
	}
	beats := make([][]int32, n) // beats[i]: the indices that i dominates
	above := make([]int, n)     // how many unranked indices dominate i
	front := make([]int, 0, n)
	for i := range n {
		for j := i + 1; j < n; j++ {
			switch Compare(f[i], f[j]) {
			case Dominates:
				beats[i] = append(beats[i], int32(j))
				above[j]++
			case Dominated:
				beats[j] = append(beats[j], int32(i))
				above[i]++
			}
		}
		if above[i] == 0 {
			front = append(front, i)
		}
	}
	var fronts [][]int
	for ranked := 0; len(front) > 0; {
		fronts = append(fronts, front)
		ranked += len(front)
		if ranked >= stop {
			break
		}
		var next []int
		for _, i := range front {
			for _, j := range beats[i] {
				if above[j]--; above[j] == 0 {
					next = append(next, int(j))
				}
			}
		}
		front = next
	}
	return fronts
}

// Crowding returns the crowding distance of each of n vectors of m objectives within their own front: per objective the
// gap between both neighbours divided by the front's range, summed and divided by m. The first and the last of each
// objective get +Inf; an objective without range adds nothing, not even at its ends; up to two vectors are all +Inf.
// Among equal values the first and last in index order are the ends. Source: pymoo 0.6.1.3,
// operators/survival/rank_and_crowding/metrics.py (calc_crowding_distance); Deb et al. 2002 do not divide by m.
func Crowding(f [][]float64) []float64 {
	n := len(f)
	d := make([]float64, n)
	if n <= 2 {
		for i := range d {
			d[i] = math.Inf(1)
		}
		return d
	}
	m := len(f[0])
	order := make([]int, n)
	for k := range m {
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return compareFloat(f[a][k], f[b][k]) })
		norm := f[order[n-1]][k] - f[order[0]][k]
		if !(norm != 0) || math.IsNaN(norm) {
			continue
		}
		for p, i := range order {
			last, next := math.Inf(1), math.Inf(1)
			if p > 0 {
				last = (f[i][k] - f[order[p-1]][k]) / norm
			}
			if p < n-1 {
				next = (f[order[p+1]][k] - f[i][k]) / norm
			}
			d[i] += last + next
		}
	}
	for i := range d {
		d[i] /= float64(m)
	}
	return d
}

// compareFloat orders numbers; NaN does not occur in what it is given (invalid individuals carry no objectives).
func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
