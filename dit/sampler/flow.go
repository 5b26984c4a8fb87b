package sampler

import (
	"fmt"
	"math"
	"strings"
)

// TimeShift is the formula by which noise levels are moved towards more noise.
type TimeShift uint8

// The formulas, with mu the shift: exponential e^mu / (e^mu + 1/sigma - 1), linear with mu in place of e^mu.
const (
	ExponentialShift TimeShift = iota
	LinearShift
)

var timeShifts = []string{"exponential", "linear"}

func (t TimeShift) String() string { return nameOf(timeShifts, t) }

// Flow are the settings that only FlowMatchEulerDiscreteScheduler has.
type Flow struct {
	Shift float64 // sigma' = Shift sigma / (1 + (Shift - 1) sigma), unless Dynamic
	// Dynamic shifting takes mu from the number of image tokens: the line through (BaseTokens, BaseShift) and (MaxTokens, MaxShift).
	Dynamic               bool
	BaseShift, MaxShift   float64
	BaseTokens, MaxTokens int
	TimeShift             TimeShift
	// Tokens is the number of image tokens, which no file holds: see Config.ForTokens.
	Tokens int
}

// DefaultFlowMatch returns the defaults of diffusers' FlowMatchEulerDiscreteScheduler, which are FLUX.1-schnell's settings.
func DefaultFlowMatch() Config {
	return Config{Family: FlowMatch, TrainTimesteps: 1000, Prediction: FlowVelocity,
		Flow: Flow{Shift: 1, BaseShift: 0.5, MaxShift: 1.15, BaseTokens: 256, MaxTokens: 4096}}
}

// FluxDev returns FLUX.1-dev's settings.
func FluxDev() Config {
	c := DefaultFlowMatch()
	c.Flow.Shift, c.Flow.Dynamic = 3, true
	return c
}

// ForTokens returns the configuration for pictures of so many image tokens, which dynamic shifting needs to know.
func (c Config) ForTokens(n int) Config {
	c.Flow.Tokens = n
	return c
}

// readFlow reads the keys that only FlowMatchEulerDiscreteScheduler has.
func (c *Config) readFlow(f *file) error {
	setFloat(&c.Flow.Shift, f.Shift)
	setFloat(&c.Flow.BaseShift, f.BaseShift)
	setFloat(&c.Flow.MaxShift, f.MaxShift)
	set(&c.Flow.BaseTokens, f.BaseTokens)
	set(&c.Flow.MaxTokens, f.MaxTokens)
	c.Flow.Dynamic = f.DynamicShifting
	if f.ShiftTerminal != nil && *f.ShiftTerminal != 0 {
		return fmt.Errorf("key %q: %v is not supported (allowed: null)", "shift_terminal", *f.ShiftTerminal)
	}
	for _, err := range []error{
		choose(&c.Flow.TimeShift, timeShifts, "time_shift_type", f.TimeShift),
		refuse("invert_sigmas", f.InvertSigmas),
		refuse("stochastic_sampling", f.Stochastic),
		refuse("use_karras_sigmas", f.Karras),
		refuse("use_exponential_sigmas", f.Exponential),
		refuse("use_beta_sigmas", f.Beta),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// maxShift bounds shifts; released models have at most 3.
const maxShift = 100

func (f Flow) validate() error {
	bad := func(key string, v any, allowed string) error {
		return fmt.Errorf("key %q: %v is not valid (allowed: %s)", key, v, allowed)
	}
	inRange := func(v float64) bool { return v > 0 && v <= maxShift }
	switch {
	case !inRange(f.Shift):
		return bad("shift", f.Shift, fmt.Sprintf("above 0, at most %d", maxShift))
	case !inRange(f.BaseShift):
		return bad("base_shift", f.BaseShift, fmt.Sprintf("above 0, at most %d", maxShift))
	case !inRange(f.MaxShift):
		return bad("max_shift", f.MaxShift, fmt.Sprintf("above 0, at most %d", maxShift))
	case f.BaseTokens < 1 || f.BaseTokens > 1<<20:
		return bad("base_image_seq_len", f.BaseTokens, fmt.Sprintf("1 to %d", 1<<20))
	case f.MaxTokens <= f.BaseTokens || f.MaxTokens > 1<<24:
		return bad("max_image_seq_len", f.MaxTokens, fmt.Sprintf("above base_image_seq_len, at most %d", 1<<24))
	case int(f.TimeShift) >= len(timeShifts):
		return bad("time_shift_type", f.TimeShift, strings.Join(timeShifts, ", "))
	}
	return nil
}

// mu is the dynamic shift. Source: calculate_shift in diffusers' pipeline_flux.py.
func (f Flow) mu() float64 {
	m := (f.MaxShift - f.BaseShift) / float64(f.MaxTokens-f.BaseTokens)
	return float64(float64(f.Tokens)*m) + (f.BaseShift - float64(m*float64(f.BaseTokens)))
}

// flowMatch fills the loop of Euler steps along the flow (arXiv 2210.02747, 2403.03206): x' = x + (sigma' - sigma) v, noise levels
// spread evenly from 1 to 1/steps as FluxPipeline does, then shifted, in float32 as there.
func (s *Sampler) flowMatch(steps int) error {
	f := s.Config.Flow
	if f.Dynamic && f.Tokens < 1 {
		return fmt.Errorf("key %q: the shift depends on the picture's size: say how many image tokens it has", "use_dynamic_shifting")
	}
	k := float32(f.Shift)
	if f.Dynamic {
		mu := f.mu()
		if k = float32(mu); f.TimeShift == ExponentialShift {
			k = float32(math.Exp(mu))
		}
		if !(k > 0) {
			return fmt.Errorf("key %q: %d image tokens make a shift of %g: use a larger picture", "base_shift", f.Tokens, k)
		}
	}
	for _, v := range linspace64(1, 1/float64(steps), steps) {
		sigma := float32(v)
		if f.Dynamic {
			sigma = k / (k + float32(float32(1/sigma)-1))
		} else {
			sigma = float32(k*sigma) / float32(1+float32(float32(f.Shift-1)*sigma))
		}
		s.Sigmas = append(s.Sigmas, float64(sigma))
		s.Timesteps = append(s.Timesteps, float64(sigma*float32(s.Config.TrainTimesteps)))
	}
	s.Sigmas = append(s.Sigmas, 0)
	for i, t := range s.Timesteps {
		s.Steps = append(s.Steps, Step{Timestep: t, ScaleInput: 1, X0: X0Coef{Sample: 1, Model: -s.Sigmas[i]},
			Next: NextCoef{Sample: 1, Model: float64(float32(s.Sigmas[i+1]) - float32(s.Sigmas[i]))}})
	}
	return nil
}
