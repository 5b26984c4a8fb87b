package ga

import (
	"context"
	"errors"
	"math"
	"reflect"
	"testing"
)

// structuredConfig is testConfig under mode ecadx.
func structuredConfig(t *testing.T, change func(*StructuredConfig)) Config {
	t.Helper()
	cfg := testConfig(t)
	s := DefaultStructured(42)
	s.PopulationSize, s.Offspring, s.Cost = 10, 10, CostFunc(countCost)
	if change != nil {
		change(&s)
	}
	a, err := NewStructured(cfg.Shape, s)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Algorithm = a
	return cfg
}

func TestStructuredRun(t *testing.T) {
	cfg := structuredConfig(t, nil)
	cfg.Racing = Racing{Rungs: []int{3, 6}, Confidence: 0.95}
	e, log := &synthetic{}, &MemoryLog{}
	deps := testDeps(e, log)
	var last Progress
	deps.Progress = func(p Progress) { last = p }
	res, err := Run(context.Background(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	checkResult(t, cfg, res)
	if last.Dropped == 0 || res.Images >= 8*res.Evaluations {
		t.Errorf("%d of %d candidates dropped, %d images: racing saved nothing", last.Dropped, res.Evaluations, res.Images)
	}
	if !(res.Hypervolume > res.SeedsHypervolume) {
		t.Errorf("hypervolume %v after seeds of %v", res.Hypervolume, res.SeedsHypervolume)
	}
	for _, c := range res.Front {
		for _, im := range cfg.Images {
			if _, ok := log.Score(c.Hash, im.ID); !ok {
				t.Fatalf("%v is on the front without a score on image %d", c.Hash, im.ID)
			}
		}
	}
}

// runStopped runs a search that is interrupted at a batch; 0: at none.
func runStopped(cfg Config, log *MemoryLog, stop int) (*Result, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	e := &synthetic{onBatch: func(call int) error {
		if call == stop {
			cancel()
			return ctx.Err()
		}
		return nil
	}}
	return Run(ctx, cfg, testDeps(e, log))
}

// The same search, interrupted at every batch in turn and taken up from its log, ends with the same result.
func TestStructuredResumes(t *testing.T) {
	run := func(log *MemoryLog, stop int) (*Result, error) {
		cfg := structuredConfig(t, func(s *StructuredConfig) { s.Surrogate = 3 })
		cfg.Racing = Racing{Rungs: []int{3}, Confidence: 0.9}
		cfg.Confirm = confirming(5)
		return runStopped(cfg, log, stop)
	}
	want, err := run(&MemoryLog{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for stop := 1; ; stop++ {
		log := &MemoryLog{}
		if _, err := run(log, stop); err == nil {
			if stop < 12 {
				t.Fatalf("stop %d: not interrupted", stop)
			}
			break // there are no more batches
		}
		got, err := run(log, 0)
		if err != nil {
			t.Fatalf("stop %d: %v", stop, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("stop %d: another result", stop)
		}
	}
}

func TestStructuredProposesNothingTwice(t *testing.T) {
	cfg := structuredConfig(t, nil)
	a := cfg.Algorithm.(*Structured)
	var seeds []Genome
	for _, s := range cfg.Seeds {
		seeds = append(seeds, GenomeOf(s.Schedule))
	}
	seen := map[string]bool{}
	var population []Individual
	for g := 1; g <= 12; g++ {
		genomes := a.First(seeds)
		if g > 1 {
			genomes = a.Ask(g, population)
		}
		var off []Individual
		for _, genome := range genomes {
			if k := genome.key(); seen[k] && g > 1 {
				t.Fatalf("generation %d proposes a schedule again", g)
			} else {
				seen[k] = true
			}
			s, err := ScheduleOf(cfg.Shape, genome)
			if err != nil {
				t.Fatal(err)
			}
			if !s.Equal(s.Canonical()) {
				t.Fatalf("generation %d proposes a schedule that is not canonical", g)
			}
			cost, _ := countCost(s)
			off = append(off, Individual{Genome: genome, F: []float64{-syntheticScore(s, 1), cost}})
		}
		population = a.Tell(g, population, off)
		if len(population) > 10 {
			t.Fatalf("generation %d: %d survivors", g, len(population))
		}
		for i, e := range a.elite {
			for k, o := range a.elite {
				if i != k && Compare(o.F, e.F) != Indifferent {
					t.Fatalf("generation %d: the front of all time holds a dominated schedule", g)
				}
			}
		}
	}
}

func TestStructuredConfigErrors(t *testing.T) {
	for name, change := range map[string]func(*StructuredConfig){
		"population": func(c *StructuredConfig) { c.PopulationSize = 1 },
		"offspring":  func(c *StructuredConfig) { c.Offspring = 0 },
		"crossover":  func(c *StructuredConfig) { c.CrossoverProb = math.NaN() },
		"elite":      func(c *StructuredConfig) { c.EliteProb = 2 },
		"mutation":   func(c *StructuredConfig) { c.MutationProb = -1 },
		"surrogate":  func(c *StructuredConfig) { c.Surrogate = 0 },
		"cost":       func(c *StructuredConfig) { c.Surrogate, c.Cost = 2, nil },
	} {
		cfg := DefaultStructured(1)
		cfg.Cost = CostFunc(countCost)
		change(&cfg)
		if _, err := NewStructured(testShape, cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range []Racing{{Rungs: []int{1}, Confidence: 0.9}, {Rungs: []int{4, 4}, Confidence: 0.9}, {Rungs: []int{8}, Confidence: 0.9}, {Rungs: []int{4}}, {Rungs: []int{4}, Confidence: math.NaN()}} {
		cfg := structuredConfig(t, nil)
		cfg.Racing = r
		if err := cfg.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%v: %v", r, err)
		}
	}
}

// Gaps are the areas that neighbours leave between them; a draw follows its weights.
func TestGaps(t *testing.T) {
	at := func(quality, cost float64) Individual { return Individual{F: []float64{-quality, cost}} }
	a := &Structured{elite: []Individual{at(0, 1), at(1, 2), at(3, 5)}} // areas of 1 and 6
	if got := a.gaps(); !reflect.DeepEqual(got, []float64{1. / 14, 7. / 14, 6. / 14}) {
		t.Errorf("%v", got)
	}
	if a.elite = a.elite[:1]; !reflect.DeepEqual(a.gaps(), []float64{1}) {
		t.Errorf("of one schedule: %v", a.gaps())
	}
	count := make([]float64, 3)
	for k := range 4000 {
		count[roulette([]float64{1, 0, 3}, NewStream(1, 1, PurposeChild, 0, k))]++
	}
	if math.Abs(count[0]-1000) > 100 || count[1] != 0 {
		t.Errorf("drawn %v times by weights of 1, 0, 3", count)
	}
}

// The pruned front keeps its ends and drops the most crowded member first.
func TestPrune(t *testing.T) {
	point := func(x, y float64) Individual { return Individual{F: []float64{x, y}} }
	got := prune([]Individual{point(0, 10), point(1, 5), point(1.1, 4.9), point(5, 1), point(10, 0), point(11, 11)}, 4)
	var xs []float64
	for _, ind := range got {
		xs = append(xs, ind.F[0])
	}
	if !reflect.DeepEqual(xs, []float64{0, 1, 5, 10}) && !reflect.DeepEqual(xs, []float64{0, 1.1, 5, 10}) {
		t.Errorf("kept %v", xs)
	}
}

// The surrogate orders schedules of a smooth problem well, and says nothing while it knows too little.
func TestSurrogate(t *testing.T) {
	m := newSurrogate(testShape, []int{testShape.Steps})
	genome := func(k int) Genome {
		s := NewStream(3, 0, PurposeChild, 0, k)
		g, reuse := NewGenome(testShape.Cells()), s.Float64()
		for i := range g.Len() {
			g.Set(i, s.Float64() >= reuse)
		}
		g2, _ := ScheduleOf(testShape, g)
		return GenomeOf(g2.Canonical())
	}
	truth := func(g Genome) float64 {
		s, err := ScheduleOf(testShape, g)
		if err != nil {
			t.Fatal(err)
		}
		return syntheticScore(s, 0)
	}
	var test []Genome
	for k := 200; k < 260; k++ {
		test = append(test, genome(k))
	}
	if m.predict(test) != nil {
		t.Error("predicts from nothing")
	}
	how := map[string]origin{}
	for batch := range 2 {
		var scored []Individual
		for k := range 60 {
			g := genome(100*batch + k)
			if p := m.predict([]Genome{g}); p != nil {
				how[g.key()] = origin{predicted: p[0]}
			}
			scored = append(scored, Individual{Genome: g, F: []float64{-truth(g), 0}})
		}
		m.learn(scored, how)
	}
	if !m.trusted() {
		t.Errorf("rank correlation %v on a smooth problem", m.tau)
	}
	predicted := m.predict(test)
	sum := 0.0
	for i, g := range test {
		sum += math.Abs(predicted[i]-truth(g)) / float64(len(test))
	}
	if !(sum < 0.1) {
		t.Errorf("mean error %v", sum)
	}
}
