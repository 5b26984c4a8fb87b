package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	"ecadx/dit"
	"ecadx/dit/hfconfig"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// Flags of schedule retime.
const (
	flagSampler        = "sampler"
	flagFromSampler    = "from-sampler"
	flagFromResolution = "from-resolution"
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
		Usage:     "carry a schedule over to another number of steps, sampler or resolution",
		UsageText: "ecadx schedule retime FILE --steps N [--model M] [--sampler S] [--resolution PX] --out FILE [flags]",
		CustomHelpTemplate: commandHelp(`What a step computes is computed at the step nearest to it in the noise schedule; everything else reuses, so an output is kept over the
same stretch of noise as before. More steps keep the number of computations, fewer merge those that fall together. The resolution matters to
samplers that shift their noise by it (FLUX.1-dev); for others a schedule fits every size as it is. The result is a good start for a search:
seeds.files takes it.`,
			"ecadx schedule retime study/schedules/3f2a.json --steps 30 --out thirty.json",
			"ecadx schedule retime s.json --steps 20 --sampler ddim --model random:pixart-alpha-256 --out ddim.json"),
		Flags: append(commonFlags(flagModel, flagSteps, flagResolution, flagJSON, flagForce),
			&cli.StringFlag{Name: flagSampler, Value: ownSampler, Usage: "`SAMPLER` of the result: " + names},
			&cli.StringFlag{Name: flagFromSampler, Value: ownSampler, Usage: "`SAMPLER` that the schedule was made for"},
			&cli.StringFlag{Name: flagFromResolution, Usage: "`PX` or HxW that the schedule was made for", DefaultText: "the model's own"},
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
	fromSize, err := parseResolution(c.String(flagFromResolution))
	if err != nil {
		return usageError("%s: --%s: %w", o.command, flagFromResolution, err)
	}
	from, err := newNoiseLoop(m, c.String(flagFromSampler), fromSize)
	if err != nil {
		return badInput(fmt.Errorf("--%s, --%s: %w", flagFromSampler, flagFromResolution, err))
	}
	to, err := newNoiseLoop(m, c.String(flagSampler), o.resolution)
	if err != nil {
		return badInput(fmt.Errorf("--%s, --%s: %w", flagSampler, flagResolution, err))
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

// noiseLoop is a sampler at a size.
type noiseLoop struct {
	model  *dit.Model
	config sampler.Config
	size   bench.Size
}

func newNoiseLoop(m *dit.Model, name string, size pixels) (l noiseLoop, err error) {
	l.model = m
	if l.config, err = samplerOf(m, name); err != nil {
		return l, err
	}
	l.size, err = bench.SizeOf(m, size.height, size.width)
	return l, err
}

// positions are the timesteps of a run as shares of the training schedule, most noise first.
func (l noiseLoop) positions(steps int) ([]float64, error) {
	s, err := l.model.SamplerOf(l.config, steps, l.size.LatentHeight, l.size.LatentWidth)
	if err != nil {
		return nil, err
	}
	if len(s.Timesteps) != steps {
		return nil, fmt.Errorf("the sampler makes %d steps of %d: ask for another number", len(s.Timesteps), steps)
	}
	out := make([]float64, steps)
	for i, t := range s.Timesteps {
		out[i] = t / float64(l.config.TrainTimesteps)
	}
	return out, nil
}

// retime carries a schedule file of a model over to a number of steps of a sampler.
func (r *resolved) retime(m *dit.Model, steps int, from, to noiseLoop) (*schedule.File, error) {
	if err := r.runnable(); err != nil {
		return nil, err
	}
	shape := r.schedule.Shape()
	if err := shape.Fits(m.Shape(shape.Steps)); err != nil {
		return nil, inputError("%s: %w", r.ref, shapeProblem(err))
	}
	before, err := from.positions(shape.Steps)
	if err != nil {
		return nil, inputError("%s: %d steps: %w", r.ref, shape.Steps, err)
	}
	after, err := to.positions(steps)
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

// resolveSeed turns a seed file into a schedule that the search may run: with a number of steps that it runs, or re-timed to all of them.
func (p *searchPlan) resolveSeed(ref string) (*resolved, error) {
	if !p.cfg.Seeds.Retime {
		shape := p.shape
		if steps := stepsOfFiles([]string{ref}, shape.Steps); slices.Contains(p.fewerSteps(), steps) {
			shape.Steps = steps
		}
		r, err := resolveSchedule(ref, shape)
		if errors.Is(err, schedule.ErrShape) {
			return nil, inputError("%w, or set seeds.retime = true if only the steps differ", err)
		}
		return r, err
	}
	r, err := readSchedule(ref, p.shape)
	if err != nil || r.schedule.Shape().Steps == p.shape.Steps {
		return resolveSchedule(ref, p.shape)
	}
	own, err := newNoiseLoop(p.model, ownSampler, p.size)
	if err != nil {
		return nil, badInput(err)
	}
	f, err := r.retime(p.model, p.shape.Steps, own, own)
	if err != nil {
		return nil, err
	}
	return &resolved{ref: ref, schedule: f.Schedule(), file: r.file}, nil
}
