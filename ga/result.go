package ga

import (
	"slices"

	"ecadx/schedule"
)

// Estimate is a mean score with its 95 % confidence interval over prompts.
type Estimate struct {
	Mean float64
	CI95 [2]float64
}

// Candidate is a schedule in a result.
type Candidate struct {
	Name     string // empty for a schedule that only the search knows
	Hash     schedule.Hash
	Schedule *schedule.Schedule // canonical
	Cost     float64
	// MACsRatio is the arithmetic of the uncached run divided by this one's.
	MACsRatio float64
	// Quality is nil when the candidate is invalid, HeldOut also when there are no held-out images.
	Quality, HeldOut *Estimate
	// Invalid says why the candidate has no score; empty if it has one.
	Invalid string
}

// Comparison sets a baseline beside the front at equal cost: beside the costliest schedule that costs no more than the baseline. That choice
// looks at no held-out score, so the difference is not flattered by it.
type Comparison struct {
	Baseline, Front int // places in Result.Baselines and Result.Front
	// Difference is the held-out quality of the front's schedule minus that of the baseline, paired image by image.
	Difference Estimate
}

// Result is what a search found.
type Result struct {
	Reference Point
	Uncached  Candidate
	// Baselines and Seeds in the order of the configuration, schedules that do the same listed once; Front by ascending
	// cost. Front is the non-dominated set of all valid schedules that were evaluated, the uncached one left out.
	Baselines, Seeds, Front []Candidate
	// Hypervolume and SeedsHypervolume are normalised to the rectangle from Reference to (quality of Uncached, cost 0).
	Hypervolume, SeedsHypervolume float64
	// ConfirmPrompts is the number of prompts among the images that confirmed the front.
	ConfirmPrompts int
	// HeldOutPrompts is the number of prompts among the held-out images. The held-out hypervolumes take the held-out
	// quality of the same schedules, and of Uncached for the rectangle; the reference point is the same.
	HeldOutPrompts                              int
	HeldOutHypervolume, HeldOutSeedsHypervolume float64
	// Comparisons has one entry per valid baseline that costs no less than the cheapest schedule of the front, in the order of Baselines.
	// It is empty without held-out images.
	Comparisons         []Comparison
	Evaluations, Images int64
	Generations         int
	Seed                uint64
	Mismatches          int64
}

// finish evaluates what is reported on the held-out images and fills in the result.
func (r *runner) finish() (*Result, error) {
	baselines, seeds := named(r.cfg.Baselines), named(r.cfg.Seeds)
	// The first generation has evaluated the seeds, unless the algorithm left some out.
	if err := r.evaluate(seeds); err != nil {
		return nil, err
	}
	if err := r.confirm(seeds, baselines); err != nil {
		return nil, err
	}
	r.progress.Phase = PhaseHeldOut
	res := &Result{Reference: r.reference, Evaluations: r.progress.Evaluations, Images: r.progress.Images,
		Generations: r.progress.Generation, Seed: r.cfg.Seed}
	names := make(map[schedule.Hash]string)
	for _, c := range append(append([]candidate(nil), seeds...), baselines...) {
		names[c.hash] = c.name
	}
	var front []candidate
	for _, e := range r.archive.Front() {
		front = append(front, candidate{name: names[e.Hash], hash: e.Hash, schedule: e.Schedule})
	}
	if err := r.score(r.scorable([]candidate{r.uncached}, baselines, seeds, front), r.cfg.HeldOut); err != nil {
		return nil, err
	}
	images := slices.Concat(r.cfg.Images, r.cfg.Confirm)
	search, held := NewBootstrap(images, r.cfg.Seed), NewBootstrap(r.cfg.HeldOut, r.cfg.Seed)
	res.ConfirmPrompts, res.HeldOutPrompts = prompts(r.cfg.Confirm), prompts(r.cfg.HeldOut)
	base, err := r.cost(r.deps.MACs, r.uncached)
	if err != nil {
		return nil, err
	}
	fill := func(list []candidate) ([]Candidate, error) {
		out := make([]Candidate, len(list))
		for i, c := range list {
			if out[i], err = r.candidate(c, base, images, search, held); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	uncached, err := fill([]candidate{r.uncached})
	if err != nil {
		return nil, err
	}
	res.Uncached = uncached[0]
	if res.Baselines, err = fill(baselines); err != nil {
		return nil, err
	}
	if res.Seeds, err = fill(seeds); err != nil {
		return nil, err
	}
	if res.Front, err = fill(front); err != nil {
		return nil, err
	}
	r.hypervolumes(res)
	r.compare(res, held)
	res.Mismatches = r.progress.Mismatches
	r.progress.Phase = PhaseFinished
	r.report(false)
	return res, nil
}

// prompts is how many prompts a list of images has.
func prompts(images []Image) int {
	seen := make(map[uint32]bool)
	for _, im := range images {
		seen[im.Prompt] = true
	}
	return len(seen)
}

// named returns the candidates of a list, the first of those that do the same.
func named(list []Named) []candidate {
	var out []candidate
	seen := make(map[schedule.Hash]bool)
	for _, n := range list {
		if c := newCandidate(n.Name, n.Schedule); !seen[c.hash] {
			seen[c.hash] = true
			out = append(out, c)
		}
	}
	return out
}

// candidate fills in everything that is reported about one schedule; images are those of its quality.
func (r *runner) candidate(c candidate, uncachedMACs float64, images []Image, search, held *Bootstrap) (Candidate, error) {
	out := Candidate{Name: c.name, Hash: c.hash, Schedule: c.schedule}
	cost, err := r.cost(r.deps.Cost, c)
	if err != nil {
		return out, err
	}
	macs, err := r.cost(r.deps.MACs, c)
	if err != nil {
		return out, err
	}
	out.Cost = cost
	if macs > 0 {
		out.MACsRatio = uncachedMACs / macs
	}
	values := make([]float64, max(len(images), len(r.cfg.HeldOut)))
	estimate := func(on []Image, b *Bootstrap) *Estimate {
		if len(on) == 0 || out.Invalid != "" {
			return nil
		}
		v := values[:len(on)]
		if _, out.Invalid = r.scores(c.hash, on, v); out.Invalid != "" {
			return nil
		}
		return &Estimate{Mean: Mean(v), CI95: b.Interval(v)}
	}
	out.Quality = estimate(images, search)
	out.HeldOut = estimate(r.cfg.HeldOut, held)
	return out, nil
}

// compare fills in the comparisons of baselines with the front.
func (r *runner) compare(res *Result, held *Bootstrap) {
	own, other := make([]float64, len(r.cfg.HeldOut)), make([]float64, len(r.cfg.HeldOut))
	for i, b := range res.Baselines {
		at := -1
		for k, f := range res.Front {
			if f.Cost <= b.Cost && f.HeldOut != nil {
				at = k // the front ascends in cost
			}
		}
		if at < 0 || b.HeldOut == nil {
			continue
		}
		r.scores(res.Front[at].Hash, r.cfg.HeldOut, own)
		r.scores(b.Hash, r.cfg.HeldOut, other)
		for k := range own {
			own[k] -= other[k]
		}
		res.Comparisons = append(res.Comparisons, Comparison{Baseline: i, Front: at, Difference: Estimate{Mean: Mean(own), CI95: held.Interval(own)}})
	}
}

// hypervolumes fills in the four normalised hypervolumes.
func (r *runner) hypervolumes(res *Result) {
	points := func(list []Candidate, heldOut bool) []Point {
		var p []Point
		for _, c := range list {
			e := c.Quality
			if heldOut {
				e = c.HeldOut
			}
			if e != nil {
				p = append(p, Point{Quality: e.Mean, Cost: c.Cost})
			}
		}
		return p
	}
	best := res.Uncached.Quality.Mean
	_, res.Hypervolume = HypervolumeOf(points(res.Front, false), res.Reference, best)
	_, res.SeedsHypervolume = HypervolumeOf(points(res.Seeds, false), res.Reference, best)
	if h := res.Uncached.HeldOut; h != nil {
		_, res.HeldOutHypervolume = HypervolumeOf(points(res.Front, true), res.Reference, h.Mean)
		_, res.HeldOutSeedsHypervolume = HypervolumeOf(points(res.Seeds, true), res.Reference, h.Mean)
	}
}
