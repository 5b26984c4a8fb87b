package dit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/cgo"
	"ecadx/dit/program"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// The released configurations, and the published numbers of parameters and multiply-accumulates.
func TestReleasedFlux(t *testing.T) {
	for _, want := range []struct {
		name       string
		parameters int64
		guiding    Guiding
		tokens     int
		shift      float64
		dynamic    bool
	}{
		{"flux-dev", 11_901_408_320, Embedded, 512, 3, true},
		{"flux-schnell", 11_891_178_560, Unguided, 256, 1, false},
	} {
		m, err := Open("random:" + want.name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := m.Verify() // reserves 48 GB, and touches none
		if err != nil || v.Err() != nil || v.Parameters != want.parameters || len(v.Extra) != 0 {
			t.Errorf("%s: %+v, %v; want %d parameters", want.name, v, err, want.parameters)
		}
		d := m.Defaults()
		if d.Guiding != want.guiding || d.TextTokens != want.tokens || d.LatentChannels != 16 || d.LatentSize != 128 || d.PooledWidth != 768 || !d.Unmasked || m.Guided(7) {
			t.Errorf("%s: defaults %+v", want.name, d)
		}
		c, err := m.SamplerConfig()
		if err != nil || c.Flow.Shift != want.shift || c.Flow.Dynamic != want.dynamic || c.Flow.Tokens != 4096 {
			t.Errorf("%s: sampler %+v, %v", want.name, c, err)
		}
		if s := m.Shape(20); s.Cells() != 3420 {
			t.Errorf("%s: shape %v", want.name, s)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	// ECAD counts two images.
	m, err := Open("random:flux-dev")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, c := range []struct{ latents, ecad int64 }{{32, 9_934_575_501_312}, {128, 59_512_255_414_272}} {
		cost, err := m.Dims(int(c.latents), int(c.latents), 3.5).MACs(m.Shape(20))
		if got := 2 * cost.Step(m.Shape(20)); err != nil || got != c.ecad {
			t.Errorf("latents of %d: %d multiply-accumulates of two images, %v; ECAD counts %d", c.latents, got, err, c.ecad)
		}
	}
}

func TestFluxConfigErrorsNameTheKey(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`"patch_size":2`, `"patch_size"`},
		{`"in_channels":6`, `"in_channels"`},
		{`"in_channels":0`, `"in_channels"`},
		{`"out_channels":-4`, `"out_channels"`},
		{`"out_channels":10`, `"out_channels"`},
		{`"num_layers":0,"num_single_layers":0`, `"num_layers"`},
		{`"num_layers":-1`, `"num_layers"`},
		{`"num_single_layers":1e9`, `"num_single_layers"`},
		{`"attention_head_dim":64`, `"axes_dims_rope"`},
		{`"axes_dims_rope":[16,56]`, `"axes_dims_rope"`},
		{`"axes_dims_rope":[16,56,55]`, `"axes_dims_rope"`},
		{`"axes_dims_rope":[17,55,56]`, `"axes_dims_rope"`},
		{`"axes_dims_rope":[0,64,64]`, `"axes_dims_rope"`},
		{`"axes_dims_rope":"16"`, `"axes_dims_rope"`},
		{`"joint_attention_dim":0`, `"joint_attention_dim"`},
		{`"pooled_projection_dim":1000000`, `"pooled_projection_dim"`},
		{`"guidance_embeds":"yes"`, `"guidance_embeds"`},
		{`"num_attention_heads":257`, `"num_attention_heads"`},
		{`"num_attention_heads":256,"attention_head_dim":1024,"axes_dims_rope":[512,256,256]`, `"num_attention_heads"`},
	} {
		text := `{"_class_name":"FluxTransformer2DModel",` + c.json + `}`
		if _, err := readFamily([]byte(text), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that names %s", text, err, c.want)
		}
	}
	// Null and missing keys have the class's defaults.
	f, err := readFamily([]byte(`{"_class_name":"FluxTransformer2DModel","axes_dims_rope":null,"out_channels":0}`), "")
	if err != nil {
		t.Fatal(err)
	}
	if c := f.(*flux).cfg; c.Axes != [3]int{16, 56, 56} || c.OutChannels != 64 || c.Guidance || c.Layers != 19 || c.SingleLayers != 38 {
		t.Errorf("defaults %+v", c)
	}
}

const smallFlux = `{"_class_name":"FluxTransformer2DModel","num_attention_heads":1,"attention_head_dim":128,"num_layers":1,"num_single_layers":1,"in_channels":16,
	"joint_attention_dim":12,"pooled_projection_dim":10,"guidance_embeds":%v,"axes_dims_rope":[16,56,56]}`

// What export writes is the model again, with the released scheduler of its kind.
func TestFluxExport(t *testing.T) {
	for _, guidance := range []bool{true, false} {
		m, dir := exportTiny(t, fmt.Sprintf(smallFlux, guidance))
		back, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer back.Close()
		sameTensors(t, m, back)
		if v, err := back.Verify(); err != nil || v.Err() != nil || len(v.Extra) != 0 {
			t.Errorf("verification %+v, %v", v, err)
		}
		c, err := back.SamplerConfig()
		if err != nil || c.Family != sampler.FlowMatch || c.Flow.Dynamic != guidance || (c.Flow.Shift == 3) != guidance {
			t.Errorf("guidance %v: sampler %+v, %v", guidance, c, err)
		}
		index, err := os.ReadFile(filepath.Join(dir, "model_index.json"))
		var parts map[string]any
		if err == nil {
			err = json.Unmarshal(index, &parts)
		}
		if err != nil || parts["_class_name"] != "FluxPipeline" || len(parts) != 1+len(back.Parts()) {
			t.Errorf("model_index.json: %v\n%s", err, index)
		}
	}
}

// In FLUX a reused proj_out makes the two components that feed it dead: they have no ops, unless a later step reads them.
func TestFluxDeadComponents(t *testing.T) {
	m := fluxModel(t)
	s, err := schedule.New(m.Shape(3))
	if err != nil {
		t.Fatal(err)
	}
	single := m.Shape(3).Blocks // the first single-stream block
	s.Set(1, single, schedule.SingleProjOut.Index(), schedule.Reuse)
	s.Set(2, single, schedule.SingleProjOut.Index(), schedule.Reuse)
	smp, err := m.Sampler(3, 4, 4)
	if err != nil {
		t.Fatal(err)
	}
	compile := func(s *schedule.Schedule) map[int]int { // ops of the block's attention at each step
		p, err := m.CompileDenoise(DenoiseOptions{Sizes: Sizes{Batch: 1, Height: 4, Width: 4, TextTokens: 3}, Guidance: 3.5, Sampler: smp, Schedules: []*schedule.Schedule{s}})
		if err != nil {
			t.Fatal(err)
		}
		count := map[int]int{}
		for _, item := range p.Schedules[0].Items[1:] {
			for _, op := range p.SectionOps(int(item.Section)) {
				if op.Block == single && op.Component == schedule.SingleAttn.Index() {
					count[item.Step]++
				}
			}
		}
		return count
	}
	if got := compile(s); got[0] == 0 || got[1] != 0 || got[2] != 0 {
		t.Errorf("ops of attention by step %v, want some at step 0 only", got)
	}
	s.Set(2, single, schedule.SingleProjOut.Index(), schedule.Compute)
	s.Set(2, single, schedule.SingleAttn.Index(), schedule.Reuse) // it reads that of step 1
	if got := compile(s); got[0] == 0 || got[1] == 0 || got[2] != 0 {
		t.Errorf("ops of attention by step %v, want some at steps 0 and 1", got)
	}
}

// Tokens at random places, text too, turn as diffusers turns them; a picture's lie on a grid, whose first axis is always 0.
func TestFluxPositions(t *testing.T) {
	g := readGoldens(t, "flux")
	if len(g.Positions) == 0 {
		t.Fatal("no cases")
	}
	backends(t, func(t *testing.T, dev *ecad.Device, dtype DType) {
		for _, c := range g.Positions {
			t.Run(c.Name, func(t *testing.T) {
				d := c.denoiser(t, dev)
				in := c.inputs(t, d.Model().Defaults())
				sizes, err := d.Model().SizesFor(in, false, dtype)
				if err != nil {
					t.Fatal(err)
				}
				l, err := d.loop("positions", sizes, sizes.Batch, func() (*compiled, error) {
					return d.model.compileOnce("positions", func() (*program.Program, error) { return c.placed(d.model, sizes) })
				})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Release()
				got, err := l.once(t.Context(), in, ecad.RunOptions{CheckFinite: true}, IOOutput)
				if err != nil {
					t.Fatal(err)
				}
				e := relativeError(got, g.output(t, c.Name))
				t.Logf("error %.2g", e)
				if !(e <= 1e-5) {
					t.Errorf("relative error %.3g, want at most 1e-5", e)
				}
			})
		}
	})
}

// placed is the case's call with its tokens at random places.
func (c *goldenCase) placed(m *Model, sizes Sizes) (*program.Program, error) {
	g, err := m.geometry(sizes, sizes.Batch, []float64{c.Timestep}, c.Guidance)
	if err != nil {
		return nil, err
	}
	b := program.NewBuilder(1)
	net := m.family.network(b, g).(*fluxNetwork)
	tokens := make([]position, net.text+net.image)
	key := randomKey(c.Seed, "places")
	for i := range tokens {
		for axis := range tokens[i] {
			tokens[i][axis] = int(randomWord(key, len(tokens[i])*i+axis) % c.Places)
		}
	}
	net.rope = b.Float32s("rope", net.c.rope(tokens), len(tokens), net.c.HeadDim)
	return forwardProgram(b, net, g, m.family.traits())
}

// Of the last single-stream block only the rows of the image are read on: the up and down projection and the queries of text are not computed, nor kept.
func TestFluxLastBlockWithoutText(t *testing.T) {
	const text, image, steps = 3, 4, 2
	m := fluxModel(t)
	smp, err := m.Sampler(steps, 4, 4)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.CompileDenoise(DenoiseOptions{Sizes: Sizes{Batch: 1, Height: 4, Width: 4, TextTokens: text}, Guidance: 3.5, Sampler: smp, KeepSlots: true})
	if err != nil {
		t.Fatal(err)
	}
	stats := p.Stats()
	narrowed := map[string]bool{}
	for _, op := range stats.Narrowed {
		if op.Rows != image || op.Of != text+image || op.Block != 1 || !(op.Saved.Flops > 0) {
			t.Errorf("narrowed: %+v", op)
		}
		narrowed[op.Name] = true
	}
	if len(narrowed) != 3 || !narrowed["attn.attention"] || !narrowed["proj_mlp"] || !narrowed["proj_out"] {
		t.Errorf("narrowed %v", narrowed)
	}
	width := int64(m.family.(*flux).cfg.Width())
	for _, s := range stats.Slots {
		want := (text + image) * width * 4 // of a double-stream block: one of each, or the two of attention
		switch kind := m.Shape(steps).Component(s.Block, s.Component); kind {
		case schedule.ImageFF, schedule.SingleAttn, schedule.SingleProjOut:
			want = image * width * 4
		case schedule.ContextFF:
			want = text * width * 4
		case schedule.SingleProjMLP:
			want = image * fluxRatio * width * 4
		}
		if s.Bytes != want {
			t.Errorf("%v takes %d bytes, want %d", s.Names, s.Bytes, want)
		}
	}
}

// fluxModel is a small model with everything a released one has.
func fluxModel(t testing.TB) *Model {
	t.Helper()
	m, err := newRandomModel("small", fmt.Appendf(nil, smallFlux, true), "", 9)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// fluxInputs is a batch for it.
func fluxInputs(m *Model, images, tokens int) Inputs {
	d := m.Defaults()
	in := Inputs{Height: 4, Width: 6}
	seeds := make([]int64, images)
	for i := range seeds {
		seeds[i] = int64(i)
		in.Prompts = append(in.Prompts, Prompt{Embeds: randomValues(uint64(i), "embeds", tokens*d.TextWidth), Tokens: tokens, Pooled: randomValues(uint64(i), "pooled", d.PooledWidth)})
	}
	in.Latents = m.Noise(seeds, in.Height, in.Width)
	return in
}

func randomValues(seed uint64, name string, n int) []float32 {
	c := goldenCase{Seed: seed}
	return c.normals(name, n)
}

// What a model that attends to padding cannot take is refused with the reason.
func TestFluxBadInputs(t *testing.T) {
	m := fluxModel(t)
	d := NewDenoiser(m, openDevice(t, ecad.Reference))
	defer d.Close()
	smp, err := m.Sampler(2, 4, 6)
	if err != nil {
		t.Fatal(err)
	}
	opt := DenoiseOptions{Guidance: 3.5, Sampler: smp}
	if _, err := d.Denoise(t.Context(), fluxInputs(m, 2, 3), opt, ecad.RunOptions{CheckFinite: true}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Inputs)
		want   string
	}{
		"prompts of two lengths": {func(in *Inputs) { in.Prompts[1].Embeds, in.Prompts[1].Tokens = in.Prompts[1].Embeds[:12], 1 }, "padding"},
		"no pooled embedding":    {func(in *Inputs) { in.Prompts[1].Pooled = nil }, "pooled"},
		"a wide pooled one":      {func(in *Inputs) { in.Prompts[0].Pooled = make([]float32, 11) }, "pooled"},
		"odd latents":            {func(in *Inputs) { in.Height, in.Width = 3, 8 }, "multiples of 2"},
		"short latents":          {func(in *Inputs) { in.Latents = in.Latents[1:] }, "latents"},
		"short embeddings":       {func(in *Inputs) { in.Prompts[0].Embeds = in.Prompts[0].Embeds[1:] }, "prompt row 0"},
	} {
		in := fluxInputs(m, 2, 3)
		c.change(&in)
		if _, err := d.Denoise(t.Context(), in, opt, ecad.RunOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	for _, g := range []float64{-1, 1e9} {
		opt.Guidance = g
		if _, err := d.Denoise(t.Context(), fluxInputs(m, 1, 3), opt, ecad.RunOptions{}); err == nil || !strings.Contains(err.Error(), "guidance") {
			t.Errorf("guidance %v: error %v", g, err)
		}
	}
	if _, err := Open("random:flux-pro"); !errors.Is(err, ErrReference) {
		t.Errorf("an architecture that is not known: %v", err)
	}
}
