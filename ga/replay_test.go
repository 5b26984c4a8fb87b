package ga

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

// Level B: four runs of pymoo 0.6.1.3, replayed draw by draw (testdata/pymoo/record.py).

type recordedRound struct {
	Slots    []int        `json:"slots"`
	Ties     []int        `json:"ties"`
	Parents  [][2]int     `json:"parents"`
	Cross    []float64    `json:"cross"`
	Cuts     [][]int      `json:"cuts"`
	Crossed  []string     `json:"crossed"`
	Mutate   []float64    `json:"mutate"`
	Flips    [][3]float64 `json:"flips"`
	Children []string     `json:"children"`
}

type recordedGeneration struct {
	Rounds    []recordedRound `json:"rounds"`
	Offspring []string        `json:"offspring"`
	F         [][]float64     `json:"f"`
	CV        []float64       `json:"cv"`
	Survival  []int           `json:"survival"`
	Survivors []int           `json:"survivors"`
	Rank      []int           `json:"rank"`
	Crowding  []float64       `json:"crowding"`
}

type recordedRun struct {
	Name         string               `json:"name"`
	Vars         int                  `json:"n_var"`
	Population   int                  `json:"pop_size"`
	MutationProb float64              `json:"mutation_prob"`
	MaxRounds    int                  `json:"max_rounds"`
	First        []string             `json:"first"`
	Generations  []recordedGeneration `json:"generations"`
}

// tape replays recorded draws. used counts what was asked for, so that the test can tell that nothing was left over.
type tape struct {
	t    *testing.T
	g    *recordedGeneration
	ties []int // per round, the tie draws used
}

func (p *tape) Slots(round, size, n int) []int {
	if got := len(p.g.Rounds[round].Slots); got != n {
		p.t.Fatalf("round %d: pymoo drew %d slots, the operator wants %d", round, got, n)
	}
	return p.g.Rounds[round].Slots
}

// Tie hands out the tie draws in order: tournaments are decided in index order here as in pymoo.
func (p *tape) Tie(round, tournament int) int {
	for len(p.ties) <= round {
		p.ties = append(p.ties, 0)
	}
	k := p.ties[round]
	p.ties[round]++
	if k >= len(p.g.Rounds[round].Ties) {
		p.t.Fatalf("round %d, tournament %d: tie draw %d; pymoo drew %d", round, tournament, k, len(p.g.Rounds[round].Ties))
	}
	return p.g.Rounds[round].Ties[k]
}

func (p *tape) Cross(round, mating int) float64 { return p.g.Rounds[round].Cross[mating] }

func (p *tape) Cuts(round, mating, n, k int) []int {
	cuts := p.g.Rounds[round].Cuts[mating]
	if len(cuts) != k {
		p.t.Fatalf("round %d, mating %d: pymoo cut %d times, the operator wants %d", round, mating, len(cuts), k)
	}
	return cuts
}

func (p *tape) Mutate(round, child int) float64 { return p.g.Rounds[round].Mutate[child] }

func (p *tape) Flips(round, child int, dst []float64) {
	for i := range dst {
		dst[i] = 1
	}
	for _, f := range p.g.Rounds[round].Flips {
		if int(f[0]) == child {
			dst[int(f[1])] = f[2]
		}
	}
}

func (p *tape) SurvivalOrder(n int) []int {
	if len(p.g.Survival) != n {
		p.t.Fatalf("survival order of %d asked for, pymoo drew one of %d", n, len(p.g.Survival))
	}
	return p.g.Survival
}

func decodeGenome(t *testing.T, n int, text string) Genome {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	g, err := GenomeFromBytes(n, data)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func sameGenomes(t *testing.T, what string, n int, got []Genome, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d genomes, pymoo has %d", what, len(got), len(want))
	}
	for i := range got {
		if !got[i].Equal(decodeGenome(t, n, want[i])) {
			t.Fatalf("%s: genome %d is %x, pymoo has %s", what, i, got[i].Bytes(), want[i])
		}
	}
}

func TestReplayPymoo(t *testing.T) {
	data, err := os.ReadFile("testdata/pymoo/operators.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Runs []recordedRun }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Runs) != 4 {
		t.Fatalf("%d recorded runs, want 4", len(file.Runs))
	}
	checkCoverage(t, file.Runs)
	for _, run := range file.Runs {
		t.Run(run.Name, func(t *testing.T) { replayRun(t, run) })
	}
}

// checkCoverage makes sure that the recording holds what it is meant to test.
func checkCoverage(t *testing.T, runs []recordedRun) {
	t.Helper()
	var rounds, ties, splits, infeasible, flips, uncrossed, short int
	for _, run := range runs {
		for _, g := range run.Generations {
			rounds = max(rounds, len(g.Rounds))
			if len(g.Survival) > 0 {
				splits++
			}
			if len(g.Rounds) > 0 && len(g.Offspring) < run.Population {
				short++
			}
			for _, cv := range g.CV {
				if cv > 0 {
					infeasible++
				}
			}
			for _, r := range g.Rounds {
				ties += len(r.Ties)
				flips += len(r.Flips)
				for _, u := range r.Cross {
					if u >= 0.9 {
						uncrossed++
					}
				}
			}
		}
	}
	for name, n := range map[string]int{"repeated mating": rounds - 1, "ties": ties, "split fronts": splits,
		"infeasible offspring": infeasible, "flips": flips, "matings without crossover": uncrossed, "too few offspring": short} {
		if n < 1 {
			t.Errorf("the recording has no %s", name)
		}
	}
}

func replayRun(t *testing.T, run recordedRun) {
	a := DefaultNSGA2(run.Vars, 0)
	a.PopulationSize, a.MutationChildProb, a.MatingRounds = run.Population, run.MutationProb, run.MaxRounds
	var pop []Individual
	for g := range run.Generations {
		rec := &run.Generations[g]
		p := &tape{t: t, g: rec}
		a.Replay = func(int) Draws { return p }
		var off []Genome
		if g == 0 {
			var seeds []Genome
			for _, s := range run.First {
				seeds = append(seeds, decodeGenome(t, run.Vars, s))
			}
			off = a.First(seeds)
		} else {
			replayRounds(t, a, pop, rec, fmt.Sprintf("generation %d", g+1))
			p.ties = nil
			off = a.Ask(g+1, pop)
			for r := range rec.Rounds {
				if r < len(p.ties) && p.ties[r] != len(rec.Rounds[r].Ties) {
					t.Fatalf("generation %d, round %d: %d tie draws used of %d", g+1, r, p.ties[r], len(rec.Rounds[r].Ties))
				}
			}
		}
		sameGenomes(t, fmt.Sprintf("generation %d offspring", g+1), run.Vars, off, rec.Offspring)
		merged := append([]Individual(nil), pop...)
		evaluated := make([]Individual, len(off))
		for i := range off {
			evaluated[i] = Individual{Genome: off[i], F: rec.F[i], CV: rec.CV[i]}
		}
		merged = append(merged, evaluated...)
		pop = a.Tell(g+1, pop, evaluated)
		compareSurvivors(t, g+1, rec, merged, pop)
	}
}

// replayRounds compares the operators one by one: parents, children after crossover, children after mutation.
func replayRounds(t *testing.T, a NSGA2, pop []Individual, rec *recordedGeneration, what string) {
	t.Helper()
	for r, round := range rec.Rounds {
		draws := &tape{t: t, g: rec}
		parents := a.selectParents(pop, r, 2*len(round.Parents), draws)
		for k, p := range round.Parents {
			if parents[2*k] != p[0] || parents[2*k+1] != p[1] {
				t.Fatalf("%s, round %d, mating %d: parents %v, pymoo chose %v", what, r, k, parents[2*k:2*k+2], p)
			}
		}
		children := a.cross(pop, parents, r, draws)
		sameGenomes(t, what+" crossover", a.Genes, children, round.Crossed)
		sameGenomes(t, what+" mutation", a.Genes, a.mutate(children, r, draws), round.Children)
	}
}

func compareSurvivors(t *testing.T, generation int, rec *recordedGeneration, merged, pop []Individual) {
	t.Helper()
	if len(pop) != len(rec.Survivors) {
		t.Fatalf("generation %d: %d survivors, pymoo has %d", generation, len(pop), len(rec.Survivors))
	}
	feasible := 0
	for i, ind := range pop {
		want := merged[rec.Survivors[i]]
		if !ind.Genome.Equal(want.Genome) {
			t.Fatalf("generation %d: survivor %d is not pymoo's", generation, i)
		}
		if !ind.Feasible() {
			continue
		}
		crowding := rec.Crowding[feasible]
		if crowding == -1 {
			crowding = math.Inf(1)
		}
		if ind.Rank != rec.Rank[feasible] || ind.Crowding != crowding {
			t.Fatalf("generation %d, survivor %d: rank %d, crowding %v; pymoo has %d, %v", generation, i,
				ind.Rank, ind.Crowding, rec.Rank[feasible], crowding)
		}
		feasible++
	}
	if feasible != len(rec.Rank) {
		t.Fatalf("generation %d: %d feasible survivors, pymoo has %d", generation, feasible, len(rec.Rank))
	}
}
