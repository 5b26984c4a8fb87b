package bench

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/sampler"
	"ecadx/ga"
	"ecadx/schedule"
)

// EvaluatorConfig says what an Evaluator makes pictures of. Everything here changes scores and belongs into a study's fingerprint.
type EvaluatorConfig struct {
	Prompts         []string // image ID i is prompt i/ImagesPerPrompt with noise seed Seed + i: no two images share their noise
	ImagesPerPrompt int
	Seed            int64
	Negative        string
	Height, Width   int // pixels
	Steps           int
	Guidance        float64
	Batch           int // images a device works on at a time
	Quality         Quality
	// Unshared evaluates each schedule by itself. Scores are the same bit for bit; it costs more.
	Unshared bool
	// StateMemory bounds the bytes that the states of a device hold at a time: branches beyond it are replayed. 0: half of the memory that is free
	// when the Evaluator is made, divided by the devices. It changes no score.
	StateMemory int64
}

// Evaluator scores schedules on images: it implements ga.Evaluator. For each batch of images all schedules are walked as one prefix tree:
// schedules that agree in steps 0 to k share the work of steps 0 to k, and a state forks where they part. A score does not depend
// on what else is evaluated: batches always have Batch rows, the last one filled up with copies.
type Evaluator struct {
	p        *dit.Pipeline
	cfg      EvaluatorConfig
	h, w     int // of the latents
	tokens   int
	prompts  []dit.Prompt
	negative []dit.Prompt
	uncached *schedule.Schedule

	mu         sync.Mutex
	references map[ga.ImageID]*image.NRGBA
	samplers   map[int]*sampler.Sampler // by number of steps

	work     counters
	decoding atomic.Int64 // ns, of all workers together
}

// NewEvaluator encodes the prompts. The pipeline stays the caller's.
func NewEvaluator(ctx context.Context, p *dit.Pipeline, cfg EvaluatorConfig) (*Evaluator, error) {
	if len(cfg.Prompts) == 0 || cfg.ImagesPerPrompt < 1 || cfg.Batch < 1 || cfg.Quality == nil {
		return nil, errors.New("evaluator: prompts, images per prompt, batch and quality are all needed")
	}
	if cfg.StateMemory <= 0 {
		free, err := freeBytes(p)
		if err != nil {
			return nil, err
		}
		cfg.StateMemory = free / 2 / int64(len(p.Workers))
	}
	e := &Evaluator{p: p, cfg: cfg, references: map[ga.ImageID]*image.NRGBA{}, samplers: map[int]*sampler.Sampler{}}
	var err error
	if e.h, e.w, err = p.LatentSize(cfg.Height, cfg.Width); err != nil {
		return nil, err
	}
	if _, err = e.sampler(cfg.Steps); err != nil {
		return nil, err
	}
	if e.uncached, err = schedule.New(p.Model.Shape(cfg.Steps)); err != nil {
		return nil, err
	}
	if e.prompts, e.negative, err = p.EncodeGuided(ctx, cfg.Guidance, cfg.Negative, cfg.Prompts); err != nil {
		return nil, err
	}
	for _, prompt := range slices.Concat(e.negative, e.prompts) {
		e.tokens = max(e.tokens, prompt.Tokens)
	}
	return e, nil
}

// sampler is the loop of a number of steps.
func (e *Evaluator) sampler(steps int) (*sampler.Sampler, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.samplers[steps]; s != nil {
		return s, nil
	}
	s, err := e.p.Model.Sampler(steps, e.h, e.w)
	if err == nil {
		e.samplers[steps] = s
	}
	return s, err
}

// Images is the number of image IDs: 0 to Images()-1.
func (e *Evaluator) Images() int { return len(e.cfg.Prompts) * e.cfg.ImagesPerPrompt }

// Prompt is the prompt number and the noise seed of an image.
func (e *Evaluator) Prompt(id ga.ImageID) (prompt int, seed int64) {
	return int(id) / e.cfg.ImagesPerPrompt, e.cfg.Seed + int64(id)
}

// Sharing returns how many denoising steps were run and how many there would have been without shared prefixes.
func (e *Evaluator) Sharing() (run, asked int64) {
	return e.work.stepsRun.Load(), e.work.stepsAsked.Load()
}

// SharedWork says what evaluating schedules as a tree has saved and taken so far.
type SharedWork struct {
	StepsRun, StepsAsked int64         // denoising steps of batches: run, and what there would have been without shared prefixes
	FLOPsRun, FLOPsAsked int64         // the same as arithmetic of the transformer
	Denoising            time.Duration // in which the transformer ran, of all devices together
	StatePeak            int64         // most bytes that the states of one device were planned to hold
	Replays              int64         // branchings that kept no state for want of memory
}

// Work is what the Evaluator has done so far.
func (e *Evaluator) Work() SharedWork {
	w := &e.work
	return SharedWork{w.stepsRun.Load(), w.stepsAsked.Load(), w.flopsRun.Load(), w.flopsAsked.Load(), time.Duration(w.denoising.Load()), w.peak.Load(), w.replays.Load()}
}

// sizes is what programs are compiled for.
func (e *Evaluator) sizes() dit.Sizes {
	return dit.Sizes{Batch: e.cfg.Batch, Height: e.h, Width: e.w, TextTokens: e.tokens, DType: e.p.DType}
}

// Evaluate implements ga.Evaluator.
func (e *Evaluator) Evaluate(ctx context.Context, schedules []*schedule.Schedule, images []ga.ImageID) ([][]ga.Score, error) {
	scores := make([][]ga.Score, len(schedules))
	for i := range scores {
		scores[i] = make([]ga.Score, len(images))
	}
	for _, id := range images {
		if int(id) >= e.Images() {
			return nil, fmt.Errorf("evaluator: image %d of %d", id, e.Images())
		}
	}
	err := e.Pictures(ctx, schedules, images, func(s, k int, picture *image.NRGBA, failure error) error {
		scores[s][k] = e.score(images[k], picture, failure)
		return nil
	})
	return scores, err
}

func (e *Evaluator) score(id ga.ImageID, picture *image.NRGBA, failure error) ga.Score {
	if failure != nil {
		return ga.Score{Invalid: failure.Error()}
	}
	var reference *image.NRGBA
	if e.cfg.Quality.Reference() {
		e.mu.Lock()
		reference = e.references[id]
		e.mu.Unlock()
	}
	prompt, _ := e.Prompt(id)
	v, err := e.cfg.Quality.Score(e.cfg.Prompts[prompt], picture, reference)
	if err != nil {
		return ga.Score{Invalid: err.Error()}
	}
	return ga.Score{Value: v}.Checked()
}

// Pictures makes the picture of each schedule and image and hands it to use, from several goroutines at a time; failure says that a
// picture could not be made. An error of use ends the call. A schedule of another number of steps than the configuration's is a run with so
// many steps; its reference is the uncached picture of the configuration's steps all the same.
func (e *Evaluator) Pictures(ctx context.Context, schedules []*schedule.Schedule, images []ga.ImageID, use func(s, k int, picture *image.NRGBA, failure error) error) error {
	if len(schedules) == 0 || len(images) == 0 {
		return nil
	}
	groups := map[int][]int{} // by number of steps
	var order []int
	for i, s := range schedules {
		n := s.Shape().Steps
		if groups[n] == nil && n != e.cfg.Steps {
			order = append(order, n)
		}
		groups[n] = append(groups[n], i)
	}
	// The configuration's steps come first: their program makes the references.
	for _, n := range append([]int{e.cfg.Steps}, order...) {
		which := groups[n]
		if len(which) == 0 && (!e.cfg.Quality.Reference() || e.haveReferences(images)) {
			continue
		}
		list := make([]*schedule.Schedule, len(which))
		for i, s := range which {
			list[i] = schedules[s]
		}
		err := e.eachBatch(ctx, (len(images)+e.cfg.Batch-1)/e.cfg.Batch, func(ctx context.Context, w *dit.Worker, b int) error {
			t, err := e.tree(w, list, n)
			if err != nil {
				return err
			}
			defer t.loop.Release()
			return e.batch(ctx, w, t, images, b*e.cfg.Batch, func(s, k int, picture *image.NRGBA, failure error) error {
				return use(which[s], k, picture, failure)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachBatch has the devices do n batches side by side. The first error ends the others.
func (e *Evaluator) eachBatch(ctx context.Context, n int, do func(ctx context.Context, w *dit.Worker, batch int) error) error {
	work := make(chan int)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, w := range e.p.Workers {
		wg.Go(func() {
			for b := range work {
				if err := do(ctx, w, b); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for b := range n {
		select {
		case work <- b:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// tree compiles schedules of one number of steps for a device, or finds them compiled.
func (e *Evaluator) tree(w *dit.Worker, schedules []*schedule.Schedule, steps int) (*tree, error) {
	all := schedules
	if e.cfg.Quality.Reference() && steps == e.cfg.Steps {
		all = append(slices.Clip(schedules), e.uncached)
	}
	run, err := e.sampler(steps)
	if err != nil {
		return nil, err
	}
	l, err := w.Denoiser.Loop(dit.DenoiseOptions{Sizes: e.sizes(), Guidance: e.cfg.Guidance, Sampler: run, Schedules: all})
	if err != nil {
		return nil, err
	}
	t, err := newTree(l, len(schedules), !e.cfg.Unshared)
	if err != nil {
		l.Release()
		return nil, err
	}
	t.planMemory(e.cfg.StateMemory)
	return t, nil
}

// start begins a run of the batch of images that starts at one of them, filled up with copies of the last; ids are those without the copies.
func (e *Evaluator) start(l *dit.Loop, images []ga.ImageID, from int) (run *dit.Run, ids []ga.ImageID, err error) {
	ids = images[from:min(from+e.cfg.Batch, len(images))]
	in := dit.Inputs{Height: e.h, Width: e.w, Negative: e.negative}
	seeds := make([]int64, e.cfg.Batch)
	for i := range seeds {
		prompt, seed := e.Prompt(ids[min(i, len(ids)-1)])
		in.Prompts = append(in.Prompts, e.prompts[prompt])
		seeds[i] = seed
	}
	in.Latents = e.p.Model.Noise(seeds, e.h, e.w)
	run, err = l.Start(in)
	return run, ids, err
}

// batch makes the pictures of one batch of images under all schedules.
func (e *Evaluator) batch(ctx context.Context, w *dit.Worker, t *tree, images []ga.ImageID, from int, use func(int, int, *image.NRGBA, error) error) error {
	run, ids, err := e.start(t.loop, images, from)
	if err != nil {
		return err
	}
	if e.cfg.Quality.Reference() && !e.haveReferences(ids) {
		if err := e.referenceRun(ctx, w, t, run, images, from, ids); err != nil {
			return errors.Join(err, run.Close())
		}
	}
	e.work.count(t)
	return t.walk(running{run, ctx, t.loop, &e.work}, func(leaves []int, b branch) error {
		made, bad, failed := e.leafPictures(ctx, w, t, b.(running).Run, leaves[0], images, from)
		if failed != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, s := range leaves {
			for k := range ids {
				var picture *image.NRGBA
				failure := failed
				if failure == nil {
					failure = bad[k]
				}
				if failure == nil {
					picture = made[k]
				}
				if err := use(s, from+k, picture, failure); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (e *Evaluator) haveReferences(ids []ga.ImageID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !slices.ContainsFunc(ids, func(id ga.ImageID) bool { return e.references[id] == nil })
}

// referenceRun makes and keeps the uncached pictures of a batch; the uncached schedule is the program's last, after those of the tree.
func (e *Evaluator) referenceRun(ctx context.Context, w *dit.Worker, t *tree, start *dit.Run, images []ga.ImageID, from int, ids []ga.ImageID) error {
	run, err := start.Fork()
	if err != nil {
		return err
	}
	defer run.Close()
	if _, err := run.Do(ctx, t.schedules, ecad.RunOptions{}); err != nil {
		return err
	}
	made, bad, err := e.leafPictures(ctx, w, t, run, t.schedules, images, from)
	for k := range ids {
		if err == nil && bad[k] != nil {
			err = fmt.Errorf("the uncached picture of image %d: %w", ids[k], bad[k])
		}
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, id := range ids {
		e.references[id] = made[k]
	}
	return nil
}
