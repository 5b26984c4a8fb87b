package ga

import (
	"math"
	"slices"
)

// Hypervolume returns the area that the points (two minimised objectives each) dominate within the box below ref. It is
// exact; dominated points and points outside the box add nothing, points with a NaN are left out. O(n log n).
// Formula: sweep by the first objective with the best second one so far (Fonseca, Paquete, Lopez-Ibanez 2006, for two
// dimensions). The products are rounded before they are summed, so that every architecture gives the same bits.
func Hypervolume(points [][]float64, ref [2]float64) float64 {
	in := make([][]float64, 0, len(points))
	for _, p := range points {
		if p[0] < ref[0] && p[1] < ref[1] {
			in = append(in, p)
		}
	}
	slices.SortFunc(in, func(a, b []float64) int {
		if c := compareFloat(a[0], b[0]); c != 0 {
			return c
		}
		return compareFloat(a[1], b[1])
	})
	volume, best := 0.0, ref[1]
	for _, p := range in {
		if p[1] < best {
			volume += float64((ref[0] - p[0]) * (best - p[1]))
			best = p[1]
		}
	}
	return volume
}

// IGDPlus returns the modified inverted generational distance: the mean over the reference points z of the least
// distance sqrt(sum_k max(a_k - z_k, 0)^2) to a point a, all objectives minimised (Ishibuchi et al. 2015). It is +Inf
// without points and NaN without reference points.
func IGDPlus(points, reference [][]float64) float64 {
	if len(reference) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, z := range reference {
		least := math.Inf(1)
		for _, a := range points {
			d := 0.0
			for k, v := range a {
				worse := max(v-z[k], 0)
				d += float64(worse * worse)
			}
			least = min(least, d)
		}
		sum += math.Sqrt(least)
	}
	return sum / float64(len(reference))
}

// Point is a schedule's place in objective space as people read it.
type Point struct {
	Quality float64 // maximised
	Cost    float64 // minimised
}

// Objectives returns what the algorithm minimises for a point. It is the one place where quality changes its sign.
// (The reference minimises 1 - quality; the order is the same, and -quality loses no bits.)
func Objectives(p Point) []float64 { return []float64{-p.Quality, p.Cost} }

// HypervolumeOf returns the area that the points dominate between the reference point and better points, in units of
// quality times cost, and the same divided by the rectangle from the reference to (best quality, cost 0). The second is
// 0 when that rectangle is empty. It exceeds 1 only if points are better than best.
func HypervolumeOf(points []Point, reference Point, best float64) (raw, normalised float64) {
	f := make([][]float64, len(points))
	for i, p := range points {
		f[i] = Objectives(p)
	}
	r := Objectives(reference)
	raw = Hypervolume(f, [2]float64{r[0], r[1]})
	if area := float64((best - reference.Quality) * reference.Cost); area > 0 {
		normalised = raw / area
	}
	return raw, normalised
}
