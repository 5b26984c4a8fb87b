package ga

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"ecadx/schedule"
)

// ErrInterrupted is returned by Run when its context was cancelled. Everything evaluated so far is in the log.
var ErrInterrupted = errors.New("ecadx/ga: interrupted; everything evaluated so far is saved")

// Phase says what a search is doing.
type Phase uint8

// The phases of a search, in order.
const (
	PhaseStart    Phase = iota + 1 // uncached, reference and baselines
	PhaseSearch                    // generations
	PhaseConfirm                   // what may belong to the front, on more images
	PhaseHeldOut                   // the front and what it is compared with, on held-out images
	PhaseFinished                  // nothing is left to do
)

// Progress describes a running search. Rates and times are the receiver's: the search reads no clock.
type Progress struct {
	Phase       Phase
	Generation  int // the generation at work, or the last one
	Generations int // Config.Generations
	// GenerationDone reports that Generation was just committed; otherwise a batch of images was.
	GenerationDone bool
	// Batch of Batches image batches of this phase or generation are done.
	Batch, Batches int
	Evaluations    int64 // distinct schedules scored for the search
	Images         int64 // images scored for the search
	Dropped        int64 // candidates that lost a race: part of Evaluations
	// NewImages counts images that this process has evaluated, held-out ones included; what the log already held is not
	// among them. Divide by elapsed time for images per second.
	NewImages int64
	// Mismatches counts images that were scored again, with another result than the log holds: the evaluation is not
	// deterministic. The first score counts.
	Mismatches int64
	Front      []Point // the front so far by ascending cost
	// Hypervolume is that of Front, normalised; see HypervolumeOf.
	Hypervolume float64
}

// Deps are what a search runs on.
type Deps struct {
	Evaluator Evaluator
	// Cost is the objective, MACs the arithmetic of a run for the reported ratio (uncached / cached).
	Cost, MACs CostModel
	Log        Log
	// Progress, when not nil, is called after every batch of images and every generation, from Run's goroutine.
	Progress func(Progress)
	// Abort, when closed, cancels the batch at work instead of finishing it.
	Abort <-chan struct{}
}

// Run searches. It asks the algorithm for genomes, takes scores that the log holds, has the evaluator compute the
// missing ones (for all candidates at once, batch by batch of images), appends them to the log and tells the algorithm.
// Since every decision depends on the configuration and the scores alone, running the same configuration on the same
// log again repeats the trajectory and goes on where it ended; a finished log gives the result without any evaluation.
//
// When ctx is cancelled Run finishes the batch at work, logs it and returns ErrInterrupted.
func Run(ctx context.Context, cfg Config, deps Deps) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Evaluator == nil || deps.Cost == nil || deps.MACs == nil || deps.Log == nil {
		return nil, fmt.Errorf("%w: evaluator, cost, MACs and log are all needed", ErrConfig)
	}
	evalCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if deps.Abort != nil {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-deps.Abort:
				cancel()
			case <-stop:
			}
		}()
	}
	r := &runner{ctx: ctx, evalCtx: evalCtx, cfg: cfg, deps: deps, quality: make(map[schedule.Hash]outcome), committed: make(map[schedule.Hash]bool)}
	r.progress.Generations = cfg.Generations
	if err := r.start(); err != nil {
		return nil, err
	}
	if err := r.search(); err != nil {
		return nil, err
	}
	return r.finish()
}

// outcome is what all search images of a schedule together say.
type outcome struct {
	quality, stdErr float64 // the mean score and its standard error
	images          int     // that were scored
	cost            float64
	invalid         string // the reason of the first invalid score in image order
	raced           bool   // dropped before it was scored on all images, so that the quality is that of some
}

type runner struct {
	ctx, evalCtx context.Context
	cfg          Config
	deps         Deps
	quality      map[schedule.Hash]outcome
	committed    map[schedule.Hash]bool // schedules that a snapshot holds
	archive      Archive
	uncached     candidate
	reference    Point
	progress     Progress
}

// candidate is a schedule in canonical form.
type candidate struct {
	name     string
	hash     schedule.Hash
	schedule *schedule.Schedule
}

func newCandidate(name string, s *schedule.Schedule) candidate {
	return candidate{name: name, hash: s.Hash(), schedule: s.Canonical()}
}

// start evaluates the uncached schedule, the baselines and, unless the configuration names it, the reference point.
func (r *runner) start() error {
	r.progress.Phase = PhaseStart
	none, err := schedule.New(r.cfg.Shape)
	if err != nil {
		return err
	}
	r.uncached = newCandidate(UncachedName, none)
	list := []candidate{r.uncached}
	for _, b := range r.cfg.Baselines {
		list = append(list, newCandidate(b.Name, b.Schedule))
	}
	var worst candidate
	if r.cfg.Reference == nil {
		all, err := ScheduleOf(r.cfg.Shape, NewGenome(r.cfg.Shape.Cells()))
		if err != nil {
			return err
		}
		worst = newCandidate(AllReusedName, all)
		list = append(list, worst)
	}
	logged, known, err := r.recall(0)
	if err != nil {
		return err
	}
	if err := r.evaluate(list); err != nil {
		return err
	}
	if o := r.quality[r.uncached.hash]; o.invalid != "" {
		return fmt.Errorf("ecadx/ga: the uncached schedule cannot be scored: %s", o.invalid)
	}
	r.archive.Mark(r.uncached.hash) // computing everything is what the front is compared with, no part of it
	for _, c := range list[1 : 1+len(r.cfg.Baselines)] {
		may, err := r.mayJoin(c)
		if err != nil {
			return err
		}
		if may {
			r.addToArchive(c, 0)
		}
	}
	if r.cfg.Reference == nil && r.quality[worst.hash].invalid != "" {
		more, err := r.evaluateNamed()
		if err != nil {
			return err
		}
		list = append(list, more...)
	}
	if err := r.setReference(worst); err != nil {
		return err
	}
	if known {
		return logged.same(&Snapshot{Evaluations: r.progress.Evaluations, Images: r.progress.Images, Reference: r.reference, Digest: digest(nil)})
	}
	genomes := make([]Genome, len(list))
	for i, c := range list {
		genomes[i] = GenomeOf(c.schedule)
	}
	return r.commit(0, genomes, list, nil)
}

// evaluateNamed evaluates seeds and baselines, and returns them.
func (r *runner) evaluateNamed() ([]candidate, error) {
	var list []candidate
	for _, n := range slices.Concat(r.cfg.Seeds, r.cfg.Baselines) {
		list = append(list, newCandidate(n.Name, n.Schedule))
	}
	return list, r.evaluate(list)
}

func (r *runner) setReference(worst candidate) error {
	if p := r.cfg.Reference; p != nil {
		r.reference = *p
		return nil
	}
	r.reference.Cost = r.quality[r.uncached.hash].cost
	o := r.quality[worst.hash]
	if o.invalid == "" {
		r.reference.Quality = o.quality
		return nil
	}
	r.reference.Quality = math.Inf(1)
	for _, n := range slices.Concat(r.cfg.Seeds, r.cfg.Baselines) {
		if s := r.quality[n.Schedule.Hash()]; s.invalid == "" {
			r.reference.Quality = min(r.reference.Quality, s.quality)
		}
	}
	if !finite(r.reference.Quality) {
		return fmt.Errorf("ecadx/ga: no reference point: the schedule that reuses everything is invalid (%s) and so are "+
			"all seeds and baselines: set the reference point", o.invalid)
	}
	return nil
}

// search runs the generations.
func (r *runner) search() error {
	r.progress.Phase = PhaseSearch
	seeds := make([]Genome, len(r.cfg.Seeds))
	for i, s := range r.cfg.Seeds {
		seeds[i] = GenomeOf(s.Schedule)
	}
	var population []Individual
	for g := 1; r.cfg.Generations == 0 || g <= r.cfg.Generations; g++ {
		if r.cfg.MaxImages > 0 && g > 1 && r.progress.Images >= r.cfg.MaxImages {
			break
		}
		if next, known, err := r.recallGeneration(g, population); err != nil {
			return err
		} else if known {
			population, r.progress.Generation = next, g
			r.report(true)
			continue
		}
		var genomes []Genome
		if g > 1 {
			genomes = r.cfg.Algorithm.Ask(g, population)
		} else {
			genomes = r.cfg.Algorithm.First(seeds)
		}
		asked := len(genomes)
		var err error
		if genomes, err = r.fitting(genomes); err != nil {
			return err
		}
		if g == 1 && asked > 0 && len(genomes) == 0 {
			return fmt.Errorf("%w: none of %d seeds takes at most %v of memory: raise the limit or add seeds that reuse fewer components", ErrConfig, asked, r.cfg.MaxMemory)
		}
		if len(genomes) == 0 {
			break
		}
		r.progress.Generation = g
		list, err := r.evaluateGenomes(g, genomes)
		if err != nil {
			return err
		}
		population = r.cfg.Algorithm.Tell(g, population, r.judge(g, genomes, list))
		if err := r.commit(g, genomes, list, population); err != nil {
			return err
		}
		r.report(true)
	}
	return nil
}

// evaluateGenomes evaluates what an algorithm asked for.
func (r *runner) evaluateGenomes(generation int, genomes []Genome) ([]candidate, error) {
	names := make(map[schedule.Hash]string)
	if generation == 1 {
		for _, n := range r.cfg.Seeds {
			names[n.Schedule.Hash()] = n.Name
		}
	}
	list := make([]candidate, len(genomes))
	for i, g := range genomes {
		s, err := ScheduleOf(r.cfg.Shape, g)
		if err != nil {
			return nil, err
		}
		list[i] = newCandidate("", s)
		list[i].name = names[list[i].hash]
	}
	if generation > 1 { // the first population is what later ones race against
		return list, r.race(list)
	}
	return list, r.evaluate(list)
}

// judge returns evaluated genomes with objectives and constraint violation, and adds them to the archive.
func (r *runner) judge(generation int, genomes []Genome, list []candidate) []Individual {
	out := make([]Individual, len(genomes))
	for i, g := range genomes {
		o := r.quality[list[i].hash]
		out[i] = Individual{Genome: g, CV: r.violation(g)}
		if o.invalid != "" || o.raced {
			out[i].CV = math.Inf(1)
			r.archive.Mark(list[i].hash)
			continue
		}
		out[i].F = Objectives(Point{Quality: o.quality, Cost: o.cost})
		if out[i].Feasible() {
			r.addToArchive(list[i], generation)
		}
	}
	return out
}

// fits reports whether a schedule takes no more memory than it may.
func (r *runner) fits(c candidate) (bool, error) {
	if r.cfg.Memory == nil {
		return true, nil
	}
	v, err := r.cost(r.cfg.Memory, c)
	return v <= r.cfg.MaxMemory, err
}

// mayJoin reports whether a baseline may be part of the front: it fits, and has a number of steps that the search may run.
func (r *runner) mayJoin(baseline candidate) (bool, error) {
	fits, err := r.fits(baseline)
	return fits && r.cfg.mayRun(baseline.schedule.Shape().Steps), err
}

// fitting returns the genomes whose schedules fit.
func (r *runner) fitting(genomes []Genome) ([]Genome, error) {
	if r.cfg.Memory == nil {
		return genomes, nil
	}
	var out []Genome
	for _, g := range genomes {
		s, err := ScheduleOf(r.cfg.Shape, g)
		if err != nil {
			return nil, err
		}
		ok, err := r.fits(newCandidate("", s))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, g)
		}
	}
	return out, nil
}

// violation is how many genes too few a genome leaves out: steps that it does not run count as reused.
func (r *runner) violation(g Genome) float64 {
	return float64(max(0, r.cfg.MinDiff-(r.cfg.Shape.Cells()-g.Count())))
}

func (r *runner) addToArchive(c candidate, generation int) {
	if o := r.quality[c.hash]; o.invalid == "" {
		r.archive.Add(Entry{Hash: c.hash, Schedule: c.schedule, Point: Point{o.quality, o.cost}, Generation: generation})
	} else {
		r.archive.Mark(c.hash)
	}
}

// report calls the progress function.
func (r *runner) report(generationDone bool) {
	if r.deps.Progress == nil {
		return
	}
	p := r.progress
	p.GenerationDone = generationDone
	p.Front = r.archive.Points()
	if u, ok := r.quality[r.uncached.hash]; ok && r.reference != (Point{}) {
		_, p.Hypervolume = HypervolumeOf(p.Front, r.reference, u.quality)
	}
	r.deps.Progress(p)
}
