package ga

import (
	"math"
	"testing"
)

// Level A: exact values. Their sources are named beside them.

func near(t *testing.T, name string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 4e-16*math.Max(1, math.Abs(want))) {
		t.Errorf("%s = %.17g, want %.17g", name, got, want)
	}
}

// zdt1Front returns n points of the true front of ZDT1: x and 1 - sqrt(x), x in n even steps.
func zdt1Front(n int) [][]float64 {
	f := make([][]float64, n)
	for i := range f {
		x := float64(i) / float64(n-1)
		f[i] = []float64{x, 1 - math.Sqrt(x)}
	}
	return f
}

// goldenZDT1 is the front of pymoo's golden test of NSGA2 (tests/golden/test_golden.json: ZDT1, 10 generations, seed 42).
var goldenZDT1 = [][]float64{
	{0.7525282055, 1.6175583632}, {0.0414703189, 2.8345445246}, {0.3441773521, 2.2456424822},
	{0.3723465579, 2.1614742904}, {0.0001263308, 3.5173480115}, {0.4951114687, 1.744685001},
	{0.0384332826, 3.4014241072}, {0.9557040388, 1.1766089755}, {0.029229354, 3.4911389777},
	{0.0451898479, 2.7180207975}, {0.1862627588, 2.4315961783}, {0.3009587322, 2.4024488585},
	{0.0009549347, 3.5051651229}, {0.0399220256, 2.9983371757},
}

func TestHypervolumeExact(t *testing.T) {
	// The true front of ZDT5 (m = 11), 31 points, normalised.
	var zdt5 [][]float64
	for k := 1; k <= 31; k++ {
		zdt5 = append(zdt5, []float64{float64(k-1) / 30, (10/float64(k) - 10.0/31) / (10 - 10.0/31)})
	}
	near(t, "ZDT5, ref 1", Hypervolume(zdt5, [2]float64{1, 1}), 0.8957282210460755)
	near(t, "ZDT5, ref 1.1", Hypervolume(zdt5, [2]float64{1.1, 1.1}), 1.1057282210460757)
	near(t, "ZDT1, ref 1", Hypervolume(zdt1Front(100), [2]float64{1, 1}), 0.6614093689206741)
	near(t, "ZDT1, ref 1.1", Hypervolume(zdt1Front(100), [2]float64{1.1, 1.1}), 0.8714093689206744)
	// pymoo tests/indicators/test_hv.py, case_2d: every tenth point times 1.2, ref 1.5.
	var ten [][]float64
	for i, p := range zdt1Front(100) {
		if i%10 == 0 {
			ten = append(ten, []float64{p[0] * 1.2, p[1] * 1.2})
		}
	}
	near(t, "case_2d", Hypervolume(ten, [2]float64{1.5, 1.5}), 1.671865221716637)
	near(t, "golden", Hypervolume(goldenZDT1, [2]float64{1.1, 4}), 2.2027772687404763)
	near(t, "empty", Hypervolume(nil, [2]float64{1, 1}), 0)
	near(t, "outside", Hypervolume([][]float64{{2, 0}, {0, 1}, {math.NaN(), 0}}, [2]float64{1, 1}), 0)
}

func TestIGDPlusExact(t *testing.T) {
	near(t, "golden", IGDPlus(goldenZDT1, zdt1Front(100)), 1.0263423307571313)
	near(t, "itself", IGDPlus(zdt1Front(100), zdt1Front(100)), 0)
	if !math.IsInf(IGDPlus(nil, zdt1Front(3)), 1) || !math.IsNaN(IGDPlus(goldenZDT1, nil)) {
		t.Error("IGD+ of nothing must be +Inf, to nothing NaN")
	}
}

func TestCrowdingExact(t *testing.T) {
	inf := math.Inf(1)
	cases := []struct {
		name string
		f    [][]float64
		want []float64
	}{
		{"three", [][]float64{{0, 0}, {0.5, 50}, {1, 100}}, []float64{inf, 1, inf}},
		{"two", [][]float64{{0, 1}, {1, 0}}, []float64{inf, inf}},
		{"one", [][]float64{{3, 3}}, []float64{inf}},
		{"none", nil, nil},
		// pymoo tests/misc/test_crowding_distance.py; there duplicates are filtered, 'cd' of NSGA2 keeps them:
		// values below from calc_crowding_distance itself.
		{"one duplicate", [][]float64{{1, 1}, {1, 1}, {0.5, 1.5}, {0, 2}}, []float64{inf, inf, 1, inf}},
		{"two duplicates", [][]float64{{1, 1}, {1, 1}, {1, 1}, {0.5, 1.5}, {0, 2}}, []float64{inf, 0, inf, 1, inf}},
		{"no range in one objective",
			[][]float64{{1, 1.5, 0.5, 1}, {1, 0.5, 1.5, 1}, {1, 0, 2, 1.5}}, []float64{inf, 0.75, inf}},
		{"no range at all", [][]float64{{1, 2}, {1, 2}, {1, 2}}, []float64{0, 0, 0}},
	}
	for _, c := range cases {
		got := Crowding(c.f)
		if len(got) != len(c.want) {
			t.Fatalf("%s: %d distances, want %d", c.name, len(got), len(c.want))
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: distance %d = %v, want %v", c.name, i, got[i], c.want[i])
			}
		}
	}
}

func TestHypervolumeOf(t *testing.T) {
	reference := Point{Quality: 0.2, Cost: 10}
	points := []Point{{0.9, 5}, {0.6, 2}, {0.1, 1}, {0.95, 11}}
	raw, normalised := HypervolumeOf(points, reference, 1.0)
	near(t, "raw", raw, 0.7*5+0.4*3)
	near(t, "normalised", normalised, (0.7*5+0.4*3)/(0.8*10))
	if _, n := HypervolumeOf(points, reference, 0.2); n != 0 {
		t.Errorf("an empty rectangle gives %v, want 0", n)
	}
}
