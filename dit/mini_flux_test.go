package dit

import (
	"fmt"
	"image"
	"math"
	"slices"
	"strings"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit/safetensors"
)

// TestMiniFlux runs the miniature FLUX from captions to pictures as diffusers does (testdata/make_mini_flux.py): both text encoders, T5's padding
// attended, upper case kept for it; noise, packing, guidance, four steps.
func TestMiniFlux(t *testing.T) {
	captions := []string{"a small red circle to the left of a large blue square on a white background", "A Large green ring, BLACK background"}
	outputs, err := safetensors.Open("testdata/mini_flux.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer outputs.Close()
	g := &goldens{outputs: outputs}
	m, err := Open("mini-flux")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	d := m.Defaults()
	for _, backend := range []ecad.Backend{ecad.Reference, ecad.CPU} {
		t.Run(fmt.Sprint(backend), func(t *testing.T) {
			p, err := m.OpenPipeline(PipelineConfig{Backend: backend, Threads: 1, KeepEncoder: true})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			prompts, err := p.Encode(t.Context(), captions)
			if err != nil {
				t.Fatal(err)
			}
			var embeds, pooled []float32
			for _, prompt := range prompts {
				if prompt.Tokens != d.TextTokens {
					t.Fatalf("%d tokens, want %d with padding", prompt.Tokens, d.TextTokens)
				}
				embeds, pooled = append(embeds, prompt.Embeds...), append(pooled, prompt.Pooled...)
			}
			in := Inputs{Height: d.LatentSize, Width: d.LatentSize, Prompts: prompts, Latents: m.Noise([]int64{0, 1}, d.LatentSize, d.LatentSize)}
			s, err := m.Sampler(4, d.LatentSize, d.LatentSize)
			if err != nil {
				t.Fatal(err)
			}
			latents, err := p.Workers[0].Denoiser.Denoise(t.Context(), in, DenoiseOptions{Sampler: s, Guidance: 3.5}, ecad.RunOptions{CheckFinite: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				name      string
				got       []float32
				tolerance float64
			}{{"embeds", embeds, 1e-5}, {"pooled", pooled, 1e-5}, {"latents", latents, 1e-4}} {
				if e := relativeError(c.got, g.output(t, c.name)); !(e <= c.tolerance) {
					t.Errorf("%s: relative error %.2g, at most %.2g", c.name, e, c.tolerance)
				}
			}
			pictures, err := p.Workers[0].Decode(t.Context(), g.output(t, "latents"), 2, d.LatentSize, d.LatentSize)
			if err != nil {
				t.Fatal(err)
			}
			want, n := g.output(t, "pictures"), 3*pictures[0].Rect.Dx()*pictures[0].Rect.Dy()
			if len(want) != len(pictures)*n {
				t.Fatalf("%d values of %d pictures, diffusers makes %d", len(pictures)*n, len(pictures), len(want))
			}
			for i, picture := range pictures {
				if off := pixelsOff(picture, want[i*n:(i+1)*n]); !(off <= 0.001) {
					t.Errorf("picture %d: %.2g of the values are not those of diffusers", i, off)
				}
			}
		})
	}
}

// pixelsOff is the share of a picture's values that differ from those of [3, h, w] values, about -1 to 1; all, if one differs by more than rounding may.
func pixelsOff(picture *image.NRGBA, want []float32) float64 {
	size, off := len(want)/3, 0
	for i := range size {
		for c := range 3 {
			x := math.RoundToEven(255 * math.Min(math.Max(float64(want[c*size+i])/2+0.5, 0), 1))
			switch d := math.Abs(x - float64(picture.Pix[4*i+c])); {
			case d == 0:
			case d == 1:
				off++
			default:
				return 1
			}
		}
	}
	return float64(off) / float64(len(want))
}

// FLUX's prompts are cut to the tokenizer's length and keep their upper case.
func TestMiniFluxTokens(t *testing.T) {
	m, err := Open("mini-flux")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := m.OpenPromptEncoder()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	tokenize := func(prompt string) []int32 {
		ids, err := e.Tokenize(prompt)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	long := strings.Repeat("above ", 100)
	if ids := tokenize(long); len(ids) != m.Defaults().TextTokens || e.Cut(long) != 101-len(ids) {
		t.Errorf("a prompt of 101 tokens has %d ids, %d are cut", len(ids), e.Cut(long))
	}
	if slices.Equal(tokenize("RED ring"), tokenize("red ring")) {
		t.Error("upper case is lowered, which FLUX's pipeline does not do")
	}
}
