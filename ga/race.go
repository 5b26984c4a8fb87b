package ga

import (
	"fmt"
	"math"
	"sort"

	"gonum.org/v1/gonum/stat/distuv"

	"ecadx/schedule"
)

// Racing scores a candidate on more and more of the search images and drops it as soon as it is unlikely to end better than what is known at
// equal or lower cost. All candidates see the same images with the same noise, so a comparison is paired. The zero value races nobody: every
// candidate is scored on all images.
type Racing struct {
	// Rungs are the numbers of images after which candidates are judged, ascending, each less than the number of search images.
	Rungs []int
	// Confidence is the least probability, by the paired t-test, that a dropped candidate would have stayed behind.
	Confidence float64
}

// validate returns an error that wraps ErrConfig.
func (c Racing) validate(images int) error {
	last := 1
	for _, n := range c.Rungs {
		if n <= last || n >= images {
			return fmt.Errorf("%w: racing rung of %d images; rungs must ascend from 2 and stay below the %d images of the search", ErrConfig, n, images)
		}
		last = n
	}
	if len(c.Rungs) > 0 && !(c.Confidence >= 0.5 && c.Confidence < 1) {
		return fmt.Errorf("%w: racing confidence is %v; it must be at least 0.5 and below 1", ErrConfig, c.Confidence)
	}
	return nil
}

// race scores candidates rung by rung; those that stay are scored on all images.
func (r *runner) race(list []candidate) error {
	list = r.unknown(list)
	done := 0
	for _, rung := range r.cfg.Racing.Rungs {
		if err := r.score(list, r.cfg.Images[done:rung]); err != nil {
			return err
		}
		done = rung
		stay := list[:0:0]
		for _, c := range list {
			behind, err := r.behind(c, r.cfg.Images[:rung], len(r.cfg.Images))
			if err != nil {
				return err
			}
			if behind > studentT(r.cfg.Racing.Confidence, rung) {
				cost, err := r.cost(r.deps.Cost, c)
				if err != nil {
					return err
				}
				values := make([]float64, rung)
				r.scores(c.hash, r.cfg.Images[:rung], values)
				o := outcome{raced: true, cost: cost, images: rung}
				o.quality, o.stdErr = meanAndError(values)
				r.quality[c.hash] = o
				r.progress.Evaluations++
				r.progress.Images += int64(rung)
				r.progress.Dropped++
			} else {
				stay = append(stay, c)
			}
		}
		list = stay
	}
	return r.evaluate(list)
}

// studentT is the p-quantile of Student's t distribution for the mean of n differences.
func studentT(p float64, n int) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.Quantile(p)
}

// behind is by how many standard errors a candidate is behind the incumbent (the best quality on the front of all time at no more than its cost)
// on images that both were scored on, if the mean of their paired differences over some whole of images is what counts. The images not among
// those are what is uncertain, hence the finite population correction (Cochran 1977, 2.6). -Inf: nothing can be said against it.
func (r *runner) behind(c candidate, images []Image, whole int) (float64, error) {
	n := len(images)
	if n < 2 {
		return math.Inf(-1), nil
	}
	values, theirs := make([]float64, n), make([]float64, n)
	if _, invalid := r.scores(c.hash, images, values); invalid != "" {
		return math.Inf(-1), nil // evaluate reports it
	}
	cost, err := r.cost(r.deps.Cost, c)
	if err != nil {
		return 0, err
	}
	front := r.archive.front
	i := sort.Search(len(front), func(i int) bool { return front[i].Point.Cost > cost })
	if i == 0 {
		return math.Inf(-1), nil
	}
	if _, invalid := r.scores(front[i-1].Hash, images, theirs); invalid != "" {
		return math.Inf(-1), nil
	}
	mean, variance := 0.0, 0.0
	for k, v := range values {
		mean += (v - theirs[k]) / float64(n)
	}
	for k, v := range values {
		d := v - theirs[k] - mean
		variance += d * d / float64(n-1)
	}
	left := 1 - float64(n)/float64(whole)
	if mean == 0 {
		return 0, nil
	}
	return -mean / math.Sqrt(variance/float64(n)*left), nil
}

// unknown returns the candidates without an outcome, each once.
func (r *runner) unknown(list []candidate) []candidate {
	var fresh []candidate
	seen := make(map[schedule.Hash]bool)
	for _, c := range list {
		if _, known := r.quality[c.hash]; !known && !seen[c.hash] {
			seen[c.hash] = true
			fresh = append(fresh, c)
		}
	}
	return fresh
}
