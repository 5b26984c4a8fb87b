package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"

	"ecadx/dit/safetensors"
)

// parityCase is one model run on both machines. Outputs of the cpu backend in float32 are the truth, those in bfloat16 say how far plain bfloat16
// is from it.
type parityCase struct {
	name   string
	model  string
	tensor string // of the output file
	args   []string
	latent int64 // height and width
	tokens int64
	width  int64 // of the prompt embeddings; 0: the miniature PixArt's
	pooled int64 // of the pooled ones that FLUX reads, which knows neither masks nor a negative prompt; 0: another family
}

var parityCases = []parityCase{
	{"mini-none", "mini-pixart", "latents", []string{"--steps", "8", "--schedule", "none"}, 16, 24, 0, 0},
	{"mini-fora", "mini-pixart", "latents", []string{"--steps", "8", "--schedule", "fora:2"}, 16, 24, 0, 0},
	{"mini-flux-none", "mini-flux", "latents", []string{"--steps", "8", "--schedule", "none"}, 16, 24, 96, 64},
	{"mini-flux-fora", "mini-flux", "latents", []string{"--steps", "8", "--schedule", "fora:2"}, 16, 24, 96, 64},
	{"pixart-256", "random:pixart-alpha-256", "output", []string{"--forward", "500"}, 32, 120, 4096, 0},
}

// dtypes that a case runs in; the truth is the first.
var dtypes = []string{"float32", "bfloat16"}

func (c parityCase) inputs(dir string) string {
	return filepath.Join(dir, "parity", c.name+"-in.safetensors")
}

func (c parityCase) output(dir, device, dtype string) string {
	return filepath.Join(dir, "parity", fmt.Sprintf("%s-%s-%s.safetensors", c.name, device, dtype))
}

func (c parityCase) command(dir, device, dtype string) []string {
	return append([]string{"denoise", "--quiet", "--force", "--model", c.model, "--device", device, "--dtype", dtype, "--inputs", c.inputs(dir),
		"--out", c.output(dir, device, dtype)}, c.args...)
}

// prepare writes what only the build machine can: it runs the cpu backend.
func prepare(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "parity"), 0o755); err != nil {
		return err
	}
	ecadx := filepath.Join(dir, "bin", "ecadx")
	out, err := exec.Command(ecadx, "compile", "--quiet", "--force", "--json", "--device", "cpu", "--dtype", "bfloat16", "--steps", "8", "--schedule", "fora:2",
		"--out", filepath.Join(dir, "compiled")).Output()
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	var manifest struct {
		TextWidth int64 `json:"text_width"`
	}
	if err := json.Unmarshal(out, &manifest); err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	for _, c := range parityCases {
		if c.width == 0 {
			c.width = manifest.TextWidth
		}
		if err := c.writeInputs(dir); err != nil {
			return err
		}
		for _, dtype := range dtypes {
			if out, err := exec.Command(ecadx, c.command(dir, "cpu", dtype)...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s on the cpu backend in %s: %w: %s", c.name, dtype, err, out)
			}
		}
	}
	return nil
}

// writeInputs makes latents and prompt embeddings from a fixed generator: 2 pictures, prompts of different lengths.
func (c parityCase) writeInputs(dir string) error {
	const batch = 2
	state := uint64(88172645463325252)
	normals := func(n int64) []float32 {
		v := make([]float32, n)
		for i := range v {
			sum := 0.0
			for range 3 { // the sum of three uniforms on -1..1 has variance 1
				state ^= state << 13
				state ^= state >> 7
				state ^= state << 17
				sum += float64(state>>11)/(1<<52) - 1
			}
			v[i] = float32(sum)
		}
		return v
	}
	mask := func(first int64) []float32 {
		v := make([]float32, batch*c.tokens)
		for b := range int64(batch) {
			for t := range c.tokens {
				if t < first+b*3 {
					v[b*c.tokens+t] = 1
				}
			}
		}
		return v
	}
	type input struct {
		name  string
		shape []int64
		v     []float32
	}
	inputs := []input{
		{"latents", []int64{batch, 4, c.latent, c.latent}, normals(batch * 4 * c.latent * c.latent)},
		{"prompt_embeds", []int64{batch, c.tokens, c.width}, normals(batch * c.tokens * c.width)},
	}
	switch {
	case c.pooled > 0:
		inputs = append(inputs, input{"pooled_prompt_embeds", []int64{batch, c.pooled}, normals(batch * c.pooled)})
	case c.tensor != "latents":
		inputs = append(inputs, input{"prompt_mask", []int64{batch, c.tokens}, mask(c.tokens / 2)})
	default: // the sampler mixes with the negative prompt; one forward call has none
		inputs = append(inputs, input{"prompt_mask", []int64{batch, c.tokens}, mask(c.tokens / 2)}, input{"negative_prompt_embeds", []int64{batch, c.tokens, c.width}, normals(batch * c.tokens * c.width)},
			input{"negative_prompt_mask", []int64{batch, c.tokens}, mask(1)})
	}
	var tensors []safetensors.Tensor
	for _, t := range inputs {
		tensor, err := safetensors.FromFloat32(t.name, safetensors.F32, t.shape, t.v)
		if err != nil {
			return err
		}
		tensors = append(tensors, tensor)
	}
	return safetensors.WriteFile(c.inputs(dir), safetensors.Items(tensors...), nil)
}

func readTensor(path, name string) ([]float32, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("%s: no tensor %q", path, name)
	}
	return t.ToFloat32()
}

// relativeError is the distance of got from want over the length of want; NaN where got has one.
func relativeError(got, want []float32) (float64, error) {
	if len(got) != len(want) {
		return 0, fmt.Errorf("%d values, want %d", len(got), len(want))
	}
	var distance, length float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		distance += d * d
		length += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(distance / length), nil
}
