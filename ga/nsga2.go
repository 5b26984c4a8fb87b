package ga

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// ErrConfig is wrapped by every error about a setting of the search.
var ErrConfig = errors.New("ecadx/ga: config")

// Individual is a genome with what its evaluation found.
type Individual struct {
	Genome Genome
	// F holds the objectives, all minimised. Nil when the individual is invalid.
	F []float64
	// CV is the constraint violation: 0 when feasible, +Inf when the genome could not be evaluated or lost a race.
	CV float64
	// Rank is the index of the individual's front in the last survival, -1 for an infeasible one.
	Rank int
	// Crowding is the crowding distance within that front.
	Crowding float64
}

// Feasible reports whether the individual violates no constraint.
func (ind Individual) Feasible() bool { return ind.CV <= 0 }

// NSGA2 is the algorithm of Deb et al. 2002 with the operators and the conventions of pymoo 0.6.1.3, as the reference
// configures it. The zero value of a field is not a default: start from DefaultNSGA2.
//
// Where pymoo's outcome is random or left to an unstable sort, this implementation has a total order: equally crowded
// individuals of the splitting front are ordered by the permutation of Draws.SurvivalOrder, infeasible individuals of
// equal violation by their index (parents first, then offspring), and tournaments that nothing decides by Draws.Tie.
type NSGA2 struct {
	// Genes is the length of every genome.
	Genes int
	// PopulationSize is the number of survivors and of offspring per generation.
	PopulationSize int
	// CrossoverPoints is the number of cuts of a mating.
	CrossoverPoints int
	// CrossoverProb is the chance that a mating exchanges genes at all.
	CrossoverProb float64
	// MutationChildProb is the chance that a child keeps its flipped genes (pymoo's Mutation.prob).
	MutationChildProb float64
	// MutationBitProb is the chance of each gene to flip (pymoo's prob_var); 0 stands for min(0.5, 1/Genes).
	MutationBitProb float64
	// MatingRounds bounds how often mating is repeated to replace duplicates.
	MatingRounds int
	// Seed selects the random streams. Replay, when not nil, replaces them.
	Seed uint64
	// Replay returns the random decisions of a generation in place of those derived from Seed. For tests.
	Replay func(generation int) Draws
}

// DefaultNSGA2 returns the settings of the reference (ecad/genetic/train_nsga2_base.py): population 72, four-point
// crossover with probability 0.9, and mutation with probability 0.05 per child, 1/genes per gene.
func DefaultNSGA2(genes int, seed uint64) NSGA2 {
	return NSGA2{Genes: genes, PopulationSize: 72, CrossoverPoints: 4, CrossoverProb: 0.9, MutationChildProb: 0.05,
		MatingRounds: 100, Seed: seed}
}

// Validate returns an error that wraps ErrConfig and names the first setting out of range.
func (a NSGA2) Validate() error {
	prob := func(name string, p float64) error {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("%w: %s is %v; it must be between 0 and 1", ErrConfig, name, p)
		}
		return nil
	}
	switch {
	case a.Genes < 1 || a.Genes > MaxGenes:
		return fmt.Errorf("%w: %d genes; the number must be between 1 and %d", ErrConfig, a.Genes, MaxGenes)
	case a.PopulationSize < 2 || a.PopulationSize > 1<<20:
		return fmt.Errorf("%w: population is %d; it must be between 2 and %d", ErrConfig, a.PopulationSize, 1<<20)
	case a.CrossoverPoints < 1:
		return fmt.Errorf("%w: crossover points are %d; there must be at least 1", ErrConfig, a.CrossoverPoints)
	case a.MatingRounds < 1:
		return fmt.Errorf("%w: mating rounds are %d; there must be at least 1", ErrConfig, a.MatingRounds)
	}
	return errors.Join(prob("crossover probability", a.CrossoverProb),
		prob("mutation probability per child", a.MutationChildProb),
		prob("mutation probability per gene", a.MutationBitProb))
}

func (a NSGA2) draws(generation int) Draws {
	if a.Replay != nil {
		return a.Replay(generation)
	}
	return NewDraws(a.Seed, generation)
}

func (a NSGA2) bitProb() float64 {
	if a.MutationBitProb > 0 {
		return a.MutationBitProb
	}
	return min(0.5, 1/float64(a.Genes))
}

// First returns the genomes of generation 1: the seeds without duplicates and, as in the reference, not filled up to
// PopulationSize; without seeds PopulationSize random genomes with every gene compute or reuse at equal chance.
func (a NSGA2) First(seeds []Genome) []Genome {
	if len(seeds) == 0 {
		for i := range a.PopulationSize {
			s, g := NewStream(a.Seed, 1, PurposeInit, 0, i), NewGenome(a.Genes)
			for w := range g.words {
				g.words[w] = s.Uint64()
			}
			if r := a.Genes % 64; r != 0 {
				g.words[len(g.words)-1] &= 1<<r - 1
			}
			seeds = append(seeds, g)
		}
	}
	return unique(seeds, map[string]bool{})
}

// Ask returns the offspring that generation (2 or later) wants evaluated, up to PopulationSize genomes that differ from
// one another and from the population. None means that mating finds nothing new; the search has ended.
func (a NSGA2) Ask(generation int, population []Individual) []Genome {
	if len(population) == 0 {
		return nil
	}
	draws := a.draws(generation)
	seen := make(map[string]bool, 2*a.PopulationSize)
	for _, ind := range population {
		seen[ind.Genome.key()] = true
	}
	var off []Genome
	for round := 0; round < a.MatingRounds && len(off) < a.PopulationSize; round++ {
		remaining := a.PopulationSize - len(off)
		matings := (remaining + 1) / 2
		parents := a.selectParents(population, round, 2*matings, draws)
		children := a.mutate(a.cross(population, parents, round, draws), round, draws)
		fresh := unique(children, seen)
		if len(fresh) > remaining {
			// The children cut off here are not accepted, so they may come back in a later generation.
			fresh = fresh[:remaining]
		}
		off = append(off, fresh...)
	}
	return off
}

// Tell returns the population after generation: the survivors of the population and its evaluated offspring. In
// generation 1 the population is empty and every offspring survives, in ranked order.
func (a NSGA2) Tell(generation int, population, offspring []Individual) []Individual {
	size := a.PopulationSize
	if generation <= 1 {
		size = len(offspring)
	}
	merged := slices.Concat(population, offspring)
	return Survive(merged, size, a.draws(generation).SurvivalOrder)
}

// unique returns the genomes whose key is not in seen, the first of equal ones, and adds their keys.
func unique(genomes []Genome, seen map[string]bool) []Genome {
	var out []Genome
	for _, g := range genomes {
		if k := g.key(); !seen[k] {
			seen[k] = true
			out = append(out, g)
		}
	}
	return out
}

// selectParents returns n indices of the population, each the winner of a tournament of two.
func (a NSGA2) selectParents(population []Individual, round, n int, draws Draws) []int {
	slots := draws.Slots(round, len(population), 2*n)
	parents := make([]int, n)
	for t := range parents {
		i, j := slots[2*t], slots[2*t+1]
		winner := i
		switch tournament(population[i], population[j]) {
		case Indifferent:
			if draws.Tie(round, t) == 1 {
				winner = j
			}
		case Dominated:
			winner = j
		}
		parents[t] = winner
	}
	return parents
}

// tournament says which of two individuals wins: the smaller violation if either violates a constraint, else the one
// that dominates, else the larger crowding distance; Indifferent leaves it to chance. It compares objectives, not ranks:
// pymoo's default for NSGA2 is comp_by_dom_and_crowding.
func tournament(x, y Individual) Relation {
	if x.CV > 0 || y.CV > 0 {
		return less(x.CV, y.CV)
	}
	if r := Compare(x.F, y.F); r != Indifferent {
		return r
	}
	return less(y.Crowding, x.Crowding)
}

func less(x, y float64) Relation {
	switch {
	case x < y:
		return Dominates
	case x > y:
		return Dominated
	}
	return Indifferent
}

// cross returns two children per pair of parents: all first children, then all second ones (pymoo's array order).
// Between sorted cuts r0 < r1 < r2 < r3 the children swap [r0, r1) and [r2, r3); with an odd number of cuts the last
// range runs to the end.
func (a NSGA2) cross(population []Individual, parents []int, round int, draws Draws) []Genome {
	matings := len(parents) / 2
	children := make([]Genome, 2*matings)
	points := min(a.CrossoverPoints, a.Genes-1)
	for k := range matings {
		x, y := population[parents[2*k]].Genome.Clone(), population[parents[2*k+1]].Genome.Clone()
		if draws.Cross(round, k) < a.CrossoverProb {
			cuts := append(make([]int, 0, points+1), draws.Cuts(round, k, a.Genes, points)...)
			slices.Sort(cuts)
			cuts = append(cuts, a.Genes)
			for i := 0; i+1 < len(cuts); i += 2 {
				swapRange(x, y, cuts[i], cuts[i+1])
			}
		}
		children[k], children[matings+k] = x, y
	}
	return children
}

// mutate flips genes of the children in place and returns them. A child is left alone unless its own draw is at most
// MutationChildProb, so the per-gene numbers of the others are never drawn.
func (a NSGA2) mutate(children []Genome, round int, draws Draws) []Genome {
	p := a.bitProb()
	u := make([]float64, a.Genes)
	for c, g := range children {
		if !(draws.Mutate(round, c) <= a.MutationChildProb) {
			continue
		}
		draws.Flips(round, c, u)
		for i, v := range u {
			if v < p {
				g.Flip(i)
			}
		}
	}
	return children
}

// Survive returns the n individuals that NSGA-II keeps, with Rank and Crowding set: feasible before infeasible; among
// the feasible whole fronts in the order of NonDominatedSort, and of the front that does not fit the most crowding
// distance, computed once; the infeasible by ascending violation. order(n) returns a permutation that decides between
// equally crowded individuals; it is called only for a front that is split. Source: pymoo 0.6.1.3 RankAndCrowding and
// Survival.do.
func Survive(population []Individual, n int, order func(n int) []int) []Individual {
	n = min(n, len(population))
	var feasible, infeasible []int
	for i, ind := range population {
		if ind.Feasible() {
			feasible = append(feasible, i)
		} else {
			infeasible = append(infeasible, i)
		}
	}
	out := make([]Individual, 0, n)
	if len(feasible) > 0 {
		f := make([][]float64, len(feasible))
		for k, i := range feasible {
			f[k] = population[i].F
		}
		keep := min(n, len(feasible))
		for rank, front := range NonDominatedSort(f, keep) {
			fr := make([][]float64, len(front))
			for k, i := range front {
				fr[k] = f[i]
			}
			crowding := Crowding(fr)
			for _, k := range splitFront(crowding, keep-len(out), order) {
				ind := population[feasible[front[k]]]
				ind.Rank, ind.Crowding = rank, crowding[k]
				out = append(out, ind)
			}
		}
	}
	sort.SliceStable(infeasible, func(i, j int) bool {
		return population[infeasible[i]].CV < population[infeasible[j]].CV
	})
	for _, i := range infeasible[:n-len(out)] {
		ind := population[i]
		ind.Rank, ind.Crowding = -1, math.Inf(-1)
		out = append(out, ind)
	}
	return out
}

// splitFront returns which members of a front survive when at most room do, in the order in which they are kept.
func splitFront(crowding []float64, room int, order func(n int) []int) []int {
	if len(crowding) <= room {
		all := make([]int, len(crowding))
		for i := range all {
			all[i] = i
		}
		return all
	}
	// pymoo sorts a random permutation ascending and reverses the result; the reversal also reverses ties.
	index := slices.Clone(order(len(crowding)))
	slices.SortStableFunc(index, func(i, j int) int { return compareFloat(crowding[i], crowding[j]) })
	slices.Reverse(index)
	return index[:room]
}
