package bench

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{4, 1}, Spread{2.5, 1.3, 3.7}},
		{[]float64{5, 1, 4, 2, 3, 6, 11, 7, 10, 8, 9}, Spread{6, 2, 10}}, // numpy.percentile([1..11], [50, 10, 90])
	} {
		got := NewSpread(c.samples)
		for i, d := range []float64{got.Median - c.want.Median, got.P10 - c.want.P10, got.P90 - c.want.P90} {
			if !(math.Abs(d) <= 1e-12) {
				t.Errorf("spread of %v is %v, want %v (value %d)", c.samples, got, c.want, i)
			}
		}
	}
	samples := []float64{2, 1}
	NewSpread(samples)
	if samples[0] != 2 {
		t.Error("the samples were sorted in place")
	}
}

func TestSettled(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noisy := func(n int, width float64) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = 100 * (1 + width*(r.Float64()-0.5))
		}
		return x
	}
	for _, c := range []struct {
		name    string
		samples []float64
		want    bool
	}{
		{"too few", noisy(4, 0), false},
		{"steady", noisy(5, 0.01), true},
		{"wide", noisy(9, 0.5), false},
		{"wide but many", noisy(2000, 0.5), true},
		{"one outlier of many", append(noisy(30, 0.01), 1e6), true},
		{"NaN", []float64{math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()}, false},
	} {
		if got := settled(c.samples, 0.02); got != c.want {
			t.Errorf("%s: settled is %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSlope(t *testing.T) {
	var x, y []float64
	for i := range 20 {
		x, y = append(x, float64(i/2)), append(y, 7+0.25*float64(i/2))
	}
	y[3], y[11] = 1e6, 500 // two ops during which the process did not run
	got, ok := slope(x, y)
	if !ok || !(math.Abs(got-0.25) <= 1e-12) {
		t.Errorf("slope %v %v, want 0.25", got, ok)
	}
	if _, ok := slope([]float64{1, 1}, []float64{2, 3}); ok {
		t.Error("points above each other have a slope")
	}
}
