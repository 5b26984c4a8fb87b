package ga

import (
	"context"
	"slices"
	"strings"
	"testing"

	"ecadx/schedule"
)

// confirming are images of prompts that no other list has.
func confirming(n int) []Image {
	var list []Image
	for i := range n {
		list = append(list, Image{ID: ImageID(200 + i), Prompt: uint32(80 + i)})
	}
	return list
}

// The front is that of all contenders by the means over all images, and what was only lucky on the search images has left it.
func TestConfirm(t *testing.T) {
	left := 0
	for name, cfg := range map[string]Config{"ecad": testConfig(t), "ecadx": structuredConfig(t, nil)} {
		before, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Confirm = confirming(11); name == "ecadx" {
			again := structuredConfig(t, nil) // an algorithm of its own, as this one has learned
			cfg.Algorithm = again.Algorithm
		}
		log, phases := &MemoryLog{}, map[Phase]bool{}
		deps := testDeps(&synthetic{}, log)
		deps.Progress = func(p Progress) { phases[p.Phase] = true }
		res, err := Run(context.Background(), cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		checkResult(t, cfg, res)
		if !phases[PhaseConfirm] || res.Evaluations != before.Evaluations || res.Generations != before.Generations {
			t.Errorf("%s: phases %v, %d and %d evaluations", name, phases, res.Evaluations, before.Evaluations)
		}
		for _, c := range before.Front {
			if !slices.ContainsFunc(res.Front, func(o Candidate) bool { return o.Hash == c.Hash }) {
				left++
			}
		}
		checkConfirmed(t, cfg, log, before, res)
	}
	if left == 0 {
		t.Error("everything on the front was as good on other images")
	}
}

// checkConfirmed finds what was scored on the confirming images and the front of it by comparing all with all.
func checkConfirmed(t *testing.T, cfg Config, log *MemoryLog, before, res *Result) {
	t.Helper()
	images := slices.Concat(cfg.Images, cfg.Confirm)
	none, err := schedule.New(cfg.Shape)
	if err != nil {
		t.Fatal(err)
	}
	confirmed := map[schedule.Hash]Point{}
	for g := range res.Generations + 1 {
		s, _ := log.Snapshot(g)
		for _, e := range s.Candidates {
			if _, ok := log.Score(e.Hash, cfg.Confirm[0].ID); !ok || e.Hash == none.Hash() {
				continue
			}
			var values []float64
			for _, im := range images {
				score, ok := log.Score(e.Hash, im.ID)
				if !ok {
					t.Fatalf("%v is not scored on image %d", e.Hash, im.ID)
				}
				values = append(values, score.Value)
			}
			confirmed[e.Hash] = Point{Quality: Mean(values), Cost: e.Cost}
		}
	}
	// The front, as many again, seeds and baselines.
	if most := 2*len(before.Front) + len(res.Seeds) + len(res.Baselines); len(confirmed) > most || len(confirmed) <= len(before.Front) {
		t.Errorf("%d schedules were scored on the confirming images, the front had %d", len(confirmed), len(before.Front))
	}
	for _, c := range before.Front {
		if _, ok := confirmed[c.Hash]; !ok {
			t.Errorf("%v of the front was not confirmed", c.Hash)
		}
	}
	for h, p := range confirmed {
		beaten := false
		for _, o := range confirmed {
			beaten = beaten || Compare(Objectives(o), Objectives(p)) == Dominates
		}
		if on := slices.ContainsFunc(res.Front, func(c Candidate) bool { return c.Hash == h }); on == beaten {
			t.Errorf("%v: on the front %v, dominated %v", h, on, beaten)
		}
	}
}

// Invalid on a confirming image: a candidate leaves the front with its reason, without the uncached schedule nothing can be said.
func TestConfirmInvalid(t *testing.T) {
	cfg := testConfig(t)
	cfg.Confirm = confirming(4)
	before, err := Run(context.Background(), cfg, testDeps(&synthetic{}, &MemoryLog{}))
	if err != nil {
		t.Fatal(err)
	}
	bad := before.Front[len(before.Front)/2].Hash
	none, _ := schedule.New(cfg.Shape)
	e := &synthetic{bad: func(h schedule.Hash, image ImageID) string {
		if h == bad && image == cfg.Confirm[2].ID {
			return "nan"
		}
		return ""
	}}
	res, err := Run(context.Background(), cfg, testDeps(e, &MemoryLog{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range res.Front {
		if c.Hash == bad || c.Quality == nil {
			t.Errorf("%v is on the front", c.Hash)
		}
	}
	e.bad = func(h schedule.Hash, image ImageID) string {
		if h == none.Hash() && image == cfg.Confirm[0].ID {
			return "black"
		}
		return ""
	}
	if _, err := Run(context.Background(), cfg, testDeps(e, &MemoryLog{})); err == nil || !strings.Contains(err.Error(), "uncached schedule cannot be scored: black") {
		t.Errorf("uncached invalid: %v", err)
	}
	cfg.Confirm[1] = cfg.HeldOut[0]
	if err := cfg.Validate(); err == nil {
		t.Error("an image confirms and is held out")
	}
}
