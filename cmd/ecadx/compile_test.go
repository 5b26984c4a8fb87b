package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/noise"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// What compile writes gives, by libecad's own loaders and bit for bit, the latents that the denoiser makes.
func TestCompileCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "compiled")
	refs := []string{"random:0.5:3", "none"}
	args := []string{"compile", "--out", dir, "--steps", "4", "--dtype", "float32", "--text-tokens", "16", "--device", "cpu", "--json"}
	for _, ref := range refs {
		args = append(args, "--schedule", ref)
	}
	text, _ := command(t, exitDone, args...)
	m := decode[manifest](t, text)
	file, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	var written manifest
	if err := json.Unmarshal(file, &written); err != nil || written.Denoise.SHA256 != m.Denoise.SHA256 {
		t.Errorf("manifest.json differs from --json: %v", err)
	}
	files := []manifestFileEntry{m.Denoise.manifestFileEntry, m.Weights.manifestFileEntry}
	if m.Decoder != nil {
		files = append(files, m.Decoder.manifestFileEntry)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.File))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(data)) != f.Bytes {
			t.Errorf("%s: %d bytes, hash %x; the manifest says %d, %s", f.File, len(data), sum, f.Bytes, f.SHA256)
		}
	}
	if m.Rows != 2 || m.Sampler.Steps != 4 || len(m.Denoise.Schedules) != 2 || m.Denoise.Schedules[1].MACsRatio != 1 || m.Denoise.Schedules[0].MACsRatio <= 1 {
		t.Errorf("manifest %+v", m)
	}
	model, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: ecad.CPU, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	in := compileInputs(model, m)
	for i, ref := range refs {
		if got, want := native(t, dev, dir, m, in, i), denoised(t, dev, model, in, ref, m); !slices.Equal(got, want) {
			t.Errorf("schedule %d, %s: latents of the written program differ from the denoiser's", i, ref)
		}
	}
	if m.Decoder != nil {
		checkDecoder(t, dev, dir, model, m, in.Latents)
	}
	command(t, exitBadInput, args...)
	command(t, exitDone, append(args, "--force")...)
	command(t, exitUsage, "compile")
	command(t, exitBadInput, "compile", "--out", dir+"2", "--schedule", "nonesuch")
	if _, err := os.Stat(dir + "2"); err == nil {
		t.Error("a refused compile leaves files")
	}
}

// checkDecoder runs the written decoder and compares its picture with the image decoder's, pixel by pixel.
func checkDecoder(t *testing.T, dev *ecad.Device, dir string, model *dit.Model, m manifest, latents []float32) {
	t.Helper()
	d, err := model.OpenImageDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	pictures, err := d.Decode(t.Context(), dev, dit.Float32, latents, 1, m.Latents.Height, m.Latents.Width)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, m.Resolution.Height*m.Resolution.Width*3)
	runNative(t, dev, dir, m, m.Decoder, 0, func(s *ecad.State) error { return ecad.Write(s, "latents", latents) },
		func(s *ecad.State) error { return ecad.Read(s, "image", values) })
	for i, v := range values {
		x := math.RoundToEven(255 * float64(min(max(v/2+0.5, 0), 1)))
		if got := pictures[0].Pix[4*(i/3)+i%3]; !(math.Abs(x-float64(got)) <= 1) {
			t.Fatalf("value %d of the written decoder's picture is %v, the image decoder's %d", i, x, got)
		}
	}
}

func compileInputs(m *dit.Model, man manifest) dit.Inputs {
	prompt := func(seed int64, tokens int) dit.Prompt {
		p := dit.Prompt{Tokens: tokens, Embeds: make([]float32, tokens*man.TextWidth)}
		noise.New(seed).Normal(p.Embeds)
		return p
	}
	return dit.Inputs{Latents: m.Noise([]int64{5}, man.Latents.Height, man.Latents.Width), Height: man.Latents.Height, Width: man.Latents.Width,
		Prompts: []dit.Prompt{prompt(1, 11)}, Negative: []dit.Prompt{prompt(2, 3)}}
}

// native is the latents of schedule i as an application without this package makes them.
func native(t *testing.T, dev *ecad.Device, dir string, m manifest, in dit.Inputs, i int) []float32 {
	t.Helper()
	embeds := make([]float32, m.Rows*m.TextTokens*m.TextWidth)
	copy(embeds, in.Negative[0].Embeds)
	copy(embeds[m.TextTokens*m.TextWidth:], in.Prompts[0].Embeds)
	out := make([]float32, len(in.Latents))
	runNative(t, dev, dir, m, &m.Denoise, i, func(s *ecad.State) error {
		return errors.Join(ecad.Write(s, "latents", in.Latents), ecad.Write(s, "prompt_embeds", embeds),
			ecad.Write(s, "prompt_counts", []int32{int32(in.Negative[0].Tokens), int32(in.Prompts[0].Tokens)}))
	}, func(s *ecad.State) error { return ecad.Read(s, "latents", out) })
	return out
}

// runNative loads a written program with the written weights and runs a schedule of it.
func runNative(t *testing.T, dev *ecad.Device, dir string, m manifest, entry *manifestProgram, i int, write, read func(*ecad.State) error) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := dev.OpenWeights(filepath.Join(dir, m.Weights.File))
	check(err)
	defer w.Close()
	data, err := os.ReadFile(filepath.Join(dir, entry.File))
	check(err)
	p, err := dev.LoadProgram(w, data)
	check(err)
	defer p.Close()
	state, err := p.NewState()
	check(err)
	defer state.Close()
	check(write(state))
	items, err := p.Schedule(i)
	check(err)
	_, err = state.Run(t.Context(), p, items, ecad.RunOptions{})
	check(err)
	check(read(state))
}

func denoised(t *testing.T, dev *ecad.Device, m *dit.Model, in dit.Inputs, ref string, man manifest) []float32 {
	t.Helper()
	config, err := m.SamplerConfig()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sampler.New(config, man.Sampler.Steps)
	if err != nil {
		t.Fatal(err)
	}
	g, err := schedule.Resolve(ref, m.Shape(man.Sampler.Steps))
	if err != nil {
		t.Fatal(err)
	}
	d := dit.NewDenoiser(m, dev)
	defer d.Close()
	out, err := d.Denoise(t.Context(), in, dit.DenoiseOptions{Guidance: man.Guidance, Sampler: s, Schedules: []*schedule.Schedule{g.Schedule}}, ecad.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
