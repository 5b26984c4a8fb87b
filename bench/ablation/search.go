package main

import (
	"context"
	"fmt"
	"slices"

	"ecadx/ga"
	"ecadx/schedule"
)

// variant is a setting of the search.
type variant struct {
	Name string
	// mode ecad; the other members are about mode ecadx.
	reference                                               bool
	noDynamic, noFewer, flat, noRacing, noTree, noSurrogate bool
}

var (
	asECAD  = variant{Name: "ecad", reference: true}
	asECADX = variant{Name: "ecadx"}
	// Small effects first: those need the seeds.
	parts = []variant{
		{Name: "ecadx without racing", noRacing: true}, {Name: "ecadx with flat operators", flat: true}, {Name: "ecadx without the surrogate", noSurrogate: true},
		{Name: "ecadx without the tree", noTree: true}, {Name: "ecadx without dynamic seeds", noDynamic: true}, {Name: "ecadx without fewer steps", noFewer: true},
	}
)

// mark is where a search stood after a generation.
type mark struct {
	generation  int
	work        float64 // FLOPs
	images      int64
	hypervolume float64 // on the search images
	tree, alone float64 // FLOPs of all schedules and images so far, as trees and each by itself
	front       []ga.Entry
}

// trace is a search as it went.
type trace struct {
	variant variant
	seed    int
	budget  float64
	marks   []mark
	// reference is the reference point of the hypervolume on the search images.
	reference ga.Point
}

func (t *trace) work() float64 { return t.marks[len(t.marks)-1].work }

// meter hands out scores and counts the work that they are worth.
type meter struct {
	l      *lab
	shared bool
	work   float64

	tree, alone float64
}

// Evaluate implements ga.Evaluator.
func (m *meter) Evaluate(ctx context.Context, schedules []*schedule.Schedule, images []ga.ImageID) ([][]ga.Score, error) {
	tree, alone, err := m.l.flops.Shared(schedules)
	if err != nil {
		return nil, err
	}
	m.tree += tree * float64(len(images))
	m.alone += alone * float64(len(images))
	if m.shared {
		alone = tree
	}
	m.work += alone * float64(len(images))
	return m.l.known(ctx, schedules, images)
}

// recorder notes where a search stands and ends it when its work is used up.
type recorder struct {
	ga.Algorithm
	t       *trace
	m       *meter
	shape   schedule.Shape
	archive ga.Archive
}

// Ask implements ga.Algorithm.
func (r *recorder) Ask(generation int, population []ga.Individual) []ga.Genome {
	if r.t.budget > 0 && r.m.work >= r.t.budget {
		return nil
	}
	return r.Algorithm.Ask(generation, population)
}

// Tell implements ga.Algorithm.
func (r *recorder) Tell(generation int, population, offspring []ga.Individual) []ga.Individual {
	for _, ind := range offspring {
		if !ind.Feasible() {
			continue
		}
		if s, err := ga.ScheduleOf(r.shape, ind.Genome); err == nil {
			s = s.Canonical()
			r.archive.Add(ga.Entry{Hash: s.Hash(), Schedule: s, Point: ga.Point{Quality: -ind.F[0], Cost: ind.F[1]}, Generation: generation})
		}
	}
	r.t.marks = append(r.t.marks, mark{generation: generation, work: r.m.work, tree: r.m.tree, alone: r.m.alone, front: r.archive.Front()})
	return r.Algorithm.Tell(generation, population, offspring)
}

// configure makes the search of a variant, and counts the work that its seeds take. A search of mode ecadx has no end of its own.
func (l *lab) configure(v variant, seed, population int) (cfg ga.Config, work float64, err error) {
	cfg = ga.NewConfig(l.shape, uint64(seed))
	cfg.Images, cfg.Batch, cfg.Seeds = l.images, batch*len(l.pipeline.Workers), l.seeds
	cfg.Generations = l.cfg.Generations
	if v.reference {
		a := ga.DefaultNSGA2(l.shape.Cells(), uint64(seed))
		a.PopulationSize = population
		cfg.Algorithm = a
		return cfg, 0, nil
	}
	cfg.Generations, cfg.MaxImages = 0, 1<<40
	s := ga.DefaultStructured(uint64(seed))
	s.PopulationSize, s.Offspring, s.Cost, s.Flat = population, population, l.macs, v.flat
	if v.noSurrogate {
		s.Surrogate = 1
	}
	if !v.noRacing {
		cfg.Racing = ga.Racing{Rungs: rungs(len(l.images)), Confidence: 0.95}
	}
	if !v.noFewer {
		cfg.FewerSteps, s.FewerSteps = l.fewer, l.fewer
	}
	if !v.noDynamic {
		work = l.driftWork
		dynamic, err := l.drift.Seeds(l.macs, cfg.FewerSteps, population*2/3)
		if err != nil {
			return cfg, 0, err
		}
		cfg.Seeds = append(dynamic, half(l.seeds)...)
	}
	if !v.noFewer {
		cfg.Seeds = append(slices.Clip(cfg.Seeds), l.shorter...)
	}
	structured, err := ga.NewStructured(l.shape, s)
	if err == nil && !v.noDynamic {
		err = structured.UseDrift(l.drift)
	}
	cfg.Algorithm = structured
	return cfg, work, err
}

// search runs a variant until its work exceeds the budget; 0: for the generations of the settings.
func (l *lab) search(ctx context.Context, v variant, seed int, budget float64) (*trace, error) {
	t := &trace{variant: v, seed: seed, budget: budget}
	cfg, start, err := l.configure(v, seed, l.cfg.Population)
	if err != nil {
		return nil, err
	}
	m := &meter{l: l, shared: !v.reference && !v.noTree, work: start}
	cfg.Algorithm = &recorder{Algorithm: cfg.Algorithm, t: t, m: m, shape: l.shape}
	say("%s, seed %d", v.Name, seed)
	res, err := ga.Run(ctx, cfg, ga.Deps{Evaluator: m, Cost: l.macs, MACs: l.macs, Log: &ga.MemoryLog{}, Progress: func(p ga.Progress) {
		if p.Phase == ga.PhaseSearch && p.GenerationDone {
			k := &t.marks[len(t.marks)-1]
			k.images, k.hypervolume = p.Images, p.Hypervolume
			say("%s, seed %d: generation %d, %.2f T, %d images, hypervolume %.4f", v.Name, seed, p.Generation, m.work/1e12, p.Images, p.Hypervolume)
		}
	}})
	if err != nil {
		return nil, err
	}
	t.reference = res.Reference
	if len(t.marks) == 0 || m.work <= start {
		return nil, fmt.Errorf("%s, seed %d: no generation was finished", v.Name, seed)
	}
	return t, nil
}

// rungs are a quarter and half of the images in whole batches.
func rungs(images int) []int {
	var out []int
	for _, n := range []int{images / 4 / batch * batch, images / 2 / batch * batch} {
		if n >= 2 && n < images && (len(out) == 0 || n > out[0]) {
			out = append(out, n)
		}
	}
	return out
}

// half is every second one.
func half(list []ga.Named) []ga.Named {
	var out []ga.Named
	for i := 1; i < len(list); i += 2 {
		out = append(out, list[i])
	}
	return out
}
