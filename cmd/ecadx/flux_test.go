package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/dit/safetensors"
)

// fluxSnapshot writes a bare transformer of one double-stream and one single-stream block, as diffusers saves it.
func fluxSnapshot(t *testing.T) string {
	t.Helper()
	const width, head, in, text, pooled = 32, 16, 16, 12, 10
	dir := t.TempDir()
	config := `{"_class_name":"FluxTransformer2DModel","num_attention_heads":2,"attention_head_dim":16,"num_layers":1,"num_single_layers":1,"in_channels":16,
		"joint_attention_dim":12,"pooled_projection_dim":10,"guidance_embeds":true,"axes_dims_rope":[4,6,6]}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	var items []safetensors.Tensor
	add := func(name string, shape ...int64) {
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(math.Sin(float64(i*(len(items)+3)))) / float32(math.Sqrt(float64(shape[len(shape)-1])))
		}
		x, err := safetensors.FromFloat32(name, safetensors.F32, shape, values)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, x)
	}
	linear := func(name string, out, in int64) {
		add(name+".weight", out, in)
		add(name+".bias", out)
	}
	for name, from := range map[string]int64{"timestep_embedder": 256, "guidance_embedder": 256, "text_embedder": pooled} {
		linear("time_text_embed."+name+".linear_1", width, from)
		linear("time_text_embed."+name+".linear_2", width, width)
	}
	linear("context_embedder", width, text)
	linear("x_embedder", width, in)
	linear("norm_out.linear", 2*width, width)
	linear("proj_out", in, width)
	double, single := "transformer_blocks.0.", "single_transformer_blocks.0."
	for _, name := range []string{"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"} {
		linear(double+"attn."+name, width, width)
	}
	for _, name := range []string{"ff", "ff_context"} {
		linear(double+name+".net.0.proj", 4*width, width)
		linear(double+name+".net.2", width, 4*width)
	}
	linear(double+"norm1.linear", 6*width, width)
	linear(double+"norm1_context.linear", 6*width, width)
	for _, name := range []string{double + "attn.norm_q", double + "attn.norm_k", double + "attn.norm_added_q", double + "attn.norm_added_k", single + "attn.norm_q", single + "attn.norm_k"} {
		add(name+".weight", head)
	}
	for _, name := range []string{"to_q", "to_k", "to_v"} {
		linear(single+"attn."+name, width, width)
	}
	linear(single+"norm.linear", 3*width, width)
	linear(single+"proj_mlp", 4*width, width)
	linear(single+"proj_out", width, 5*width)
	if err := safetensors.WriteFile(filepath.Join(dir, "diffusion_pytorch_model.safetensors"), safetensors.Items(items...), nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fluxTensors writes a file of inputs for it; names are left out when they are in without.
func fluxTensors(t *testing.T, path string, without ...string) string {
	t.Helper()
	var items []safetensors.Tensor
	for _, x := range []struct {
		name  string
		shape []int64
	}{{tensorLatents, []int64{2, 4, 4, 6}}, {tensorPrompt, []int64{2, 5, 12}}, {tensorPooled, []int64{2, 10}}} {
		n := int64(1)
		for _, d := range x.shape {
			n *= d
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(math.Cos(float64(i) + float64(len(x.name))))
		}
		y, err := safetensors.FromFloat32(x.name, safetensors.F32, x.shape, values)
		if err != nil {
			t.Fatal(err)
		}
		if len(without) == 0 || without[0] != x.name {
			items = append(items, y)
		}
	}
	if err := safetensors.WriteFile(path, safetensors.Items(items...), nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// The commands take a FLUX model as they take a PixArt: info, verify, denoise, program, macs and bench.
func TestFluxCommands(t *testing.T) {
	needsModel(t)
	model, dir := fluxSnapshot(t), t.TempDir()
	in := fluxTensors(t, filepath.Join(dir, "in.safetensors"))

	r := succeedJSON[modelReport](t, dir, "model", "info", "--model", model)
	if r.Family != "flux" || len(r.Blocks) != 2 || r.Transformer.SingleLayers != 1 || r.Transformer.PooledWidth != 10 || !r.Transformer.GuidanceEmbedded || r.Defaults.Latents[0] != 4 {
		t.Errorf("info %+v", r)
	}
	if v := succeedJSON[verifyReport](t, dir, "model", "verify", "--model", model); !v.OK || v.Parts[0].Transformer == nil || len(v.Parts[0].Transformer.Extra) != 0 {
		t.Errorf("verify %+v", v)
	}
	denoise := func(out string, more ...string) []float32 {
		args := append([]string{"denoise", "--model", model, "--inputs", in, "--out", out, "--steps", "4", "--force"}, more...)
		d := succeedJSON[denoiseReport](t, dir, args...)
		f, err := safetensors.Open(filepath.Join(dir, out))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		x, ok := f.Tensor(d.Tensor)
		if !ok || len(x.Shape) != 4 || x.Shape[0] != 2 || x.Shape[1] != 4 || x.Shape[2] != 4 || x.Shape[3] != 6 {
			t.Fatalf("%s: %+v", d.Tensor, x.Shape)
		}
		v, err := x.ToFloat32()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	far := func(a, b []float32) float64 {
		most := 0.0
		for i := range a {
			most = math.Max(most, math.Abs(float64(a[i])-float64(b[i])))
		}
		return most
	}
	plain := denoise("a.safetensors")
	if d := far(plain, denoise("b.safetensors", "--device", "reference")); !(d <= 1e-4) {
		t.Errorf("reference and cpu differ by %g", d)
	}
	if d := far(plain, denoise("c.safetensors", "--schedule", "fora:2")); !(d > 1e-6) {
		t.Error("a schedule that reuses changes nothing")
	}
	if d := far(plain, denoise("d.safetensors", "--guidance", "7")); !(d > 1e-6) {
		t.Error("the guidance scale changes nothing")
	}
	if d := far(denoise("e.safetensors", "--forward", "500"), denoise("f.safetensors", "--forward", "500", "--guidance", "9")); !(d > 1e-6) {
		t.Error("one call is not told the guidance scale")
	}
	for _, name := range []string{tensorPooled, tensorPrompt, tensorLatents} {
		bad := fluxTensors(t, filepath.Join(dir, "bad.safetensors"), name)
		refuse(t, dir, exitBadInput, name, "denoise", "--model", model, "--inputs", bad, "--out", "x.safetensors")
	}
	if out := succeed(t, dir, "program", "--model", model, "--resolution", "64", "--steps", "4"); !strings.Contains(out, "qk_norm_rope") || !strings.Contains(out, "single_proj_out") {
		t.Errorf("program:\n%s", out)
	}
	succeed(t, dir, "schedule", "make", "fora:2", "--model", model, "--steps", "4", "--out", "f.json")
	succeed(t, dir, "schedule", "macs", "f.json", "--model", model, "--resolution", "64")
	report := succeedJSON[struct {
		Components []struct {
			Component string                   `json:"component"`
			Compute   struct{ Median float64 } `json:"compute_ms"`
		} `json:"components"`
	}](t, dir, "bench", "--model", model, "--resolution", "64", "--steps", "4", "--repeat", "1", "--schedule", "f.json", "--text-tokens", "8")
	if len(report.Components) != 6 {
		t.Fatalf("bench reports %d components", len(report.Components))
	}
	for _, c := range report.Components {
		if !(c.Compute.Median > 0) {
			t.Errorf("bench: %+v", c)
		}
	}
}
