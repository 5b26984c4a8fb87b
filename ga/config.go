package ga

import (
	"fmt"
	"math"
	"slices"

	"ecadx/schedule"
)

// Mode is a setting of the search.
type Mode uint8

// The modes.
const (
	// ModeECAD is NSGA-II as the reference runs it.
	ModeECAD Mode = iota + 1
	// ModeECADX is Structured.
	ModeECADX
)

// ParseMode reads the name of a mode.
func ParseMode(name string) (Mode, error) {
	for _, m := range []Mode{ModeECAD, ModeECADX} {
		if name == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("%w: mode %.40q is none: use %q or %q", ErrConfig, name, ModeECADX.String(), ModeECAD.String())
}

// String returns the name of the mode in a configuration.
func (m Mode) String() string {
	switch m {
	case ModeECAD:
		return "ecad"
	case ModeECADX:
		return "ecadx"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// Named is a schedule with the name people know it by.
type Named struct {
	Name     string
	Schedule *schedule.Schedule
}

// Algorithm proposes genomes and selects among them. Its answers depend on nothing but its settings and the arguments.
// NSGA2 is one, Structured another. One that learns
// from what it is told learns the same again when a search goes on, since Run recalls every generation from the first.
type Algorithm interface {
	// Validate returns an error that wraps ErrConfig if a setting is out of range.
	Validate() error
	// First returns the genomes of generation 1, Ask those of a later generation; none ends the search.
	First(seeds []Genome) []Genome
	Ask(generation int, population []Individual) []Genome
	// Tell returns the population after a generation.
	Tell(generation int, population, offspring []Individual) []Individual
	// Birth says how a genome of the last First or Ask was made: all that Tell needs to know besides its outcome.
	Birth(g Genome) Birth
	// Recall stands for First or Ask of a generation that was finished before: it leaves the algorithm as they would, without the work. An
	// error means that the births are not of this algorithm.
	Recall(generation int, genomes []Genome, births []Birth) error
}

// Config says what to search. Every field that changes the outcome is here.
type Config struct {
	Shape schedule.Shape
	// FewerSteps are numbers of steps below the shape's that schedules may run instead. The pictures of all are compared with the uncached
	// ones of the shape's steps. The Algorithm knows them too.
	FewerSteps []int
	Algorithm  Algorithm
	// Seed draws confidence intervals and is reported; the Algorithm has its own copy.
	Seed uint64
	// Generations ends the search; the first population is generation 1. 0 means no limit.
	Generations int
	// MaxImages ends the search at the first generation boundary at which so many images were scored. 0 means no limit.
	MaxImages int64
	// MinDiff is the least number of genes that a feasible genome reuses (the reference's min_diff_from_default).
	MinDiff int
	// Memory, if not nil, is bounded by MaxMemory: a schedule that takes more is infeasible and not evaluated for the search.
	Memory    CostModel
	MaxMemory float64
	// Seeds are the first population, as they are; without seeds it is random.
	Seeds []Named
	// Baselines are evaluated and reported beside the front, and may be part of it. One with another number of steps stands for a run
	// with so many steps: if that is none of FewerSteps, it is compared with the front and never part of it.
	Baselines []Named
	// Images are scored for every candidate, HeldOut for the final front and what it is compared with. Quality is the
	// mean over them, summed in this order. HeldOut may be empty.
	Images, HeldOut []Image
	// Confirm, if not empty, are images on which every schedule that may belong to the final front is scored too, once the generations are over:
	// the best of many on a few images is in part the luckiest on them. The front is then drawn by the means over Images and Confirm, and so is
	// every quality that is reported.
	Confirm []Image
	// Batch is the number of images per call of the Evaluator: what is lost at most when the process is killed.
	Batch int
	// Racing drops candidates early; the zero value scores all of them on all images.
	Racing Racing
	// Reference is the reference point of the hypervolume. Nil: the quality of the schedule that reuses everything
	// after step 0 (if that is invalid, the worst quality among seeds and baselines), and the cost of the uncached one.
	Reference *Point
}

// NewConfig returns a configuration with the reference's algorithm and settings; images and seeds are to be added.
func NewConfig(shape schedule.Shape, seed uint64) Config {
	return Config{Shape: shape, Algorithm: DefaultNSGA2(shape.Cells(), seed), Seed: seed, Generations: 40, MinDiff: 1, Batch: 32}
}

// Validate returns an error that names the first setting that cannot be.
func (c Config) Validate() error {
	if err := c.Shape.Validate(); err != nil {
		return err
	}
	if c.Algorithm == nil {
		return fmt.Errorf("%w: no algorithm", ErrConfig)
	}
	if err := c.Algorithm.Validate(); err != nil {
		return err
	}
	switch {
	case c.Generations < 0 || c.MaxImages < 0:
		return fmt.Errorf("%w: %d generations and %d images; a limit cannot be negative", ErrConfig, c.Generations, c.MaxImages)
	case c.Generations == 0 && c.MaxImages == 0:
		return fmt.Errorf("%w: neither generations nor a budget of images limit the search: set one", ErrConfig)
	case c.MinDiff < 0 || c.MinDiff > c.Shape.Cells():
		return fmt.Errorf("%w: at least %d reused genes of %d cannot be asked for", ErrConfig, c.MinDiff, c.Shape.Cells())
	case len(c.Images) == 0:
		return fmt.Errorf("%w: no images to score: give at least one prompt", ErrConfig)
	case c.Batch < 1:
		return fmt.Errorf("%w: a batch of %d images; it must be at least 1", ErrConfig, c.Batch)
	}
	if err := c.Racing.validate(len(c.Images)); err != nil {
		return err
	}
	for i, n := range append(append([]Named(nil), c.Seeds...), c.Baselines...) {
		if n.Schedule == nil {
			return fmt.Errorf("%w: %q has no schedule", ErrConfig, n.Name)
		}
		want := c.Shape
		if steps := n.Schedule.Shape().Steps; i >= len(c.Seeds) || c.mayRun(steps) {
			want.Steps = steps
		}
		if err := n.Schedule.Shape().Fits(want); err != nil {
			return fmt.Errorf("%q: %w", n.Name, err)
		}
	}
	if r := c.Reference; r != nil && (!finite(r.Quality) || !finite(r.Cost) || r.Cost <= 0) {
		return fmt.Errorf("%w: reference point of quality %v and cost %v; both must be finite, the cost positive",
			ErrConfig, r.Quality, r.Cost)
	}
	seen := make(map[ImageID]bool)
	for _, list := range [3][]Image{c.Images, c.Confirm, c.HeldOut} {
		for _, im := range list {
			if seen[im.ID] {
				return fmt.Errorf("%w: image %d occurs twice; the images of the search, those that confirm its front and held-out ones must all differ", ErrConfig, im.ID)
			}
			seen[im.ID] = true
		}
	}
	return nil
}

// mayRun tells whether a schedule of the search may have a number of steps.
func (c Config) mayRun(steps int) bool {
	return steps == c.Shape.Steps || slices.Contains(c.FewerSteps, steps)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
