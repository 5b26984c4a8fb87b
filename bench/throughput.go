package bench

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/ga"
	"ecadx/schedule"
)

// ThroughputConfig says what MeasureThroughput makes pictures of.
type ThroughputConfig struct {
	Model         *dit.Model         // with text encoder and autoencoder; stays the caller's
	Pipeline      dit.PipelineConfig // devices, threads, dtype
	Height, Width int                // pixels; 0: the model's own
	Batch         int                // images a device works on at a time; 0: 1
	Images        int                // made in each round
	Prompts       []string           // taken in turns; every image has its own noise
	Steps         int
	Guidance      float64
	Schedule      *schedule.Schedule // nil: compute everything
	ScheduleName  string             // for the report
	Repeats       int                // rounds; 0: until the median is known to within 2 %, within MaxTime
	MaxTime       time.Duration      // 0: DefaultMaxTime; a round that has begun ends
	// Progress, when not nil, is told what is measured next, from MeasureThroughput's goroutine.
	Progress func(what string)
}

// Throughput is how fast the evaluator of a search makes pictures: denoising and decoding, every worker busy with its own batches. The prompts are
// encoded once, before: TextMS. It is the JSON of ecadx bench --images.
type Throughput struct {
	Model      string     `json:"model"`
	Device     string     `json:"device"` // reference, cpu or cuda:N
	DType      string     `json:"dtype"`
	Resolution Resolution `json:"resolution"`
	Batch      int        `json:"batch"`
	Steps      int        `json:"steps"`
	Guidance   float64    `json:"guidance"`
	Schedule   string     `json:"schedule"`

	Images          int     `json:"images"`            // of a round
	Workers         int     `json:"workers"`           // devices side by side
	Threads         int     `json:"threads"`           // of each worker
	ImagesPerSecond Spread  `json:"images_per_second"` // per round
	ImageMS         float64 `json:"image_ms"`          // 1000 / the median above
	StepsPerSecond  float64 `json:"steps_per_second"`  // denoising steps of one image: images_per_second x steps
	DecodeShare     float64 `json:"decode_share"`      // of the workers' time, 0 to 1; the rest is denoising
	TextMS          float64 `json:"text_ms"`           // all prompts through the text encoder, once
	TextTokens      int     `json:"text_tokens"`       // of the longest prompt
	Prompts         int     `json:"prompts"`
	Rounds          int     `json:"rounds"`

	ScheduleHash string   `json:"schedule_hash"`
	Hardware     Hardware `json:"hardware"`
	Library      string   `json:"library"`
}

// throughput is a measurement under way.
type throughput struct {
	cfg       ThroughputConfig
	size      Size
	pipeline  *dit.Pipeline
	evaluator *Evaluator
	schedule  *schedule.Schedule
	textMS    float64
	started   time.Time
	rates     []float64 // images per second, one per round
	spent     time.Duration
	decoding  time.Duration
}

// MeasureThroughput makes pictures with the evaluator and reports how many a second. When ctx is cancelled it returns the context's error soon.
func MeasureThroughput(ctx context.Context, cfg ThroughputConfig) (report *Throughput, err error) {
	t := &throughput{cfg: cfg}
	defer func() {
		if t.pipeline != nil {
			err = errors.Join(err, t.pipeline.Close())
		}
	}()
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	t.say("warming up")
	// One batch for every worker, however fast its neighbours are: programs are compiled and bound, buffers touched.
	if err := t.round(ctx, max(cfg.Images, cfg.Batch*len(t.pipeline.Workers))); err != nil {
		return nil, err
	}
	t.rates, t.spent, t.started = nil, 0, time.Now()
	before := t.evaluator.decoding.Load()
	for !t.enough() {
		t.say(t.roundText())
		if err := t.round(ctx, cfg.Images); err != nil {
			return nil, err
		}
	}
	t.decoding = time.Duration(t.evaluator.decoding.Load() - before)
	return t.report()
}

func (t *throughput) say(what string) {
	if t.cfg.Progress != nil {
		t.cfg.Progress(what)
	}
}

// open checks the configuration, opens the devices and encodes the prompts.
func (t *throughput) open(ctx context.Context) error {
	c := &t.cfg
	c.Batch = max(c.Batch, 1)
	if c.MaxTime == 0 {
		c.MaxTime = DefaultMaxTime
	}
	if c.Images < 1 || len(c.Prompts) == 0 {
		return fmt.Errorf("throughput: %d images of %d prompts: at least one of each is needed", c.Images, len(c.Prompts))
	}
	var err error
	if t.size, err = SizeOf(c.Model, c.Height, c.Width); err != nil {
		return err
	}
	if t.schedule, err = canonical(c.Schedule, c.Model.Shape(c.Steps)); err != nil {
		return err
	}
	if t.pipeline, err = c.Model.OpenPipeline(c.Pipeline); err != nil {
		return err
	}
	t.say("text encoder")
	all := max(c.Images, c.Batch*len(t.pipeline.Workers))
	start := time.Now()
	t.evaluator, err = NewEvaluator(ctx, t.pipeline, EvaluatorConfig{
		Prompts: c.Prompts, ImagesPerPrompt: (all + len(c.Prompts) - 1) / len(c.Prompts), Height: t.size.Height, Width: t.size.Width,
		Steps: c.Steps, Guidance: c.Guidance, Batch: c.Batch, Quality: unjudged{},
	})
	t.textMS = milliseconds(time.Since(start))
	return err
}

// unjudged is for pictures that nobody scores.
type unjudged struct{}

func (unjudged) Name() string                                              { return "none" }
func (unjudged) Reference() bool                                           { return false }
func (unjudged) Score(string, *image.NRGBA, *image.NRGBA) (float64, error) { return 0, nil }

// canonical is a schedule as it runs, or one that computes everything.
func canonical(s *schedule.Schedule, shape schedule.Shape) (*schedule.Schedule, error) {
	if s == nil {
		return schedule.New(shape)
	}
	if err := s.Shape().Fits(shape); err != nil {
		return nil, err
	}
	return s.Canonical(), nil
}

// round makes so many pictures.
func (t *throughput) round(ctx context.Context, images int) error {
	ids := make([]ga.ImageID, images)
	for i := range ids {
		ids[i] = ga.ImageID(i)
	}
	start := time.Now()
	err := t.evaluator.Pictures(ctx, []*schedule.Schedule{t.schedule}, ids, func(_, _ int, _ *image.NRGBA, failure error) error { return failure })
	took := time.Since(start)
	t.spent += took
	t.rates = append(t.rates, float64(images)/took.Seconds())
	return err
}

// enough tells whether to stop.
func (t *throughput) enough() bool {
	n := len(t.rates)
	if t.cfg.Repeats > 0 {
		return n >= t.cfg.Repeats
	}
	return n >= maxRounds || n >= minRounds && settled(t.rates, settledWithin) || n > 0 && time.Since(t.started) > t.cfg.MaxTime
}

func (t *throughput) roundText() string {
	n := len(t.rates)
	text := fmt.Sprintf("round %d", n+1)
	if t.cfg.Repeats > 0 {
		text += fmt.Sprintf(" of %d", t.cfg.Repeats)
	}
	if n > 0 {
		text += fmt.Sprintf(", %.1f images/s so far", NewSpread(t.rates).Median)
	}
	return text
}

func (t *throughput) report() (*Throughput, error) {
	c := &t.cfg
	info, err := t.pipeline.Workers[0].Device.Info()
	if err != nil {
		return nil, err
	}
	r := &Throughput{
		Model: c.Model.Ref(), Device: deviceName(info, c.Pipeline.Ordinal), DType: c.Pipeline.DType.String(), Resolution: Resolution{t.size.Height, t.size.Width},
		Batch: c.Batch, Steps: c.Steps, Guidance: c.Guidance, Schedule: c.ScheduleName,
		Images: c.Images, Workers: len(t.pipeline.Workers), Threads: info.Threads, ImagesPerSecond: NewSpread(t.rates),
		TextMS: t.textMS, TextTokens: t.evaluator.tokens, Prompts: len(c.Prompts), Rounds: len(t.rates),
		ScheduleHash: t.schedule.Hash().String(), Hardware: hardwareOf(info), Library: ecad.Version(),
	}
	if r.Schedule == "" {
		r.Schedule = "none"
	}
	r.ImageMS = ratio(1000, r.ImagesPerSecond.Median)
	r.StepsPerSecond = r.ImagesPerSecond.Median * float64(c.Steps)
	busy := min(r.Workers, (c.Images+c.Batch-1)/c.Batch)
	r.DecodeShare = ratio(t.decoding.Seconds(), t.spent.Seconds()*float64(busy))
	return r, nil
}

// WriteText prints the measurement for people.
func (r *Throughput) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, `%s, %s on %s (%s)
%s px, %s, guidance %g, schedule %s
%s side by side with %s each, batches of %d, %s a round

%.2f images/s (p10 %.2f, p90 %.2f; median of %s), %s ms an image
%.1f steps/s of one image; decoding takes %.1f %% of the time
%s of at most %s through the text encoder: %s ms, once, not counted above
`, r.Model, r.DType, r.Device, r.Hardware.Name, r.Resolution, plural(r.Steps, "step"), r.Guidance, r.Schedule,
		plural(r.Workers, "device"), plural(r.Threads, "thread"), r.Batch, plural(r.Images, "image"),
		r.ImagesPerSecond.Median, r.ImagesPerSecond.P10, r.ImagesPerSecond.P90, plural(r.Rounds, "round"), msText(r.ImageMS),
		r.StepsPerSecond, 100*r.DecodeShare, plural(r.Prompts, "prompt"), plural(r.TextTokens, "token"), msText(r.TextMS))
	return err
}
