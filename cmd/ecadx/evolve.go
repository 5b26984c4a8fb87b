package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

func evolveCommand() *cli.Command {
	return &cli.Command{
		Name:      "evolve",
		Usage:     "search schedules: the best quality at every cost",
		UsageText: "ecadx evolve [CONFIG.toml] [--out DIR] [flags]",
		CustomHelpTemplate: commandHelp(`Without a configuration it searches the miniature with the defaults that ecadx init writes. Ctrl-C finishes the batch at work, saves
and leaves with 130; a second Ctrl-C stops at once. The same command again goes on and ends with the same front. Flags that are given
win over the configuration. The study holds config.toml, log/, front.json, front.svg, report.html, run.json,
schedules/ and samples/.`,
			"ecadx evolve --out study", "ecadx evolve config.toml --check", "ecadx evolve --resume --out study"),
		Flags: append(commonFlags(flagModel, flagDevice, flagDType, flagThreads, flagResolution, flagSteps, flagGuidance, flagJSON, flagQuiet, flagCheckFinite),
			&cli.Int64Flag{Name: flagSeed, Usage: "seed `S` of the search", DefaultText: "the configuration's"},
			&cli.StringFlag{Name: flagOut, Usage: "the study's `DIR`", DefaultText: "study, or the configuration's name"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "resume", Usage: "go on with the study in --out under its own configuration"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "seeds-only", Usage: "only find and write the first population: schedules by dynamic programming, and the heuristics"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "check", Usage: "only check configuration, prompts, seeds and device"}),
		Action: evolve,
	}
}

// evolution is one run of evolve.
type evolution struct {
	*options
	env  *environment
	plan *searchPlan
	dir  string // of the study
	path string // of the configuration, for messages
	in   inputs // files that the configuration names

	seedsOnly bool
}

func evolve(c *cli.Context) (err error) {
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	args, err := positional(c, 0, 1, "ecadx evolve [CONFIG.toml] --out DIR")
	if err != nil {
		return err
	}
	e := &evolution{options: o, env: environmentOf(c), dir: c.String(flagOut), path: "the defaults", seedsOnly: c.Bool("seeds-only")}
	cfg, in, err := e.configuration(c, args)
	if err != nil {
		return err
	}
	e.in = in
	if e.plan, err = newSearchPlan(o, cfg, e.path, in); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.plan.close()) }()
	if c.Bool("check") {
		return e.printCheck()
	}
	return e.run(c.Context)
}

// configuration finds the configuration and the files it names, and lets flags win.
func (e *evolution) configuration(c *cli.Context, args []string) (evolveConfig, inputs, error) {
	cfg, in := defaultEvolveConfig(), inputs{dir: "."}
	var err error
	switch {
	case c.Bool("resume"):
		if len(args) > 0 {
			return cfg, in, usageError("%s: --resume goes on under the study's own configuration: leave out %s", e.command, args[0])
		}
		if e.dir == "" {
			e.dir = "study"
		}
		e.path, in = filepath.Join(e.dir, "config.toml"), inputs{e.dir, true}
		cfg, err = studyConfig(e.dir)
	case len(args) == 1:
		e.path, in.dir = args[0], filepath.Dir(args[0])
		if cfg, err = readEvolveConfig(args[0]); e.dir == "" {
			e.dir = strings.TrimSuffix(args[0], filepath.Ext(args[0]))
			if e.dir == args[0] {
				e.dir += "-study"
			}
		}
	case e.dir == "":
		e.dir = "study"
	}
	if err != nil {
		return cfg, in, err
	}
	e.override(c, &cfg)
	if err := cfg.validate(); err != nil {
		return cfg, in, usageError("%s: %w", e.command, err)
	}
	return cfg, in, nil
}

// override lets the flags that were given win over the configuration.
func (e *evolution) override(c *cli.Context, cfg *evolveConfig) {
	for name, set := range map[string]func(){
		flagModel:      func() { cfg.Model.Path = e.model },
		flagDevice:     func() { cfg.Model.Device = e.device.String() },
		flagDType:      func() { cfg.Model.DType = e.dtype.String() },
		flagResolution: func() { cfg.Model.Resolution = e.resolution.String() },
		flagSteps:      func() { cfg.Model.Steps = e.steps },
		flagSeed:       func() { cfg.Search.Seed = e.seed },
		flagGuidance:   func() { cfg.Model.Guidance = *e.guidance },
	} {
		if c.IsSet(name) {
			set()
		}
	}
}

// printCheck says what a search would do.
func (e *evolution) printCheck() error {
	p := e.plan
	none := ga.CostFunc(func(*schedule.Schedule) (float64, error) { return 0, nil }) // only checked, never asked
	g, err := p.gaConfig(none)
	if err != nil {
		return inputError("%s: %w", e.path, err)
	}
	if e.output == asJSON {
		return writeJSON(e.env.stdout, struct {
			Config  string         `json:"config"`
			Valid   bool           `json:"valid"`
			Shape   schedule.Shape `json:"shape"`
			Seeds   int            `json:"seeds"`
			Images  int            `json:"images"`
			Confirm int            `json:"confirm"`
			HeldOut int            `json:"heldout"`
			Device  string         `json:"device"`
			DType   string         `json:"dtype"`
		}{e.path, true, p.shape, len(p.seeds), len(g.Images), len(g.Confirm), len(g.HeldOut), p.cfg.Model.Device, p.cfg.Model.DType})
	}
	_, err = fmt.Fprintf(e.env.stdout, "%s: valid: %s on %s, %s; %v; %d seeds, %d images per candidate, %d that confirm the front, %d held out; at most %d candidates\n", e.path, p.cfg.Model.Path,
		p.cfg.Model.Device, p.cfg.Model.DType, p.shape, len(p.seeds), len(g.Images), len(g.Confirm), len(g.HeldOut), len(p.seeds)+p.cfg.Search.Population*max(0, p.cfg.Search.Generations-1))
	return err
}

// run searches, or goes on searching, and writes the result.
func (e *evolution) run(ctx context.Context) (err error) {
	p := e.plan
	cost, macs, err := e.costs(ctx)
	if err != nil {
		return err
	}
	search, err := p.gaConfig(cost)
	if err != nil {
		return inputError("%s: %w", e.path, err)
	}
	origin, err := p.origin()
	if err != nil {
		return err
	}
	st, err := study.Open(e.dir, study.Options{Config: p.cfg.freeze(), Origin: origin, Session: p.sessionParts()})
	if err != nil {
		return e.studyError(err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := e.keepInputs(st); err != nil {
		return err
	}
	e.announce(st)
	if minutes := p.cfg.Search.Budget; minutes > 0 {
		search.Algorithm = &timedSearch{Algorithm: search.Algorithm, logged: st.Generations(), until: time.Now().Add(time.Duration(minutes * float64(time.Minute)))}
		e.remark(e.env, "ecadx: with a budget in minutes the front depends on the machine's speed")
	}
	evaluator, err := bench.NewEvaluator(ctx, p.session.Pipeline, p.evaluatorConfig())
	if err != nil {
		return badModel(err)
	}
	if p.cfg.Search.Mode == ga.ModeECADX.String() && p.cfg.Seeds.Dynamic > 0 {
		dynamic, err := e.dynamicSeeds(ctx, st, evaluator, search, cost)
		if err != nil {
			return err
		}
		search.Seeds = append(dynamic, search.Seeds...)
	}
	if e.seedsOnly {
		return e.writeSeeds(search.Seeds, cost, macs)
	}
	none, err := schedule.New(p.shape)
	if err != nil {
		return err
	}
	base, err := cost.Cost(none)
	if err != nil {
		return err
	}
	show := e.newSearchProgress(evaluator, search, base)
	stop := e.hint(ctx)
	res, err := ga.Run(ctx, search, ga.Deps{Evaluator: evaluator, Cost: cost, MACs: macs, Log: st, Progress: show.update, Abort: e.env.abort})
	stop()
	show.end()
	if errors.Is(err, ga.ErrInterrupted) {
		return newError(exitInterrupted, "evolve: interrupted: %d scores are saved in %s: run the same command again to go on", st.Scores(), e.dir)
	}
	if err != nil {
		return badModel(err)
	}
	run := show.report(st, res)
	run.Device, run.DType, run.Batch = p.cfg.Model.Device, p.cfg.Model.DType, p.cfg.Model.Batch
	return e.finish(ctx, st, res, run)
}

// studyError tells a foreign directory from a study that cannot go on.
func (e *evolution) studyError(err error) error {
	var drift *study.DriftError
	switch {
	case errors.As(err, &drift):
		return inputError("%w, or --resume to go on as it was begun", err)
	case errors.Is(err, study.ErrLocked):
		return newError(exitFailed, "%w: wait for the other process to end, or give another --out", err)
	}
	return err
}

// keepInputs puts copies of the files that the configuration names into the study.
func (e *evolution) keepInputs(st *study.Study) error {
	p := e.plan
	if p.cfg.Prompts.File != "" {
		var b bytes.Buffer
		if err := writeJSON(&b, p.prompts); err != nil {
			return err
		}
		if err := st.WriteFile(inputsFolder+"/"+keptPrompts, b.Bytes()); err != nil {
			return err
		}
	}
	for i, f := range p.seedFiles {
		if err := st.WriteFile(inputsFolder+"/"+keptSeedFile(i), f.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// announce says in a line what begins or goes on.
func (e *evolution) announce(st *study.Study) {
	p := e.plan
	what := "begins"
	if st.Resumed() {
		what = fmt.Sprintf("goes on after %d generations and %d scores", st.Generations(), st.Scores())
	}
	e.remark(e.env, "ecadx: study %s %s: %s on %s, %s, %d cores; %d prompts searched on, %d that confirm the front, %d held out", e.dir, what, p.cfg.Model.Path, p.cfg.Model.Device, p.cfg.Model.DType,
		len(p.session.Workers), p.cfg.Prompts.Count, p.confirming(), p.cfg.Prompts.HeldOut)
	for _, d := range st.Changed() {
		if d.Key == "commit" {
			e.remark(e.env, "ecadx: the study was written by commit %s, this is %s: scores may differ", d.Study, d.Now)
		}
	}
	if n := st.Dropped(); n > 0 {
		e.remark(e.env, "ecadx: the last %d bytes of the log were written by a process that was killed: they are dropped and done again", n)
	}
}

// hint tells after the first interrupt what happens; stop ends the waiting.
func (e *evolution) hint(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			e.remark(e.env, "ecadx: finishing the batch at work; Ctrl-C again stops at once")
		case <-done:
		}
	}()
	return func() { close(done) }
}

// finish writes everything the study ends with and tells what was found.
func (e *evolution) finish(ctx context.Context, st *study.Study, res *ga.Result, run *runReport) (err error) {
	c := e.plan.cfg
	config := schedule.Config{Height: e.plan.size.height, Width: e.plan.size.width, Guidance: c.Model.Guidance, TransformerWeights: c.Model.Path}
	encode := func(k ga.Candidate) ([]byte, error) {
		origin, name := k.Name, k.Name
		if name == "" {
			origin, name = fmt.Sprintf("ecadx evolve, seed %d", c.Search.Seed), "evolved_"+k.Hash.String()[:12]
		}
		f, err := schedule.NewFile(k.Schedule, schedule.FileOptions{Name: name, Attributes: schedule.EvolvedAttributes(k.Schedule), Config: config, Origin: origin})
		if err != nil {
			return nil, err
		}
		return f.Bytes(), nil
	}
	if err := st.WriteResult(res, c.Objectives.Quality, c.Objectives.Cost, encode); err != nil {
		return err
	}
	front := study.NewFront(res, c.Objectives.Quality, c.Objectives.Cost)
	if err := e.plan.drawStrip(ctx, st, front, run); err != nil {
		return err
	}
	if run.Latency, err = e.checkLatency(ctx, res.Front); err != nil {
		return err
	}
	if err := st.WriteRun(run); err != nil {
		return err
	}
	if len(front.Front) > 0 {
		w := pageWriter{options: e.options, env: e.env, dir: e.dir, front: front, cfg: c, plan: e.plan, prompts: reportPrompts}
		w.most = min(reportSchedules, max(reportLeast, int(res.Images/(10*reportPrompts)))) // a tenth of the search's work at most
		text, err := w.page(ctx)
		if err != nil {
			return err
		}
		if err := st.WriteFile(reportName, text); err != nil {
			return err
		}
	}
	if e.output == asJSON {
		return writeJSON(e.env.stdout, struct {
			*study.Front
			Study string     `json:"study"`
			Run   *runReport `json:"run"`
		}{front, e.dir, run})
	}
	if err := printFront(e.env.stdout, e.env.program, e.dir, front, e.plan); err != nil || run.Latency == nil {
		return err
	}
	l := run.Latency
	_, err = fmt.Fprintf(e.env.stdout, "times: predicted from the table and measured, %d schedules of the front differ by %.1f %% in the median, %.1f %% at most\n", len(l.Schedules), 100*l.MedianError, 100*l.MaxError)
	return err
}
