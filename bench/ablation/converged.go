package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"ecadx/bench"
	"ecadx/ga"
	"ecadx/schedule"
)

// Sizes of the searches that show what the tree saves once a population has converged: the reference's. No pictures are made for them: their
// quality is what the drift expects, since what matters is how alike the schedules are.
const (
	convergedPopulation  = 72
	convergedGenerations = 60
	timedImages          = 8 // on which schedules are timed
)

// converged is what the prefix tree saves on a converged search.
type converged struct {
	Variant     string  `json:"variant"`
	Population  int     `json:"population"`
	Generations int     `json:"generations"`
	Children    sharing `json:"children"`  // of the last generation, without those that were scored before
	Survivors   sharing `json:"survivors"` // the population after it
}

// sharing is what the tree saves of schedules evaluated together. Their scores are the same with and without it, bit for bit.
type sharing struct {
	Schedules int `json:"schedules"`
	Images    int `json:"images"`
	// FLOPsSaved is the share of the transformer's arithmetic that the tree saves, DiTSaved that of the time in which the transformer runs.
	FLOPsSaved float64 `json:"flops_saved"`
	DiTSaved   float64 `json:"dit_seconds_saved"`
	Tree       timing  `json:"tree"`
	Alone      timing  `json:"alone"`
	// PeakComputed is the most bytes of states that the tree was computed to hold, before it ran.
	PeakComputed int64 `json:"state_peak_bytes"`
}

// timing is how long an evaluation takes.
type timing struct {
	Seconds float64 `json:"seconds"`     // from begin to end, pictures decoded and judged included
	DiT     float64 `json:"dit_seconds"` // in which the transformer runs, of all workers together
}

// expected scores schedules by the logarithm of the error that the drift expects, which is about what decibels are.
type expected struct {
	ga.Algorithm
	drift     ga.Drift
	worst     float64              // the error when everything is reused
	last      []*schedule.Schedule // what was asked for last: children that nobody has scored before
	survivors []ga.Individual
}

// tolerable is a share of the worst error so small that less makes no difference: 50 dB.
const tolerable = 1e-5

// Evaluate implements ga.Evaluator.
func (e *expected) Evaluate(_ context.Context, schedules []*schedule.Schedule, images []ga.ImageID) ([][]ga.Score, error) {
	e.last = schedules
	out := make([][]ga.Score, len(schedules))
	for i, s := range schedules {
		v, err := e.drift.Error(s)
		if err != nil {
			return nil, err
		}
		for range images {
			out[i] = append(out[i], ga.Score{Value: -10 * math.Log10(v/e.worst+tolerable)})
		}
	}
	return out, nil
}

// Tell implements ga.Algorithm.
func (e *expected) Tell(generation int, population, offspring []ga.Individual) []ga.Individual {
	e.survivors = e.Algorithm.Tell(generation, population, offspring)
	return e.survivors
}

// converge runs a search and times its last children and the survivors with and without the tree.
func (l *lab) converge(ctx context.Context, v variant) (*converged, error) {
	cfg, _, err := l.configure(v, 0, convergedPopulation)
	if err != nil {
		return nil, err
	}
	worst, err := ga.ScheduleOf(l.shape, ga.NewGenome(l.shape.Cells()))
	if err != nil {
		return nil, err
	}
	e := &expected{Algorithm: cfg.Algorithm, drift: l.drift}
	if e.worst, err = l.drift.Error(worst.Canonical()); err != nil {
		return nil, err
	}
	cfg.Algorithm, cfg.Generations, cfg.MaxImages = e, convergedGenerations, 0
	cfg.Images, cfg.Racing = l.images[:1], ga.Racing{}
	say("%s, population %d: %d generations", v.Name, convergedPopulation, convergedGenerations)
	if _, err := ga.Run(ctx, cfg, ga.Deps{Evaluator: e, Cost: l.macs, MACs: l.macs, Log: &ga.MemoryLog{}}); err != nil {
		return nil, err
	}
	r := &converged{Variant: v.Name, Population: convergedPopulation, Generations: convergedGenerations}
	if r.Children, err = l.sharing(ctx, e.last); err != nil {
		return nil, err
	}
	var survivors []*schedule.Schedule
	for _, ind := range e.survivors {
		s, err := ga.ScheduleOf(l.shape, ind.Genome)
		if err != nil {
			return nil, err
		}
		if s = s.Canonical(); !slices.ContainsFunc(survivors, s.Equal) {
			survivors = append(survivors, s)
		}
	}
	r.Survivors, err = l.sharing(ctx, survivors)
	for name, s := range map[string]sharing{"children": r.Children, "survivors": r.Survivors} {
		say("%s, population %d: of %d %s the tree saves %.1f %% of the arithmetic and %.1f %% of the transformer's time", v.Name, convergedPopulation, s.Schedules, name, 100*s.FLOPsSaved, 100*s.DiTSaved)
	}
	return r, err
}

// sharing evaluates schedules with and without the tree. Other scores without it are an error.
func (l *lab) sharing(ctx context.Context, schedules []*schedule.Schedule) (s sharing, err error) {
	var ids []ga.ImageID
	for _, im := range l.images[:min(timedImages, len(l.images))] {
		ids = append(ids, im.ID)
	}
	s.Schedules, s.Images = len(schedules), len(ids)
	tree, work, err := l.timed(ctx, schedules, ids, false, &s.Tree)
	if err != nil {
		return s, err
	}
	s.FLOPsSaved, s.PeakComputed = 1-float64(work.FLOPsRun)/float64(work.FLOPsAsked), work.StatePeak
	alone, _, err := l.timed(ctx, schedules, ids, true, &s.Alone)
	if err != nil {
		return s, err
	}
	s.DiTSaved = 1 - s.Tree.DiT/s.Alone.DiT
	for i := range tree {
		if !slices.Equal(tree[i], alone[i]) {
			return s, fmt.Errorf("schedule %v has other scores without the tree", schedules[i].Hash())
		}
	}
	return s, nil
}

// timed evaluates schedules afresh; the uncached pictures are made before the clock starts.
func (l *lab) timed(ctx context.Context, schedules []*schedule.Schedule, ids []ga.ImageID, unshared bool, t *timing) ([][]ga.Score, bench.SharedWork, error) {
	cfg := l.pictures
	cfg.Unshared = unshared
	e, err := bench.NewEvaluator(ctx, l.pipeline, cfg)
	if err != nil {
		return nil, bench.SharedWork{}, err
	}
	if _, err := e.Evaluate(ctx, schedules[:1], ids); err != nil {
		return nil, bench.SharedWork{}, err
	}
	before, start := e.Work(), time.Now()
	scores, err := e.Evaluate(ctx, schedules, ids)
	work := e.Work()
	*t = timing{time.Since(start).Seconds(), (work.Denoising - before.Denoising).Seconds()}
	work.FLOPsRun, work.FLOPsAsked = work.FLOPsRun-before.FLOPsRun, work.FLOPsAsked-before.FLOPsAsked
	return scores, work, err
}
