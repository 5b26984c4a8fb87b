package ga

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// asking counts how often genomes are bred.
type asking struct {
	Algorithm
	first, ask int
}

func (a *asking) First(seeds []Genome) []Genome { a.first++; return a.Algorithm.First(seeds) }
func (a *asking) Ask(generation int, population []Individual) []Genome {
	a.ask++
	return a.Algorithm.Ask(generation, population)
}

// TestRecall goes on from the snapshots of every number of generations: nothing of them is bred or scored again, and the rest is the same, all
// later snapshots included.
func TestRecall(t *testing.T) {
	for mode, config := range map[string]func() Config{
		"ecad": func() Config { return testConfig(t) },
		"ecadx": func() Config {
			cfg := structuredConfig(t, func(s *StructuredConfig) { s.Surrogate = 3 })
			cfg.Racing = Racing{Rungs: []int{3}, Confidence: 0.9}
			return cfg
		},
	} {
		whole := &MemoryLog{}
		want, err := Run(context.Background(), config(), testDeps(&synthetic{}, whole))
		if err != nil {
			t.Fatal(err)
		}
		dropped, predicted := 0, 0
		for n := range len(whole.snapshots) + 1 {
			log := &MemoryLog{scores: whole.scores, snapshots: slices.Clone(whole.snapshots[:n])}
			cfg, e := config(), &synthetic{}
			a := &asking{Algorithm: cfg.Algorithm}
			cfg.Algorithm = a
			got, err := Run(context.Background(), cfg, testDeps(e, log))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, %d snapshots: another result: %v", mode, n, err)
			}
			if e.images != 0 || a.first+a.ask != len(whole.snapshots)-max(1, n) {
				t.Errorf("%s, %d snapshots of %d: %d images scored, bred %d times", mode, n, len(whole.snapshots), e.images, a.first+a.ask)
			}
			if !reflect.DeepEqual(log.snapshots, whole.snapshots) {
				t.Errorf("%s, %d snapshots: later snapshots differ", mode, n)
			}
		}
		for g, s := range whole.snapshots {
			for _, c := range s.Candidates {
				if (c.Status == StatusDropped) != (c.Images == 3 && mode == "ecadx") || c.Status == StatusScored && c.Images != len(testConfig(t).Images) {
					t.Errorf("%s, generation %d: %v after %d images", mode, g, c.Status, c.Images)
				}
				if c.Status == StatusDropped {
					dropped++
				}
				if c.Birth.Predicted != nil {
					predicted++
				}
				if made := len(c.Birth.Parents) > 0; made != (mode == "ecadx" && g > 1) || made != (len(c.Birth.Operators) > 0) {
					t.Errorf("%s, generation %d: a birth of %d parents by %v", mode, g, len(c.Birth.Parents), c.Birth.Operators)
				}
			}
		}
		if mode == "ecadx" && (dropped == 0 || predicted == 0) {
			t.Errorf("%d candidates dropped, %d predicted: the test says less than it should", dropped, predicted)
		}
		// A snapshot that another decision would have led to.
		log := &MemoryLog{scores: whole.scores, snapshots: slices.Clone(whole.snapshots)}
		other := *log.snapshots[3]
		other.Digest[0]++
		log.snapshots[3] = &other
		if _, err := Run(context.Background(), config(), testDeps(&synthetic{}, log)); !errors.Is(err, ErrDiverged) {
			t.Errorf("%s: a foreign snapshot: %v", mode, err)
		}
	}
}

// TestRecallForeignBirth refuses operators of another version.
func TestRecallForeignBirth(t *testing.T) {
	cfg := structuredConfig(t, nil)
	g := NewGenome(cfg.Shape.Cells())
	if err := cfg.Algorithm.Recall(2, []Genome{g}, []Birth{{Operators: []string{"flip", "knit"}}}); !errors.Is(err, errRecall) {
		t.Errorf("an unknown operator: %v", err)
	}
}

// TestOriginIsRecalled fails when a field is added to origin that a Birth does not carry.
func TestOriginIsRecalled(t *testing.T) {
	if n := reflect.TypeFor[origin]().NumField(); n != 5 {
		t.Errorf("origin has %d fields, 5 are carried by Birth and restored by Recall (parents are only told)", n)
	}
}

// TestRecallLostScores goes on from snapshots whose scores are lost in part, as in a repaired log.
func TestRecallLostScores(t *testing.T) {
	config := func() Config {
		cfg := structuredConfig(t, nil)
		cfg.Racing = Racing{Rungs: []int{3}, Confidence: 0.9}
		return cfg
	}
	whole := &MemoryLog{}
	want, err := Run(context.Background(), config(), testDeps(&synthetic{}, whole))
	if err != nil {
		t.Fatal(err)
	}
	for _, keep := range []int{0, 3, 9} {
		s := NewStream(uint64(keep), 0, PurposeInit, 0, 0)
		log := &MemoryLog{snapshots: slices.Clone(whole.snapshots[:4])}
		for h, scores := range whole.scores {
			for id, score := range scores {
				if s.IntN(10) < keep {
					log.Append([]Record{{h, id, score}})
				}
			}
		}
		got, err := Run(context.Background(), config(), testDeps(&synthetic{}, log))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%d of 10 scores kept: another result: %v", keep, err)
		}
	}
}
