package sampler

import (
	"fmt"
	"math"
	"slices"
)

// tables are the training schedule, float32 as in diffusers, indexed by training timestep.
type tables struct {
	alphasCumprod []float32
	sigmas        []float32 // sqrt((1-a)/a)
}

func newTables(c Config) (tables, error) {
	betas := makeBetas(c)
	if c.ZeroSNR {
		betas = rescaleZeroSNR(betas)
	}
	t := tables{alphasCumprod: cumprod(betas)}
	if c.ZeroSNR && c.Family == DPMSolver {
		t.alphasCumprod[len(betas)-1] = 0x1p-24 // diffusers: close to 0 without a division by it
	}
	for i, a := range t.alphasCumprod {
		if !(a >= 0 && a < 1) {
			return tables{}, fmt.Errorf("the noise schedule leaves the range [0, 1) at training timestep %d: check beta_start, beta_end and trained_betas", i)
		}
		t.sigmas = append(t.sigmas, float32(math.Sqrt(float64((1-a)/a))))
	}
	return t, nil
}

func makeBetas(c Config) []float32 {
	n := c.TrainTimesteps
	betas := make([]float32, n)
	switch {
	case c.TrainedBetas != nil:
		for i, b := range c.TrainedBetas {
			betas[i] = float32(b)
		}
	case c.BetaSchedule == LinearBetas:
		linspace32(betas, c.BetaStart, c.BetaEnd)
	case c.BetaSchedule == ScaledLinearBetas:
		linspace32(betas, math.Sqrt(c.BetaStart), math.Sqrt(c.BetaEnd))
		for i, b := range betas {
			betas[i] = b * b
		}
	default: // CosineBetas, Nichol and Dhariwal, arXiv 2102.09672
		bar := func(t float64) float64 {
			v := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
			return v * v
		}
		for i := range betas {
			betas[i] = float32(min(1-bar(float64(i+1)/float64(n))/bar(float64(i)/float64(n)), 0.999))
		}
	}
	return betas
}

// linspace32 is torch.linspace in float32: counted from both ends, so that both are exact. The product and the sum round
// once, as in torch's fused kernels.
func linspace32(dst []float32, start, end float64) {
	a, b, n := float32(start), float32(end), len(dst)
	step := float64((b - a) / float32(n-1))
	for i := range dst {
		if i < n/2 {
			dst[i] = float32(float64(a) + step*float64(i))
		} else {
			dst[i] = float32(float64(b) - step*float64(n-1-i))
		}
	}
}

// cumprod is the running product of 1-beta, kept in float64 and rounded element by element.
func cumprod(betas []float32) []float32 {
	out := make([]float32, len(betas))
	p := 1.0
	for i, b := range betas {
		p *= float64(1 - b)
		out[i] = float32(p)
	}
	return out
}

// rescaleZeroSNR shifts and scales sqrt(alpha bar) so that the last training timestep is pure noise.
func rescaleZeroSNR(betas []float32) []float32 {
	root := cumprod(betas)
	for i, a := range root {
		root[i] = float32(math.Sqrt(float64(a)))
	}
	first, last := root[0], root[len(root)-1]
	scale := first / (first - last)
	out := make([]float32, len(betas))
	prev := float32(1)
	for i, r := range root {
		r = (r - last) * scale
		bar := r * r
		if i == 0 {
			out[i] = 1 - bar
		} else {
			out[i] = 1 - bar/prev
		}
		prev = bar
	}
	return out
}

// lastTimestep is the number of training timesteps left when those with half log signal-to-noise ratio below
// Config.LambdaMinClip are cut off.
func (t tables) lastTimestep(c Config) int {
	n := len(t.alphasCumprod)
	below := 0 // searchsorted, left side, in the table from most to least noise
	for below < n {
		a := float64(t.alphasCumprod[n-1-below])
		lambda := float32(math.Log(math.Sqrt(a))) - float32(math.Log(math.Sqrt(1-a)))
		if float64(lambda) >= c.LambdaMinClip {
			break
		}
		below++
	}
	return n - below
}

// timesteps spreads steps integers over the training range, most noise first, with numpy's rounding. The DPM solver and DDIM
// differ: the first places one more point and drops the last.
func (t tables) timesteps(c Config, steps int) []float64 {
	last := c.TrainTimesteps
	points := steps
	if c.Family == DPMSolver {
		last = t.lastTimestep(c)
		points = steps + 1
	}
	var ts []float64
	switch c.Spacing {
	case Linspace:
		ts = linspace64(0, float64(last-1), points)
		for i := range ts {
			ts[i] = math.RoundToEven(ts[i])
		}
	case Leading:
		ratio := last / points
		for i := range points {
			ts = append(ts, float64(i*ratio+c.StepsOffset))
		}
	case Trailing:
		ratio := float64(c.TrainTimesteps) / float64(steps)
		delta := (float64(last) - ratio) - float64(last) // numpy.arange adds multiples of the first difference
		for i := range int(math.Ceil(float64(last) / ratio)) {
			ts = append(ts, math.RoundToEven(float64(last)+float64(i)*delta)-1)
		}
		return ts
	}
	slices.Reverse(ts)
	return ts[:steps]
}

// linspace64 is numpy.linspace.
func linspace64(start, stop float64, n int) []float64 {
	v := make([]float64, n)
	step := (stop - start) / float64(max(n-1, 1))
	for i := range v {
		v[i] = float64(float64(i)*step) + start
	}
	if n > 1 {
		v[n-1] = stop
	}
	return v
}

// sigmaAt is numpy.interp over the table: exact at integers, constant outside.
func (t tables) sigmaAt(timestep float64) float64 {
	i := min(max(int(timestep), 0), len(t.sigmas)-1)
	return float64(t.sigmas[i])
}

// spacedSigmas returns steps noise levels from the most to the least and the timesteps they stand for.
func (t tables) spacedSigmas(c Config, steps int) (sigmas, timesteps []float64) {
	most, least := float64(t.sigmas[len(t.sigmas)-1]), float64(t.sigmas[0])
	logs := make([]float64, len(t.sigmas))
	for i, s := range t.sigmas {
		logs[i] = float64(float32(math.Log(float64(s))))
	}
	switch c.SigmaSpacing {
	case KarrasSigmas: // Karras et al., arXiv 2206.00364, equation 5
		const rho = 7
		lo, hi := math.Pow(least, 1.0/rho), math.Pow(most, 1.0/rho)
		for _, r := range linspace64(0, 1, steps) {
			sigmas = append(sigmas, math.Pow(hi+r*(lo-hi), rho))
		}
	case LuSigmas: // uniform in log sigma, from the rounded logarithms
		lo, hi := logs[0], logs[len(logs)-1]
		for _, r := range linspace64(0, 1, steps) {
			sigmas = append(sigmas, math.Exp(hi+r*(lo-hi)))
		}
	case ExponentialSigmas:
		for _, l := range linspace64(math.Log(most), math.Log(least), steps) {
			sigmas = append(sigmas, math.Exp(l))
		}
	}
	for _, s := range sigmas {
		v := timestepOf(s, logs)
		if c.SigmaSpacing != ExponentialSigmas && (c.TrainedBetas != nil || c.BetaSchedule != CosineBetas) {
			v = math.RoundToEven(v)
		}
		timesteps = append(timesteps, math.Trunc(v)) // diffusers casts to int64
	}
	return sigmas, timesteps
}

// timestepOf interpolates the timestep of a noise level linearly in its logarithm. logs rises.
func timestepOf(sigma float64, logs []float64) float64 {
	l := math.Log(max(sigma, 1e-10))
	low := 0
	for i, v := range logs {
		if l-v >= 0 {
			low = i
		}
	}
	low = min(low, len(logs)-2)
	w := (logs[low] - l) / (logs[low] - logs[low+1])
	w = min(max(w, 0), 1)
	return (1-w)*float64(low) + w*float64(low+1)
}
