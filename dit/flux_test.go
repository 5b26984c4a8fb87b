package dit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecadx/cgo"
	"ecadx/dit/program"
	"ecadx/dit/safetensors"
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

// The rows that each tensor takes from the original layout are those that diffusers' conversion takes.
func TestFluxOriginalRows(t *testing.T) {
	data, err := os.ReadFile("testdata/flux_original.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Original  map[string]int64
		Diffusers map[string][][3]any
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for name := range golden.Original {
		names = append(names, name)
	}
	slices.Sort(names)
	// Every row is one float32: the tensor's number, then the row's.
	original := &Tensors{path: "numbered", source: copied, free: func() error { return nil }, refs: 1}
	for i, name := range names {
		values := make([]float32, golden.Original[name])
		for row := range values {
			values[row] = float32(i<<16 + row)
		}
		y, err := safetensors.FromFloat32("model.diffusion_model."+name, safetensors.F32, []int64{golden.Original[name]}, values)
		if err != nil {
			t.Fatal(err)
		}
		original.list = append(original.list, y)
	}
	if err := original.replace(original.list); err != nil {
		t.Fatal(err)
	}
	if err := adoptFlux(original); err != nil {
		t.Fatal(err)
	}
	defer original.Close()
	if len(original.list) != len(golden.Diffusers) {
		t.Errorf("%d tensors, diffusers makes %d", len(original.list), len(golden.Diffusers))
	}
	for name, runs := range golden.Diffusers {
		var want []float32
		for _, r := range runs {
			number := slices.Index(names, r[0].(string))
			for row := range int(r[2].(float64)) {
				want = append(want, float32(number<<16+int(r[1].(float64))+row))
			}
		}
		err := original.Read(name, func(x safetensors.Tensor) error {
			got, err := x.ToFloat32()
			if err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("rows differ")
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// originalFlux writes a model in the original layout.
func originalFlux(t *testing.T, m *Model, path, prefix string) {
	t.Helper()
	w, err := m.Weights()
	if err != nil {
		t.Fatal(err)
	}
	c := m.family.(*flux).cfg
	var items []safetensors.Tensor
	add := func(stem string, parts []fluxPart) {
		for _, kind := range []string{"weight", "bias"} {
			out := safetensors.Tensor{Name: prefix + stem + "." + kind, DType: safetensors.F32}
			if strings.HasSuffix(stem, "_norm") {
				out.Name = prefix + stem + ".scale"
			}
			for _, p := range parts {
				_ = w.Tensors().Read(p.name+"."+kind, func(x safetensors.Tensor) error {
					data := slices.Clone(x.Data)
					if stem == fluxFinalMod {
						data = append(data[len(data)/2:], data[:len(data)/2]...)
					}
					out.Data = append(out.Data, data...)
					if out.Shape == nil {
						out.Shape = slices.Clone(x.Shape)
						out.Shape[0] = 0
					}
					out.Shape[0] += x.Shape[0]
					return nil
				})
			}
			if out.Shape != nil { // norms have no bias, schnell no guidance
				items = append(items, out)
			}
		}
	}
	for stem := range fluxOnce {
		add(stem, fluxParts(stem))
	}
	for i := range c.Layers {
		for name := range fluxDouble {
			stem := fmt.Sprintf("double_blocks.%d.%s", i, name)
			add(stem, fluxParts(stem))
		}
	}
	for i := range c.SingleLayers {
		for name := range fluxSingle {
			stem := fmt.Sprintf("single_blocks.%d.%s", i, name)
			add(stem, fluxParts(stem))
		}
	}
	if err := safetensors.WriteFile(path, safetensors.Items(items...), nil); err != nil {
		t.Fatal(err)
	}
}

const smallFlux = `{"_class_name":"FluxTransformer2DModel","num_attention_heads":1,"attention_head_dim":128,"num_layers":1,"num_single_layers":1,"in_channels":16,
	"joint_attention_dim":12,"pooled_projection_dim":10,"guidance_embeds":%v,"axes_dims_rope":[16,56,56]}`

// A checkpoint in the original layout, without any configuration, is the model that it was written from.
func TestFluxOriginalFile(t *testing.T) {
	for _, prefix := range []string{"", "model.diffusion_model."} {
		for _, guidance := range []bool{true, false} {
			m, err := newRandomModel("small", fmt.Appendf(nil, smallFlux, guidance), "", 5)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			path := filepath.Join(t.TempDir(), "flux1-dev.safetensors")
			originalFlux(t, m, path, prefix)
			back, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer back.Close()
			v, err := back.Verify()
			if err != nil || v.Err() != nil || len(v.Extra) > 0 {
				t.Fatalf("verification %+v, %v", v, err)
			}
			if !back.Snapshot().Has(Transformer, "config.json") || back.Snapshot().Has(VAE, "config.json") {
				t.Error("the file has a transformer and nothing else")
			}
			in := Inputs{Latents: m.Noise([]int64{1}, 4, 4), Height: 4, Width: 4, Prompts: []Prompt{{Embeds: make([]float32, 36), Tokens: 3, Pooled: make([]float32, 10)}}}
			var results [][]float32
			for _, x := range []*Model{m, back} {
				d := NewDenoiser(x, openDevice(t, ecad.CPU))
				defer d.Close()
				r, err := d.Predict(t.Context(), in, ForwardOptions{Timestep: 300, Guidance: 2}, ecad.RunOptions{CheckFinite: true})
				if err != nil {
					t.Fatal(err)
				}
				results = append(results, r)
			}
			mustEqual(t, "the original layout", results[1], results[0])
		}
	}
}

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

// Files that are no FLUX transformer, or a damaged one, end in an error that names the file.
func TestFluxFileErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, tensors ...safetensors.Tensor) string {
		path := filepath.Join(dir, name)
		if err := safetensors.WriteFile(path, safetensors.Items(tensors...), nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tensor := func(name string, shape ...int64) safetensors.Tensor {
		return safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: shape, Data: make([]byte, 4*elements(shape))}
	}
	garbage := filepath.Join(dir, "garbage.safetensors")
	if err := os.WriteFile(garbage, []byte("not a checkpoint at all"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{garbage, "garbage.safetensors"},
		{write("other.safetensors", tensor("encoder.weight", 2, 2)), "other.safetensors"},
		{write("odd.safetensors", tensor("img_in.weight", 128, 16), tensor("double_blocks.0.img_attn.qkv.weight", 385, 128)), "qkv.weight"},
		{write("scalar.safetensors", tensor("img_in.weight", 128, 16), tensor("double_blocks.0.img_attn.qkv.weight")), "qkv.weight"},
		{write("narrow.safetensors", tensor("img_in.weight", 128, 16), tensor("double_blocks.0.img_attn.norm.query_norm.scale", 64)), "config.json"},
		{write("twice.safetensors", tensor("img_in.weight", 128, 16), tensor("x_embedder.weight", 128, 16)), "twice"},
		{write("empty.safetensors", tensor("img_in.weight", 128, 16), tensor("double_blocks.0.img_attn.norm.query_norm.scale", 128)), `config.json: key "joint_attention_dim"`},
	} {
		if _, err := Open(c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.path, err, c.want)
		}
	}
}

// Shapes that no checkpoint has end in an error or in a configuration that is refused or right, never in a panic.
func TestFluxOddShapes(t *testing.T) {
	stems := []string{"double_blocks.0.", "single_blocks.0.", "double_blocks.99999999999.img_mod", "double_blocks.x.img_mod.lin", "single_blocks.", "."}
	for stem := range fluxOnce {
		stems = append(stems, stem)
	}
	for name := range fluxDouble {
		stems = append(stems, "double_blocks.0."+name)
	}
	for name := range fluxSingle {
		stems = append(stems, "single_blocks.0."+name)
	}
	for _, shape := range [][]int64{{}, {0}, {1}, {7}, {128}, {384, 0}, {0, 1 << 40}, {1 << 40, 0}, {128, 2, 2, 2, 1}, {896, 3}} {
		for _, odd := range append(stems, "") { // that one alone, or all
			list := &Tensors{path: "odd", source: copied, free: func() error { return nil }, refs: 1}
			for _, stem := range stems {
				x := safetensors.Tensor{Name: stem + ".weight", DType: safetensors.BF16, Shape: []int64{896}}
				if odd == "" || odd == stem {
					x.Shape = shape
				}
				x.Data = make([]byte, 2*elements(x.Shape))
				list.list = append(list.list, x)
			}
			if err := list.replace(list.list); err != nil {
				t.Fatal(err)
			}
			err := adoptFlux(list)
			if err == nil {
				var config []byte
				if config, err = fluxConfigOf(list); err == nil {
					_, err = readFamily(config, "")
				}
			}
			if err == nil {
				t.Errorf("shape %v for %q: accepted", shape, odd)
			}
			if err := list.Close(); err != nil {
				t.Error(err)
			}
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
