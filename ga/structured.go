package ga

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"ecadx/schedule"
)

// Structured is the algorithm of mode ecadx: elitist selection as in NSGA-II, with operators that follow the tensor of steps, blocks and
// components, parents from the population and from the front of all time, canonical children that are never proposed twice, crowding that is
// recomputed after each removal, and, once it has proved itself, a surrogate that chooses among several times as many children.
//
// Unlike NSGA2 it learns: Run calls First, then Ask and Tell in turn, from generation 1 on, and every decision follows from the settings and
// what was told, so that a resumed search learns the same again. Not for concurrent use. Make it with NewStructured.
type Structured struct {
	shape schedule.Shape
	cfg   StructuredConfig
	steps []int // that a schedule may run, descending; the first is the shape's
	focus int   // what the children of the generation at work run; 0: any

	credits  credits
	elite    []Individual // the front of all time by ascending cost
	seen     map[string]bool
	children map[string]origin // of the generation at work
	screen   *surrogate        // nil: every child is evaluated
}

// origin says how a child was made.
type origin struct {
	cross     Operator
	crossed   bool
	mutations []Operator
	parents   []Genome
	predicted float64 // quality that the surrogate expects; NaN without one
}

// StructuredConfig holds the settings of Structured. The zero value of a field is not a default: start from DefaultStructured.
type StructuredConfig struct {
	Seed uint64
	// PopulationSize is the number of survivors, Offspring that of children per generation.
	PopulationSize, Offspring int
	// CrossoverProb is the chance that a child mixes two parents, EliteProb that a parent comes from the front of all time, MutationProb
	// that a crossed child is changed as well; one that is not crossed always is.
	CrossoverProb, EliteProb, MutationProb float64
	// Flat replaces the operators by those of the reference: four cuts and flipped bits, blind to steps and blocks. To measure what they bring.
	Flat bool
	// Surrogate is how many children are made for each that is evaluated, once the surrogate may choose; 1: no surrogate.
	Surrogate int
	// Cost is the second objective, exact, for the surrogate. Needed when Surrogate is over 1.
	Cost CostModel
	// FewerSteps are numbers of steps that a schedule may run instead of the shape's, descending. Empty: all run the shape's.
	FewerSteps []int
	// Allowed, if not nil, tells which schedules may be proposed; the same ones whenever it is asked.
	Allowed func(*schedule.Schedule) bool
}

// DefaultStructured returns the settings of mode ecadx.
func DefaultStructured(seed uint64) StructuredConfig {
	return StructuredConfig{Seed: seed, PopulationSize: 24, Offspring: 24, CrossoverProb: 0.7, EliteProb: 0.5, MutationProb: 0.5, Surrogate: 4}
}

// DefaultFewerSteps are the shares of the steps that a schedule may run instead of all in mode ecadx, descending.
func DefaultFewerSteps() []float64 { return []float64{0.75, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15} }

// NewStructured returns the algorithm for schedules of a shape, or an error that wraps ErrConfig and names the setting out of range.
func NewStructured(shape schedule.Shape, cfg StructuredConfig) (*Structured, error) {
	a := &Structured{shape: shape, cfg: cfg, steps: append([]int{shape.Steps}, cfg.FewerSteps...), seen: make(map[string]bool)}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	if cfg.Surrogate > 1 {
		a.screen = newSurrogate(shape, a.steps)
	}
	return a, nil
}

// UseDrift gives the surrogate what is known about errors. Call it before First, with the same drift whenever a search goes on.
func (a *Structured) UseDrift(d Drift) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if err := d.Shape.Fits(a.shape); err != nil {
		return err
	}
	if a.screen != nil {
		a.screen.useDrift(d)
	}
	return nil
}

// Validate implements Algorithm.
func (a *Structured) Validate() error {
	if err := a.shape.Validate(); err != nil {
		return err
	}
	for _, n := range []struct {
		name        string
		value, most int
	}{{"population", a.cfg.PopulationSize, 1 << 20}, {"offspring", a.cfg.Offspring, 1 << 20}} {
		if n.value < 2 || n.value > n.most {
			return fmt.Errorf("%w: %s is %d; it must be between 2 and %d", ErrConfig, n.name, n.value, n.most)
		}
	}
	for _, p := range []struct {
		name  string
		value float64
	}{{"crossover probability", a.cfg.CrossoverProb}, {"elite probability", a.cfg.EliteProb}, {"mutation probability", a.cfg.MutationProb}} {
		if !(p.value >= 0 && p.value <= 1) {
			return fmt.Errorf("%w: %s is %v; it must be between 0 and 1", ErrConfig, p.name, p.value)
		}
	}
	for i, n := range a.cfg.FewerSteps {
		if n < 2 || n >= a.steps[i] {
			return fmt.Errorf("%w: %d steps after %d; fewer steps descend, to 2 at least", ErrConfig, n, a.steps[i])
		}
	}
	switch {
	case a.cfg.Surrogate < 1 || a.cfg.Surrogate > 64:
		return fmt.Errorf("%w: surrogate is %d; it must be between 1 (none) and 64", ErrConfig, a.cfg.Surrogate)
	case a.cfg.Surrogate > 1 && a.cfg.Cost == nil:
		return fmt.Errorf("%w: the surrogate needs a cost model", ErrConfig)
	}
	return nil
}

// First implements Algorithm: the seeds in canonical form, without duplicates; without seeds schedules of random rows.
func (a *Structured) First(seeds []Genome) []Genome {
	if len(seeds) == 0 {
		for i := range a.cfg.PopulationSize {
			s, g := NewStream(a.cfg.Seed, 1, PurposeInit, 0, i), NewGenome(a.shape.Cells())
			reuse := s.Float64()
			for k := range g.Len() {
				g.Set(k, s.Float64() >= reuse)
			}
			seeds = append(seeds, g)
		}
	}
	canonical := make([]Genome, len(seeds))
	for i, g := range seeds {
		canonical[i] = a.canonical(g)
	}
	return unique(canonical, a.seen)
}

// canonical is the genome of the canonical form of what g stands for.
func (a *Structured) canonical(g Genome) Genome {
	s, err := ScheduleOf(a.shape, g)
	if err != nil {
		return g // of another length, which Run reports
	}
	return GenomeOf(s.Canonical())
}

// mateRounds bounds how often mating is tried for one child before the generation stays smaller.
const mateRounds = 50

// Ask implements Algorithm.
func (a *Structured) Ask(generation int, population []Individual) []Genome {
	a.children = make(map[string]origin)
	if len(population) == 0 {
		return nil
	}
	want, factor := a.cfg.Offspring, 1
	a.narrow(generation)
	if a.screen != nil && a.screen.trusted() {
		factor = a.cfg.Surrogate
	}
	pool := a.brood(generation, 0, want*factor, population)
	if factor > 1 {
		// Children of children, as far as the surrogate can tell the better ones.
		parents := population
		for inner := 1; inner <= innerGenerations; inner++ {
			expected := a.expect(pool)
			if expected == nil {
				break
			}
			parents = prune(append(slices.Clone(a.elite), expected...), a.cfg.PopulationSize)
			pool = append(pool, a.brood(generation, inner, want*factor, parents)...)
		}
	}
	chosen := pool
	if a.screen != nil {
		chosen = a.choose(pool, want)
	}
	for _, g := range chosen {
		a.seen[g.key()] = true
	}
	return chosen
}

// innerGenerations is how often a trusted surrogate breeds on before anything is evaluated.
const innerGenerations = 4

// brood makes up to n children that nobody has seen.
func (a *Structured) brood(generation, inner, n int, population []Individual) []Genome {
	var out []Genome
	litters := a.litters(generation, inner, population)
	for i := range n {
		for round := range mateRounds {
			g, how := a.child(generation, inner*mateRounds+round, i, population, litters)
			k := g.key()
			if _, fresh := a.children[k]; fresh || a.seen[k] || !a.allowed(g) {
				continue
			}
			a.children[k] = how
			out = append(out, g)
			break
		}
	}
	return out
}

// roots adds the evaluated ancestors of a parent to a list: itself, or where it was only bred by the surrogate its own.
func (a *Structured) roots(list []Genome, parent Genome) []Genome {
	from := []Genome{parent}
	if how, bred := a.children[parent.key()]; bred && !a.seen[parent.key()] {
		from = how.parents
	}
	for _, g := range from {
		if !slices.ContainsFunc(list, g.Equal) {
			list = append(list, g)
		}
	}
	return list
}

func (a *Structured) allowed(g Genome) bool {
	if a.cfg.Allowed == nil {
		return true
	}
	s, err := ScheduleOf(a.shape, g)
	return err == nil && a.cfg.Allowed(s)
}

// childrenPerParent is how many children of a generation have the same first parent: they share the work of the steps before the first that one of
// them changes, with each other and not only with it.
const childrenPerParent = 6

// litters are the first parents of a brood: mostly such as run the steps of the focus, now and then any, so that what was found at one number of
// steps is tried at others. None for flat operators: each child has a first parent of its own.
func (a *Structured) litters(generation, inner int, population []Individual) []Individual {
	if a.cfg.Flat {
		return nil
	}
	list := make([]Individual, max(1, a.cfg.Offspring/childrenPerParent))
	for i := range list {
		s := NewStream(a.cfg.Seed, generation, PurposeLitter, inner, i)
		list[i] = a.parent(population, s)
		if s.IntN(migrants) > 0 {
			for range focusDraws {
				if a.focus == 0 || stepsOf(a.shape, list[i].Genome) == a.focus {
					break
				}
				list[i] = a.parent(population, s)
			}
		}
	}
	return list
}

const (
	// migrants: one litter in so many has a first parent of any number of steps.
	migrants = 6
	// focusDraws bounds how many parents are drawn until one fits the focus.
	focusDraws = 20
)

// child makes one child in canonical form, of a parent of a litter; without litters of any.
func (a *Structured) child(generation, round, index int, population, litters []Individual) (Genome, origin) {
	s := NewStream(a.cfg.Seed, generation, PurposeChild, round, index)
	var first Individual
	if len(litters) > 0 {
		first = litters[s.IntN(len(litters))]
	} else {
		first = a.parent(population, s)
	}
	child, how := first.Genome.Clone(), origin{predicted: math.NaN(), parents: a.roots(nil, first.Genome)}
	if a.focus != 0 {
		child = retimed(a.shape, child, a.focus).Clone()
	}
	if a.cfg.Flat {
		if s.Float64() < a.cfg.CrossoverProb {
			other := a.parent(population, s).Genome
			how.crossed, how.parents = true, a.roots(how.parents, other)
			flatCross(child, retimed(a.shape, other, stepsOf(a.shape, child)), s)
		}
		if !how.crossed || s.Float64() < a.cfg.MutationProb {
			flatFlips(child, s)
		}
		return a.canonical(child), how
	}
	if s.Float64() < a.cfg.CrossoverProb {
		how.cross, how.crossed = a.credits.pick(0, crossovers, s), true
		other := a.mate(first, population, s).Genome
		how.parents = a.roots(how.parents, other)
		a.tensor(child).cross(how.cross, child, retimed(a.shape, other, stepsOf(a.shape, child)), s)
	}
	if !how.crossed || s.Float64() < a.cfg.MutationProb {
		// More than one edit now and then: what needs two steps at once is found too.
		for more := true; more; more = s.Float64() < 0.3 {
			o := a.credits.pick(crossovers, numOperators, s)
			a.tensor(child).mutate(o, child, s)
			how.mutations = append(how.mutations, o)
		}
	}
	return a.canonical(child), how
}

// narrow chooses the focus of a generation: a quarter of the time any number of steps, else one where the gaps of the front are. Schedules share work
// as far as their steps are the same from the first, which those of different numbers of steps never are: children spread over all would share little.
func (a *Structured) narrow(generation int) {
	a.focus = 0
	if len(a.steps) == 1 || a.cfg.Flat {
		return
	}
	weight := make([]float64, len(a.steps))
	for i := range weight {
		weight[i] = 1 / float64(len(weight))
	}
	for i, w := range a.gaps() {
		weight[slices.Index(a.steps, stepsOf(a.shape, a.elite[i].Genome))] += float64(3 * w) // both sum to 1
	}
	a.focus = a.steps[roulette(weight, NewStream(a.cfg.Seed, generation, PurposeFocus, 0, 0))]
}

// gaps are, per schedule of the front of all time, its share of the areas between neighbours, better than the one and cheaper than the other: what
// schedules there could add to the hypervolume at most. They sum to 1.
func (a *Structured) gaps() []float64 {
	w, total := make([]float64, len(a.elite)), 0.0
	for i := 1; i < len(a.elite); i++ {
		lo, hi := a.elite[i-1].F, a.elite[i].F
		area := float64((hi[1] - lo[1]) * (lo[0] - hi[0]))
		w[i-1] += area
		w[i] += area
		total += float64(2 * area)
	}
	for i := range w {
		if total > 0 {
			w[i] /= total
		} else {
			w[i] = 1 / float64(len(w))
		}
	}
	return w
}

// roulette draws a place with chances in proportion to the weights.
func roulette(weights []float64, s *Stream) int {
	total := 0.0
	for _, w := range weights {
		total += w
	}
	u := s.Float64() * total
	for i, w := range weights {
		if u -= w; u < 0 {
			return i
		}
	}
	return len(weights) - 1
}

// tensor is what a genome's operators work on.
func (a *Structured) tensor(g Genome) tensor {
	shape := a.shape
	shape.Steps = stepsOf(shape, g)
	return tensor{shape}
}

// parent is a member of the front of all time, half of the time one at a gap, or the winner of a tournament of the population.
func (a *Structured) parent(population []Individual, s *Stream) Individual {
	if len(a.elite) > 0 && s.Float64() < a.cfg.EliteProb {
		if s.IntN(2) == 0 {
			return a.elite[roulette(a.gaps(), s)]
		}
		return a.elite[s.IntN(len(a.elite))]
	}
	x, y := population[s.IntN(len(population))], population[s.IntN(len(population))]
	if tournament(x, y) == Dominated {
		return y
	}
	return x
}

// mate is a partner for first: half of the time one of similar cost, since neighbours on the front share most rows (and so most of the work of
// their evaluation), else anyone.
func (a *Structured) mate(first Individual, population []Individual, s *Stream) Individual {
	if len(a.elite) < 4 || !first.Feasible() || s.Float64() < 0.5 {
		return a.parent(population, s)
	}
	i := sort.Search(len(a.elite), func(i int) bool { return a.elite[i].F[1] >= first.F[1] })
	lo := min(max(0, i-3), len(a.elite)-1)
	return a.elite[lo+s.IntN(min(6, len(a.elite)-lo))]
}

// Tell implements Algorithm.
func (a *Structured) Tell(generation int, population, offspring []Individual) []Individual {
	valid := make([]Individual, 0, len(population)+len(offspring))
	valid = append(valid, population...)
	before := slices.Clone(a.elite)
	a.credits.age()
	for _, ind := range offspring {
		won := ind.Feasible() && !dominatedBy(before, ind.F)
		if how, ok := a.children[ind.Genome.key()]; ok {
			if how.crossed && !a.cfg.Flat {
				a.credits.note(how.cross, won)
			}
			for _, o := range how.mutations {
				a.credits.note(o, won)
			}
		}
		if ind.Feasible() {
			valid = append(valid, ind)
			a.addElite(ind)
		}
	}
	if a.screen != nil {
		a.screen.learn(offspring, a.children)
	}
	return prune(valid, a.cfg.PopulationSize)
}

// dominatedBy reports whether a member of a front is at least as good in both objectives.
func dominatedBy(front []Individual, f []float64) bool {
	for _, e := range front {
		if e.F[0] <= f[0] && e.F[1] <= f[1] {
			return true
		}
	}
	return false
}

// addElite keeps elite the front of all time, by ascending cost.
func (a *Structured) addElite(ind Individual) {
	if dominatedBy(a.elite, ind.F) {
		return
	}
	a.elite = slices.DeleteFunc(a.elite, func(e Individual) bool { return Compare(ind.F, e.F) == Dominates })
	i := sort.Search(len(a.elite), func(i int) bool { return a.elite[i].F[1] > ind.F[1] })
	a.elite = slices.Insert(a.elite, i, ind)
}

// prune returns the n individuals that survive: whole fronts, and of the one that does not fit the rest after the most crowded member was removed
// again and again, crowding being computed anew each time (pruning crowding: Kukkonen and Deb 2006). All are feasible. Equally crowded ones:
// the one that comes last goes.
func prune(population []Individual, n int) []Individual {
	f := make([][]float64, len(population))
	for i, ind := range population {
		f[i] = ind.F
	}
	n = min(n, len(population))
	out := make([]Individual, 0, n)
	for rank, front := range NonDominatedSort(f, n) {
		front = slices.Clone(front)
		crowding := crowdingOf(f, front)
		for len(front) > n-len(out) {
			worst := 0
			for k, c := range crowding {
				if c <= crowding[worst] {
					worst = k
				}
			}
			front = slices.Delete(front, worst, worst+1)
			crowding = crowdingOf(f, front)
		}
		for k, i := range front {
			ind := population[i]
			ind.Rank, ind.Crowding = rank, crowding[k]
			out = append(out, ind)
		}
	}
	return out
}

func crowdingOf(f [][]float64, front []int) []float64 {
	own := make([][]float64, len(front))
	for k, i := range front {
		own[k] = f[i]
	}
	return Crowding(own)
}
