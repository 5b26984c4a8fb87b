package ga

import (
	"context"
	"testing"

	"ecadx/schedule"
)

// TestComparisons: every baseline stands beside the schedule of the front that costs as much; one of fewer steps never joins the front.
func TestComparisons(t *testing.T) {
	cfg := testConfig(t)
	short := testShape
	short.Steps = 4
	none, err := schedule.New(short)
	if err != nil {
		t.Fatal(err)
	}
	least := short
	least.Steps = 1
	cheap, err := schedule.New(least)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Baselines = append(cfg.Baselines, Named{"steps:4", none}, Named{"steps:1", cheap})
	res, err := Run(context.Background(), cfg, Deps{Evaluator: &synthetic{}, Cost: CostFunc(countCost), MACs: CostFunc(countCost), Log: &MemoryLog{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range res.Front {
		if c.Schedule.Shape() != testShape {
			t.Errorf("%v is part of the front", c.Schedule.Shape())
		}
	}
	seen := map[string]bool{}
	held := NewBootstrap(cfg.HeldOut, cfg.Seed)
	for _, c := range res.Comparisons {
		b, f := res.Baselines[c.Baseline], res.Front[c.Front]
		seen[b.Name] = true
		if f.Cost > b.Cost || c.Front+1 < len(res.Front) && res.Front[c.Front+1].Cost <= b.Cost {
			t.Errorf("%s, which costs %v, is compared with %v", b.Name, b.Cost, f.Cost)
		}
		var d []float64
		for _, im := range cfg.HeldOut {
			d = append(d, syntheticScore(f.Schedule, im.ID)-syntheticScore(b.Schedule, im.ID))
		}
		if want := (Estimate{Mean(d), held.Interval(d)}); c.Difference != want {
			t.Errorf("%s: %+v, want %+v", b.Name, c.Difference, want)
		}
	}
	if !seen["fora:2"] || !seen["steps:4"] || seen["steps:1"] || len(seen) != 3 {
		t.Errorf("compared: %v", seen)
	}
	// A seed must have the search's steps.
	cfg.Seeds = append(cfg.Seeds, Named{"steps:4", none})
	if cfg.Validate() == nil {
		t.Error("a seed of 4 steps in a search of 6")
	}
}
