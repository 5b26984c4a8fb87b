package study

import "testing"

func TestVerdict(t *testing.T) {
	entry := func(hash string, cost, quality float64) FrontEntry {
		return FrontEntry{Hash: hash, Cost: cost, HeldOutQuality: &quality}
	}
	front := func(comparisons ...FrontComparison) *Front {
		return &Front{
			Uncached: entry("u", 100, 1), Front: []FrontEntry{entry("f1", 30, 0.8), entry("f2", 60, 0.97)},
			Baselines: []FrontEntry{entry("cheap", 10, 0.1), entry("lossy", 40, 0.7), entry("weak", 45, 0.6), entry("mild", 70, 0.96)},
			HeldOut:   FrontHeldOut{Comparisons: comparisons},
		}
	}
	lossy, weak, mild := FrontComparison{Baseline: "lossy", Front: "f1"}, FrontComparison{Baseline: "weak", Front: "f1"}, FrontComparison{Baseline: "mild", Front: "f2"}
	with := func(c FrontComparison, lo, hi float64) FrontComparison {
		c.Difference, c.CI95 = (lo+hi)/2, [2]float64{lo, hi}
		return c
	}
	for name, c := range map[string]struct {
		f                          *Front
		holds                      bool
		worse, notBetter, demanded int
	}{
		"better where it has to be":                      {front(with(lossy, 0.05, 0.2), with(weak, -0.1, 0.2), with(mild, -0.1, 0.1)), true, 0, 0, 1},
		"equal where the best baseline has lost quality": {front(with(lossy, -0.01, 0.2), with(mild, -0.1, 0.1)), false, 0, 1, 1},
		"worse where nothing is lost":                    {front(with(lossy, 0.1, 0.2), with(mild, -0.2, -0.1)), false, 1, 0, 1},
		"nothing compared":                               {front(), false, 0, 0, 0},
	} {
		v := c.f.Verdict()
		if v.Holds() != c.holds || len(v.Worse) != c.worse || len(v.NotBetter) != c.notBetter || v.Demanding != c.demanded || v.Compared != len(c.f.HeldOut.Comparisons) {
			t.Errorf("%s: %+v", name, v)
		}
		if len(v.Unreached) != 1 || v.Unreached[0].Hash != "cheap" {
			t.Errorf("%s: unreached: %+v", name, v.Unreached)
		}
	}
}
