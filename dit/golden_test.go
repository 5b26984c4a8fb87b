package dit

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"ecadx/cgo"
	"ecadx/dit/safetensors"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// goldenCase is one case of testdata/pixart.json or flux.json, made by make_goldens.py and make_flux_goldens.py there from diffusers.
type goldenCase struct {
	Name        string          `json:"name"`
	Seed        uint64          `json:"seed"`
	Config      json.RawMessage `json:"config"`
	Latents     [2]int          `json:"latents"`
	Timestep    float64         `json:"timestep"`
	Guidance    float64         `json:"guidance"`
	Schedules   int             `json:"schedules"`
	Reused0     int             `json:"reused0"`
	Masks       []string        `json:"masks"`
	Resolution  [][2]float32    `json:"resolution"`
	AspectRatio [][1]float32    `json:"aspect_ratio"`
	BF16Error   float64         `json:"bf16_error"`

	// FLUX: images, text tokens of each, and the sampler's static shift, nil for FLUX.1-dev's dynamic one.
	Batch int      `json:"batch"`
	Text  int      `json:"text"`
	Shift *float64 `json:"shift"`
	// Places, if any, is how many places on each axis the tokens have at random, instead of those of a picture.
	Places uint64 `json:"places"`
	// RoundedError is BF16Error against float64 with timesteps and guidance rounded as diffusers rounds them in bfloat16, tensor NAME.rounded.
	RoundedError float64 `json:"rounded_error"`
}

type goldens struct {
	Forward   []goldenCase `json:"forward"`
	Loop      []goldenCase `json:"loop"`
	Positions []goldenCase `json:"positions"` // FLUX: calls with random positions
	outputs   *safetensors.File
}

func readGoldens(t *testing.T, name string) *goldens {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	g := &goldens{}
	if err := json.Unmarshal(data, g); err != nil {
		t.Fatal(err)
	}
	if g.outputs, err = safetensors.Open("testdata/" + name + ".safetensors"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.outputs.Close() })
	return g
}

func (g *goldens) output(t *testing.T, name string) []float32 {
	t.Helper()
	x, ok := g.outputs.Tensor(name)
	if !ok {
		t.Fatalf("no golden %q", name)
	}
	v, err := x.ToFloat32()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// model makes the case's model from its configuration and seed.
func (c *goldenCase) model(t testing.TB) *Model {
	t.Helper()
	m, err := newRandomModel(c.Name, c.Config, "", c.Seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// normals are the case's inputs, as ecadrand.normal makes them.
func (c *goldenCase) normals(name string, n int) []float32 {
	d, key := distribution{std: 1}, randomKey(c.Seed, name)
	v := make([]float32, n)
	for i := range v {
		v[i] = d.value(key, i)
	}
	return v
}

// inputs are the case's batch; with guidance the first half of the masks are negative prompts.
func (c *goldenCase) inputs(t testing.TB, d Defaults) Inputs {
	t.Helper()
	in := Inputs{Height: c.Latents[0], Width: c.Latents[1]}
	if d.Unmasked {
		c.unmaskedPrompts(&in, d)
		in.Latents = c.normals("latents", c.Batch*d.LatentChannels*in.Height*in.Width)
		return in
	}
	length := len(c.Masks[0])
	embeds := c.normals("prompt_embeds", len(c.Masks)*length*d.TextWidth)
	for i, text := range c.Masks {
		mask := make([]int, length)
		for j := range mask {
			mask[j] = int(text[j] - '0')
		}
		p, err := PackPrompt(embeds[i*length*d.TextWidth:(i+1)*length*d.TextWidth], d.TextWidth, mask)
		if err != nil {
			t.Fatal(err)
		}
		if c.Guidance > 1 && i < len(c.Masks)/2 {
			in.Negative = append(in.Negative, p)
		} else {
			in.Prompts = append(in.Prompts, p)
		}
	}
	for i := range c.Resolution {
		in.Conditions = append(in.Conditions, MicroCondition{Height: c.Resolution[i][0], Width: c.Resolution[i][1], AspectRatio: c.AspectRatio[i][0]})
	}
	in.Latents = c.normals("latents", len(in.Prompts)*d.LatentChannels*in.Height*in.Width)
	return in
}

// unmaskedPrompts are the prompts of a FLUX case.
func (c *goldenCase) unmaskedPrompts(in *Inputs, d Defaults) {
	n := c.Text * d.TextWidth
	embeds, pooled := c.normals("prompt_embeds", c.Batch*n), c.normals("pooled_prompt_embeds", c.Batch*d.PooledWidth)
	for i := range c.Batch {
		in.Prompts = append(in.Prompts, Prompt{Embeds: embeds[i*n : (i+1)*n], Tokens: c.Text, Pooled: pooled[i*d.PooledWidth : (i+1)*d.PooledWidth]})
	}
}

// sampler is the case's sampler.
func (c *goldenCase) sampler(t testing.TB, m *Model) *sampler.Sampler {
	t.Helper()
	config := sampler.DefaultDPMSolver()
	if m.Defaults().Unmasked {
		config = sampler.FluxDev()
		if c.Shift != nil {
			config = sampler.DefaultFlowMatch()
			config.Flow.Shift = *c.Shift
		}
	}
	s, err := sampler.New(config.ForTokens(m.family.dims(c.Latents[0], c.Latents[1]).ImageTokens), goldenSteps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forward is the case's call.
func (c *goldenCase) forward(dtype DType) ForwardOptions {
	return ForwardOptions{Sizes: Sizes{DType: dtype}, Timestep: c.Timestep, Guidance: c.Guidance}
}

// schedule is random schedule k of the case, as make_goldens.random_schedule makes it.
func (c *goldenCase) schedule(t testing.TB, shape schedule.Shape, k int) *schedule.Schedule {
	t.Helper()
	s, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	key := randomKey(c.Seed, fmt.Sprintf("schedule/%d", k))
	for i := range shape.Cells() {
		if randomWord(key, i)>>32*52 < uint64(k+1)<<32 {
			s.SetFlat(i, schedule.Reuse)
		}
	}
	return s
}

// relativeError is the L2 norm of got - want over that of want; NaN if anything is.
func relativeError(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		diff += d * d
		norm += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(diff / norm)
}

const goldenSteps = 20

func openDevice(t testing.TB, b ecad.Backend) *ecad.Device {
	t.Helper()
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: b, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// denoiser makes the case's model ready to run on dev.
func (c *goldenCase) denoiser(t testing.TB, dev *ecad.Device) *Denoiser {
	t.Helper()
	d := NewDenoiser(c.model(t), dev)
	t.Cleanup(func() { d.Close() })
	return d
}

// backends runs a test on both backends of the CPU with their exact dtypes.
func backends(t *testing.T, f func(t *testing.T, dev *ecad.Device, dtype DType)) {
	for _, b := range []struct {
		backend ecad.Backend
		dtype   DType
	}{{ecad.Reference, Float64}, {ecad.Reference, Float32}, {ecad.CPU, Float32}} {
		t.Run(fmt.Sprintf("%v/%v", b.backend, b.dtype), func(t *testing.T) { f(t, openDevice(t, b.backend), b.dtype) })
	}
}

// slowFrom is the first loop that a backend runs: the reference backend only the small one, without guidance.
func slowFrom(t *testing.T, dev *ecad.Device) int {
	t.Helper()
	info, err := dev.Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Backend == ecad.Reference {
		return 2
	}
	return 0
}

// families runs a test on the goldens of every family.
func families(t *testing.T, f func(t *testing.T, g *goldens)) {
	for _, name := range []string{"pixart", "flux"} {
		t.Run(name, func(t *testing.T) { f(t, readGoldens(t, name)) })
	}
}

func TestForwardGoldens(t *testing.T) { families(t, forwardGoldens) }

func forwardGoldens(t *testing.T, g *goldens) {
	backends(t, func(t *testing.T, dev *ecad.Device, dtype DType) {
		for _, c := range g.Forward {
			t.Run(c.Name, func(t *testing.T) {
				d := c.denoiser(t, dev)
				got, err := d.Predict(context.Background(), c.inputs(t, d.Model().Defaults()), c.forward(dtype), ecad.RunOptions{CheckFinite: true})
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

func TestLoopGoldens(t *testing.T) { families(t, loopGoldens) }

func loopGoldens(t *testing.T, g *goldens) {
	backends(t, func(t *testing.T, dev *ecad.Device, dtype DType) {
		for _, c := range g.Loop[slowFrom(t, dev):] {
			t.Run(c.Name, func(t *testing.T) {
				d := c.denoiser(t, dev)
				opt := DenoiseOptions{Sizes: Sizes{DType: dtype}, Guidance: c.Guidance, Sampler: c.sampler(t, d.Model())}
				got, err := d.Denoise(context.Background(), c.inputs(t, d.Model().Defaults()), opt, ecad.RunOptions{})
				if err != nil {
					t.Fatal(err)
				}
				e := relativeError(got, g.output(t, c.Name))
				t.Logf("error %.2g", e)
				if !(e <= 1e-4) {
					t.Errorf("relative error %.3g, want at most 1e-4", e)
				}
			})
		}
	})
}

// The loop under random schedules equals diffusers with the outputs of components reused by hooks. All schedules are one program.
func TestScheduleGoldens(t *testing.T) { families(t, scheduleGoldens) }

func scheduleGoldens(t *testing.T, g *goldens) {
	c := g.Loop[0]
	backends(t, func(t *testing.T, dev *ecad.Device, dtype DType) {
		stride := 1 // the reference backend, never fast, runs three of them
		if slowFrom(t, dev) > 0 {
			stride = c.Schedules/2 - 1
		}
		d := c.denoiser(t, dev)
		in := c.inputs(t, d.Model().Defaults())
		opt := DenoiseOptions{Guidance: c.Guidance, Sampler: c.sampler(t, d.Model())}
		var err error
		if opt.Sizes, err = d.Model().SizesFor(in, d.Model().Guided(c.Guidance), dtype); err != nil {
			t.Fatal(err)
		}
		for k := range c.Schedules {
			opt.Schedules = append(opt.Schedules, c.schedule(t, d.Model().Shape(goldenSteps), k))
		}
		if n := opt.Schedules[0].Reused(); n != c.Reused0 {
			t.Fatalf("schedule 0 reuses %d cells, in Python %d", n, c.Reused0)
		}
		l, err := d.Loop(opt)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		worst := 0.0
		for k := 0; k < c.Schedules; k += stride {
			got := runSchedule(t, l, in, k)
			e := relativeError(got, g.output(t, fmt.Sprintf("%s.schedule%d", c.Name, k)))
			worst = math.Max(worst, e)
			if !(e <= 1e-4) {
				t.Errorf("schedule %d: relative error %.3g, want at most 1e-4", k, e)
			}
		}
		t.Logf("worst error of %d schedules %.2g", (c.Schedules+stride-1)/stride, worst)
	})
}

// runSchedule runs one schedule of a loop on its own state.
func runSchedule(t testing.TB, l *Loop, in Inputs, k int) []float32 {
	t.Helper()
	r, err := l.Start(in)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Do(context.Background(), k, ecad.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	x, err := r.Latents()
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// bfloat16 on the cpu backend may be at most 1.5 times as far from float64 as diffusers in bfloat16 is.
func TestBFloat16(t *testing.T) { families(t, bfloat16Goldens) }

func bfloat16Goldens(t *testing.T, g *goldens) {
	dev := openDevice(t, ecad.CPU)
	check := func(t *testing.T, c *goldenCase, got []float32) {
		e := relativeError(got, g.output(t, c.Name+".f64"))
		t.Logf("error %.2g, diffusers %.2g", e, c.BF16Error)
		if !(e <= 1.5*c.BF16Error) {
			t.Errorf("error against float64 %.3g, diffusers in bfloat16 has %.3g", e, c.BF16Error)
		}
		if c.RoundedError > 0 {
			e := relativeError(got, g.output(t, c.Name+".rounded"))
			t.Logf("with rounded timesteps: error %.2g, diffusers %.2g", e, c.RoundedError)
			if !(e <= 1.5*c.RoundedError) {
				t.Errorf("error against float64 with rounded timesteps %.3g, diffusers in bfloat16 has %.3g", e, c.RoundedError)
			}
		}
	}
	for _, c := range g.Forward {
		t.Run(c.Name, func(t *testing.T) {
			d := c.denoiser(t, dev)
			got, err := d.Predict(context.Background(), c.inputs(t, d.Model().Defaults()), c.forward(BFloat16), ecad.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			check(t, &c, got)
		})
	}
	for _, c := range g.Loop {
		t.Run(c.Name, func(t *testing.T) {
			d := c.denoiser(t, dev)
			opt := DenoiseOptions{Sizes: Sizes{DType: BFloat16}, Guidance: c.Guidance, Sampler: c.sampler(t, d.Model())}
			got, err := d.Denoise(context.Background(), c.inputs(t, d.Model().Defaults()), opt, ecad.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			check(t, &c, got)
		})
	}
}

// One call of the 28-block architecture at 256 pixels. Takes 4 GB and half a minute.
func TestFullSizeGolden(t *testing.T) {
	if os.Getenv("ECADX_TEST_FULL") == "" {
		t.Skip("SKIP: set ECADX_TEST_FULL=1 to run 610 million parameters (4 GB)")
	}
	g := readGoldens(t, "pixart_full")
	c := g.Forward[0]
	m, err := Open("random:pixart-alpha-256")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dev := openDevice(t, ecad.CPU)
	d := NewDenoiser(m, dev)
	defer d.Close()
	for _, run := range []struct {
		dtype DType
		name  string
		limit float64
	}{{Float32, c.Name, 1e-5}, {BFloat16, c.Name + ".f64", 1.5 * c.BF16Error}} {
		got, err := d.Predict(context.Background(), c.inputs(t, m.Defaults()), c.forward(run.dtype), ecad.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e := relativeError(got, g.output(t, run.name))
		t.Logf("%v: error %.2g", run.dtype, e)
		if !(e <= run.limit) {
			t.Errorf("%v: relative error %.3g, want at most %.3g", run.dtype, e, run.limit)
		}
	}
}
