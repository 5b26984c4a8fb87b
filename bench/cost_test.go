package bench

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

func openFirst(t *testing.T, ref string, blocks int) *dit.Model {
	t.Helper()
	m, err := dit.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	first, err := m.First(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// randomSchedule reuses a share of the cells.
func randomSchedule(t *testing.T, r *rand.Rand, shape schedule.Shape, share float64) *schedule.Schedule {
	t.Helper()
	s, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	for i := range shape.Cells() {
		if r.Float64() < share {
			s.SetFlat(i, schedule.Reuse)
		}
	}
	return s
}

// The table is additive, the program is counted op by op: both must agree for every schedule.
func TestFLOPsCostEqualsTheProgram(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		ref      string
		blocks   int
		steps    int
		guidance float64
		sizes    dit.Sizes
	}{
		{"mini-pixart", 3, 7, 2.5, dit.Sizes{Batch: 2, Height: 16, Width: 12, TextTokens: 20, DType: dit.Float32}},
		{"mini-pixart", 2, 1, 1, dit.Sizes{Batch: 3, Height: 8, Width: 8, TextTokens: 5, DType: dit.BFloat16}},
		{"mini-pixart", 1, 20, 1, dit.Sizes{Batch: 1, Height: 16, Width: 16, TextTokens: 120, DType: dit.BFloat16}},
		{"random:pixart-alpha-1024", 2, 4, 4.5, dit.Sizes{Batch: 1, Height: 32, Width: 32, TextTokens: 120, DType: dit.Float32}},
	} {
		m := openFirst(t, c.ref, c.blocks)
		cost, err := FLOPsCost(m, c.sizes, c.steps, c.guidance)
		if err != nil {
			t.Fatal(err)
		}
		config, err := m.SamplerConfig()
		if err != nil {
			t.Fatal(err)
		}
		loop, err := sampler.New(config, c.steps)
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range []float64{0, 0.3, 0.7, 1} {
			s := randomSchedule(t, r, m.Shape(c.steps), share)
			p, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: c.sizes, Guidance: c.guidance, Sampler: loop, Schedules: []*schedule.Schedule{s}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := cost.Cost(s)
			if err != nil {
				t.Fatal(err)
			}
			want := float64(p.ScheduleCost(0).Flops) / float64(c.sizes.Batch)
			if !(math.Abs(got-want) <= 1e-9*want) {
				t.Errorf("%s, %d blocks, %d steps, %g reused: %v, the program has %v", c.ref, c.blocks, c.steps, share, got, want)
			}
		}
	}
}

// In FLUX components share a norm, and text that nobody reads on is left out of a component: the table is exact for a run that computes everything, and close for others.
func TestFLOPsCostOfFlux(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	m := openFirst(t, "random:flux-dev", 2)
	const steps = 5
	sizes := dit.Sizes{Batch: 1, Height: 32, Width: 32, TextTokens: 512, DType: dit.BFloat16}
	cost, err := FLOPsCost(m, sizes, steps, 3.5)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := m.Sampler(steps, sizes.Height, sizes.Width)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ share, tolerance float64 }{{0, 1e-12}, {0.3, 0.02}, {0.7, 0.02}, {1, 0.02}} {
		s := randomSchedule(t, r, m.Shape(steps), c.share)
		p, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: sizes, Guidance: 3.5, Sampler: loop, Schedules: []*schedule.Schedule{s}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := cost.Cost(s)
		if err != nil {
			t.Fatal(err)
		}
		want := float64(p.ScheduleCost(0).Flops)
		t.Logf("%g reused: off by %.2g", c.share, got/want-1)
		if !(math.Abs(got-want) <= c.tolerance*want) {
			t.Errorf("%g reused: %v, the program has %v", c.share, got, want)
		}
	}
	for cell, c := range cost.Cells {
		if !(c.Compute > 0) {
			t.Errorf("cell %d costs %v", cell, c.Compute)
		}
	}
}

// The sizes of a released model give ECAD's published count.
func TestMACsCost(t *testing.T) {
	m, err := dit.Open("random:pixart-alpha-256")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	size, err := SizeOf(m, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		guidance float64
		want     float64
	}{{4.5, 20 * 285_689_806_848}, {1, 20 * 142_844_903_424}} {
		cost, err := MACsCost(m, size, c.guidance)
		if err != nil {
			t.Fatal(err)
		}
		s, err := schedule.New(m.Shape(20))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cost.Cost(s); err != nil || got != c.want {
			t.Errorf("guidance %g: %v %v, want %v", c.guidance, got, err, c.want)
		}
	}
}

func TestLatencyTable(t *testing.T) {
	r := madeUpReport()
	table, err := NewLatencyTable(r)
	if err != nil {
		t.Fatal(err)
	}
	shape, err := table.Shape()
	if err != nil {
		t.Fatal(err)
	}
	s, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	s.Set(0, 1, 2, schedule.Reuse) // dead: step 0 computes
	s.Set(1, 0, 0, schedule.Reuse)
	s.Set(2, 1, 2, schedule.Reuse)
	// Prologue 4, three steps of 2 + 18, less attn1 (3 for 0.5) and ff (4 for 0.5), for two images.
	want := (4 + 3*20 - 2.5 - 3.5) / 2
	if got, err := table.Cost(s); err != nil || !(math.Abs(got-want) <= 1e-12) {
		t.Errorf("cost %v %v, want %v", got, err, want)
	}
	data, err := table.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeLatencyTable(data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Cost(s); err != nil || !(math.Abs(got-want) <= 1e-12) || again.Threads != 2 || again.Resolution != r.Resolution {
		t.Errorf("read again: cost %v %v, %+v", got, err, again)
	}
	shape.Steps++
	longer, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := table.Cost(longer); err != nil || !(math.Abs(got-(4+4*20)/2.) <= 1e-12) { // costs are per step, whatever their number
		t.Errorf("a schedule of 4 steps costs %v %v in a table of 3", got, err)
	}
	shape.Blocks++
	larger, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Cost(larger); err == nil {
		t.Error("a schedule of another model has a cost")
	}
}

func TestLatencyTableRefuses(t *testing.T) {
	for name, change := range map[string]func(*Report){
		"finite":     func(r *Report) { r.OtherMS = math.NaN() },
		"negative":   func(r *Report) { r.Components[2].ComputeMS.Median = -1 },
		"components": func(r *Report) { r.Components = r.Components[1:] },
		"batch":      func(r *Report) { r.Batch = 0 },
		"blocks":     func(r *Report) { r.Blocks = []int{1, 1} },
	} {
		r := madeUpReport()
		change(r)
		if _, err := NewLatencyCost(r); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, text := range []string{"", "{}", "[1]", `{"family":"pixart","blocks":[1],"steps":2,"cells":[{},{},{"compute":-1}]}`, `{"family":"pixart","blocks":[1000000000],"steps":2}`} {
		if _, err := DecodeLatencyTable([]byte(text)); err == nil {
			t.Errorf("%q was read as a table", text)
		}
	}
}

// What a schedule's slots are said to take is what its program keeps.
func TestSlotBytes(t *testing.T) {
	m, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	sizes := dit.Sizes{Batch: 2, Height: 16, Width: 16, TextTokens: m.Defaults().TextTokens, DType: dit.Float32}
	slots, err := NewSlotBytes(m, sizes, testSteps, 3)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Sampler(testSteps, sizes.Height, sizes.Width)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"none", "fora:2", "random:0.1:3", "random:0.5:1", "attn-every:2"} {
		g, err := schedule.Resolve(ref, m.Shape(testSteps))
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: sizes, Guidance: 3, Sampler: s, Schedules: []*schedule.Schedule{g.Schedule}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := slots.Cost(g.Schedule)
		if want := float64(p.Stats().SlotBytes) / 2; err != nil || got != want {
			t.Errorf("%s: %v bytes per image, its program keeps %v (%v)", ref, got, want, err)
		}
	}
}

// The work of a set of schedules is that of their tree: steps from the first difference on, once each.
func TestSharedCost(t *testing.T) {
	table := &CostTable{Family: "pixart", Blocks: []int{1}, Steps: 3, Once: 100, Step: 10, Cells: []CellCost{{1, 0}, {2, 0}, {4, 0}}}
	all, err := schedule.New(schedule.Shape{Family: schedule.PixArt, Steps: 3, Blocks: 1})
	if err != nil {
		t.Fatal(err)
	}
	late, early := all.Clone(), all.Clone()
	late.Set(2, 0, 2, schedule.Reuse)
	early.Set(1, 0, 0, schedule.Reuse)
	tree, alone, err := table.Shared([]*schedule.Schedule{all, late, early})
	if err != nil {
		t.Fatal(err)
	}
	// Step 0 once; step 1 in two ways, 17 and 16; step 2 in three, 17, 13 and 17.
	if want := 100.0 + 17 + (17 + 16) + (17 + 13 + 17); tree != want {
		t.Errorf("the tree costs %v, want %v", tree, want)
	}
	if want := 3*100.0 + 3*17*3 - 4 - 1; alone != want {
		t.Errorf("alone they cost %v, want %v", alone, want)
	}
	for _, s := range []*schedule.Schedule{all, late, early} {
		tree, alone, err := table.Shared([]*schedule.Schedule{s})
		if cost, _ := table.Cost(s); err != nil || tree != cost || alone != cost {
			t.Errorf("by itself %v and %v, want %v (%v)", tree, alone, cost, err)
		}
	}
}

func TestMeasureRuns(t *testing.T) {
	m, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	none, err := schedule.New(m.Shape(3))
	if err != nil {
		t.Fatal(err)
	}
	g, err := schedule.Resolve("fora:3", m.Shape(3))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Model: m, Device: ecad.DeviceConfig{Backend: ecad.CPU, Threads: 1}, DType: dit.Float32, Batch: 2, Steps: 3, Guidance: 3, TransformerOnly: true, NoPeaks: true}
	runs, err := MeasureRuns(context.Background(), cfg, []*schedule.Schedule{none, g.Schedule}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range runs {
		if !(r.Median > 0) {
			t.Errorf("run %d takes %+v ms", i, r)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := MeasureRuns(ctx, cfg, []*schedule.Schedule{none}, 1); err == nil {
		t.Error("no error although the context was done")
	}
}
