package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ecadx/schedule"
)

var (
	pixart20 = schedule.Shape{Family: schedule.PixArt, Steps: 20, Blocks: 28}
	flux20   = schedule.Shape{Family: schedule.Flux, Steps: 20, Blocks: 19, SingleBlocks: 38}
)

func resolve(t testing.TB, ref string, shape schedule.Shape) *schedule.Generated {
	t.Helper()
	g, err := schedule.Resolve(ref, shape)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// reusedSteps and reusedBlocks list where a component is reused at all.
func reusedSteps(s *schedule.Schedule, c schedule.Component) (steps []int) {
	for cell, d := range s.All() {
		if d == schedule.Reuse && s.Shape().Component(cell.Block, cell.Comp) == c && !slices.Contains(steps, cell.Step) {
			steps = append(steps, cell.Step)
		}
	}
	return steps
}

func reusedBlocks(s *schedule.Schedule) (blocks []int) {
	for cell, d := range s.All() {
		if d == schedule.Reuse && !slices.Contains(blocks, cell.Block) {
			blocks = append(blocks, cell.Block)
		}
	}
	slices.Sort(blocks)
	return blocks
}

func TestEvenlySteps(t *testing.T) {
	for k, want := range map[int][]int{
		1: {10}, 3: {5, 10, 15}, 5: {3, 6, 10, 13, 17}, 7: {2, 5, 7, 10, 13, 15, 18},
		19: {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19},
		20: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19},
	} {
		g := resolve(t, fmt.Sprintf("evenly:attn1:1:%d", k), pixart20)
		if got := reusedSteps(g.Schedule, schedule.SelfAttn); !slices.Equal(got, want) {
			t.Errorf("k=%d: steps %v, want %v", k, got, want)
		}
		if got := reusedBlocks(g.Schedule); !slices.Equal(got, []int{0}) {
			t.Errorf("k=%d: blocks %v, want [0]", k, got)
		}
	}
}

func TestSpacedBlocks(t *testing.T) {
	for ref, want := range map[string][]int{
		"evenly:ff:7:3":    {0, 4, 9, 14, 18, 22, 27}, // half to even; half up gives 23
		"evenly:ff:3:3":    {0, 14, 27},
		"middle:attn2:1:3": {14},
		"middle:attn2:4:3": {12, 13, 14, 15},
		"middle:attn2:5:3": {12, 13, 14, 15, 16},
	} {
		if got := reusedBlocks(resolve(t, ref, pixart20).Schedule); !slices.Equal(got, want) {
			t.Errorf("%s: blocks %v, want %v", ref, got, want)
		}
	}
	if got := reusedBlocks(resolve(t, "middle:ff:28:20", pixart20).Schedule); len(got) != 28 {
		t.Errorf("middle of all blocks: %v", got)
	}
}

func TestEveryHeuristicNamesAndAttributes(t *testing.T) {
	for _, c := range []struct {
		ref, name, normal string
		shape             schedule.Shape
		attrs             string
		reused            int
	}{
		{"none", "default", "none", pixart20, "[]", 0},
		{"fora:3", "recompute_all_every_003", "fora:3", pixart20,
			"[{num_affected_steps 7} {num_affected_blocks 28} {total_num_affected_blocks 364}]", 13 * 84},
		{"fora:2", "recompute_all_every_002", "fora:2", flux20,
			"[{num_affected_steps 10} {num_affected_blocks 19} {num_affected_blocks_single 38} {total_num_affected_blocks 570}]", 1710},
		{"attn-every:4", "recompute_ca_sa_every_004", "attn-every:4", pixart20,
			"[{num_affected_steps 5} {num_affected_blocks 28} {total_num_affected_blocks 420}]", 15 * 56},
		{"attn-every:4", "recompute_attn_every_004", "attn-every:4", flux20,
			"[{num_affected_steps 5} {num_affected_blocks 19} {num_affected_blocks_single 38} {total_num_affected_blocks 855}]", 15 * 57},
		{"periods:2:4:2", "periods_sa_002_ca_004_ff_002_phase_000", "periods:2:4:2:0", pixart20,
			"[{num_affected_steps 15} {num_affected_blocks 28} {total_num_affected_blocks 420}]", (10 + 15 + 10) * 28},
		// Computed at 0 and, counted back from 19, at 19, 16, .. 1; 19, 14, 9, 4; always.
		{"periods:3:5:1:19", "periods_sa_003_ca_005_ff_001_phase_019", "periods:3:5:1:19", pixart20,
			"[{num_affected_steps 17} {num_affected_blocks 28} {total_num_affected_blocks 476}]", (12 + 15) * 28},
		{"evenly:attn2:27:5", "evenly_cache_ca_evenly_spaced_affected_027_affected_steps_005", "evenly:attn2:27:5", pixart20,
			"[{num_affected_steps 5} {num_affected_blocks 27} {total_num_affected_blocks 135}]", 135},
		{"evenly:ff:57:1", "evenly_cache_mlp_ff_evenly_spaced_affected_057_affected_steps_001", "evenly:ff:57:1", flux20,
			"[{num_affected_steps 1} {num_affected_blocks 19} {num_affected_blocks_single 38} {total_num_affected_blocks 57}]", 114},
		{"evenly:attn:57:1", "evenly_cache_single_full_attn_evenly_spaced_affected_057_affected_steps_001", "evenly:attn:57:1", flux20,
			"[{num_affected_steps 1} {num_affected_blocks 19} {num_affected_blocks_single 38} {total_num_affected_blocks 57}]", 57},
		// attn1 computes at 0, 1, 3, 6, 9 and from 10 on; attn2 up to 9.
		{"tgate:10:3", "tgate_without_ca_avg_m_010_sp_003_fi_001_warmup_002", "tgate:10:3:1:2", pixart20,
			"[{num_affected_steps 15} {num_affected_blocks 28} {total_num_affected_blocks 420}]", 28*5 + 28*10},
		{"tgate-avg:10", "tgate_m_010_sp_001_fi_001_warmup_002", "tgate-avg:10:1:1:2", pixart20,
			"[{num_affected_steps 10} {num_affected_blocks 28} {total_num_affected_blocks 280}]", 280},
	} {
		g := resolve(t, c.ref, c.shape)
		if g.Name != c.name || g.Ref != c.normal || fmt.Sprint(g.Attributes) != c.attrs || g.Schedule.Reused() != c.reused {
			t.Errorf("%s: name %s, ref %s, attributes %v, %d reused\nwant %s, %s, %s, %d", c.ref,
				g.Name, g.Ref, g.Attributes, g.Schedule.Reused(), c.name, c.normal, c.attrs, c.reused)
		}
	}
}

func TestRandomCountsAndNests(t *testing.T) {
	for _, shape := range []schedule.Shape{pixart20, flux20, {Family: schedule.PixArt, Steps: 1, Blocks: 2}} {
		var smaller *schedule.Schedule
		for _, p := range []float64{0, 0.1, 0.3333, 0.5, 0.9, 1} {
			g := resolve(t, fmt.Sprintf("random:%g:7", p), shape)
			want := int(p*float64(shape.LiveCells()) + 0.5)
			if got := g.Schedule.Reused(); got != want {
				t.Errorf("%v p=%g: %d reused, want %d", shape, p, got, want)
			}
			if len(reusedBlocks(g.Schedule)) > 0 && slices.Contains(g.Schedule.Row(0), schedule.Reuse) {
				t.Errorf("%v p=%g: reuse in step 0", shape, p)
			}
			if smaller != nil {
				for i, word := range smaller.Words() {
					if g.Schedule.Words()[i]&^word != 0 {
						t.Fatalf("%v p=%g: not a superset of the smaller one", shape, p)
					}
				}
			}
			smaller = g.Schedule
		}
	}
	a, b := resolve(t, "random:0.5", pixart20), resolve(t, "random:0.5:1", pixart20)
	if a.Ref != "random:0.5:0" || a.Schedule.Equal(b.Schedule) {
		t.Errorf("seeds 0 and 1 agree, or the default seed is not 0: %s", a.Ref)
	}
	// Pinned: a search log refers to schedules by hash.
	const want = "da1b9ffdb5efd49c40b6bf46a961710d95035c1cc4c83853e8568491aaaf39dc"
	if got := resolve(t, "random:0.5:7", pixart20).Schedule.Hash().String(); got != want {
		t.Errorf("random:0.5:7 is %s, was %s", got, want)
	}
}

func TestResolveRefuses(t *testing.T) {
	for ref, want := range map[string]string{
		"":                  "no heuristic of that name",
		"forra:3":           "use one of none, fora",
		"fora":              "N is missing: write fora:N",
		"fora:0":            `"0" is not a whole number from 1 to 1000`,
		"fora:-1":           "not a whole number",
		"fora:3:4":          "too many values",
		"random:1.5":        "not a number from 0 to 1",
		"random:NaN":        "not a number from 0 to 1",
		"random:0.5:x":      "SEED",
		"evenly:attn:3:3":   "pixart has no attn: use attn1, attn2 or ff",
		"evenly:attn1:29:3": "29 blocks, the model has 28",
		"evenly:attn1:3:21": "21 steps, the run has 20",
		"middle:foo:3:3":    `"foo" is not one of attn1, attn2, ff`,
		"tgate:0":           "from 1 to 1000",
	} {
		_, err := schedule.Resolve(ref, pixart20)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", ref, err, want)
		}
	}
	for _, ref := range []string{"tgate:10", "middle:ff:3:3", "evenly:attn1:3:3"} {
		if _, err := schedule.Resolve(ref, flux20); err == nil {
			t.Errorf("%q for flux: no error", ref)
		}
	}
	if schedule.IsHeuristic("fora.json") || !schedule.IsHeuristic("fora:x") || schedule.IsHeuristic("./none") {
		t.Error("IsHeuristic")
	}
}

func TestHeuristicExamplesResolve(t *testing.T) {
	for _, h := range schedule.Heuristics() {
		for _, f := range h.Families {
			shape := map[schedule.Family]schedule.Shape{schedule.PixArt: pixart20, schedule.Flux: flux20}[f]
			g := resolve(t, h.Example, shape)
			if again := resolve(t, g.Ref, shape); !again.Schedule.Equal(g.Schedule) {
				t.Errorf("%s: its normalised reference %s gives another schedule", h.Example, g.Ref)
			}
		}
	}
}

func TestSeedSet(t *testing.T) {
	set, err := schedule.SeedSet(pixart20)
	if err != nil || len(set) != 72 {
		t.Fatalf("%d seeds, %v, want ECAD's 72", len(set), err)
	}
	count := map[string]int{}
	for _, g := range set {
		parts := strings.Split(g.Ref, ":")
		if parts[0] == "evenly" {
			parts[0] += " " + parts[1]
		}
		count[parts[0]]++
	}
	want := "map[attn-every:6 evenly attn1:20 evenly attn2:7 evenly ff:18 fora:7 none:1 tgate:13]"
	if fmt.Sprint(count) != want {
		t.Errorf("families %v, want %s", count, want)
	}
	for _, shape := range []schedule.Shape{flux20, {Family: schedule.PixArt, Steps: 20, Blocks: 8},
		{Family: schedule.PixArt, Steps: 1, Blocks: 1}, {Family: schedule.Flux, Steps: 4, Blocks: 2, SingleBlocks: 4},
		{Family: schedule.PixArt, Steps: 50, Blocks: 40}} {
		set, err := schedule.SeedSet(shape)
		if err != nil || len(set) == 0 || set[0].Schedule.Reused() != 0 {
			t.Fatalf("%v: %d seeds, %v", shape, len(set), err)
		}
		seen := map[schedule.Hash]bool{}
		for _, g := range set {
			if h := g.Schedule.Hash(); seen[h] {
				t.Errorf("%v: %s repeats another seed", shape, g.Ref)
			} else {
				seen[h] = true
			}
		}
		t.Logf("%v: %d seeds", shape, len(set))
	}
}
