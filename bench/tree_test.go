package bench

import (
	"context"
	"reflect"
	"testing"

	"ecadx/dit"
	"ecadx/ga"
	"ecadx/schedule"
)

// family is a set of schedules with long and short common prefixes.
func family(t *testing.T, shape schedule.Shape, n int) []*schedule.Schedule {
	t.Helper()
	base, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	list := []*schedule.Schedule{base}
	for i := 1; i < n; i++ {
		s := list[(i-1)/2].Clone()
		step := 1 + (i*7)%(shape.Steps-1)
		for k := range shape.RowLen() {
			if (k+i)%3 != 0 {
				s.SetFlat(step*shape.RowLen()+k, schedule.Reuse)
			}
		}
		list = append(list, s.Canonical())
	}
	return list
}

// The tree changes what is computed, never a score: shared, by itself, or with branches replayed for want of memory. And the states of a device take
// no more than was planned.
func TestTreeChangesNoScore(t *testing.T) {
	ids := []ga.ImageID{0, 1, 2}
	var want [][]ga.Score
	var peak int64
	for _, c := range []struct {
		name     string
		unshared bool
		limit    func() int64 // 0: the default
		replays  bool
	}{
		{"shared", false, func() int64 { return 0 }, false},
		{"by itself", true, func() int64 { return 0 }, false},
		{"replayed", false, func() int64 { return peak - 1 }, true},
		{"nothing kept", false, func() int64 { return 1 }, true},
	} {
		cfg := testConfig(2)
		cfg.Unshared, cfg.StateMemory = c.unshared, c.limit()
		e := openEvaluator(t, cfg, dit.Float32)
		list := family(t, e.p.Model.Shape(testSteps), 9)
		got, err := e.Evaluate(context.Background(), list, ids)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want, peak = got, e.Work().StatePeak
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: other scores", c.name)
		}
		w := e.Work()
		if c.unshared && (w.StepsRun != w.StepsAsked || w.FLOPsRun != w.FLOPsAsked) || c.name == "shared" && !(w.StepsRun < w.StepsAsked && w.FLOPsRun < w.FLOPsAsked) {
			t.Errorf("%s: %+v", c.name, w)
		}
		if (w.Replays > 0) != c.replays {
			t.Errorf("%s: %d branchings replayed", c.name, w.Replays)
		}
		if c.replays && !(w.StatePeak < peak) {
			t.Errorf("%s: %d bytes are planned, %d without a limit", c.name, w.StatePeak, peak)
		}
	}
}

func TestPlannedStatesHold(t *testing.T) {
	e := openEvaluator(t, testConfig(2), dit.Float32)
	w := e.p.Workers[0]
	list := family(t, e.p.Model.Shape(testSteps), 12)
	tr, err := e.tree(w, list, testSteps)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.loop.Release()
	before, err := w.Device.Info()
	if err != nil {
		t.Fatal(err)
	}
	run, _, err := e.start(tr.loop, []ga.ImageID{0, 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	leaves := 0
	if err := tr.walk(running{run, context.Background(), tr.loop, &e.work}, func(which []int, _ branch) error {
		leaves += len(which)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	after, err := w.Device.Info()
	if err != nil {
		t.Fatal(err)
	}
	// The pool keeps what states gave back, so what the device holds more than before is the peak of the states.
	held := int64(after.MemoryUsed) - int64(before.MemoryUsed)
	if !(held <= tr.peak && held >= tr.peak*9/10) {
		t.Errorf("states took %d bytes, %d were planned", held, tr.peak)
	}
	if leaves != len(list) {
		t.Errorf("%d of %d schedules ended", leaves, len(list))
	}
}
