package ga

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ecadx/schedule"
)

var testShape = schedule.Shape{Family: schedule.PixArt, Steps: 6, Blocks: 3}

// synthetic scores a schedule by a weighted count of its reuses and a wobble per (schedule, image). It computes as an
// evaluator of a model would: from schedule and image alone.
type synthetic struct {
	calls   int
	images  int
	onBatch func(call int) error
	bad     func(h schedule.Hash, image ImageID) string
	order   [][]ImageID
}

func syntheticScore(s *schedule.Schedule, image ImageID) float64 {
	loss := 3 * float64(testShape.Steps-s.Shape().Steps) // a shorter run is another picture
	for cell, d := range s.All() {
		if d == schedule.Reuse {
			loss += float64(1+cell.Block+2*cell.Comp) / float64(1+cell.Step)
		}
	}
	h := s.Hash()
	wobble := float64(binary.LittleEndian.Uint16(h[image%16:])) / 65536
	return 1/(1+loss/10) + 0.05*wobble + 0.02*float64(image%5)
}

func (e *synthetic) Evaluate(ctx context.Context, schedules []*schedule.Schedule, images []ImageID) ([][]Score, error) {
	e.calls++
	e.order = append(e.order, images)
	if e.onBatch != nil {
		if err := e.onBatch(e.calls); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out := make([][]Score, len(schedules))
	for i, s := range schedules {
		for _, id := range images {
			score := Score{Value: syntheticScore(s, id)}
			if e.bad != nil {
				if reason := e.bad(s.Hash(), id); reason != "" {
					score = Score{Invalid: reason}
					if reason == "nan" {
						score = Score{Value: math.NaN()}
					}
				}
			}
			out[i] = append(out[i], score)
			e.images++
		}
	}
	return out, nil
}

// countCost costs one per computed component and 5 per step.
func countCost(s *schedule.Schedule) (float64, error) {
	return float64(s.Shape().Cells() - s.Reused() + 5*s.Shape().Steps), nil
}

func testConfig(t *testing.T) Config {
	t.Helper()
	cfg := NewConfig(testShape, 42)
	a := DefaultNSGA2(testShape.Cells(), 42)
	a.PopulationSize, a.MutationChildProb = 10, 0.5
	cfg.Algorithm, cfg.Generations, cfg.Batch = a, 6, 3
	for _, ref := range []string{"none", "fora:2", "fora:3", "random:0.3:1", "random:0.6:2", "attn-every:2"} {
		g, err := schedule.Resolve(ref, testShape)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Seeds = append(cfg.Seeds, Named{Name: ref, Schedule: g.Schedule})
		if strings.HasPrefix(ref, "fora") {
			cfg.Baselines = append(cfg.Baselines, Named{Name: ref, Schedule: g.Schedule})
		}
	}
	for i := range 8 {
		cfg.Images = append(cfg.Images, Image{ID: ImageID(i), Prompt: uint32(i / 2)})
	}
	for i := range 5 {
		cfg.HeldOut = append(cfg.HeldOut, Image{ID: ImageID(100 + i), Prompt: uint32(50 + i)})
	}
	return cfg
}

func testDeps(e Evaluator, l Log) Deps {
	return Deps{Evaluator: e, Cost: CostFunc(countCost), MACs: CostFunc(countCost), Log: l}
}

func TestRun(t *testing.T) {
	cfg := testConfig(t)
	var last Progress
	generations := 0
	e, log := &synthetic{}, &MemoryLog{}
	deps := testDeps(e, log)
	deps.Progress = func(p Progress) {
		if p.GenerationDone {
			generations++
		}
		last = p
	}
	res, err := Run(context.Background(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if generations != 6 || res.Generations != 6 || last.Phase != PhaseFinished {
		t.Errorf("%d generations reported, %d in the result, last phase %d", generations, res.Generations, last.Phase)
	}
	if len(res.Baselines) != 2 || len(res.Seeds) != 6 || res.HeldOutPrompts != 5 || res.Seed != 42 {
		t.Errorf("%d baselines, %d seeds, %d prompts, seed %d", len(res.Baselines), len(res.Seeds), res.HeldOutPrompts, res.Seed)
	}
	if last.NewImages != int64(e.images) || res.Images >= last.NewImages || res.Images != 8*res.Evaluations {
		t.Errorf("%d images evaluated, %d reported new, %d of %d evaluations in the result", e.images, last.NewImages,
			res.Images, res.Evaluations)
	}
	if res.Evaluations < 40 || res.Evaluations > 1+2+1+6+5*10 {
		t.Errorf("%d evaluations", res.Evaluations)
	}
	checkResult(t, cfg, res)
	if !(res.Hypervolume >= res.SeedsHypervolume && res.SeedsHypervolume > 0 && res.HeldOutHypervolume > 0 &&
		res.HeldOutSeedsHypervolume > 0) || last.Hypervolume != res.Hypervolume {
		t.Errorf("hypervolumes %v, seeds %v, held out %v, %v, progress %v", res.Hypervolume, res.SeedsHypervolume,
			res.HeldOutHypervolume, res.HeldOutSeedsHypervolume, last.Hypervolume)
	}
	again := &synthetic{}
	replay, err := Run(context.Background(), cfg, testDeps(again, log))
	if err != nil || again.calls != 0 {
		t.Fatalf("a finished log needs %d calls of the evaluator: %v", again.calls, err)
	}
	if !reflect.DeepEqual(res, replay) {
		t.Error("replaying the log gives another result")
	}
}

// checkResult recomputes every number of a result from its definition.
func checkResult(t *testing.T, cfg Config, res *Result) {
	t.Helper()
	mean := func(s *schedule.Schedule, images []Image) float64 {
		sum := 0.0
		for _, im := range images {
			sum += syntheticScore(s, im.ID)
		}
		return sum / float64(len(images))
	}
	none, _ := schedule.New(testShape)
	uncached, _ := countCost(none)
	for _, list := range [][]Candidate{{res.Uncached}, res.Baselines, res.Seeds, res.Front} {
		for _, c := range list {
			cost, _ := countCost(c.Schedule)
			if c.Hash != c.Schedule.Hash() || c.Cost != cost || c.MACsRatio != uncached/cost ||
				c.Quality.Mean != mean(c.Schedule, slices.Concat(cfg.Images, cfg.Confirm)) || c.HeldOut.Mean != mean(c.Schedule, cfg.HeldOut) {
				t.Errorf("candidate %q: %+v is inconsistent", c.Name, c)
			}
			for _, e := range []*Estimate{c.Quality, c.HeldOut} {
				if !(e.CI95[0] <= e.Mean && e.Mean <= e.CI95[1] && e.CI95[0] < e.CI95[1]) {
					t.Errorf("candidate %q: interval %v around %v", c.Name, e.CI95, e.Mean)
				}
			}
		}
	}
	var f [][]float64
	for i, c := range res.Front {
		f = append(f, Objectives(Point{c.Quality.Mean, c.Cost}))
		if c.Hash == none.Hash() {
			t.Error("the uncached schedule is part of the front")
		}
		if i > 0 && !(c.Cost > res.Front[i-1].Cost && c.Quality.Mean > res.Front[i-1].Quality.Mean) {
			t.Errorf("front entry %d is not in order", i)
		}
	}
	for _, b := range append(res.Baselines, res.Seeds[1:]...) {
		for i := range f {
			if Compare(Objectives(Point{b.Quality.Mean, b.Cost}), f[i]) == Dominates {
				t.Errorf("%q dominates front entry %d", b.Name, i)
			}
		}
	}
}

// TestRunInterrupted cancels after every single batch and starts again; the end is the same.
func TestRunInterrupted(t *testing.T) {
	cfg := testConfig(t)
	whole := &synthetic{}
	want, err := Run(context.Background(), cfg, testDeps(whole, &MemoryLog{}))
	if err != nil {
		t.Fatal(err)
	}
	log, calls, images := &MemoryLog{}, 0, 0
	for {
		ctx, cancel := context.WithCancel(context.Background())
		e := &synthetic{onBatch: func(int) error { cancel(); return nil }}
		got, err := Run(ctx, cfg, testDeps(e, log))
		cancel()
		calls += e.calls
		images += e.images
		if err == nil {
			if !reflect.DeepEqual(got, want) {
				t.Error("the interrupted search ends differently")
			}
			break
		}
		if !errors.Is(err, ErrInterrupted) || e.calls != 1 {
			t.Fatalf("%d calls, error %v", e.calls, err)
		}
	}
	if calls != whole.calls || images != whole.images {
		t.Errorf("%d calls and %d images in pieces, %d and %d at once", calls, images, whole.calls, whole.images)
	}
}

// TestRunPartialLog loses random records of the log (as a torn tail does) and resumes.
func TestRunPartialLog(t *testing.T) {
	cfg := testConfig(t)
	full := &MemoryLog{}
	want, err := Run(context.Background(), cfg, testDeps(&synthetic{}, full))
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		s := NewStream(uint64(round), 0, PurposeInit, 0, 0)
		part := &MemoryLog{}
		for h, scores := range full.scores {
			for id, score := range scores {
				if s.IntN(20) >= round {
					part.Append([]Record{{h, id, score}})
				}
			}
		}
		got, err := Run(context.Background(), cfg, testDeps(&synthetic{}, part))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: the resumed search ends differently: %v", round, err)
		}
	}
}

func TestRunBatchDoesNotMatter(t *testing.T) {
	cfg := testConfig(t)
	want, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range []int{1, 2, 8, 1000} {
		cfg.Batch = batch
		got, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("batch %d: another result, error %v", batch, err)
		}
	}
}

func TestRunInvalidCandidates(t *testing.T) {
	cfg := testConfig(t)
	fora, _ := schedule.Resolve("fora:2", testShape)
	bad := func(h schedule.Hash, id ImageID) string {
		switch {
		case h == fora.Schedule.Hash() && id == 4:
			return "nan"
		case h[3]%5 == 0 && id == 1:
			return "step 3, block 1, attn2: infinite latents"
		}
		return ""
	}
	e, log := &synthetic{bad: bad}, &MemoryLog{}
	res, err := Run(context.Background(), cfg, testDeps(e, log))
	if err != nil {
		t.Fatal(err)
	}
	if b := res.Baselines[0]; b.Quality != nil || b.HeldOut != nil || b.Invalid != "the score is NaN" {
		t.Errorf("fora:2 is %+v", b)
	}
	for _, c := range res.Front {
		if c.Invalid != "" || c.Quality == nil || c.Hash[3]%5 == 0 {
			t.Errorf("an invalid candidate is in the front: %+v", c)
		}
	}
	for h, scores := range log.scores {
		if h[3]%5 == 0 && len(scores) != 3 { // the first batch only
			t.Errorf("invalid schedule %v was scored on %d images", h, len(scores))
		}
	}
	if res.Images >= 8*res.Evaluations {
		t.Errorf("%d images of %d evaluations; the invalid ones have fewer", res.Images, res.Evaluations)
	}
	cfg.Batch = 1
	again, err := Run(context.Background(), cfg, testDeps(&synthetic{bad: bad}, &MemoryLog{}))
	if err != nil || !reflect.DeepEqual(again, res) {
		t.Errorf("another batch size gives another result: %v", err)
	}
}

func TestRunReference(t *testing.T) {
	cfg := testConfig(t)
	all, _ := ScheduleOf(testShape, NewGenome(testShape.Cells()))
	res, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for _, im := range cfg.Images {
		worst += syntheticScore(all.Canonical(), im.ID)
	}
	if want := (Point{worst / 8, res.Uncached.Cost}); res.Reference != want {
		t.Errorf("reference %v, want %v", res.Reference, want)
	}
	// All reused is invalid: the worst valid seed or baseline takes its place.
	bad := func(h schedule.Hash, id ImageID) string {
		if h == all.Hash() {
			return "black image"
		}
		return ""
	}
	res, err = Run(context.Background(), cfg, testDeps(&synthetic{bad: bad}, &MemoryLog{}))
	if err != nil {
		t.Fatal(err)
	}
	want := math.Inf(1)
	for _, c := range res.Seeds {
		want = min(want, c.Quality.Mean)
	}
	if res.Reference.Quality != want {
		t.Errorf("reference quality %v, want that of the worst seed, %v", res.Reference.Quality, want)
	}
	cfg.Reference = &Point{0.25, 99}
	if res, err = Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{})); err != nil || res.Reference != *cfg.Reference {
		t.Errorf("the configured reference is not used: %v", err)
	}
	_, err = Run(context.Background(), testConfig(t), testDeps(&synthetic{bad: func(schedule.Hash, ImageID) string { return "x" }},
		&MemoryLog{}))
	if err == nil || !strings.Contains(err.Error(), "uncached") {
		t.Errorf("an uncached schedule without score: %v", err)
	}
}

func TestRunBudgetOfImages(t *testing.T) {
	cfg := testConfig(t)
	cfg.Generations, cfg.MaxImages = 0, 200
	res, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
	if err != nil || res.Images < 200 || res.Images >= 200+80 {
		t.Fatalf("%d images of a budget of 200: %v", res.Images, err)
	}
	cfg.Seeds, cfg.Baselines, cfg.HeldOut = nil, nil, nil
	res, err = Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
	if err != nil || res.Uncached.HeldOut != nil || res.HeldOutHypervolume != 0 || len(res.Front) == 0 {
		t.Fatalf("without seeds and held-out images: %+v, %v", res, err)
	}
}

// badEvaluator returns matrices of the wrong shape.
type badEvaluator struct{ rows, columns int }

func (b badEvaluator) Evaluate(context.Context, []*schedule.Schedule, []ImageID) ([][]Score, error) {
	out := make([][]Score, b.rows)
	for i := range out {
		out[i] = make([]Score, b.columns)
	}
	return out, nil
}

func TestRunErrors(t *testing.T) {
	ctx := context.Background()
	cfg := testConfig(t)
	boom := errors.New("device lost")
	e := &synthetic{onBatch: func(call int) error {
		if call == 7 {
			return boom
		}
		return nil
	}}
	if _, err := Run(ctx, cfg, testDeps(e, &MemoryLog{})); !errors.Is(err, boom) {
		t.Errorf("error %v, want the evaluator's", err)
	}
	for _, b := range []badEvaluator{{0, 0}, {4, 2}, {5, 3}} {
		if _, err := Run(ctx, cfg, testDeps(b, &MemoryLog{})); err == nil {
			t.Errorf("scores of shape %v are accepted", b)
		}
	}
	for name, cost := range map[string]CostFunc{
		"error":    func(*schedule.Schedule) (float64, error) { return 0, boom },
		"NaN":      func(*schedule.Schedule) (float64, error) { return math.NaN(), nil },
		"negative": func(*schedule.Schedule) (float64, error) { return -1, nil },
	} {
		deps := testDeps(&synthetic{}, &MemoryLog{})
		deps.Cost = cost
		if _, err := Run(ctx, cfg, deps); err == nil {
			t.Errorf("a cost model with %s is accepted", name)
		}
	}
	if _, err := Run(ctx, cfg, Deps{}); !errors.Is(err, ErrConfig) {
		t.Errorf("no dependencies: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	idle := &synthetic{}
	if _, err := Run(cancelled, cfg, testDeps(idle, &MemoryLog{})); !errors.Is(err, ErrInterrupted) || idle.calls != 0 {
		t.Errorf("cancelled before the start: %v after %d calls", err, idle.calls)
	}
	abort := make(chan struct{})
	stuck := evaluatorFunc(func(ctx context.Context) error { close(abort); <-ctx.Done(); return ctx.Err() })
	deps := testDeps(stuck, &MemoryLog{})
	deps.Abort = abort
	if _, err := Run(ctx, cfg, deps); !errors.Is(err, ErrInterrupted) {
		t.Errorf("aborted: %v", err)
	}
	// A log of another trajectory.
	log := &MemoryLog{snapshots: []*Snapshot{{Generation: 0}}}
	if _, err := Run(ctx, cfg, testDeps(&synthetic{}, log)); !errors.Is(err, ErrDiverged) {
		t.Errorf("a diverged log: %v", err)
	}
}

type evaluatorFunc func(ctx context.Context) error

func (f evaluatorFunc) Evaluate(ctx context.Context, _ []*schedule.Schedule, _ []ImageID) ([][]Score, error) {
	return nil, f(ctx)
}
