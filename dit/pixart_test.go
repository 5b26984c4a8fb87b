package dit

import (
	"errors"
	"strings"
	"testing"

	"ecadx/dit/program"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// The derived rules of the released configurations.
func TestReleasedConfigs(t *testing.T) {
	for _, want := range []struct {
		name        string
		scale       float64
		micro       bool
		parameters  int64
		tensors     int
		textTokens  int
		latentWidth int
	}{
		{"pixart-alpha-256", 1, false, 610856096, 603, 120, 32},
		{"pixart-alpha-512", 1, false, 610856096, 603, 120, 64},
		{"pixart-alpha-1024", 2, true, 611349152, 611, 120, 128},
		{"pixart-sigma-256", 0.5, false, 610856096, 603, 300, 32},
		{"pixart-sigma-512", 1, false, 610856096, 603, 300, 64},
		{"pixart-sigma-1024", 2, false, 610856096, 603, 300, 128},
	} {
		m, err := Open("random:" + want.name + "@7")
		if err != nil {
			t.Fatal(err)
		}
		c := m.family.(*pixart).cfg
		d := m.Defaults()
		if c.Interpolation != want.scale || c.MicroConditioned != want.micro || d.TextTokens != want.textTokens || d.LatentSize != want.latentWidth || m.seed != 7 {
			t.Errorf("%s: got %+v %+v", want.name, c, d)
		}
		n := int64(0)
		for _, s := range m.family.tensors() {
			n += elements(s.Shape)
		}
		if n != want.parameters || len(m.family.tensors()) != want.tensors {
			t.Errorf("%s: %d parameters in %d tensors, want %d in %d", want.name, n, len(m.family.tensors()), want.parameters, want.tensors)
		}
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	base := `"_class_name":"PixArtTransformer2DModel"`
	for _, c := range []struct{ json, want string }{
		{`{"_class_name":"UNet2DConditionModel"}`, `"_class_name"`},
		{`{"_class_name":"Transformer2DModel","norm_type":"layer_norm"}`, `"_class_name"`},
		{`{` + base + `,"norm_type":"ada_norm"}`, `"norm_type"`},
		{`{` + base + `,"num_embeds_ada_norm":null}`, `"norm_type"`},
		{`{` + base + `,"num_layers":0}`, `"num_layers"`},
		{`{` + base + `,"num_layers":"28"}`, `"num_layers"`},
		{`{` + base + `,"num_layers":1000000000}`, `"num_layers"`},
		{`{` + base + `,"num_attention_heads":1,"attention_head_dim":10,"cross_attention_dim":10}`, `"num_attention_heads"`},
		{`{` + base + `,"num_attention_heads":2,"attention_head_dim":64,"cross_attention_dim":128}`, `"use_additional_conditions"`},
		{`{` + base + `,"caption_channels":4096,"cross_attention_dim":1024}`, `"cross_attention_dim"`},
		{`{` + base + `,"cross_attention_dim":null}`, `"cross_attention_dim"`},
		{`{` + base + `,"activation_fn":"geglu"}`, `"activation_fn"`},
		{`{` + base + `,"interpolation_scale":-Infinity}`, `"interpolation_scale"`},
		{`{` + base + `,"norm_eps":NaN}`, `"norm_eps"`},
		{`{` + base + `,"attention_type":"gated"}`, `"attention_type"`},
		{`{` + base + `,"patch_size":-2}`, `"patch_size"`},
		{`[]`, ``},
		{``, ``},
	} {
		if _, err := readFamily([]byte(c.json), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that names %s", c.json, err, c.want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, ref := range []string{"random:pixart-beta", "random:", "random:pixart-alpha-256@x", "random:pixart-alpha-256@-1", "no such thing", ""} {
		if _, err := Open(ref); !errors.Is(err, ErrReference) {
			t.Errorf("%q: error %v, want ErrReference", ref, err)
		}
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "model_index.json") {
		t.Errorf("an empty directory: error %v", err)
	}
}

// tinyModel is a small model with everything a released one has.
func tinyModel(t testing.TB, layers int) *Model {
	t.Helper()
	c := goldenCase{Name: "tiny", Seed: 21, Config: []byte(`{"_class_name":"PixArtTransformer2DModel","num_attention_heads":2,"attention_head_dim":12,
		"num_layers":` + string(rune('0'+layers)) + `,"sample_size":8,"cross_attention_dim":24,"caption_channels":20}`)}
	return c.model(t)
}

func compileTiny(t testing.TB, m *Model, schedules ...*schedule.Schedule) *program.Program {
	t.Helper()
	s, err := sampler.New(sampler.DefaultDPMSolver(), 6)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.CompileDenoise(DenoiseOptions{Sizes: Sizes{Batch: 1, Height: 4, Width: 8, TextTokens: 5}, Guidance: 4.5, Sampler: s, Schedules: schedules})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// opNames are the names of a section's ops.
func opNames(p *program.Program, section program.SectionID) []string {
	var names []string
	for _, op := range p.SectionOps(int(section)) {
		names = append(names, op.Name)
	}
	return names
}

func TestReuseLeavesProducersOut(t *testing.T) {
	m := tinyModel(t, 3)
	s, _ := schedule.New(m.Shape(6))
	for step := 1; step < 6; step++ { // step 1, 3, 5: everything is reused; 2, 4: only block 1's cross-attention computes
		for block := range 3 {
			for comp := range 3 {
				if step%2 == 1 || block != 1 || comp != schedule.CrossAttn.Index() {
					s.Set(step, block, comp, schedule.Reuse)
				}
			}
		}
	}
	p := compileTiny(t, m, s)
	if len(p.Sections) != 4 {
		t.Fatalf("%d sections, want the prologue and three distinct rows", len(p.Sections))
	}
	items := p.Schedules[0].Items
	if len(items) != 7 || items[2].Section != items[4].Section || items[3].Section != items[5].Section || items[1].Section == items[2].Section {
		t.Errorf("items %v: equal rows must share a section", items)
	}
	got := strings.Join(opNames(p, items[2].Section), " ")
	if want := "pos_embed norm_out proj_out unpatchify sampler.x0 sampler.next sampler.history"; got != want {
		t.Errorf("a step of nothing but reuse is\n%s, want\n%s", got, want)
	}
	chain := p.SectionOps(int(items[2].Section))[1]
	if chain.Code != program.OpChain || chain.Attr[0] != 9 || len(chain.Out) != 2 || chain.Out[0] != ^uint32(0) {
		t.Errorf("9 reused outputs must be one chain that writes the norm only, got %+v", chain)
	}
	got = strings.Join(opNames(p, items[3].Section), " ")
	if want := "pos_embed attn2.input attn2.q attn2.attention attn2.out norm_out proj_out unpatchify sampler.x0 sampler.next sampler.history"; got != want {
		t.Errorf("a step that computes one cross-attention is\n%s, want\n%s", got, want)
	}
}

// Without reuse no slot outlives its step.
func TestUnusedSlotsAreNotKept(t *testing.T) {
	m := tinyModel(t, 2)
	count := func(p *program.Program) (n int) {
		for _, b := range p.Buffers {
			if b.Slot {
				n++
			}
		}
		return n
	}
	if n := count(compileTiny(t, m)); n != 0 {
		t.Errorf("%d slots are kept without reuse", n)
	}
	s, _ := schedule.New(m.Shape(6))
	s.Set(3, 1, schedule.FeedForward.Index(), schedule.Reuse)
	if n := count(compileTiny(t, m, s)); n != 1 {
		t.Errorf("%d slots are kept for one reused component", n)
	}
}

func TestScheduleOfAnotherShape(t *testing.T) {
	m := tinyModel(t, 2)
	s, _ := schedule.New(m.Shape(5))
	smp, _ := sampler.New(sampler.DefaultDPMSolver(), 6)
	_, err := m.CompileDenoise(DenoiseOptions{Sizes: Sizes{Batch: 1, Height: 4, Width: 4, TextTokens: 5}, Sampler: smp, Schedules: []*schedule.Schedule{s}})
	if !errors.Is(err, schedule.ErrShape) || !strings.Contains(err.Error(), "5 steps") || !strings.Contains(err.Error(), "6 steps") {
		t.Errorf("error %v, want one that states both shapes", err)
	}
}

func TestImpossibleSizes(t *testing.T) {
	m := tinyModel(t, 1)
	smp, _ := sampler.New(sampler.DefaultDPMSolver(), 2)
	good := Sizes{Batch: 1, Height: 4, Width: 4, TextTokens: 5}
	for _, change := range []func(*Sizes){
		func(s *Sizes) { s.Batch = 0 }, func(s *Sizes) { s.Batch = 1 << 40 }, func(s *Sizes) { s.Height = 3 }, func(s *Sizes) { s.Width = 0 },
		func(s *Sizes) { s.Width = 1 << 30 }, func(s *Sizes) { s.Height, s.Width = 1<<14, 1<<14 }, func(s *Sizes) { s.TextTokens = 0 }, func(s *Sizes) { s.DType = 9 },
	} {
		s := good
		change(&s)
		if _, err := m.CompileDenoise(DenoiseOptions{Sizes: s, Guidance: 2, Sampler: smp}); err == nil {
			t.Errorf("%+v compiles", s)
		}
	}
}
