package sampler

import (
	"fmt"
	"math"
)

// Sampler is the denoising loop of one configuration and number of steps. It is immutable.
type Sampler struct {
	Config         Config
	Timesteps      []float64 // what the model is given, per step, most noise first
	Sigmas         []float64 // noise over signal before each step and after the last: len(Timesteps)+1 values
	InitNoiseSigma float64   // the first latents are standard normal noise times this
	History        int       // how many x0 of earlier steps any step reads: 0, 1 or 2
	Steps          []Step    // one per timestep
}

// Step holds the coefficients of one step; see the package comment. Unused ones are 0.
type Step struct {
	Timestep   float64
	ScaleInput float64 // the model is given ScaleInput*x
	X0         X0Coef
	Clamp      Clamp
	Next       NextCoef
}

// X0Coef combines the latents and the model's output into the predicted x0.
type X0Coef struct{ Sample, Model float64 }

// Clamp limits x0 to [Lo, Hi] when On.
type Clamp struct {
	On     bool
	Lo, Hi float64
}

// NextCoef combines latents, model output and the x0 of this step and of the two before into the next latents.
type NextCoef struct{ Sample, Model, X0, Prev, PrevPrev float64 }

// New computes the loop for a number of steps, 1 to Config.TrainTimesteps. As in diffusers, trailing spacing can give
// another number of steps when LambdaMinClip cuts the range; len(Steps) is the truth. Dynamic shifting needs Config.ForTokens. Errors name the option that makes the
// loop impossible.
func New(c Config, steps int) (*Sampler, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if steps < 1 || steps > c.TrainTimesteps {
		return nil, fmt.Errorf("%d steps: give 1 to %d, the length of the training schedule", steps, c.TrainTimesteps)
	}
	s := &Sampler{Config: c, InitNoiseSigma: 1}
	if err := s.fill(steps); err != nil {
		return nil, err
	}
	for i, st := range s.Steps {
		for _, v := range []float64{st.X0.Sample, st.X0.Model, st.Next.Sample, st.Next.Model, st.Next.X0, st.Next.Prev, st.Next.PrevPrev} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("step %d (timestep %g) has no finite coefficients: use fewer steps, another timestep_spacing, or, with rescale_betas_zero_snr, prediction_type \"v_prediction\"", i, st.Timestep)
			}
		}
		switch {
		case st.Next.PrevPrev != 0:
			s.History = 2
		case st.Next.Prev != 0:
			s.History = max(s.History, 1)
		}
	}
	return s, nil
}

// fill computes timesteps, noise levels and steps.
func (s *Sampler) fill(steps int) error {
	if s.Config.Family == FlowMatch {
		return s.flowMatch(steps)
	}
	t, err := newTables(s.Config)
	if err != nil {
		return err
	}
	if s.Config.Family == DDIM {
		return s.ddim(t, steps)
	}
	return s.dpmSolver(t, steps)
}

// split splits a noise level into the factors of signal and noise: alpha^2 + sigma^2 = 1.
func split(sigma float64) (alpha, noise float64) {
	alpha = 1 / math.Sqrt(sigma*sigma+1)
	return alpha, sigma * alpha
}

// predict returns x0 as a combination of latents and model output.
func predict(p Prediction, alpha, noise float64) X0Coef {
	switch p {
	case Velocity:
		return X0Coef{Sample: alpha, Model: -noise}
	case SampleX0:
		return X0Coef{Model: 1}
	}
	return X0Coef{Sample: 1 / alpha, Model: -noise / alpha}
}

func (s *Sampler) dpmSolver(t tables, steps int) error {
	c := s.Config
	if n := t.lastTimestep(c); n < 1 {
		return fmt.Errorf("key %q: %g leaves no timesteps", "lambda_min_clipped", c.LambdaMinClip)
	}
	if c.SigmaSpacing == SigmasOfTimesteps {
		s.Timesteps = t.timesteps(c, steps)
		for _, ts := range s.Timesteps {
			s.Sigmas = append(s.Sigmas, t.sigmaAt(ts))
		}
	} else {
		s.Sigmas, s.Timesteps = t.spacedSigmas(c, steps)
	}
	last := 0.0
	if c.FinalSigma == FinalSigmaMin {
		last = float64(t.sigmas[0])
	}
	s.Sigmas = append(s.Sigmas, last)
	for i, v := range s.Sigmas {
		s.Sigmas[i] = float64(float32(v))
	}
	n := len(s.Timesteps)
	for i, ts := range s.Timesteps {
		alpha, noise := split(s.Sigmas[i])
		s.Steps = append(s.Steps, Step{Timestep: ts, ScaleInput: 1, X0: predict(c.Prediction, alpha, noise), Next: s.multistep(i, s.order(i, n))})
	}
	return nil
}

// order is the order of the update at step i of n: no more than the x0 at hand allow, and lower at the end where asked.
func (s *Sampler) order(i, n int) int {
	c := s.Config
	few := c.LowerOrderFinal && n < 15
	switch {
	case c.SolverOrder == 1, i < 1, i == n-1 && (c.EulerAtFinal || few || c.FinalSigma == FinalZero):
		return 1
	case c.SolverOrder == 2, i < 2, i == n-2 && few:
		return 2
	}
	return 3
}

// multistep returns the update of step i, DPM-Solver++ (arXiv 2211.01095) in the data-prediction form, with h the step in
// lambda = ln alpha - ln sigma:
//
//	order 1: x' = sigma'/sigma x - alpha' (e^-h - 1) D0
//	order 2: ... - alpha' (e^-h - 1)/2 D1 (midpoint), or + alpha' ((e^-h - 1)/h + 1) D1 (heun)
//	order 3: ... + alpha' ((e^-h - 1)/h + 1) D1 - alpha' ((e^-h - 1 + h)/h^2 - 1/2) D2
//
// where D0 = x0 and D1, D2 are divided differences with the x0 before.
func (s *Sampler) multistep(i, order int) NextCoef {
	lambda := func(k int) float64 { return -math.Log(s.Sigmas[k]) } // alpha/noise = 1/sigma
	_, noise := split(s.Sigmas[i])
	alphaNext, noiseNext := split(s.Sigmas[i+1])
	if s.Sigmas[i+1] == 0 && order == 1 {
		return NextCoef{X0: 1} // h is infinite and e^-h is 0
	}
	h := lambda(i+1) - lambda(i)
	e := math.Expm1(-h)
	out := NextCoef{Sample: noiseNext / noise, X0: -alphaNext * e}
	if order == 1 {
		return out
	}
	r0 := (lambda(i) - lambda(i-1)) / h
	d1 := -0.5 * alphaNext * e // coefficient of D1
	if order == 3 || s.Config.SolverType == Heun {
		d1 = alphaNext * (e/h + 1)
	}
	if order == 2 { // D1 = (x0 - prev)/r0
		out.X0 += d1 / r0
		out.Prev = -d1 / r0
		return out
	}
	r1 := (lambda(i-1) - lambda(i-2)) / h
	d2 := -alphaNext * ((e+h)/(h*h) - 0.5)
	// With u = (x0-prev)/r0 and v = (prev-prevprev)/r1: D1 = u + r0/(r0+r1) (u-v), D2 = (u-v)/(r0+r1).
	cu := d1*(1+r0/(r0+r1)) + d2/(r0+r1)
	cv := -d1*r0/(r0+r1) - d2/(r0+r1)
	out.X0 += cu / r0
	out.Prev = -cu/r0 + cv/r1
	out.PrevPrev = -cv / r1
	return out
}

// ddim fills the loop of DDIM with eta 0 (arXiv 2010.02502, equation 12): x' = sqrt(a') x0 + sqrt(1-a') eps. As in
// diffusers, eps is what the unclamped prediction says, also when x0 is clamped.
func (s *Sampler) ddim(t tables, steps int) error {
	c := s.Config
	s.Timesteps = t.timesteps(c, steps)
	stride := c.TrainTimesteps / steps
	for _, ts := range s.Timesteps {
		k := int(ts)
		if k < 0 || k >= len(t.alphasCumprod) {
			return fmt.Errorf("key %q: %d moves timestep %d out of the training range 0 to %d: use fewer steps", "steps_offset", c.StepsOffset, k, c.TrainTimesteps-1)
		}
		a := float64(t.alphasCumprod[k])
		next := 1.0
		if k-stride >= 0 {
			next = float64(t.alphasCumprod[k-stride])
		} else if !c.SetAlphaToOne {
			next = float64(t.alphasCumprod[0])
		}
		alpha, noise := math.Sqrt(a), math.Sqrt(1-a)
		st := Step{Timestep: ts, ScaleInput: 1, X0: predict(c.Prediction, alpha, noise)}
		if c.ClipSample {
			st.Clamp = Clamp{On: true, Lo: -c.ClipSampleRange, Hi: c.ClipSampleRange}
		}
		direction := math.Sqrt(1 - next)
		st.Next.X0 = math.Sqrt(next)
		switch c.Prediction {
		case Epsilon:
			st.Next.Model = direction
		case Velocity: // eps = alpha v + noise x
			st.Next.Model = direction * alpha
			st.Next.Sample = direction * noise
		case SampleX0: // eps = (x - alpha m)/noise
			st.Next.Model = -direction * alpha / noise
			st.Next.Sample = direction / noise
		}
		s.Steps = append(s.Steps, st)
		s.Sigmas = append(s.Sigmas, noise/alpha)
		if len(s.Steps) == len(s.Timesteps) {
			s.Sigmas = append(s.Sigmas, math.Sqrt((1-next)/next))
		}
	}
	return nil
}
