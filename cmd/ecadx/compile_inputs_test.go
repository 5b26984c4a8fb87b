package main

import (
	"path/filepath"
	"slices"
	"testing"

	"ecadx/dit"
	"ecadx/dit/safetensors"
)

// What compile -p writes are the noise and the prompts of generate, in the shapes of the program's inputs; denoise reads the file, and a program
// that is given it makes denoise's latents, bit for bit.
func TestCompileInputs(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	m := succeedJSON[manifest](t, dir, "compile", "--out", "c", "--schedule", "fora:2", "--steps", "3", "--dtype", "float32", "--device", "cpu",
		"-p", ringPrompt, "-p", "a tiny green star", "--seed", "5")
	if m.Batch != 2 || m.Rows != 4 || m.Inputs == nil || !slices.Equal(m.Inputs.Seeds, []int64{5, 6}) || !slices.Equal(m.Inputs.Prompts, []string{ringPrompt, "a tiny green star"}) {
		t.Fatalf("manifest: %+v", m)
	}
	path := filepath.Join(dir, "c", inputsFile)
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, io := range m.Denoise.IOs {
		if x, ok := f.Tensor(io.Name); !ok || !slices.Equal(x.Shape, io.Shape) {
			t.Errorf("%s: %v, the program's input is %v", io.Name, x.Shape, io.Shape)
		}
	}
	model, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	if _, latents := tensorOf(t, path, "latents"); !slices.Equal(latents, model.Noise([]int64{5, 6}, m.Latents.Height, m.Latents.Width)) {
		t.Error("latents are not the noise of the seeds")
	}
	// The same rows by masks, padded to another length.
	_, embeds := tensorOf(t, path, "prompt_embeds")
	counts, _ := f.Tensor("prompt_counts")
	n, err := counts.ToFloat32()
	if err != nil {
		t.Fatal(err)
	}
	const padded = 40
	row := func(name string, from, to int) []safetensors.Tensor {
		var values, mask []float32
		for r := from; r < to; r++ {
			at := r * m.TextTokens * m.TextWidth
			values = append(values, embeds[at:at+padded*m.TextWidth]...)
			for i := range padded {
				mask = append(mask, 0)
				if i < int(n[r]) {
					mask[len(mask)-1] = 1
				}
			}
		}
		return []safetensors.Tensor{floatTensor(t, name+"_embeds", values, to-from, padded, m.TextWidth), floatTensor(t, name+"_mask", mask, to-from, padded)}
	}
	_, latents := tensorOf(t, path, "latents")
	list := append(append(row("negative_prompt", 0, 2), row("prompt", 2, 4)...), floatTensor(t, "latents", latents, 2, m.Latents.Channels, m.Latents.Height, m.Latents.Width))
	if err := safetensors.WriteFile(filepath.Join(dir, "masks.safetensors"), safetensors.Items(list...), nil); err != nil {
		t.Fatal(err)
	}
	succeed(t, dir, "denoise", "--inputs", "c/inputs.safetensors", "--out", "a.safetensors", "--schedule", "fora:2", "--steps", "3", "--device", "cpu")
	succeed(t, dir, "denoise", "--inputs", "masks.safetensors", "--out", "b.safetensors", "--schedule", "fora:2", "--steps", "3", "--device", "cpu")
	_, a := tensorOf(t, filepath.Join(dir, "a.safetensors"), "latents")
	if _, b := tensorOf(t, filepath.Join(dir, "b.safetensors"), "latents"); !slices.Equal(a, b) {
		t.Error("prompt_counts and prompt_mask make different latents")
	}
	refuse(t, dir, exitBadInput, "compile with the same --guidance", "denoise", "--inputs", "c/inputs.safetensors", "--out", "g.safetensors", "--guidance", "1")

	// Without prompts there are no inputs, not even those of before.
	succeed(t, dir, "compile", "--out", "c", "--steps", "3", "--force")
	if isFile(path) {
		t.Error("compile --force without prompts leaves the inputs of other sizes")
	}
}

func TestCompileInputsRefused(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--seed: it goes with prompts", []string{"--seed", "3"}},
		{"--negative: it goes with prompts", []string{"--negative", "x"}},
		{"3 images and 2 prompts", []string{"-p", "a", "-p", "b", "--batch", "3"}},
		{"use at least as many", []string{"-p", ringPrompt, "--text-tokens", "4"}},
	} {
		refuse(t, dir, exitUsage, c.want, append([]string{"compile", "--out", "c", "--steps", "3"}, c.args...)...)
	}
	refuse(t, dir, exitBadInput, "no text encoder", "compile", "--out", "c", "--steps", "3", "--model", "random:pixart-alpha-256", "--text-tokens", "16", "-p", "a")
	if isDir(filepath.Join(dir, "c")) {
		t.Error("a refused compile leaves files")
	}
	m := succeedJSON[manifest](t, dir, "compile", "--out", "c", "--steps", "3", "--batch", "3", "-p", "a tiny green star")
	if len(m.Inputs.Prompts) != 3 || len(m.Inputs.Seeds) != 3 {
		t.Errorf("one prompt for three images: %+v", m.Inputs)
	}
}

func floatTensor(t *testing.T, name string, v []float32, dims ...int) safetensors.Tensor {
	t.Helper()
	var shape []int64
	for _, n := range dims {
		shape = append(shape, int64(n))
	}
	x, err := safetensors.FromFloat32(name, safetensors.F32, shape, v)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
