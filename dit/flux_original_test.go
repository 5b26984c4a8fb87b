package dit

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecadx/cgo"
	"ecadx/dit/safetensors"
)

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
