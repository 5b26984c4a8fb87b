package main

import (
	"context"
	"fmt"
	"image"
	"slices"
	"sync"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/schedule"
)

// maxPictureBatch is how many pictures of a small model are made together: enough to fill matrix products, few enough to appear soon.
const maxPictureBatch = 4

// picturePlan says what pictures to make: every job under every schedule.
type picturePlan struct {
	size      pixels
	steps     int
	guidance  float64
	prompts   []dit.Prompt // one per job
	seeds     []int64      // one per job
	negative  []dit.Prompt // one, or none where guidance does not ask for it
	schedules []*schedule.Schedule
	timing    timing
	progress  *progress // counts steps
}

// timing says what the times are for.
type timing uint8

const (
	casual   timing = iota
	compared        // of schedules with one another: a small model runs once before, so that none pays for cold caches
)

// made is one picture with the time it took per image, in milliseconds.
type made struct {
	picture  *image.NRGBA
	ms       float64 // denoising
	decodeMS float64
}

// makePictures makes the pictures and hands those of each job, one per schedule, to use; from several goroutines at a time, one call per job.
func (s *session) makePictures(ctx context.Context, plan picturePlan, use func(job int, pictures []made) error) error {
	var err error
	r := &rendering{session: s, plan: plan, use: use}
	if r.height, r.width, err = s.LatentSize(plan.size.height, plan.size.width); err != nil {
		return badModel(err)
	}
	run, err := s.Model.Sampler(plan.steps, r.height, r.width)
	if err != nil {
		return badInput(err)
	}
	r.batch = 1
	if n := len(s.Workers); n > 1 {
		r.batch = min(maxPictureBatch, (len(plan.prompts)+n-1)/n)
	}
	tokens := 0
	for _, p := range slices.Concat(plan.negative, plan.prompts) {
		tokens = max(tokens, p.Tokens)
	}
	r.options = dit.DenoiseOptions{
		Sizes: dit.Sizes{Batch: r.batch, Height: r.height, Width: r.width, TextTokens: s.Model.Defaults().TextLength(tokens), DType: s.DType}, Guidance: plan.guidance,
		Sampler: run, Schedules: plan.schedules,
	}
	return r.all(ctx)
}

func roundUp(n, step int) int { return (n + step - 1) / step * step }

// rendering is a plan at work.
type rendering struct {
	*session
	plan          picturePlan
	height, width int // of the latents
	batch         int
	options       dit.DenoiseOptions
	use           func(job int, pictures []made) error
}

// all shares the batches out to the workers.
func (r *rendering) all(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan int)
	var wg sync.WaitGroup
	for _, w := range r.Workers {
		wg.Go(func() {
			for from := range work {
				if err := r.guarded(ctx, w, from); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for from := 0; from < len(r.plan.prompts); from += r.batch {
		select {
		case work <- from:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// guarded turns a panic, which only the goroutine itself can catch, into an error.
func (r *rendering) guarded(ctx context.Context, w *dit.Worker, from int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v: please report this with the command line", p)
		}
	}()
	return r.one(ctx, w, from)
}

// one makes a batch of jobs under every schedule. The last batch is filled up with copies, so that all share a program.
func (r *rendering) one(ctx context.Context, w *dit.Worker, from int) error {
	loop, err := w.Denoiser.Loop(r.options)
	if err != nil {
		return badModel(err)
	}
	defer loop.Release()
	n := min(r.batch, len(r.plan.prompts)-from)
	in := dit.Inputs{Height: r.height, Width: r.width, Negative: r.plan.negative}
	if r.Model.Defaults().Micro {
		in.Conditions = []dit.MicroCondition{dit.SizeCondition(r.plan.size.height, r.plan.size.width)}
	}
	seeds := make([]int64, r.batch)
	for i := range seeds {
		job := from + min(i, n-1)
		in.Prompts = append(in.Prompts, r.plan.prompts[job])
		seeds[i] = r.plan.seeds[job]
	}
	in.Latents = r.Model.Noise(seeds, r.height, r.width)
	if r.plan.timing == compared && len(r.Workers) > 1 && from < r.batch*len(r.Workers) {
		warm := *r
		warm.plan.progress = nil
		if _, err := warm.run(ctx, w, loop, in, 0); err != nil {
			return err
		}
	}
	results := make([][]made, n)
	for k := range r.plan.schedules {
		batch, err := r.run(ctx, w, loop, in, k)
		if err != nil {
			return err
		}
		for i := range results {
			results[i] = append(results[i], batch[i])
		}
	}
	for i, pictures := range results {
		if err := r.use(from+i, pictures); err != nil {
			return err
		}
	}
	return nil
}

// run makes a batch under schedule number k.
func (r *rendering) run(ctx context.Context, w *dit.Worker, loop *dit.Loop, in dit.Inputs, k int) ([]made, error) {
	state, err := loop.Start(in)
	if err != nil {
		return nil, err
	}
	defer state.Close()
	opt := ecad.RunOptions{}
	if p := r.plan.progress; p != nil {
		opt.OnItem = func(done, of int) {
			if done > 1 { // the first item is the prologue
				p.add(1)
			}
		}
	}
	start := time.Now()
	if _, err := state.Do(ctx, k, opt); err != nil {
		return nil, err
	}
	denoised := time.Since(start)
	latents, err := state.Latents()
	if err != nil {
		return nil, err
	}
	start = time.Now()
	pictures, err := w.Decode(ctx, latents, r.batch, r.height, r.width)
	if err != nil {
		return nil, badModel(err)
	}
	decoded := time.Since(start)
	out := make([]made, len(pictures))
	for i, p := range pictures {
		out[i] = made{picture: p, ms: milliseconds(denoised) / float64(r.batch), decodeMS: milliseconds(decoded) / float64(r.batch)}
	}
	return out, nil
}

// batches is the number of batches of a plan; progress counts steps of batches.
func (s *session) batches(jobs int) int {
	batch := 1
	if n := len(s.Workers); n > 1 {
		batch = min(maxPictureBatch, (jobs+n-1)/n)
	}
	return (jobs + batch - 1) / batch
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
