package ga

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"ecadx/schedule"
)

// Whatever the lengths, a genome carried over has the rows asked for and stands for a schedule of so many steps; carried to its own length it stays
// itself, and to more steps it keeps its computations.
func TestRetimedGenomes(t *testing.T) {
	for _, shape := range []schedule.Shape{testShape, fluxShape} {
		for k := range 100 {
			s := NewStream(5, 0, PurposeChild, 0, k)
			g := NewGenome(shape.Cells())
			for i := range g.Len() {
				g.Set(i, s.IntN(2) == 0)
			}
			if !retimed(shape, g, shape.Steps).Equal(g) {
				t.Fatalf("%v: carried to its own length it changes", shape)
			}
			for steps := shape.Steps - 1; steps >= 1; steps-- {
				short := retimed(shape, g, steps)
				got, err := ScheduleOf(shape, short)
				if err != nil || got.Shape().Steps != steps {
					t.Fatalf("%v to %d steps: %v", shape, steps, err)
				}
				if long := retimed(shape, short, shape.Steps); long.Count() != short.Count() {
					t.Fatalf("%v to %d steps and to %d: %d computations instead of %d", shape, steps, shape.Steps, long.Count(), short.Count())
				}
				if all := retimed(shape, filled(shape, true), steps); all.Count() != all.Len() {
					t.Fatalf("%v to %d steps: the uncached schedule reuses", shape, steps)
				}
			}
		}
		if _, err := ScheduleOf(shape, NewGenome(shape.Cells()+shape.RowLen())); !errors.Is(err, ErrGenome) {
			t.Errorf("a genome of more steps than the search's: %v, want ErrGenome", err)
		}
	}
}

// Half a run's drift says what lies between the nearest steps of the whole one, twice.
func TestDriftOfFewerSteps(t *testing.T) {
	d := randomDrift(testShape, 3)
	if !reflect.DeepEqual(d.At(testShape.Steps), d) {
		t.Error("at its own steps it changes")
	}
	half := d.At(3)
	if err := half.Validate(); err != nil {
		t.Fatal(err)
	}
	for cell, m := range half.Errors {
		for t0 := range 3 {
			for step := t0 + 1; step < 3; step++ {
				if got, want := m[t0*3+step], d.Errors[cell][2*t0*6+2*step]*6/3; got != want {
					t.Fatalf("cell %d, %d to %d: %v, want %v", cell, t0, step, got, want)
				}
			}
		}
	}
}

// fewerConfig searches runs of 6, 4, 3 and 2 steps together.
func fewerConfig(t *testing.T, drift bool) Config {
	t.Helper()
	fewer := []int{4, 3, 2}
	cfg := structuredConfig(t, func(s *StructuredConfig) { s.Surrogate, s.FewerSteps = 3, fewer })
	cfg.FewerSteps = fewer
	cfg.Racing = Racing{Rungs: []int{3}, Confidence: 0.9}
	if drift {
		if err := cfg.Algorithm.(*Structured).UseDrift(randomDrift(testShape, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for i, steps := range fewer {
		shape := testShape
		shape.Steps = steps
		s, err := schedule.New(shape)
		if err != nil {
			t.Fatal(err)
		}
		n := Named{"steps:" + string(rune('0'+steps)), s}
		cfg.Seeds = append(cfg.Seeds, n)
		if i == 0 {
			cfg.Baselines = append(cfg.Baselines, n)
		}
	}
	return cfg
}

// Shorter runs are bred, changed, put on the front and reported like all others, and an interrupted search goes on with them.
func TestFewerSteps(t *testing.T) {
	for _, drift := range []bool{false, true} {
		run := func(log *MemoryLog, stop int) (*Result, error) { return runStopped(fewerConfig(t, drift), log, stop) }
		log := &MemoryLog{}
		want, err := run(log, 0)
		if err != nil {
			t.Fatal(err)
		}
		onFront, cached := map[int]bool{}, false
		for _, c := range want.Front {
			steps := c.Schedule.Shape().Steps
			onFront[steps] = true
			cached = cached || steps < testShape.Steps && c.Schedule.Reused() > 0
		}
		if len(onFront) < 2 || !cached {
			t.Errorf("steps on the front: %v, shorter ones that reuse: %v", onFront, cached)
		}
		operators := map[string]int{}
		for _, s := range log.snapshots[1:] {
			run := map[int]bool{}
			for _, e := range s.Candidates {
				run[stepsOf(testShape, e.Genome)] = true
				for _, name := range e.Birth.Operators {
					operators[name]++
				}
			}
			if s.Generation > 1 && len(run) > 1 {
				t.Errorf("generation %d: children of %v steps", s.Generation, run)
			}
		}
		if operators[CrossRows.String()] == 0 {
			t.Errorf("operators: %v", operators)
		}
		for stop := 1; stop < 10; stop++ {
			log := &MemoryLog{}
			if _, err := run(log, stop); err == nil {
				t.Fatalf("stop %d: not interrupted", stop)
			}
			if got, err := run(log, 0); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("stop %d: another result (%v)", stop, err)
			}
		}
	}
}

func TestFewerStepsErrors(t *testing.T) {
	for _, fewer := range [][]int{{6}, {7}, {1}, {4, 4}, {3, 4}} {
		s := DefaultStructured(1)
		s.Cost, s.FewerSteps = CostFunc(countCost), fewer
		if _, err := NewStructured(testShape, s); !errors.Is(err, ErrConfig) {
			t.Errorf("%v: %v", fewer, err)
		}
	}
	cfg := fewerConfig(t, false)
	cfg.FewerSteps = slices.Delete(slices.Clone(cfg.FewerSteps), 0, 1)
	if cfg.Validate() == nil {
		t.Error("a seed of 4 steps in a search of 6, 3 and 2")
	}
}

func TestCommonSteps(t *testing.T) {
	a := &Structured{shape: testShape}
	row := testShape.RowLen()
	g := filled(testShape, true)
	for i := range g.Len() {
		o := g.Clone()
		o.Set(i, false)
		if got := a.commonSteps(g, o); got != i/row {
			t.Fatalf("gene %d differs: %d steps in common, want %d", i, got, i/row)
		}
	}
	if got := a.commonSteps(g, g.Clone()); got != testShape.Steps {
		t.Errorf("equal genomes have %d steps in common", got)
	}
	if got := a.commonSteps(g, NewGenome(2*row)); got != 0 {
		t.Errorf("genomes of different numbers of steps have %d in common", got)
	}
}

// Of two children that promise the same, the one is chosen that shares its first steps with what is chosen already.
func TestGainfulCountsSharedSteps(t *testing.T) {
	a := &Structured{shape: testShape, elite: []Individual{{F: []float64{0, 1}}, {F: []float64{-1, 9}}}}
	chosen, late, early := filled(testShape, true), filled(testShape, true), filled(testShape, true)
	late.Set(late.Len()-1, false)
	early.Set(testShape.RowLen(), false)
	from := []Individual{{Genome: early, F: []float64{-0.9, 5}}, {Genome: late, F: []float64{-0.9, 5}}}
	if picked, _ := a.gainful([]Individual{{Genome: chosen}}, from, 1); len(picked) != 1 || !picked[0].Genome.Equal(late) {
		t.Errorf("picked %v", picked)
	}
	if picked, _ := a.gainful(nil, from, 1); len(picked) != 1 || !picked[0].Genome.Equal(early) {
		t.Errorf("of two that share nothing picked %v, want the first", picked)
	}
}
