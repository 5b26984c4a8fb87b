package dit

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"ecadx/cgo"
	"ecadx/dit/sampler"
)

// Every kind of sampler in a program does what sampler.Run does around single calls of the model: histories of none, one and two, clamped
// and not.
func TestSamplersInPrograms(t *testing.T) {
	r := newRig(t, openDevice(t, ecad.CPU), Float32, 2)
	third := sampler.DefaultDPMSolver()
	third.SolverOrder = 3
	heun := sampler.DefaultDPMSolver()
	heun.SolverType = sampler.Heun
	first := sampler.DefaultDPMSolver()
	first.SolverOrder, first.FinalSigma = 1, sampler.FinalSigmaMin
	velocity := sampler.DefaultDPMSolver()
	velocity.Prediction = sampler.Velocity
	ddim := sampler.DefaultDDIM()
	ddim.ClipSample = false
	for name, c := range map[string]struct {
		config   sampler.Config
		guidance float64
		history  int
	}{
		"third order": {third, 3, 2}, "heun": {heun, 3, 1}, "first order": {first, 1, 0}, "velocity": {velocity, 2, 1},
		"ddim": {ddim, 3, 0}, "ddim clipped": {sampler.DefaultDDIM(), 1.5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			smp, err := sampler.New(c.config, 20)
			if err != nil {
				t.Fatal(err)
			}
			if smp.History != c.history {
				t.Fatalf("history %d, want %d", smp.History, c.history)
			}
			got, err := r.d.Denoise(context.Background(), r.in, DenoiseOptions{Guidance: c.guidance, Sampler: smp}, ecad.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(r.in.Latents)
			if err := sampler.Run(smp, want, r.model(smp, c.guidance), nil); err != nil {
				t.Fatal(err)
			}
			if e := relativeError(got, want); !(e <= 1e-4) {
				t.Errorf("relative error %.3g, want at most 1e-4", e)
			}
		})
	}
}

// model is the guided model as sampler.Run calls it, from forward programs.
func (r *rig) model(smp *sampler.Sampler, guidance float64) func(step int, input, out []float32) error {
	return func(step int, input, out []float32) error {
		in := r.in
		in.Latents = input
		if r.d.Model().Guided(guidance) {
			in.Latents = append(slices.Clone(input), input...)
			in.Prompts, in.Negative = r.in.rows(true), nil
		}
		v, err := r.d.Predict(context.Background(), in, ForwardOptions{Timestep: smp.Timesteps[step]}, ecad.RunOptions{})
		if err != nil {
			return err
		}
		// Of the 8 channels of every row the first 4 are the prediction.
		image := len(input) / len(r.in.Prompts)
		row := func(i, j int) float32 { return v[i*2*image+j] }
		for i := range len(r.in.Prompts) {
			for j := range image {
				out[i*image+j] = row(i, j)
				if r.d.Model().Guided(guidance) {
					u, c := row(i, j), row(i+len(r.in.Prompts), j)
					out[i*image+j] = u + float32(guidance)*(c-u)
				}
			}
		}
		return nil
	}
}

// A model cut to its first block runs without the weights of the others being made.
func TestFirstBlocks(t *testing.T) {
	m := tinyModel(t, 3)
	first, err := m.First(1)
	if err != nil {
		t.Fatal(err)
	}
	if s := first.Shape(4); s.Blocks != 1 {
		t.Errorf("shape %v", s)
	}
	if _, err := m.First(0); err == nil {
		t.Error("no blocks at all: no error")
	}
	d := NewDenoiser(first, openDevice(t, ecad.CPU))
	defer d.Close()
	in := Inputs{Latents: make([]float32, 4*8*8), Height: 8, Width: 8, Prompts: []Prompt{{Embeds: make([]float32, 20), Tokens: 1}}}
	if _, err := d.Predict(context.Background(), in, ForwardOptions{Timestep: 10}, ecad.RunOptions{CheckFinite: true}); err != nil {
		t.Fatal(err)
	}
	for block := range 3 {
		if key := blockKey(block, "ff.net.2.weight"); made(t, m, key) != (block == 0) {
			t.Errorf("%s: made: %v, want %v", key, made(t, m, key), block == 0)
		}
	}
}

// made tells whether the values of a generated tensor are there.
func made(t *testing.T, m *Model, key string) bool {
	t.Helper()
	w, err := m.Weights()
	if err != nil {
		t.Fatal(err)
	}
	x, ok := w.Tensors().Describe(key)
	if !ok {
		t.Fatalf("no tensor %q", key)
	}
	return !bytes.Equal(x.Data, make([]byte, len(x.Data)))
}
