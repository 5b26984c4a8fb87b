package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/mini"
	"ecadx/ga"
	"ecadx/schedule"
)

// batch is how many images a device works on at a time.
const batch = 4

// driftImages is how many search images the dynamic seeds are found from.
const driftImages = 8

// lab is the miniature with its prompts and every score that was ever asked for.
type lab struct {
	cfg       settings
	model     *dit.Model
	pipeline  *dit.Pipeline
	pictures  bench.EvaluatorConfig
	evaluator *bench.Evaluator
	scores    *scores
	flops     *bench.CostTable
	macs      ga.CostModel
	shape     schedule.Shape
	images    []ga.Image // of the search
	heldOut   []ga.Image
	seeds     []ga.Named // heuristics
	drift     ga.Drift
	fewer     []int      // numbers of steps that schedules may run instead of all
	shorter   []ga.Named // uncached runs with so many steps
	driftWork float64
	state     string
}

func openLab(ctx context.Context, cfg settings, state string, threads int) (l *lab, err error) {
	l = &lab{cfg: cfg, state: state}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.model, err = dit.Open(dit.DefaultModel); err != nil {
		return l, err
	}
	if l.pipeline, err = l.model.OpenPipeline(dit.PipelineConfig{Backend: ecad.CPU, Threads: threads, DType: dit.BFloat16, KeepEncoder: true}); err != nil {
		return l, err
	}
	search, held, err := mini.SplitCaptions(cfg.Images, cfg.HeldOut)
	if err != nil {
		return l, err
	}
	quality, err := bench.ParseQuality("psnr")
	if err != nil {
		return l, err
	}
	guidance := l.model.Defaults().Guidance
	size, err := bench.SizeOf(l.model, 0, 0)
	if err != nil {
		return l, err
	}
	l.pictures = bench.EvaluatorConfig{Prompts: append(search, held...), ImagesPerPrompt: 1, Height: size.Height, Width: size.Width,
		Steps: cfg.Steps, Guidance: guidance, Batch: batch, Quality: quality}
	if l.evaluator, err = bench.NewEvaluator(ctx, l.pipeline, l.pictures); err != nil {
		return l, err
	}
	for i := range cfg.Images + cfg.HeldOut {
		image := ga.Image{ID: ga.ImageID(i), Prompt: uint32(i)}
		if i < cfg.Images {
			l.images = append(l.images, image)
		} else {
			l.heldOut = append(l.heldOut, image)
		}
	}
	l.shape = l.model.Shape(cfg.Steps)
	sizes := dit.Sizes{Batch: batch, Height: size.LatentHeight, Width: size.LatentWidth, TextTokens: l.model.Defaults().TextTokens, DType: dit.BFloat16}
	if l.flops, err = bench.FLOPsCost(l.model, sizes, cfg.Steps, guidance); err != nil {
		return l, err
	}
	if l.macs, err = bench.MACsCost(l.model, size, guidance); err != nil {
		return l, err
	}
	if err := os.MkdirAll(state, 0o755); err != nil {
		return l, err
	}
	// What else scores depend on is in the name; the weights are the binary's own.
	if l.scores, err = openScores(filepath.Join(state, fmt.Sprintf("scores-%d-%d-%d-%d.bin", cfg.Steps, batch, cfg.Images, cfg.HeldOut))); err != nil {
		return l, err
	}
	if l.seeds, err = heuristics(l.shape); err != nil {
		return l, err
	}
	for _, share := range ga.DefaultFewerSteps() {
		short := l.model.Shape(int(math.Round(share * float64(cfg.Steps))))
		s, err := schedule.New(short)
		if err != nil {
			return l, err
		}
		l.fewer, l.shorter = append(l.fewer, short.Steps), append(l.shorter, ga.Named{Name: fmt.Sprintf("steps:%d", short.Steps), Schedule: s})
	}
	return l, l.findDrift(ctx)
}

func (l *lab) close() error {
	var errs []error
	if l.scores != nil {
		errs = append(errs, l.scores.close())
	}
	if l.pipeline != nil {
		errs = append(errs, l.pipeline.Close())
	}
	if l.model != nil {
		errs = append(errs, l.model.Close())
	}
	return errors.Join(errs...)
}

// heuristics are the starting population of mode ecad.
func heuristics(shape schedule.Shape) ([]ga.Named, error) {
	var list []ga.Named
	for _, ref := range heuristicRefs {
		g, err := schedule.Resolve(ref, shape)
		if err != nil {
			continue // for more steps than a smaller experiment has
		}
		list = append(list, ga.Named{Name: ref, Schedule: g.Schedule})
	}
	return list, nil
}

// heuristicRefs cover the costs from a tenth less to fora:7, in the families of the reference and combinations of its periods.
var heuristicRefs = []string{
	"random:0.1:1", "periods:1:3:1:19", "random:0.2:1", "periods:1:2:1", "periods:1:3:1", "periods:1:4:1:19", "attn-every:2", "periods:1:2:2", "random:0.4:1", "attn-every:3",
	"fora:2", "periods:2:4:2:19", "periods:2:6:2", "periods:2:3:2", "random:0.6:1", "fora:3", "periods:3:6:3", "periods:3:4:3", "tgate:10:3:1:2", "fora:4", "periods:4:8:4", "fora:5", "fora:6", "fora:7",
}

// kept reads a result from the state, or finds and keeps it.
func kept[T any](l *lab, name string, find func() (T, error)) (v T, err error) {
	path := filepath.Join(l.state, name+".json")
	data, err := os.ReadFile(path)
	if err == nil {
		return v, json.Unmarshal(data, &v)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return v, err
	}
	if v, err = find(); err != nil {
		return v, err
	}
	if data, err = json.Marshal(v); err != nil {
		return v, err
	}
	return v, os.WriteFile(path, data, 0o644)
}

// findDrift finds how far outputs drift.
func (l *lab) findDrift(ctx context.Context) (err error) {
	l.drift, err = kept(l, fmt.Sprintf("drift-%d", l.cfg.Steps), func() (ga.Drift, error) {
		var ids []ga.ImageID
		for _, im := range l.images[:min(driftImages, len(l.images))] {
			ids = append(ids, im.ID)
		}
		say("how far outputs drift")
		return l.evaluator.Drift(ctx, ids, nil)
	})
	if err != nil {
		return err
	}
	steps := float64(l.cfg.Steps)
	whole := l.flops.Once + steps*l.flops.Step
	for _, c := range l.flops.Cells {
		whole += steps * c.Compute
	}
	// An uncached pass and, from every step on, the rest of the loop: see Evaluator.Drift.
	l.driftWork = whole * (steps + 1) / 2 * float64(min(driftImages, len(l.images)))
	return nil
}

// judge is the held-out quality of schedules, computed where it is not known.
func (l *lab) judge(ctx context.Context, list []*schedule.Schedule, images []ga.Image) ([]float64, error) {
	ids := make([]ga.ImageID, len(images))
	for i, im := range images {
		ids[i] = im.ID
	}
	scores, err := l.known(ctx, list, ids)
	if err != nil {
		return nil, err
	}
	means := make([]float64, len(list))
	values := make([]float64, len(ids))
	for i := range list {
		for k, s := range scores[i] {
			values[k] = s.Value
		}
		means[i] = ga.Mean(values)
	}
	return means, nil
}

// known are the scores of schedules on images. What nobody has asked for yet is computed and kept, some images at a time.
func (l *lab) known(ctx context.Context, list []*schedule.Schedule, ids []ga.ImageID) ([][]ga.Score, error) {
	out := make([][]ga.Score, len(list))
	for i := range out {
		out[i] = make([]ga.Score, len(ids))
	}
	step := batch * len(l.pipeline.Workers)
	for lo := 0; lo < len(ids); lo += step {
		if err := l.fill(ctx, list, ids[lo:min(lo+step, len(ids))], lo, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// fill does a few images, which are ids[at:] of the whole.
func (l *lab) fill(ctx context.Context, list []*schedule.Schedule, ids []ga.ImageID, at int, out [][]ga.Score) error {
	var missing []*schedule.Schedule
	var where []int
	for i, s := range list {
		lacks := false
		for k, id := range ids {
			score, ok := l.scores.score(s.Hash(), id)
			lacks = lacks || !ok
			out[i][at+k] = ga.Score{Value: score}
		}
		if lacks {
			missing, where = append(missing, s), append(where, i)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	scores, err := l.evaluator.Evaluate(ctx, missing, ids)
	if err != nil {
		return err
	}
	var records []ga.Record
	for i, s := range missing {
		for k, id := range ids {
			score := scores[i][k].Checked()
			out[where[i]][at+k] = score
			records = append(records, ga.Record{Hash: s.Hash(), Image: id, Score: score})
		}
	}
	return l.scores.add(records)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "ablation: "+format+"\n", args...) }
