package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ecadx/bench"
	"ecadx/ga"
	"ecadx/schedule"
)

// Sizes of the searches whose last children show what the tree saves once a population has converged. How far it has converged hardly depends on
// the images, so that few will do.
const (
	convergedPopulation  = 72 // as the reference's
	convergedGenerations = 150
	convergedImages      = 2
	timedImages          = 32 // on which the last children are timed
)

// converged is what the prefix tree saves on the children of a search's last generation.
type converged struct {
	Variant     string `json:"variant"`
	Population  int    `json:"population"`
	Generations int    `json:"generations"`
	Images      int    `json:"images"`   // per candidate of the search
	Children    int    `json:"children"` // of the last generation
	TimedImages int    `json:"timed_images"`
	// FLOPsSaved is the share of the transformer's arithmetic that the tree saves, DiTSaved that of the time in which the transformer runs.
	FLOPsSaved float64 `json:"flops_saved"`
	DiTSaved   float64 `json:"dit_seconds_saved"`
	Tree       timing  `json:"tree"`
	Alone      timing  `json:"alone"`
}

// timing is how long an evaluation takes.
type timing struct {
	Seconds float64 `json:"seconds"`     // from begin to end, pictures decoded and judged included
	DiT     float64 `json:"dit_seconds"` // in which the transformer runs, of all workers together
}

// lastAsked keeps what a search asked for last, all of it: candidates that lost a race too.
type lastAsked struct {
	ga.Algorithm
	shape     schedule.Shape
	schedules []*schedule.Schedule
}

// Ask implements ga.Algorithm.
func (a *lastAsked) Ask(generation int, population []ga.Individual) []ga.Genome {
	genomes := a.Algorithm.Ask(generation, population)
	a.schedules = nil
	for _, g := range genomes {
		if s, err := ga.ScheduleOf(a.shape, g); err == nil {
			a.schedules = append(a.schedules, s.Canonical())
		}
	}
	return genomes
}

// converge runs a search and times its last children with and without the tree.
func (l *lab) converge(ctx context.Context, v variant) (*converged, error) {
	cfg, _, err := l.configure(v, 0, convergedPopulation)
	if err != nil {
		return nil, err
	}
	last := &lastAsked{Algorithm: cfg.Algorithm, shape: l.shape}
	cfg.Algorithm, cfg.Generations, cfg.MaxImages = last, convergedGenerations, 0
	cfg.Images, cfg.Racing = l.images[:min(convergedImages, len(l.images))], ga.Racing{}
	m := &meter{l: l, shared: true}
	say("%s, population %d: %d generations", v.Name, convergedPopulation, convergedGenerations)
	if _, err := ga.Run(ctx, cfg, ga.Deps{Evaluator: m, Cost: l.macs, MACs: l.macs, Log: &ga.MemoryLog{}}); err != nil {
		return nil, err
	}
	r := &converged{Variant: v.Name, Population: convergedPopulation, Generations: convergedGenerations, Images: len(cfg.Images), Children: len(last.schedules)}
	tree, alone, err := l.flops.Shared(last.schedules)
	if err != nil {
		return nil, err
	}
	r.FLOPsSaved = 1 - tree/alone
	var ids []ga.ImageID
	for _, im := range l.images[:min(timedImages, len(l.images))] {
		ids = append(ids, im.ID)
	}
	r.TimedImages = len(ids)
	shared, t, err := l.timed(ctx, last.schedules, ids, false)
	if err != nil {
		return nil, err
	}
	r.Tree = t
	unshared, t, err := l.timed(ctx, last.schedules, ids, true)
	if err != nil {
		return nil, err
	}
	r.Alone, r.DiTSaved = t, 1-r.Tree.DiT/t.DiT
	for i := range shared {
		if !slices.Equal(shared[i], unshared[i]) {
			return nil, fmt.Errorf("schedule %v has other scores without the tree", last.schedules[i].Hash())
		}
	}
	say("%s, population %d: of %d children the tree saves %.1f %% of the arithmetic and %.1f %% of the transformer's time", v.Name, convergedPopulation, r.Children, 100*r.FLOPsSaved, 100*r.DiTSaved)
	return r, nil
}

// timed evaluates schedules afresh; the uncached pictures are made before the clock starts.
func (l *lab) timed(ctx context.Context, schedules []*schedule.Schedule, ids []ga.ImageID, unshared bool) ([][]ga.Score, timing, error) {
	cfg := l.pictures
	cfg.Unshared = unshared
	e, err := bench.NewEvaluator(ctx, l.pipeline, cfg)
	if err != nil {
		return nil, timing{}, err
	}
	if _, err := e.Evaluate(ctx, schedules[:1], ids); err != nil {
		return nil, timing{}, err
	}
	before, start := e.Work().Denoising, time.Now()
	scores, err := e.Evaluate(ctx, schedules, ids)
	return scores, timing{time.Since(start).Seconds(), (e.Work().Denoising - before).Seconds()}, err
}
