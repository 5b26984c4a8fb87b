package sampler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"ecadx/dit/hfconfig"
)

// Family is the kind of solver.
type Family uint8

// The solvers.
const (
	DPMSolver Family = iota // DPM-Solver++ multistep
	DDIM
	FlowMatch // Euler steps along the flow
)

var families = []string{"DPMSolverMultistepScheduler", "DDIMScheduler", "FlowMatchEulerDiscreteScheduler"}

// Spacing is how timesteps are spread over the training range.
type Spacing uint8

// The spacings; see Table 2 of arXiv 2305.08891.
const (
	Linspace Spacing = iota
	Leading
	Trailing
)

var spacings = []string{"linspace", "leading", "trailing"}

// BetaSchedule is how the noise variances were made in training.
type BetaSchedule uint8

// The noise schedules.
const (
	LinearBetas BetaSchedule = iota
	ScaledLinearBetas
	CosineBetas
)

var betaSchedules = []string{"linear", "scaled_linear", "squaredcos_cap_v2"}

// Prediction is what the model's output means.
type Prediction uint8

// The predictions: the noise, the velocity alpha*noise - sigma*x0, x0 itself, or the velocity noise - x0 of a flow.
const (
	Epsilon Prediction = iota
	Velocity
	SampleX0
	FlowVelocity // FlowMatch alone
)

var predictions = []string{"epsilon", "v_prediction", "sample", "flow_prediction"}

// SolverType is the variant of the second-order update.
type SolverType uint8

// The second-order variants.
const (
	Midpoint SolverType = iota
	Heun
)

var solverTypes = []string{"midpoint", "heun"}

// FinalSigma is the noise level after the last step.
type FinalSigma uint8

// The final noise levels: none, or that of training timestep 0.
const (
	FinalZero FinalSigma = iota
	FinalSigmaMin
)

var finalSigmas = []string{"zero", "sigma_min"}

// SigmaSpacing is how noise levels are chosen; with any other than SigmasOfTimesteps the timesteps follow from them.
type SigmaSpacing uint8

// The choices of noise levels.
const (
	SigmasOfTimesteps SigmaSpacing = iota
	KarrasSigmas
	ExponentialSigmas
	LuSigmas
)

func (f Family) String() string       { return nameOf(families, f) }
func (s Spacing) String() string      { return nameOf(spacings, s) }
func (b BetaSchedule) String() string { return nameOf(betaSchedules, b) }
func (p Prediction) String() string   { return nameOf(predictions, p) }
func (s SolverType) String() string   { return nameOf(solverTypes, s) }
func (f FinalSigma) String() string   { return nameOf(finalSigmas, f) }
func (s SigmaSpacing) String() string {
	return nameOf([]string{"timesteps", "karras", "exponential", "lu"}, s)
}

func nameOf[E ~uint8](names []string, e E) string {
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("invalid(%d)", e)
}

// Config is a scheduler configuration, checked by Validate. Start from DefaultDPMSolver, DefaultDDIM, DefaultFlowMatch or ParseConfig.
type Config struct {
	Family         Family
	TrainTimesteps int     // length of the training schedule
	BetaStart      float64 // variance of training timestep 0
	BetaEnd        float64 // variance of the last one
	BetaSchedule   BetaSchedule
	TrainedBetas   []float64 // given variances, instead of the three fields above; nil for none
	ZeroSNR        bool      // rescale_betas_zero_snr, arXiv 2305.08891 Algorithm 1
	Prediction     Prediction
	Spacing        Spacing
	StepsOffset    int // added to leading timesteps

	// DPM-Solver++ only.
	SolverOrder     int // 1, 2 or 3
	SolverType      SolverType
	LowerOrderFinal bool // lower orders in the last steps when there are fewer than 15
	EulerAtFinal    bool // first order in the last step
	FinalSigma      FinalSigma
	SigmaSpacing    SigmaSpacing
	LambdaMinClip   float64 // timesteps whose log signal-to-noise ratio (half of it) is below are left out; -Inf for none

	// DDIM only.
	ClipSample      bool    // clamp x0 to [-ClipSampleRange, ClipSampleRange]
	ClipSampleRange float64 //
	SetAlphaToOne   bool    // the last step ends without noise instead of at the level of training timestep 0

	Flow Flow // FlowMatch only, which has none of the above but TrainTimesteps and Prediction
}

// DefaultDPMSolver returns the defaults of diffusers' DPMSolverMultistepScheduler, which are PixArt's settings.
func DefaultDPMSolver() Config {
	return Config{Family: DPMSolver, TrainTimesteps: 1000, BetaStart: 1e-4, BetaEnd: 0.02, SolverOrder: 2, LowerOrderFinal: true,
		LambdaMinClip: math.Inf(-1), Spacing: Linspace}
}

// DefaultDDIM returns the defaults of diffusers' DDIMScheduler. They clip x0 to [-1, 1], which damages latents: for latent
// models set ClipSample to false.
func DefaultDDIM() Config {
	return Config{Family: DDIM, TrainTimesteps: 1000, BetaStart: 1e-4, BetaEnd: 0.02, Spacing: Leading, ClipSample: true,
		ClipSampleRange: 1, SetAlphaToOne: true, SolverOrder: 1, LambdaMinClip: math.Inf(-1)}
}

// file is scheduler_config.json. Pointers tell a missing or null key from a value.
type file struct {
	Class            string           `json:"_class_name"`
	TrainTimesteps   *int             `json:"num_train_timesteps"`
	BetaStart        *hfconfig.Float  `json:"beta_start"`
	BetaEnd          *hfconfig.Float  `json:"beta_end"`
	BetaSchedule     *string          `json:"beta_schedule"`
	TrainedBetas     []hfconfig.Float `json:"trained_betas"`
	SolverOrder      *int             `json:"solver_order"`
	Prediction       *string          `json:"prediction_type"`
	Thresholding     bool             `json:"thresholding"`
	Algorithm        *string          `json:"algorithm_type"`
	SolverType       *string          `json:"solver_type"`
	LowerOrderFinal  *bool            `json:"lower_order_final"`
	EulerAtFinal     *bool            `json:"euler_at_final"`
	Karras           bool             `json:"use_karras_sigmas"`
	Exponential      bool             `json:"use_exponential_sigmas"`
	Beta             bool             `json:"use_beta_sigmas"`
	Lu               bool             `json:"use_lu_lambdas"`
	Flow             bool             `json:"use_flow_sigmas"`
	FinalSigma       *string          `json:"final_sigmas_type"`
	LambdaMinClipped *hfconfig.Float  `json:"lambda_min_clipped"`
	VarianceType     *string          `json:"variance_type"`
	Spacing          *string          `json:"timestep_spacing"`
	StepsOffset      *int             `json:"steps_offset"`
	ZeroSNR          bool             `json:"rescale_betas_zero_snr"`
	DynamicShifting  bool             `json:"use_dynamic_shifting"`
	ClipSample       *bool            `json:"clip_sample"`
	ClipRange        *hfconfig.Float  `json:"clip_sample_range"`
	SetAlphaToOne    *bool            `json:"set_alpha_to_one"`
	Shift            *hfconfig.Float  `json:"shift"`
	BaseShift        *hfconfig.Float  `json:"base_shift"`
	MaxShift         *hfconfig.Float  `json:"max_shift"`
	BaseTokens       *int             `json:"base_image_seq_len"`
	MaxTokens        *int             `json:"max_image_seq_len"`
	TimeShift        *string          `json:"time_shift_type"`
	ShiftTerminal    *hfconfig.Float  `json:"shift_terminal"`
	InvertSigmas     bool             `json:"invert_sigmas"`
	Stochastic       bool             `json:"stochastic_sampling"`
}

// ParseConfig reads a scheduler_config.json. Missing keys and nulls take diffusers' defaults for the class; unknown keys are
// ignored. The returned configuration is valid.
func ParseConfig(data []byte) (Config, error) {
	var f file
	if err := hfconfig.Decode(data, &f); err != nil {
		return Config{}, err
	}
	var family Family
	if err := choose(&family, families, "_class_name", &f.Class); err != nil {
		return Config{}, err
	}
	c := [...]func() Config{DPMSolver: DefaultDPMSolver, DDIM: DefaultDDIM, FlowMatch: DefaultFlowMatch}[family]()
	set(&c.TrainTimesteps, f.TrainTimesteps)
	if family == FlowMatch {
		if err := c.readFlow(&f); err != nil {
			return Config{}, err
		}
		return c, c.Validate()
	}
	setFloat(&c.BetaStart, f.BetaStart)
	setFloat(&c.BetaEnd, f.BetaEnd)
	for _, b := range f.TrainedBetas {
		c.TrainedBetas = append(c.TrainedBetas, float64(b))
	}
	set(&c.StepsOffset, f.StepsOffset)
	c.ZeroSNR = f.ZeroSNR
	for _, err := range []error{
		choose(&c.BetaSchedule, betaSchedules, "beta_schedule", f.BetaSchedule),
		choose(&c.Prediction, predictions[:FlowVelocity], "prediction_type", f.Prediction),
		choose(&c.Spacing, spacings, "timestep_spacing", f.Spacing),
		refuse("thresholding", f.Thresholding),
	} {
		if err != nil {
			return Config{}, err
		}
	}
	if family == DDIM {
		set(&c.ClipSample, f.ClipSample)
		setFloat(&c.ClipSampleRange, f.ClipRange)
		set(&c.SetAlphaToOne, f.SetAlphaToOne)
	} else if err := c.readSolver(&f); err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

// readSolver reads the keys that only DPMSolverMultistepScheduler has.
func (c *Config) readSolver(f *file) error {
	set(&c.SolverOrder, f.SolverOrder)
	set(&c.LowerOrderFinal, f.LowerOrderFinal)
	set(&c.EulerAtFinal, f.EulerAtFinal)
	setFloat(&c.LambdaMinClip, f.LambdaMinClipped)
	if f.SolverType != nil && slices.Contains([]string{"logrho", "bh1", "bh2"}, *f.SolverType) {
		*f.SolverType = "midpoint" // names of other multistep schedulers, which diffusers maps in the same way
	}
	if f.Algorithm != nil && *f.Algorithm != "dpmsolver++" && *f.Algorithm != "deis" {
		return fmt.Errorf("key %q: %q is not supported (allowed: \"dpmsolver++\")", "algorithm_type", *f.Algorithm)
	}
	if f.VarianceType != nil {
		return fmt.Errorf("key %q: %q is not supported (allowed: null); it would keep three channels of the latents", "variance_type", *f.VarianceType)
	}
	for _, s := range []struct {
		on      bool
		spacing SigmaSpacing
	}{{f.Karras, KarrasSigmas}, {f.Lu, LuSigmas}, {f.Exponential, ExponentialSigmas}} { // first wins, as in diffusers
		if s.on && c.SigmaSpacing == SigmasOfTimesteps {
			c.SigmaSpacing = s.spacing
		}
	}
	if f.Karras && f.Exponential {
		return fmt.Errorf("keys %q and %q: only one may be true", "use_karras_sigmas", "use_exponential_sigmas")
	}
	for _, err := range []error{
		choose(&c.SolverType, solverTypes, "solver_type", f.SolverType),
		choose(&c.FinalSigma, finalSigmas, "final_sigmas_type", f.FinalSigma),
		refuse("use_beta_sigmas", f.Beta),
		refuse("use_flow_sigmas", f.Flow),
		refuse("use_dynamic_shifting", f.DynamicShifting),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

func setFloat(dst *float64, v *hfconfig.Float) {
	if v != nil {
		*dst = float64(*v)
	}
}

func refuse(key string, on bool) error {
	if on {
		return fmt.Errorf("key %q: true is not supported (allowed: false)", key)
	}
	return nil
}

// choose sets dst to the index of *v in names; nil keeps dst.
func choose[E ~uint8](dst *E, names []string, key string, v *string) error {
	if v == nil {
		return nil
	}
	i := slices.Index(names, *v)
	if i < 0 {
		return fmt.Errorf("key %q: %q is not supported (allowed: \"%s\")", key, *v, strings.Join(names, `", "`))
	}
	*dst = E(i)
	return nil
}

// maxTrainTimesteps bounds the tables; released models have 1000.
const maxTrainTimesteps = 1 << 17

// Validate checks every field and names the JSON key of the first that is wrong.
func (c Config) Validate() error {
	bad := func(key string, v any, allowed string) error {
		return fmt.Errorf("key %q: %v is not valid (allowed: %s)", key, v, allowed)
	}
	inUnit := func(b float64) bool { return b > 0 && b < 1 }
	switch {
	case int(c.Family) >= len(families):
		return bad("_class_name", c.Family, strings.Join(families, ", "))
	case c.TrainTimesteps < 2 || c.TrainTimesteps > maxTrainTimesteps:
		return bad("num_train_timesteps", c.TrainTimesteps, fmt.Sprintf("2 to %d", maxTrainTimesteps))
	case c.Family == FlowMatch && c.Prediction != FlowVelocity:
		return bad("prediction_type", c.Prediction, FlowVelocity.String())
	case c.Family == FlowMatch:
		return c.Flow.validate()
	case c.TrainedBetas != nil && len(c.TrainedBetas) != c.TrainTimesteps:
		return bad("trained_betas", fmt.Sprintf("a list of %d numbers", len(c.TrainedBetas)), fmt.Sprintf("null, or num_train_timesteps = %d numbers", c.TrainTimesteps))
	case c.TrainedBetas != nil && slices.ContainsFunc(c.TrainedBetas, func(b float64) bool { return !inUnit(b) }):
		return bad("trained_betas", "a number outside (0, 1)", "numbers above 0 and below 1")
	case !inUnit(c.BetaStart):
		return bad("beta_start", c.BetaStart, "above 0 and below 1")
	case !inUnit(c.BetaEnd):
		return bad("beta_end", c.BetaEnd, "above 0 and below 1")
	case int(c.BetaSchedule) >= len(betaSchedules):
		return bad("beta_schedule", c.BetaSchedule, strings.Join(betaSchedules, ", "))
	case c.Prediction >= FlowVelocity:
		return bad("prediction_type", c.Prediction, strings.Join(predictions[:FlowVelocity], ", "))
	case int(c.Spacing) >= len(spacings):
		return bad("timestep_spacing", c.Spacing, strings.Join(spacings, ", "))
	case c.StepsOffset < 0 || c.StepsOffset >= c.TrainTimesteps:
		return bad("steps_offset", c.StepsOffset, "0 to num_train_timesteps - 1")
	case c.SolverOrder < 1 || c.SolverOrder > 3:
		return bad("solver_order", c.SolverOrder, "1, 2, 3")
	case int(c.SolverType) >= len(solverTypes):
		return bad("solver_type", c.SolverType, strings.Join(solverTypes, ", "))
	case int(c.FinalSigma) >= len(finalSigmas):
		return bad("final_sigmas_type", c.FinalSigma, strings.Join(finalSigmas, ", "))
	case c.SigmaSpacing > LuSigmas:
		return bad("use_karras_sigmas", c.SigmaSpacing, "timesteps, karras, exponential, lu")
	case math.IsNaN(c.LambdaMinClip) || math.IsInf(c.LambdaMinClip, 1):
		return bad("lambda_min_clipped", c.LambdaMinClip, "a number or -Infinity")
	case c.ClipSample && !(c.ClipSampleRange > 0 && c.ClipSampleRange <= math.MaxFloat32):
		return bad("clip_sample_range", c.ClipSampleRange, "above 0")
	}
	return nil
}
