package ga

import (
	"context"
	"errors"
	"testing"

	"ecadx/schedule"
)

// TestRunMismatch evaluates again what differs from the log: the log wins, and it is counted.
func TestRunMismatch(t *testing.T) {
	cfg := testConfig(t)
	none, _ := schedule.New(testShape)
	log := &MemoryLog{}
	log.Append([]Record{{none.Hash(), 0, Score{Value: 0.5}}}) // the others of the batch are missing
	res, err := Run(context.Background(), cfg, testDeps(&synthetic{}, log))
	if err != nil || res.Mismatches != 1 {
		t.Fatalf("%d mismatches, want 1: %v", res.Mismatches, err)
	}
	if s, _ := log.Score(none.Hash(), 0); s.Value != 0.5 {
		t.Errorf("the logged score was replaced by %v", s.Value)
	}
}

// A limit of memory keeps schedules beyond it out of the search, of the front and of the work.
func TestRunMemoryLimit(t *testing.T) {
	for _, mode := range []Mode{ModeECAD, ModeECADX} {
		cfg := testConfig(t)
		reused := CostFunc(func(s *schedule.Schedule) (float64, error) { return float64(s.Canonical().Reused()), nil })
		cfg.Memory, cfg.MaxMemory = reused, 10
		if mode == ModeECADX {
			s := DefaultStructured(42)
			s.PopulationSize, s.Offspring, s.Cost = 10, 10, CostFunc(countCost)
			s.Allowed = func(s *schedule.Schedule) bool { v, _ := reused(s); return v <= 10 }
			a, err := NewStructured(cfg.Shape, s)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Algorithm = a
		}
		mild, err := schedule.New(cfg.Shape)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			mild.SetFlat(cfg.Shape.RowLen()+i, schedule.Reuse)
		}
		cfg.Seeds = append(cfg.Seeds, Named{Name: "mild", Schedule: mild})
		res, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Front) == 0 {
			t.Errorf("%v: nothing is on the front", mode)
		}
		for _, c := range res.Front {
			if v, _ := reused(c.Schedule); v > 10 {
				t.Errorf("%v: %v takes %v of at most 10", mode, c.Hash, v)
			}
		}
		if mode == ModeECADX { // its algorithm has seen the seeds
			continue
		}
		cfg.MaxMemory, cfg.Seeds = 0, cfg.Seeds[len(cfg.Seeds)-1:]
		if _, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{})); !errors.Is(err, ErrConfig) {
			t.Errorf("%v: no seed fits: %v", mode, err)
		}
	}
}

// TestRunBatchChanges goes on with larger batches than it began with, as with more devices, while a candidate is known to be invalid: what the
// others have is not evaluated again.
func TestRunBatchChanges(t *testing.T) {
	cfg := testConfig(t)
	victim := cfg.Seeds[3].Schedule.Hash()
	bad := func(h schedule.Hash, image ImageID) string {
		if h == victim {
			return "nan"
		}
		return ""
	}
	images := func(batches ...int) int {
		log, n := &MemoryLog{}, 0
		for i, batch := range batches {
			ctx, cancel := context.WithCancel(context.Background())
			e := &synthetic{bad: bad}
			e.onBatch = func(call int) error {
				if call == 11 && i+1 < len(batches) { // within the first generation
					cancel()
				}
				return nil
			}
			cfg.Batch = batch
			_, err := Run(ctx, cfg, testDeps(e, log))
			cancel()
			if err != nil && !errors.Is(err, ErrInterrupted) {
				t.Fatal(err)
			}
			n += e.images
		}
		return n
	}
	if got, want := images(1, 8), images(1); got != want {
		t.Errorf("%d images with batches of 1, then 8; %d with batches of 1", got, want)
	}
}
