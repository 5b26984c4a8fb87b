package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/mini"
)

// isaNames are the values of --isa.
var isaNames = map[string]ecad.ISA{"auto": ecad.ISAAuto, "generic": ecad.ISAGeneric, "avx2": ecad.ISAAVX2, "avx512": ecad.ISAAVX512, "amx": ecad.ISAAMX}

// instructions reads --isa where the command has it.
func (o *options) instructions(c *cli.Context) (ecad.ISA, error) {
	text := c.String(flagISA)
	if text == "" && !c.IsSet(flagISA) {
		return ecad.ISAAuto, nil
	}
	isa, ok := isaNames[text]
	if !ok {
		return 0, usageError("%s: --%s: %q is none: use auto, generic, avx2, avx512 or amx", o.command, flagISA, text)
	}
	return isa, nil
}

// Flags of bench that say nothing about making pictures.
var notWithImages = []string{flagBlocks, flagTextTokens, flagCompare, flagSVG, flagCheck, flagTransformerOnly, flagDetail, flagASCII, flagNoGraphs}

// throughput measures how many pictures a second the evaluator makes.
func (t *task) throughput(c *cli.Context, images, repeats int) error {
	for _, name := range notWithImages {
		if c.IsSet(name) {
			return usageError("%s: --%s: it says nothing about pictures a second: leave it or --%s out", t.command, name, flagImages)
		}
	}
	r, err := resolveSchedule(t.schedule, t.model.Shape(t.steps))
	if err != nil {
		return err
	}
	env := environmentOf(c)
	p := t.newProgress(env, "bench", "", 0)
	report, err := bench.MeasureThroughput(c.Context, bench.ThroughputConfig{
		Model:    t.model,
		Pipeline: dit.PipelineConfig{Backend: t.backend, Ordinal: t.ordinal, Threads: t.threads, ISA: t.isa, GEMM: t.gemm, DType: t.dtype},
		Height:   t.size.Height, Width: t.size.Width, Batch: t.batch, Images: images, Prompts: benchPrompts(t.model, images), Steps: t.steps,
		Guidance: t.guidance, Schedule: r.schedule, ScheduleName: r.ref, Repeats: repeats,
		Progress: func(what string) { p.say(0, 0, what) },
	})
	p.end()
	if err != nil {
		return badModel(err)
	}
	if t.output == asJSON {
		return writeJSON(env.stdout, report)
	}
	return report.WriteText(env.stdout)
}

// benchPrompts are captions of the miniature's world for built-in models, descriptions of photographs for others.
func benchPrompts(m *dit.Model, images int) []string {
	n := min(images, 16)
	if m.Builtin() {
		return mini.Captions(n, 0)
	}
	prompts := make([]string, n)
	for i := range prompts {
		prompts[i] = fmt.Sprintf("a photograph of a lighthouse on a cliff above the sea, number %d", i+1)
	}
	return prompts
}
