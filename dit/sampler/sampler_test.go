package sampler_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"ecadx/dit/sampler"
)

type goldens struct {
	Tables map[string]struct {
		At    []int
		Alpha []float64 `json:"alphas_cumprod"`
	}
	Cases []struct {
		Config    json.RawMessage
		Steps     int
		Tokens    int // of the picture, for dynamic shifting
		Timesteps []float64
		Sigmas    []float64
		Latents   [][]float64
	}
}

func load(t *testing.T) goldens {
	t.Helper()
	f, err := os.Open("testdata/golden.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var g goldens
	if err := json.NewDecoder(z).Decode(&g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 200 {
		t.Fatalf("only %d cases", len(g.Cases))
	}
	return g
}

// run is the loop of testdata/make.py in the arithmetic of F; it returns the latents after each step.
func run[F float32 | float64](t *testing.T, s *sampler.Sampler) [][]F {
	t.Helper()
	x := make([]F, 8)
	for j := range x {
		x[j] = F(math.Cos(float64(1 + j)))
	}
	var all [][]F
	model := func(step int, in, out []F) error {
		for j := range in {
			out[j] = F(0.3)*in[j] + F(math.Sin(float64(j)+s.Timesteps[step]/100))
		}
		return nil
	}
	if err := sampler.Run(s, x, model, func(_ int, x []F) { all = append(all, slices.Clone(x)) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// worst returns the largest difference relative to the largest latent of the step. NaN counts as infinite.
func worst[F float32 | float64](got [][]F, want [][]float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	most := 0.0
	for i := range want {
		scale := 0.0
		for _, w := range want[i] {
			scale = max(scale, math.Abs(w))
		}
		for j, w := range want[i] {
			if d := math.Abs(float64(got[i][j])-w) / scale; !(d <= most) {
				if math.IsNaN(d) {
					return math.Inf(1)
				}
				most = d
			}
		}
	}
	return most
}

// TestGolden compares with float32 diffusers: timesteps exactly, sigmas to 1e-6, the latents of every step to 1e-5.
func TestGolden(t *testing.T) {
	var top float64
	for _, c := range load(t).Cases {
		name := fmt.Sprintf("%s/%d", c.Config, c.Steps)
		cfg, err := sampler.ParseConfig(c.Config)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s, err := sampler.New(cfg.ForTokens(c.Tokens), c.Steps)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(s.Timesteps, c.Timesteps) {
			t.Errorf("%s: timesteps %v\nwant %v", name, s.Timesteps, c.Timesteps)
			continue
		}
		if len(s.Sigmas) != len(c.Timesteps)+1 || len(s.Steps) != len(c.Timesteps) {
			t.Errorf("%s: %d sigmas, %d steps", name, len(s.Sigmas), len(s.Steps))
		}
		tol := 1e-6
		if cfg.ZeroSNR {
			tol = 5e-6 // torch's vectorised float32 sqrt is not correctly rounded, and 1-alphas_cumprod amplifies its last bit
		}
		for i, w := range c.Sigmas {
			if !(math.Abs(s.Sigmas[i]-w) <= tol*w) {
				t.Errorf("%s: sigma %d is %v, want %v", name, i, s.Sigmas[i], w)
			}
		}
		e32, e64 := worst(run[float32](t, s), c.Latents), worst(run[float64](t, s), c.Latents)
		top = max(top, e64)
		if !(e64 <= 1e-5) || !(e32 <= 2e-5) {
			t.Errorf("%s: latents differ by %.2g (float64), %.2g (float32)", name, e64, e32)
		}
	}
	t.Logf("largest difference to diffusers %.2g", top)
}

func TestTables(t *testing.T) {
	for name, g := range load(t).Tables {
		cfg := sampler.DefaultDDIM()
		switch name {
		case "scaled_linear":
			cfg.BetaSchedule, cfg.BetaStart, cfg.BetaEnd = sampler.ScaledLinearBetas, 0.00085, 0.012
		case "cosine":
			cfg.BetaSchedule = sampler.CosineBetas
		}
		s, err := sampler.New(cfg, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range g.At {
			sigma := s.Sigmas[999-at]
			if got := 1 / (1 + sigma*sigma); !(math.Abs(got-g.Alpha[i]) <= 1e-6*g.Alpha[i]) {
				t.Errorf("%s: alphas_cumprod[%d] = %v, want %v", name, at, got, g.Alpha[i])
			}
		}
	}
}

// TestExact checks the property the solvers are built on: with the true x0 as prediction every solver that ends without
// noise returns x0.
func TestExact(t *testing.T) {
	for _, cfg := range []sampler.Config{sampler.DefaultDPMSolver(), sampler.DefaultDDIM()} {
		cfg.Prediction, cfg.ClipSample = sampler.SampleX0, false
		for order := 1; order <= 3; order++ {
			cfg.SolverOrder = order
			s, err := sampler.New(cfg, 20)
			if err != nil {
				t.Fatal(err)
			}
			x := []float64{5, -3}
			err = sampler.Run(s, x, func(_ int, _, out []float64) error { copy(out, []float64{0.25, 1.5}); return nil }, nil)
			if err != nil || !(math.Abs(x[0]-0.25) <= 1e-12 && math.Abs(x[1]-1.5) <= 1e-12) {
				t.Errorf("%v order %d: ended at %v, %v", cfg.Family, order, x, err)
			}
			if want := map[bool]int{true: order - 1, false: 0}[cfg.Family == sampler.DPMSolver]; s.History != want {
				t.Errorf("%v order %d: history %d, want %d", cfg.Family, order, s.History, want)
			}
		}
	}
}

// FLUX.1-dev's noise levels at 256 pixels with 20 steps, and schnell's four.
func TestFluxSettings(t *testing.T) {
	dev, err := sampler.ParseConfig([]byte(`{"_class_name":"FlowMatchEulerDiscreteScheduler","base_image_seq_len":256,"base_shift":0.5,"max_image_seq_len":4096,
		"max_shift":1.15,"num_train_timesteps":1000,"shift":3.0,"use_dynamic_shifting":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if dev.Flow != sampler.FluxDev().Flow {
		t.Errorf("the file says %+v, FluxDev %+v", dev.Flow, sampler.FluxDev().Flow)
	}
	for _, c := range []struct {
		config sampler.Config
		sigmas []float64
	}{
		{dev.ForTokens(256), []float64{1, .969065, .936863, .903314, .868332, .831824, .793688, .75381, .712071, .668336, .622459, .574279, .523616,
			.470275, .414038, .354661, .291875, .225377, .154828, .079846, 0}},
		{sampler.DefaultFlowMatch(), []float64{1, .75, .5, .25, 0}},
	} {
		s, err := sampler.New(c.config, len(c.sigmas)-1)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.sigmas {
			if !(math.Abs(s.Sigmas[i]-want) <= 1e-6) {
				t.Errorf("sigma %d is %v, want %v", i, s.Sigmas[i], want)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	// An old file: newer keys are missing, unknown ones present, lambda_min_clipped is -Infinity.
	c, err := sampler.ParseConfig([]byte(`{"_class_name":"DPMSolverMultistepScheduler","_diffusers_version":"0.22","lambda_min_clipped":-Infinity,
		"trained_betas":null,"variance_type":null,"solver_order":2,"skip":{"x":1},"algorithm_type":"dpmsolver++","solver_type":"bh2"}`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sampler.New(c, 20)
	if err != nil {
		t.Fatal(err)
	}
	d, err := sampler.New(sampler.DefaultDPMSolver(), 20)
	if err != nil {
		t.Fatal(err)
	}
	want := []float64{999, 949, 899, 849, 799, 749, 699, 649, 599, 549, 500, 450, 400, 350, 300, 250, 200, 150, 100, 50}
	if !slices.Equal(s.Timesteps, want) || !slices.Equal(s.Steps, d.Steps) || s.InitNoiseSigma != 1 || s.History != 1 {
		t.Errorf("defaults give %v", s.Timesteps)
	}
	if last := s.Steps[19].Next; last != (sampler.NextCoef{X0: 1}) {
		t.Errorf("the last step is %+v", last)
	}
}

func TestErrors(t *testing.T) {
	dpm := `{"_class_name":"DPMSolverMultistepScheduler",`
	flow := `{"_class_name":"FlowMatchEulerDiscreteScheduler",`
	for in, want := range map[string]string{
		`{`:                               "not JSON",
		`{}`:                              `key "_class_name": "" is not supported (allowed: "DPMSolverMultistepScheduler", "DDIMScheduler", "FlowMatchEulerDiscreteScheduler")`,
		`{"_class_name":"PNDMScheduler"}`: "PNDMScheduler",
		dpm + `"solver_order":4}`:         `key "solver_order": 4 is not valid (allowed: 1, 2, 3)`,
		dpm + `"solver_order":"2"}`:       `key "solver_order": found a string`,
		dpm + `"solver_type":"x"}`:        `key "solver_type"`,
		dpm + `"algorithm_type":"sde-dpmsolver++"}`:                     `key "algorithm_type": "sde-dpmsolver++"`,
		dpm + `"thresholding":true}`:                                    `key "thresholding"`,
		dpm + `"variance_type":"learned_range"}`:                        `key "variance_type"`,
		dpm + `"use_beta_sigmas":true}`:                                 `key "use_beta_sigmas"`,
		dpm + `"use_flow_sigmas":true}`:                                 `key "use_flow_sigmas"`,
		dpm + `"use_dynamic_shifting":true}`:                            `key "use_dynamic_shifting"`,
		dpm + `"use_karras_sigmas":true,"use_exponential_sigmas":true}`: "only one",
		dpm + `"prediction_type":"flow_prediction"}`:                    `key "prediction_type": "flow_prediction" is not supported (allowed: "epsilon`,
		dpm + `"timestep_spacing":"x"}`:                                 `key "timestep_spacing"`,
		dpm + `"beta_schedule":"sigmoid"}`:                              `key "beta_schedule"`,
		dpm + `"final_sigmas_type":"x"}`:                                `key "final_sigmas_type"`,
		dpm + `"num_train_timesteps":0}`:                                `key "num_train_timesteps"`,
		dpm + `"num_train_timesteps":1000000000000}`:                    `key "num_train_timesteps"`,
		dpm + `"beta_end":NaN}`:                                         `key "beta_end"`,
		dpm + `"beta_start":-Infinity}`:                                 `key "beta_start"`,
		dpm + `"beta_start":0}`:                                         `key "beta_start"`,
		dpm + `"trained_betas":[0.1]}`:                                  `key "trained_betas"`,
		dpm + `"steps_offset":-1}`:                                      `key "steps_offset"`,
		dpm + `"lambda_min_clipped":NaN}`:                               `key "lambda_min_clipped"`,
		`{"_class_name":"DDIMScheduler","clip_sample_range":-1}`:        `key "clip_sample_range"`,
		flow + `"shift":0}`:                                             `key "shift"`,
		flow + `"shift":NaN}`:                                           `key "shift"`,
		flow + `"base_shift":-Infinity}`:                                `key "base_shift"`,
		flow + `"max_shift":1e30}`:                                      `key "max_shift"`,
		flow + `"base_image_seq_len":0}`:                                `key "base_image_seq_len"`,
		flow + `"max_image_seq_len":256}`:                               `key "max_image_seq_len"`,
		flow + `"time_shift_type":"cubic"}`:                             `key "time_shift_type"`,
		flow + `"shift_terminal":0.1}`:                                  `key "shift_terminal"`,
		flow + `"invert_sigmas":true}`:                                  `key "invert_sigmas"`,
		flow + `"stochastic_sampling":true}`:                            `key "stochastic_sampling"`,
		flow + `"use_karras_sigmas":true}`:                              `key "use_karras_sigmas"`,
		flow + `"num_train_timesteps":1000000000000}`:                   `key "num_train_timesteps"`,
	} {
		if _, err := sampler.ParseConfig([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
	c := sampler.DefaultDPMSolver()
	for _, n := range []int{-1, 0, 1001} {
		if _, err := sampler.New(c, n); err == nil || !strings.Contains(err.Error(), "1 to 1000") {
			t.Errorf("%d steps: %v", n, err)
		}
	}
	c.LambdaMinClip = 100
	if _, err := sampler.New(c, 4); err == nil || !strings.Contains(err.Error(), "lambda_min_clipped") {
		t.Errorf("everything clipped: %v", err)
	}
	d := sampler.DefaultDDIM()
	d.ZeroSNR, d.Spacing = true, sampler.Trailing
	if _, err := sampler.New(d, 4); err == nil || !strings.Contains(err.Error(), "v_prediction") {
		t.Errorf("noise prediction at zero signal: %v", err)
	}
	d = sampler.DefaultDDIM()
	d.StepsOffset = 999
	if _, err := sampler.New(d, 4); err == nil || !strings.Contains(err.Error(), "steps_offset") {
		t.Errorf("timestep out of range: %v", err)
	}
	if _, err := sampler.New(sampler.FluxDev(), 4); err == nil || !strings.Contains(err.Error(), "image tokens") {
		t.Errorf("dynamic shift of a picture of unknown size: %v", err)
	}
	boom := fmt.Errorf("boom")
	s, _ := sampler.New(sampler.DefaultDPMSolver(), 2)
	if err := sampler.Run(s, []float32{1}, func(int, []float32, []float32) error { return boom }, nil); err == nil || !strings.Contains(err.Error(), "step 0") {
		t.Errorf("model error: %v", err)
	}
}

// FuzzParse: any bytes give an error or a configuration whose loops are finite.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped":-5.1,"solver_order":3,"use_karras_sigmas":true}`), 4)
	f.Add([]byte(`{"_class_name":"DDIMScheduler","prediction_type":"v_prediction","rescale_betas_zero_snr":true,"timestep_spacing":"trailing"}`), 20)
	f.Add([]byte(`{"_class_name":"DPMSolverMultistepScheduler","trained_betas":[0.1,0.2],"num_train_timesteps":2,"timestep_spacing":"leading"}`), 2)
	f.Add([]byte(`{"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true,"max_shift":1.15,"time_shift_type":"linear"}`), 4)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		c, err := sampler.ParseConfig(data)
		if err != nil {
			return
		}
		s, err := sampler.New(c.ForTokens(n*n%5000), n)
		if err != nil {
			return
		}
		if len(s.Steps) == 0 || len(s.Steps) != len(s.Timesteps) || len(s.Sigmas) != len(s.Steps)+1 {
			t.Fatalf("inconsistent sampler for %s", data)
		}
	})
}
