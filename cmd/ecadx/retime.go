package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"ecadx/dit"
	"ecadx/dit/hfconfig"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// Flags of schedule retime.
const (
	flagSampler     = "sampler"
	flagFromSampler = "from-sampler"
)

// Samplers by name: with the model's noise schedule.
const (
	ownSampler       = "model"
	ddimSampler      = "ddim"
	dpmSolverSampler = "dpmsolver++"
)

func scheduleRetimeCommand() *cli.Command {
	names := fmt.Sprintf("%s (the model's own), %s, %s, or a scheduler_config.json", ownSampler, dpmSolverSampler, ddimSampler)
	return &cli.Command{
		Name:      "retime",
		Usage:     "carry a schedule over to another number of steps or sampler",
		UsageText: "ecadx schedule retime FILE --steps N [--model M] [--sampler S] --out FILE [flags]",
		CustomHelpTemplate: commandHelp(`What a step computes is computed at the step nearest to it in the noise schedule; everything else reuses, so an output is kept over the
same stretch of noise as before. More steps keep the number of computations, fewer merge those that fall together. A resolution changes
nothing for a model whose noise schedule does not depend on it. The result is a good start for a search: seeds.files takes it.`,
			"ecadx schedule retime study/schedules/3f2a.json --steps 30 --out thirty.json",
			"ecadx schedule retime s.json --steps 20 --sampler ddim --model random:pixart-alpha-256 --out ddim.json"),
		Flags: append(commonFlags(flagModel, flagSteps, flagJSON, flagForce),
			&cli.StringFlag{Name: flagSampler, Value: ownSampler, Usage: "`SAMPLER` of the result: " + names},
			&cli.StringFlag{Name: flagFromSampler, Value: ownSampler, Usage: "`SAMPLER` that the schedule was made for"},
			&cli.StringFlag{Name: flagOut, Usage: "write `FILE`"}),
		Action: scheduleRetime,
	}
}

func scheduleRetime(c *cli.Context) error {
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	args, err := positional(c, 1, 1, "ecadx schedule retime FILE --steps N --out FILE")
	if err != nil {
		return err
	}
	if schedule.IsHeuristic(args[0]) {
		return usageError("%s: %s is a heuristic, which fits any number of steps: use ecadx schedule make %s --steps %d", o.command, args[0], args[0], o.steps)
	}
	r, err := readSchedule(args[0], schedule.Shape{})
	if err != nil {
		return err
	}
	m, err := o.openModel()
	if err != nil {
		return err
	}
	defer m.Close()
	from, err := samplerOf(m, c.String(flagFromSampler))
	if err != nil {
		return fmt.Errorf("--%s: %w", flagFromSampler, err)
	}
	to, err := samplerOf(m, c.String(flagSampler))
	if err != nil {
		return fmt.Errorf("--%s: %w", flagSampler, err)
	}
	f, err := r.retime(m, o.steps, from, to)
	if err != nil {
		return err
	}
	return o.deliver(c, f, nil)
}

// samplerOf is a model's sampler by name, or that of a file.
func samplerOf(m *dit.Model, name string) (sampler.Config, error) {
	own, err := m.SamplerConfig()
	if err != nil {
		return own, badModel(err)
	}
	other := own
	switch name {
	case ownSampler:
		return own, nil
	case dpmSolverSampler:
		other = sampler.DefaultDPMSolver()
	case ddimSampler:
		other = sampler.DefaultDDIM()
		other.ClipSample = false // it would damage latents
	default:
		data, err := readLimited(name, hfconfig.MaxSize)
		if errors.Is(err, fs.ErrNotExist) {
			known := []string{ownSampler, dpmSolverSampler, ddimSampler}
			return own, inputError("sampler %.80q: no file and no sampler of that name: %s", name, didYouMean(name, known, "use "+strings.Join(known, ", ")+" or a scheduler_config.json"))
		} else if err != nil {
			return own, err
		}
		c, err := sampler.ParseConfig(data)
		if err != nil {
			return own, inputError("%s: %w", name, err)
		}
		return c, nil
	}
	switch {
	case own.Family == other.Family:
		return own, nil
	case own.Family == sampler.FlowMatch:
		return own, inputError("sampler %s: %s is sampled along a flow: use %s, or a scheduler_config.json of that kind", name, m.Ref(), ownSampler)
	}
	other.TrainTimesteps, other.BetaStart, other.BetaEnd, other.BetaSchedule = own.TrainTimesteps, own.BetaStart, own.BetaEnd, own.BetaSchedule
	other.TrainedBetas, other.ZeroSNR, other.Prediction = own.TrainedBetas, own.ZeroSNR, own.Prediction
	return other, nil
}

// noisePositions are the timesteps of a run as shares of the training schedule, most noise first.
func noisePositions(c sampler.Config, steps int) ([]float64, error) {
	s, err := sampler.New(c, steps)
	if err != nil {
		return nil, err
	}
	if len(s.Timesteps) != steps {
		return nil, fmt.Errorf("the sampler makes %d steps of %d: ask for another number", len(s.Timesteps), steps)
	}
	out := make([]float64, steps)
	for i, t := range s.Timesteps {
		out[i] = t / float64(c.TrainTimesteps)
	}
	return out, nil
}

// retime carries a schedule file of a model over to a number of steps of a sampler.
func (r *resolved) retime(m *dit.Model, steps int, from, to sampler.Config) (*schedule.File, error) {
	if err := r.runnable(); err != nil {
		return nil, err
	}
	shape := r.schedule.Shape()
	if err := shape.Fits(m.Shape(shape.Steps)); err != nil {
		return nil, inputError("%s: %w", r.ref, shapeProblem(err))
	}
	before, err := noisePositions(from, shape.Steps)
	if err != nil {
		return nil, inputError("%s: %d steps: %w", r.ref, shape.Steps, err)
	}
	after, err := noisePositions(to, steps)
	if err != nil {
		return nil, inputError("%s: %d steps: %w", r.ref, steps, err)
	}
	s, err := schedule.Retime(r.schedule, before, after)
	if err != nil {
		return nil, inputError("%s: %w", r.ref, shapeProblem(err))
	}
	config, err := r.file.Config()
	if err != nil {
		return nil, inputError("%s: %w", r.ref, err)
	}
	name := r.file.Name()
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(r.ref), ".json")
	}
	return schedule.NewFile(s, schedule.FileOptions{Name: fmt.Sprintf("%s_retimed_%d", name, steps), Attributes: schedule.EvolvedAttributes(s), Config: config,
		Origin: fmt.Sprintf("retimed from %v, %d steps", r.schedule.Hash(), shape.Steps)})
}

// resolveSeed turns a seed file into a schedule of the search's shape, re-timed if it may be.
func (p *searchPlan) resolveSeed(ref string) (*resolved, error) {
	if !p.cfg.Seeds.Retime {
		r, err := resolveSchedule(ref, p.shape)
		if errors.Is(err, schedule.ErrShape) {
			return nil, inputError("%w, or set seeds.retime = true if only the steps differ", err)
		}
		return r, err
	}
	r, err := readSchedule(ref, p.shape)
	if err != nil || r.schedule.Shape().Steps == p.shape.Steps {
		return resolveSchedule(ref, p.shape)
	}
	own, err := p.model.SamplerConfig()
	if err != nil {
		return nil, badModel(err)
	}
	f, err := r.retime(p.model, p.shape.Steps, own, own)
	if err != nil {
		return nil, err
	}
	return &resolved{ref: ref, schedule: f.Schedule(), file: r.file}, nil
}
