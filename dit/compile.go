package dit

import (
	"fmt"

	"ecadx/dit/program"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// Names of the ios of compiled programs.
const (
	IOLatents     = "latents"              // [B, Cz, Hz, Wz]; in and out of a denoising program, in of a forward one
	IOPrompt      = "prompt_embeds"        // [R, L, D], kept tokens first
	IOCounts      = "prompt_counts"        // int32 [R], kept tokens of every row, 1 to L
	IOPooled      = "pooled_prompt_embeds" // [R, P], models with a pooled embedding
	IOResolution  = "resolution"           // [M, 2], height and width in pixels, micro-conditioned models
	IOAspectRatio = "aspect_ratio"         // [M, 1]
	IOOutput      = "output"               // [B, channels, Hz, Wz], forward programs
)

// Sizes are what a program is compiled for.
type Sizes struct {
	Batch         int // images
	Height, Width int // of the latents
	TextTokens    int // L, at most so many kept tokens in a row
	DType         DType
	// RowConditions: every row has micro-conditions of its own, instead of one for all. Larger modulation tables.
	RowConditions bool
}

// DenoiseOptions say what CompileDenoise compiles.
type DenoiseOptions struct {
	Sizes
	Guidance float64 // scale; what it does is a property of the model, see Guiding
	Sampler  *sampler.Sampler
	// Schedules become the program's schedules in the same order, under the names of Names where given; none means one that computes
	// everything, called "none". Steps with equal decisions share their code.
	Schedules []*schedule.Schedule
	Names     []string
	// KeepSlots keeps the slot of every component whether or not a schedule reuses it, so that programs of other schedules
	// can have the same layout; see also Layout.
	KeepSlots bool
	// Layout, if not nil, is a program whose states this one must fit.
	Layout *program.Program
}

// CompileDenoise compiles the whole denoising loop: a prologue, then one section per distinct row of decisions. Row order is diffusers':
// the unconditional half first. Its ios are latents (initial noise in, result out), prompt_embeds, prompt_counts and the micro-conditions. A
// schedule of another shape is an error that states both and wraps schedule.ErrShape.
func (m *Model) CompileDenoise(opt DenoiseOptions) (*program.Program, error) {
	if opt.Sampler == nil || len(opt.Sampler.Steps) == 0 {
		return nil, fmt.Errorf("compile: no sampler steps")
	}
	t := m.family.traits()
	rows := m.rows(opt.Batch, opt.Guidance)
	g, err := m.geometry(opt.Sizes, rows, opt.Sampler.Timesteps, opt.Guidance)
	if err != nil {
		return nil, err
	}
	if t.sampling != nil {
		return nil, fmt.Errorf("%s: %w", m.ref, t.sampling)
	}
	schedules, err := m.runnable(opt.Schedules, len(opt.Sampler.Steps))
	if err != nil {
		return nil, err
	}
	b := program.NewBuilder(len(opt.Sampler.Steps))
	if opt.KeepSlots {
		b.KeepAllSlots()
	}
	if opt.Layout != nil {
		b.MatchLayout(opt.Layout)
	}
	l := &loop{b: b, net: m.family.network(b, g), g: g, sampler: opt.Sampler, guidance: opt.Guidance, channels: t.LatentChannels,
		sections: map[string]program.SectionID{}}
	l.begin()
	for i, s := range schedules {
		name := "none"
		if i < len(opt.Names) {
			name = opt.Names[i]
		} else if len(opt.Schedules) > 0 {
			name = s.Hash().String()[:16]
		}
		l.schedule(name, s)
	}
	return b.Finish()
}

// rows is how many rows the model runs on for so many images.
func (m *Model) rows(batch int, guidance float64) int {
	if m.Guided(guidance) {
		return 2 * batch
	}
	return batch
}

// runnable returns canonical schedules of the run's shape.
func (m *Model) runnable(given []*schedule.Schedule, steps int) ([]*schedule.Schedule, error) {
	shape := m.family.shape(steps)
	if len(given) == 0 {
		all, err := schedule.New(shape)
		return []*schedule.Schedule{all}, err
	}
	list := make([]*schedule.Schedule, len(given))
	for i, s := range given {
		if err := s.Shape().Fits(shape); err != nil {
			return nil, err
		}
		list[i] = s.Canonical()
	}
	return list, nil
}

// maxRows bounds what one program runs at a time, so that sizes cannot overflow.
const maxRows = 1 << 16

// geometry checks sizes and completes them.
func (m *Model) geometry(s Sizes, rows int, timesteps []float64, guidance float64) (geometry, error) {
	switch {
	case s.Batch < 1 || rows > maxRows:
		return geometry{}, fmt.Errorf("batch %d: use 1 to %d rows", s.Batch, maxRows)
	case s.TextTokens < 1 || s.TextTokens > maxRows:
		return geometry{}, fmt.Errorf("%d text tokens: use 1 to %d", s.TextTokens, maxRows)
	case s.Height < 1 || s.Height > 1<<14 || s.Width < 1 || s.Width > 1<<14:
		return geometry{}, fmt.Errorf("latents of %d x %d: use 1 to %d", s.Height, s.Width, 1<<14)
	case int(s.DType) >= len(dtypeNames):
		return geometry{}, fmt.Errorf("unknown %v", s.DType)
	}
	g := geometry{batch: s.Batch, rows: rows, height: s.Height, width: s.Width, tokens: s.TextTokens, conditions: 1, dtype: s.DType,
		timesteps: timesteps, guidance: guidance}
	if s.RowConditions {
		g.conditions = rows
	}
	return g, m.family.check(g)
}

// loop emits a denoising program.
type loop struct {
	b        *program.Builder
	net      network
	g        geometry
	sampler  *sampler.Sampler
	guidance float64
	channels int

	latents   program.Tensor
	history   []program.Tensor // x0 of earlier steps, latest first
	prologue  program.SectionID
	scaleIn   program.Tensor // coefficients, [S, terms]; absent when the model takes the latents as they are
	toX0      program.Tensor // absent when no step reads x0
	toNext    program.Tensor
	toHistory program.Tensor

	sections map[string]program.SectionID // by decisions and clamp
}

func (l *loop) begin() {
	dims := []int{l.g.batch, l.channels, l.g.height, l.g.width}
	l.latents = l.b.Persistent(IOLatents, l.g.dtype.stream(), dims...)
	l.b.InOut(IOLatents, l.latents)
	for i := range l.sampler.History {
		l.history = append(l.history, l.b.Persistent(fmt.Sprintf("x0 of %d steps before", i+1), l.g.dtype.stream(), dims...))
	}
	l.coefficients()
	l.b.Begin(program.Prologue, "prologue")
	l.net.prologue()
	l.prologue = l.b.End()
}

// model spreads the coefficient of the model's output over the rows that make it up: e_u + g (e_c - e_u).
func (l *loop) model(c float64) []float64 {
	if l.g.rows == l.g.batch {
		return []float64{c}
	}
	return []float64{c * (1 - l.guidance), c * l.guidance}
}

// coefficients makes the constants of the sampler's linear combinations.
func (l *loop) coefficients() {
	var in, x0, next, history []float64
	scaled, reads := false, l.sampler.History > 0
	for _, s := range l.sampler.Steps {
		scaled, reads = scaled || s.ScaleInput != 1, reads || s.Next.X0 != 0
	}
	for i, s := range l.sampler.Steps {
		in = append(in, s.ScaleInput)
		x0 = append(append(x0, s.X0.Sample), l.model(s.X0.Model)...)
		next = append(append(next, s.Next.Sample), l.model(s.Next.Model)...)
		if reads {
			next = append(next, s.Next.X0)
		}
		next = append(next, []float64{s.Next.Prev, s.Next.PrevPrev}[:l.sampler.History]...)
		history = append(history, float64(min(i, 1))) // at step 0 there is none yet: a term of 0 is not read
	}
	constant := func(name string, v []float64) program.Tensor {
		return l.b.Step(l.b.Float64s(name, v, len(l.sampler.Steps), len(v)/len(l.sampler.Steps)))
	}
	if scaled {
		l.scaleIn = constant("scale of the input", in)
	}
	if reads {
		l.toX0 = constant("coefficients of x0", x0)
	}
	l.toNext = constant("coefficients of the next latents", next)
	if l.sampler.History > 1 {
		l.toHistory = constant("history", history)
	}
}

// schedule adds one run.
func (l *loop) schedule(name string, s *schedule.Schedule) {
	items := []program.Item{{Section: l.prologue}}
	for step := range l.sampler.Steps {
		items = append(items, program.Item{Section: l.section(step, s.Row(step)), Step: step})
	}
	l.b.Schedule(name, items)
}

// section emits the code of a row of decisions, unless it is there already.
func (l *loop) section(step int, row []schedule.Decision) program.SectionID {
	clamp := l.sampler.Steps[step].Clamp
	key := fmt.Sprintf("%v %v", row, clamp)
	if id, ok := l.sections[key]; ok {
		return id
	}
	b, dims := l.b, l.latents.Dims()
	b.Begin(program.Step, fmt.Sprintf("step %d", step))
	input := l.latents
	if l.scaleIn.Present() {
		input = b.Lincomb("sampler.input", []program.Tensor{input}, l.scaleIn, nil, b.Activation(l.g.dtype.stream(), dims...))
	}
	out := b.Activation(l.g.dtype.stream(), l.g.rows, dims[1], dims[2], dims[3])
	l.net.step(input, row, out)
	b.At(-1, -1)
	l.samplerStep(out, clamp)
	id := b.End()
	l.sections[key] = id
	return id
}

// samplerStep turns the model's output into the next latents and keeps x0.
func (l *loop) samplerStep(out program.Tensor, clamp sampler.Clamp) {
	b := l.b
	xs := []program.Tensor{l.latents}
	for at := 0; at < l.g.rows; at += l.g.batch {
		xs = append(xs, b.Slice(out, 0, at, at+l.g.batch))
	}
	var limits *program.Clamp
	if clamp.On {
		limits = &program.Clamp{Lo: clamp.Lo, Hi: clamp.Hi}
	}
	next, x0 := xs, program.Tensor{}
	if l.toX0.Present() {
		x0 = b.Lincomb("sampler.x0", xs, l.toX0, limits, b.Activation(l.latents.DType(), l.latents.Dims()...))
		next = append(next, x0)
	}
	b.Lincomb("sampler.next", append(next, l.history...), l.toNext, nil, l.latents)
	if len(l.history) > 1 {
		b.Lincomb("sampler.history", l.history[:1], l.toHistory, nil, l.history[1])
	}
	if len(l.history) > 0 {
		b.Copy("sampler.history", x0, l.history[0])
	}
}

// ForwardOptions say what CompileForward compiles.
type ForwardOptions struct {
	Sizes
	Timestep float64
	Guidance float64 // of models that are told it; others ignore it
}

// CompileForward compiles one call of the transformer at a timestep, without classifier-free guidance and sampler: latents and prompts in, output with all of
// the model's channels out.
func (m *Model) CompileForward(opt ForwardOptions) (*program.Program, error) {
	if !(opt.Timestep >= 0 && opt.Timestep <= 1000) {
		return nil, fmt.Errorf("timestep %v: use 0 to 1000", opt.Timestep)
	}
	g, err := m.geometry(opt.Sizes, opt.Batch, []float64{opt.Timestep}, opt.Guidance)
	if err != nil {
		return nil, err
	}
	b := program.NewBuilder(1)
	return forwardProgram(b, m.family.network(b, g), g, m.family.traits())
}

// forwardProgram finishes the program of one call.
func forwardProgram(b *program.Builder, net network, g geometry, t traits) (*program.Program, error) {
	latents := b.Persistent(IOLatents, g.dtype.stream(), g.batch, t.LatentChannels, g.height, g.width)
	b.Input(IOLatents, latents)
	output := b.Persistent(IOOutput, g.dtype.stream(), g.rows, t.outputChannels, g.height, g.width)
	b.Output(IOOutput, output)
	b.Begin(program.Prologue, "prologue")
	net.prologue()
	prologue := b.End()
	b.Begin(program.Step, "forward")
	net.step(latents, nil, output)
	step := b.End()
	b.Schedule("forward", []program.Item{{Section: prologue}, {Section: step}})
	return b.Finish()
}
