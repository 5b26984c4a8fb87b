package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
)

// Flags of bench and of the commands that compile.
const (
	flagBatch      = "batch"
	flagRepeat     = "repeat"
	flagCompare    = "compare"
	flagTextTokens = "text-tokens"
	flagImages     = "images"
	flagISA        = "isa"
	flagSVG        = "svg"
	flagCheck      = "check"
	flagDetail     = "detail"
	flagASCII      = "ascii"

	flagNoGraphs        = "no-graphs"
	flagTransformerOnly = "transformer-only"
)

// Limits of the flags above.
const (
	maxBatch      = 1 << 12
	maxTextTokens = 1 << 12
	maxRepeat     = 10000
	maxImages     = 1 << 16
	maxReportFile = 16 << 20
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measure every component of every block, steps and runs",
		CustomHelpTemplate: commandHelp(`Runs the denoising loop under the schedule and without it, in turns, and times every op. Embeddings are random: their values do not
change the time. A component's time is that of its ops in a fully computed step, the chain before it included; its reused time is
what one more slot adds to a chain. --json prints everything; --compare sets it beside the JSON of an earlier run.`,
			"ecadx bench --schedule fora:3 --json > before.json",
			"ecadx bench --model random:pixart-alpha-256 --blocks 4 --steps 5 --schedule fora:2 --detail",
			"ecadx bench --images 64 --batch 8 --dtype bfloat16"),
		Flags: append(commonFlags(flagModel, flagSchedule, flagDevice, flagDType, flagThreads, flagGEMM, flagResolution, flagSteps, flagGuidance, flagJSON, flagQuiet),
			batchFlag(), blocksFlag(), textTokensFlag(),
			&cli.IntFlag{Name: flagImages, Usage: "measure how many pictures a second the evaluator makes, `N` in a round, instead of components"},
			&cli.StringFlag{Name: flagISA, Value: "auto", Usage: "cpu: instructions up to `SET`: generic, avx2, avx512, amx or auto"},
			&cli.IntFlag{Name: flagRepeat, Usage: "measure `N` rounds", DefaultText: "until the medians settle, about 20 s at most"},
			&cli.StringFlag{Name: flagCompare, Usage: "compare with `FILE`, the JSON of an earlier run"},
			&cli.StringFlag{Name: flagSVG, Usage: "draw the steps into `FILE`"},
			&cli.BoolFlag{Name: flagCheck, DisableDefaultText: true, Usage: "only say how much memory the runs would take, and whether it is there"},
			&cli.BoolFlag{Name: flagTransformerOnly, DisableDefaultText: true, Usage: "leave text encoder and decoder out"},
			&cli.BoolFlag{Name: flagDetail, DisableDefaultText: true, Usage: "a line for every block"},
			&cli.BoolFlag{Name: flagASCII, DisableDefaultText: true, Usage: "draw bars with letters"},
			&cli.BoolFlag{Name: flagNoGraphs, DisableDefaultText: true, Usage: "cuda: launch every kernel by itself, to see what graphs save"},
			commonFlag(flagForce)),
		Action: benchmark,
	}
}

func batchFlag() cli.Flag {
	return &cli.IntFlag{Name: flagBatch, Value: 1, Usage: "`N` images at a time"}
}

func blocksFlag() cli.Flag {
	return &cli.IntFlag{Name: flagBlocks, Usage: "take the first `N` blocks of each kind only", DefaultText: "all"}
}

func textTokensFlag() cli.Flag {
	return &cli.IntFlag{Name: flagTextTokens, Usage: "prompts of `N` tokens", DefaultText: "as many as the model takes"}
}

// wholeNumber reads a flag between 1 and a limit; otherwise it is 0 when the user did not set it.
func (o *options) wholeNumber(c *cli.Context, flag string, most int) (int, error) {
	n := c.Int(flag)
	if (c.IsSet(flag) || n != 0) && (n < 1 || n > most) {
		return 0, usageError("%s: --%s: %d: use 1 to %d", o.command, flag, n, most)
	}
	return n, nil
}

// task is what to run: a model, perhaps its first blocks only, and sizes, from the flags of bench, program and compile.
type task struct {
	*options
	opened     *dit.Model
	model      *dit.Model // opened, or its first blocks
	size       bench.Size
	batch      int
	textTokens int
	guidance   float64
	backend    ecad.Backend
	ordinal    int
	dtype      dit.DType
	isa        ecad.ISA
	noGraphs   bool
}

// newTask reads the flags and opens the model. The caller closes it.
func newTask(c *cli.Context) (*task, error) {
	o, err := parseOptions(c)
	if err != nil {
		return nil, err
	}
	if _, err := positional(c, 0, 0, o.command+" [flags]"); err != nil {
		return nil, err
	}
	t := &task{options: o, noGraphs: c.Bool(flagNoGraphs)}
	if t.batch, err = o.wholeNumber(c, flagBatch, maxBatch); err != nil {
		return nil, err
	}
	if t.isa, err = o.instructions(c); err != nil {
		return nil, err
	}
	if t.textTokens, err = o.wholeNumber(c, flagTextTokens, maxTextTokens); err != nil {
		return nil, err
	}
	blocks, err := o.wholeNumber(c, flagBlocks, 1024)
	if err != nil {
		return nil, err
	}
	if t.opened, err = o.openModel(); err != nil {
		return nil, err
	}
	if err := t.complete(blocks); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// complete resolves what depends on the model.
func (t *task) complete(blocks int) error {
	var err error
	t.model = t.opened
	if blocks > 0 {
		if t.model, err = t.opened.First(blocks); err != nil {
			return err
		}
	}
	d := t.model.Defaults()
	t.guidance = d.Guidance
	if t.options.guidance != nil {
		t.guidance = *t.options.guidance
	}
	if t.textTokens == 0 {
		t.textTokens = d.TextTokens
	}
	t.size, err = bench.SizeOf(t.model, t.resolution.height, t.resolution.width)
	switch {
	case errors.Is(err, bench.ErrSize) && t.resolution != (pixels{}):
		return usageError("%s: --%s: %w", t.command, flagResolution, err)
	case err != nil:
		return badModel(err)
	}
	if t.backend, t.ordinal, err = t.chooseDevice(); err != nil {
		return err
	}
	if t.isa != ecad.ISAAuto && t.backend != ecad.CPU {
		return usageError("%s: --%s: it is for --device cpu", t.command, flagISA)
	}
	if t.noGraphs && t.backend != ecad.CUDA {
		return usageError("%s: --%s: it is for --device cuda", t.command, flagNoGraphs)
	}
	t.dtype, err = t.chooseDType(t.backend, t.ordinal, t.isa)
	return err
}

func (t *task) close() error { return t.opened.Close() }

// sizes is what programs are compiled for.
func (t *task) sizes() dit.Sizes {
	return dit.Sizes{Batch: t.batch, Height: t.size.LatentHeight, Width: t.size.LatentWidth, TextTokens: t.textTokens, DType: t.dtype}
}

func benchmark(c *cli.Context) error {
	t, err := newTask(c)
	if err != nil {
		return err
	}
	defer t.close()
	repeats, err := t.wholeNumber(c, flagRepeat, maxRepeat)
	if err != nil {
		return err
	}
	images, err := t.wholeNumber(c, flagImages, maxImages)
	if err != nil {
		return err
	}
	if images > 0 {
		return t.throughput(c, images, repeats)
	}
	r, err := resolveSchedule(t.schedule, t.model.Shape(t.steps))
	if err != nil {
		return err
	}
	env := environmentOf(c)
	p := t.newProgress(env, "bench", "", 0)
	cfg := bench.Config{
		Model: t.model, Device: ecad.DeviceConfig{Backend: t.backend, Ordinal: t.ordinal, Threads: t.threads, ISA: t.isa, GEMM: t.gemm, NoGraphs: t.noGraphs}, DType: t.dtype,
		Height: t.size.Height, Width: t.size.Width, Batch: t.batch, Steps: t.steps, Guidance: t.guidance, Schedule: r.schedule, ScheduleName: r.ref,
		TextTokens: t.textTokens, Repeats: repeats, TransformerOnly: c.Bool(flagTransformerOnly),
		Planned:  func(m *bench.Memory) { t.remark(env, "ecadx bench: memory: %v", m) },
		Progress: func(what string) { p.say(0, 0, what) },
		Remark:   func(text string) { p.line("ecadx bench: %s", text) },
	}
	if c.Bool(flagCheck) {
		return t.checkMemory(env, cfg)
	}
	var before *bench.Report
	file := c.String(flagCompare)
	if file != "" {
		if before, err = readReport(file, cfg); err != nil {
			return err
		}
	}
	svg := c.String(flagSVG)
	if svg != "" {
		if err := t.checkAbsent(svg); err != nil {
			return err
		}
	}
	report, err := bench.Measure(c.Context, cfg)
	p.end()
	if err != nil {
		return benchFailure(err)
	}
	if before != nil {
		report.Compare = bench.CompareReports(file, before, report)
	}
	if svg != "" {
		if err := writeFile(svg, report.SVG()); err != nil {
			return err
		}
	}
	if t.output == asJSON {
		return writeJSON(env.stdout, report)
	}
	o := bench.TableOptions{Detail: c.Bool(flagDetail), Width: terminalWidth(), ASCII: c.Bool(flagASCII)}
	if err := report.WriteText(env.stdout, o); err != nil {
		return err
	}
	if report.Compare != nil {
		return report.Compare.WriteText(env.stdout)
	}
	return nil
}

// checkMemory says how much memory the runs would take; not having it is an error.
func (t *task) checkMemory(env *environment, cfg bench.Config) error {
	m, err := bench.PlanMemory(cfg)
	if m == nil || err != nil && !errors.Is(err, bench.ErrMemory) {
		return benchFailure(err)
	}
	if t.output == asJSON {
		if err := writeJSON(env.stdout, map[string]*bench.Memory{"memory_bytes": m}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(env.stdout, m)
	}
	return benchFailure(err)
}

// benchFailure gives errors about memory no blame but the machine's.
func benchFailure(err error) error {
	if errors.Is(err, bench.ErrMemory) {
		return newError(exitFailed, "bench: %w", err)
	}
	return badModel(err)
}

// readReport reads the file of --compare, which must have measured the model and sizes of cfg.
func readReport(file string, cfg bench.Config) (*bench.Report, error) {
	data, err := readLimited(file, maxReportFile)
	if err != nil {
		return nil, err
	}
	r, err := bench.DecodeReport(data)
	if err != nil {
		return nil, inputError("%s: %w: name a file written by ecadx bench --json", file, err)
	}
	if err := cfg.Comparable(r); err != nil {
		return nil, inputError("%s: %w: compare runs of one model and size", file, err)
	}
	return r, nil
}

// megabytes writes bytes for people.
func megabytes(n int64) string {
	if n < 1e6 {
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
