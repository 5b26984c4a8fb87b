package bench

import (
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit"
)

// The scratch in which the inputs of FLUX's down projections are joined is planned: all rows of them, of the last block the image's alone, up to the backend's bound.
func TestJoinedInputsArePlanned(t *testing.T) {
	const width, text = (1 + 4) * 3072, 512
	cpu := ecad.DeviceInfo{Backend: ecad.CPU, FastBFloat16: true}
	for _, c := range []struct {
		blocks, latents int
		dtype           dit.DType
		device          ecad.DeviceInfo
		want            int64
	}{
		{1, 32, dit.BFloat16, cpu, 256 * width * 2},
		{2, 32, dit.BFloat16, cpu, (text + 256) * width * 2},
		{1, 32, dit.Float32, cpu, 256 * width * 4},
		{2, 128, dit.BFloat16, cpu, maxJoined},
		{2, 32, dit.BFloat16, ecad.DeviceInfo{Backend: ecad.Reference}, 0},
	} {
		m := openFirst(t, "random:flux-dev", c.blocks)
		s, err := m.Sampler(2, c.latents, c.latents)
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: dit.Sizes{Batch: 1, Height: c.latents, Width: c.latents, TextTokens: text, DType: c.dtype}, Guidance: 3.5, Sampler: s})
		if err != nil {
			t.Fatal(err)
		}
		if got := planOf(p, c.device, func(string) int64 { return 2 }).joined; got != c.want {
			t.Errorf("%d blocks, latents of %d, %v: %d bytes, want %d", c.blocks, c.latents, c.dtype, got, c.want)
		}
	}
	m := openFirst(t, "mini-pixart", 1)
	s, err := m.Sampler(2, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: dit.Sizes{Batch: 1, Height: 16, Width: 16, TextTokens: 8}, Guidance: 1, Sampler: s})
	if err != nil {
		t.Fatal(err)
	}
	if got := planOf(p, cpu, func(string) int64 { return 2 }).joined; got != 0 {
		t.Errorf("PixArt joins no inputs, %d bytes are planned", got)
	}
}

// The last weight of FLUX that is packed is large, and its source is in memory beside all others: that is more than a small run takes.
func TestPackingIsPlanned(t *testing.T) {
	m := openFirst(t, "random:flux-dev", 1)
	s, err := m.Sampler(2, 32, 32)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: dit.Sizes{Batch: 1, Height: 32, Width: 32, TextTokens: 512, DType: dit.BFloat16}, Guidance: 3.5, Sampler: s})
	if err != nil {
		t.Fatal(err)
	}
	stored := func(string) int64 { return 4 }
	const width = 3072
	after := int64(2*(width*64) + 4*64)        // proj_out of the model, packed after the block's
	want := int64(4 * (1 + 4) * width * width) // proj_out of the single-stream block as it is stored
	if plan := planOf(p, ecad.DeviceInfo{Backend: ecad.CPU, FastBFloat16: true}, stored); plan.loading != plan.weights-after+want {
		t.Errorf("%d bytes while weights of %d are packed, want %d", plan.loading, plan.weights, plan.weights-after+want)
	}
	if plan := planOf(p, ecad.DeviceInfo{Backend: ecad.Reference}, stored); plan.loading != plan.weights {
		t.Errorf("the reference backend packs nothing: %d and %d bytes", plan.loading, plan.weights)
	}
}
