package bench

import (
	"math"
	"slices"
)

// Spread sums repeated measurements up, in milliseconds. P10 and P90 are the 10th and the 90th percentile, interpolated linearly between
// order statistics (type 7 of Hyndman and Fan 1996).
type Spread struct {
	Median float64 `json:"median"`
	P10    float64 `json:"p10"`
	P90    float64 `json:"p90"`
}

// NewSpread sums samples up; without samples all is 0.
func NewSpread(samples []float64) Spread {
	x := slices.Sorted(slices.Values(samples))
	return Spread{Median: quantile(x, 0.5), P10: quantile(x, 0.1), P90: quantile(x, 0.9)}
}

// quantile of a sorted list.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// scaled is the spread of measurements multiplied by a factor that is not negative.
func (s Spread) scaled(f float64) Spread {
	return Spread{Median: s.Median * f, P10: s.P10 * f, P90: s.P90 * f}
}

// settled tells whether the median of the samples is known to within a part `tolerance` of itself: half the distribution-free 95 % confidence
// interval of the median, whose ends are the order statistics n/2 -+ 0.98 sqrt(n), at least five samples.
func settled(samples []float64, tolerance float64) bool {
	n := len(samples)
	if n < 5 {
		return false
	}
	x := slices.Sorted(slices.Values(samples))
	reach := 0.98 * math.Sqrt(float64(n))
	lo := max(0, int(float64(n)/2-reach))
	hi := min(n-1, int(math.Ceil(float64(n)/2+reach)))
	return (x[hi]-x[lo])/2 <= tolerance*quantile(x, 0.5)
}

// slope is the Theil-Sen line through points: the median slope over all pairs with different x. An outlier, such as an op during which
// the process was not running, does not move it.
func slope(x, y []float64) (float64, bool) {
	var slopes []float64
	for i := range x {
		for j := range i {
			if x[i] != x[j] {
				slopes = append(slopes, (y[i]-y[j])/(x[i]-x[j]))
			}
		}
	}
	slices.Sort(slopes)
	return quantile(slopes, 0.5), len(slopes) > 0
}
