package ga

import (
	"fmt"
	"math"

	"ecadx/schedule"
)

// evaluate makes sure that r.quality holds an outcome for every candidate, on the search images.
func (r *runner) evaluate(list []candidate) error {
	fresh := r.unknown(list)
	if err := r.score(fresh, r.cfg.Images); err != nil {
		return err
	}
	values := make([]float64, len(r.cfg.Images))
	for _, c := range fresh {
		cost, err := r.cost(r.deps.Cost, c)
		if err != nil {
			return err
		}
		o := outcome{cost: cost}
		n, reason := r.scores(c.hash, r.cfg.Images, values)
		if o.images, o.invalid = n, reason; reason == "" {
			o.quality, o.stdErr = meanAndError(values)
		}
		r.quality[c.hash] = o
		r.progress.Evaluations++
		r.progress.Images += int64(n)
	}
	return nil
}

// scores fills values with the logged scores on the images in order. It stops at the first invalid one and returns its
// reason; n is the number of images up to there, so that it does not depend on how they were batched.
func (r *runner) scores(h schedule.Hash, images []Image, values []float64) (n int, invalid string) {
	for k, im := range images {
		s, ok := r.deps.Log.Score(h, im.ID)
		if !ok {
			// score has just made sure that there is one; a log that loses it is broken.
			return k, "the log has lost a score"
		}
		if s.Invalid != "" {
			return k + 1, s.Invalid
		}
		values[k] = s.Value
	}
	return len(images), ""
}

func (r *runner) cost(m CostModel, c candidate) (float64, error) {
	v, err := m.Cost(c.schedule)
	if err != nil {
		return 0, fmt.Errorf("cost of schedule %v: %w", c.hash, err)
	}
	if !finite(v) || v < 0 {
		return 0, fmt.Errorf("ecadx/ga: cost of schedule %v is %v; it must be finite and not negative", c.hash, v)
	}
	return v, nil
}

// score makes the log hold a score of every candidate on every image, except for the images after a batch with an
// invalid score of that candidate.
func (r *runner) score(list []candidate, images []Image) error {
	r.progress.Batch, r.progress.Batches = 0, (len(images)+r.cfg.Batch-1)/r.cfg.Batch
	for lo := 0; lo < len(images) && len(list) > 0; lo += r.cfg.Batch {
		batch := images[lo:min(lo+r.cfg.Batch, len(images))]
		worked, err := r.scoreBatch(list, batch)
		if err != nil {
			return err
		}
		r.progress.Batch++
		if worked {
			r.report(false)
		}
		list = r.valid(list, batch)
	}
	return nil
}

// scoreBatch evaluates what the log does not hold and reports whether there was anything.
func (r *runner) scoreBatch(list []candidate, batch []Image) (worked bool, err error) {
	var missing []candidate
	var ids []ImageID
	wanted := make([]bool, len(batch))
	for _, c := range list {
		lacks := false
		for k, im := range batch {
			s, ok := r.deps.Log.Score(c.hash, im.ID)
			if s.Invalid != "" {
				break // the images after it do not matter, and other candidates may have them already
			}
			if !ok {
				lacks, wanted[k] = true, true
			}
		}
		if lacks {
			missing = append(missing, c)
		}
	}
	for k, im := range batch {
		if wanted[k] {
			ids = append(ids, im.ID)
		}
	}
	if len(missing) == 0 {
		return false, nil
	}
	if r.ctx.Err() != nil {
		return false, ErrInterrupted
	}
	schedules := make([]*schedule.Schedule, len(missing))
	for i, c := range missing {
		schedules[i] = c.schedule
	}
	scores, err := r.deps.Evaluator.Evaluate(r.evalCtx, schedules, ids)
	if err != nil {
		if r.evalCtx.Err() != nil {
			return false, ErrInterrupted
		}
		return false, fmt.Errorf("evaluating %d schedules on %d images: %w", len(schedules), len(ids), err)
	}
	records, err := r.records(missing, ids, scores)
	if err != nil {
		return false, err
	}
	if err := r.deps.Log.Append(records); err != nil {
		return false, err
	}
	r.progress.NewImages += int64(len(missing) * len(ids))
	return true, nil
}

// records returns the new scores in a fixed order: by candidate, then by image.
func (r *runner) records(list []candidate, ids []ImageID, scores [][]Score) ([]Record, error) {
	if len(scores) != len(list) {
		return nil, fmt.Errorf("ecadx/ga: the evaluator returned scores of %d schedules, asked for %d", len(scores), len(list))
	}
	var out []Record
	for i, c := range list {
		if len(scores[i]) != len(ids) {
			return nil, fmt.Errorf("ecadx/ga: the evaluator returned %d scores of schedule %v, asked for %d",
				len(scores[i]), c.hash, len(ids))
		}
		for k, id := range ids {
			s := scores[i][k].Checked()
			if old, known := r.deps.Log.Score(c.hash, id); known {
				if !old.same(s) {
					r.progress.Mismatches++
				}
				continue
			}
			out = append(out, Record{Hash: c.hash, Image: id, Score: s})
		}
	}
	return out, nil
}

// valid returns the candidates without an invalid score in the batch.
func (r *runner) valid(list []candidate, batch []Image) []candidate {
	out := list[:0:0]
	for _, c := range list {
		ok := true
		for _, im := range batch {
			s, _ := r.deps.Log.Score(c.hash, im.ID)
			ok = ok && s.Invalid == ""
		}
		if ok {
			out = append(out, c)
		}
	}
	return out
}

// meanAndError returns the mean of scores and its standard error s/sqrt(n), 0 for a single score. Squares are rounded before they are summed,
// so that every architecture gives the same bits.
func meanAndError(values []float64) (mean, stdErr float64) {
	mean = Mean(values)
	if len(values) < 2 {
		return mean, 0
	}
	sum := 0.0
	for _, v := range values {
		d := v - mean
		sum += float64(d * d)
	}
	n := float64(len(values))
	return mean, math.Sqrt(sum / (n - 1) / n)
}
