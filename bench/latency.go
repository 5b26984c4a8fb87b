package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/noise"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// Config says what Measure measures.
type Config struct {
	Model         *dit.Model // stays the caller's; give Model.First(n) to measure fewer blocks
	Device        ecad.DeviceConfig
	DType         dit.DType
	Height, Width int // pixels; 0: the model's own
	Batch         int // images; 0: 1
	Steps         int
	Guidance      float64
	Schedule      *schedule.Schedule // nil: compute everything
	ScheduleName  string             // for the report
	// TextTokens is how many tokens every prompt has, the negative one too. 0: as many as the model takes.
	TextTokens int
	// Repeats is how many rounds are measured. 0: until the medians of the runs are known to within 2 %, within MaxTime.
	Repeats int
	MaxTime time.Duration // 0: DefaultMaxTime; a round that has begun ends
	// TransformerOnly leaves text encoder and decoder out.
	TransformerOnly bool
	// NoPeaks leaves the device's peaks out, and with them shares of peak.
	NoPeaks bool
	// Planned, when not nil, is told what the runs will hold, before any weight is loaded.
	Planned func(*Memory)
	// Progress, when not nil, is told what is measured next, from Measure's goroutine.
	Progress func(what string)
	// Remark, when not nil, is told what was left out and why.
	Remark func(text string)
}

// Limits of automatic repetition.
const (
	DefaultMaxTime = 20 * time.Second
	minRounds      = 5
	maxRounds      = 200
	settledWithin  = 0.02
)

// bench is a measurement under way.
type bench struct {
	cfg      Config
	size     Size
	dev      *ecad.Device
	denoiser *dit.Denoiser
	sampler  *sampler.Sampler
	shape    schedule.Shape
	schedule *schedule.Schedule // canonical, nil when everything is computed
	inputs   dit.Inputs
	uncached *dit.Loop
	cached   *dit.Loop // the same as uncached when everything is computed
	// roundsFrom is when the first round began.
	roundsFrom time.Time

	memory Memory // planned, then measured
	peaks  *Peaks // nil: not measured

	uncachedRuns, cachedRuns []float64 // ms
	full, mixed              passes    // per-op times of uncached and cached runs
	reuse                    reuseTimes
	text, decode             []float64
}

// Measure runs the model under the schedule and without it, in turns, and reports what took how long. Times are wall clock. It opens its
// own device and closes it. When ctx is cancelled it returns the context's error soon.
func Measure(ctx context.Context, cfg Config) (report *Report, err error) {
	b := &bench{cfg: cfg}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"peaks of this machine", b.measurePeaks}, {"loading weights", b.load}, {"warming up", b.warmUp}, {"runs", b.rounds}, {"memory", b.measureMemory},
		{"reuse", b.probeReuse}, {"text encoder", b.measureText}, {"decoder", b.measureDecode},
	} {
		if cfg.Progress != nil {
			cfg.Progress(part.what)
		}
		if err := part.do(ctx); err != nil {
			return nil, err
		}
	}
	return b.report()
}

// prepare checks the configuration and opens the device.
func (b *bench) prepare() error {
	c := &b.cfg
	d := c.Model.Defaults()
	if c.Batch == 0 {
		c.Batch = 1
	}
	if c.TextTokens == 0 {
		c.TextTokens = d.TextTokens
	}
	if c.MaxTime == 0 {
		c.MaxTime = DefaultMaxTime
	}
	var err error
	if b.size, err = SizeOf(c.Model, c.Height, c.Width); err != nil {
		return err
	}
	if b.sampler, err = c.Model.Sampler(c.Steps, b.size.LatentHeight, b.size.LatentWidth); err != nil {
		return err
	}
	b.shape = c.Model.Shape(c.Steps)
	if c.Schedule != nil {
		if err := c.Schedule.Shape().Fits(b.shape); err != nil {
			return err
		}
		if s := c.Schedule.Canonical(); s.Reused() > 0 {
			b.schedule = s
		}
	}
	if b.dev, err = ecad.OpenDevice(c.Device); err != nil {
		return err
	}
	b.denoiser = dit.NewDenoiser(c.Model, b.dev)
	return nil
}

// measurePeaks comes before anything else, while the process holds nothing.
func (b *bench) measurePeaks(ctx context.Context) error {
	if b.cfg.NoPeaks {
		return nil
	}
	dev, err := ecad.OpenDevice(b.cfg.Device) // of its own: that of the runs shall know nothing of this memory
	if err != nil {
		return err
	}
	b.peaks, err = MeasurePeaks(ctx, dev, b.cfg.DType)
	return errors.Join(err, dev.Close())
}

// load plans the memory, and if there is enough compiles and binds both programs, each alone, as a user would run it.
func (b *bench) load(context.Context) error {
	debug.FreeOSMemory() // what measured the machine's peaks is no part of a run
	forgetPeak()
	if err := b.plan(); err != nil {
		return err
	}
	if b.cfg.Planned != nil {
		b.cfg.Planned(&b.memory)
	}
	if err := b.fits(); err != nil {
		return err
	}
	b.makeInputs()
	for _, schedules := range b.programs() {
		l, err := b.loop(schedules, b.sampler)
		if err != nil {
			return err
		}
		if b.uncached == nil {
			b.uncached = l
		}
		b.cached = l
	}
	return nil
}

// programs are the schedules of the programs that run: none, and the one that is measured unless it is none.
func (b *bench) programs() [][]*schedule.Schedule {
	list := [][]*schedule.Schedule{nil}
	if b.schedule != nil {
		list = append(list, []*schedule.Schedule{b.schedule})
	}
	return list
}

// sizes is what programs are compiled for.
func (b *bench) sizes() dit.Sizes {
	return dit.Sizes{Batch: b.cfg.Batch, Height: b.size.LatentHeight, Width: b.size.LatentWidth, TextTokens: b.cfg.TextTokens, DType: b.cfg.DType}
}

func (b *bench) loop(schedules []*schedule.Schedule, s *sampler.Sampler) (*dit.Loop, error) {
	return b.denoiser.Loop(dit.DenoiseOptions{Sizes: b.sizes(), Guidance: b.cfg.Guidance, Sampler: s, Schedules: schedules})
}

// inputBytes is what makeInputs allocates.
func (b *bench) inputBytes() int64 {
	d, prompts := b.cfg.Model.Defaults(), int64(b.cfg.Batch)
	if b.cfg.Model.Guided(b.cfg.Guidance) {
		prompts++
	}
	latents := int64(b.cfg.Batch) * int64(d.LatentChannels) * int64(b.size.LatentHeight) * int64(b.size.LatentWidth)
	return 4 * (prompts*int64(b.cfg.TextTokens)*int64(d.TextWidth) + latents)
}

// makeInputs draws noise and embeddings: what the values are does not matter to the time.
func (b *bench) makeInputs() {
	c, d := &b.cfg, b.cfg.Model.Defaults()
	seeds := make([]int64, c.Batch)
	prompt := func(seed int64) dit.Prompt {
		p := dit.Prompt{Embeds: make([]float32, c.TextTokens*d.TextWidth), Tokens: c.TextTokens, Pooled: make([]float32, d.PooledWidth)}
		noise.New(seed).Normal(p.Embeds)
		noise.New(seed).Normal(p.Pooled)
		return p
	}
	b.inputs = dit.Inputs{Height: b.size.LatentHeight, Width: b.size.LatentWidth}
	for i := range seeds {
		seeds[i] = int64(i)
		b.inputs.Prompts = append(b.inputs.Prompts, prompt(int64(1000+i)))
	}
	if c.Model.Guided(c.Guidance) {
		b.inputs.Negative = []dit.Prompt{prompt(999)}
	}
	b.inputs.Latents = c.Model.Noise(seeds, b.size.LatentHeight, b.size.LatentWidth)
}

// close releases programs, packed weights and the device.
func (b *bench) close() error {
	var errs []error
	for _, l := range []*dit.Loop{b.uncached, b.cached} {
		if l != nil {
			l.Release()
		}
	}
	if b.denoiser != nil {
		errs = append(errs, b.denoiser.Close())
	}
	if b.dev != nil {
		if w, err := b.cfg.Model.Weights(); err == nil {
			errs = append(errs, w.Forget(b.dev))
		}
		errs = append(errs, b.dev.Close())
	}
	return errors.Join(errs...)
}

// run is one denoising loop, prologue included. It returns its milliseconds and, when asked for, the times of its ops.
func (b *bench) run(ctx context.Context, l *dit.Loop, opt ecad.RunOptions) (ms float64, items []ecad.Item, times []ecad.OpTime, err error) {
	if items, err = l.Schedule(0); err != nil {
		return 0, nil, nil, err
	}
	r, err := l.Start(b.inputs)
	if err != nil {
		return 0, nil, nil, err
	}
	start := time.Now()
	times, err = r.DoItems(ctx, l, items, opt)
	ms = milliseconds(time.Since(start))
	return ms, items, times, errors.Join(err, r.Close())
}

// warmUp touches every buffer of both programs: prologue and the first steps.
func (b *bench) warmUp(ctx context.Context) error {
	for _, l := range []*dit.Loop{b.uncached, b.cached} {
		items, err := l.Schedule(0)
		if err != nil {
			return err
		}
		r, err := l.Start(b.inputs)
		if err != nil {
			return err
		}
		_, err = r.DoItems(ctx, l, items[:min(len(items), 3)], ecad.RunOptions{})
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// rounds measures in turns: an uncached run, a cached run, and one of each with the times of all ops.
func (b *bench) rounds(ctx context.Context) error {
	b.roundsFrom = time.Now()
	for round := 0; !b.enough(round); round++ {
		if b.cfg.Progress != nil {
			b.cfg.Progress(b.roundText(round))
		}
		if err := b.pair(ctx, round%2 == 1); err != nil {
			return err
		}
		if err := b.timedRound(ctx); err != nil {
			return err
		}
	}
	return nil
}

// roundText says which round begins and how long the rounds will take.
func (b *bench) roundText(round int) string {
	if n := b.cfg.Repeats; n > 0 {
		text := fmt.Sprintf("round %d of %d", round+1, n)
		if round > 0 {
			left := time.Since(b.roundsFrom) / time.Duration(round) * time.Duration(n-round)
			text += fmt.Sprintf(", %d s left", int(left.Seconds()+0.5))
		}
		return text
	}
	left := b.cfg.MaxTime - time.Since(b.roundsFrom)
	return fmt.Sprintf("round %d, at most %d s and one round left", round+1, int(max(0, left).Seconds()+0.5))
}

// pair is one run without the schedule and one with it; which comes first changes from round to round, so that a drift of the machine
// meets both alike.
func (b *bench) pair(ctx context.Context, cachedFirst bool) error {
	uncached := func() error {
		ms, _, _, err := b.run(ctx, b.uncached, ecad.RunOptions{})
		b.uncachedRuns = append(b.uncachedRuns, ms)
		return err
	}
	cached := func() error {
		if b.schedule == nil {
			return nil
		}
		ms, _, _, err := b.run(ctx, b.cached, ecad.RunOptions{})
		b.cachedRuns = append(b.cachedRuns, ms)
		return err
	}
	if cachedFirst {
		uncached, cached = cached, uncached
	}
	if err := uncached(); err != nil {
		return err
	}
	return cached()
}

// timedRound adds runs with the times of all ops, as long as there are few samples of each.
func (b *bench) timedRound(ctx context.Context) error {
	const enough = 100
	add := func(l *dit.Loop, p *passes) error {
		if len(p.prologues)*b.cfg.Steps >= enough && b.cfg.Repeats == 0 {
			return nil
		}
		_, items, times, err := b.run(ctx, l, ecad.RunOptions{Times: true})
		if err != nil {
			return err
		}
		return p.add(items, times, l.Source.Ops, b.shape)
	}
	if err := add(b.uncached, &b.full); err != nil || b.schedule == nil {
		return err
	}
	return add(b.cached, &b.mixed)
}

// enough tells whether to stop after so many rounds.
func (b *bench) enough(rounds int) bool {
	if b.cfg.Repeats > 0 {
		return rounds >= b.cfg.Repeats
	}
	if rounds == 0 {
		return false
	}
	known := settled(b.uncachedRuns, settledWithin) && (b.schedule == nil || settled(b.cachedRuns, settledWithin))
	return rounds >= maxRounds || rounds >= minRounds && known || time.Since(b.roundsFrom) > b.cfg.MaxTime
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
