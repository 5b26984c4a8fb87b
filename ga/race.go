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
			lost, err := r.lost(c, rung)
			if err != nil {
				return err
			}
			if lost {
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

// lost reports whether a candidate is to be dropped after the first n images: whether the mean of its paired differences to the incumbent (the
// best quality on the front of all time at no more than its cost) over all images would stay below zero with the asked confidence. The images
// not seen yet are what is uncertain, hence the finite population correction (Cochran 1977, 2.6).
func (r *runner) lost(c candidate, n int) (bool, error) {
	values, theirs := make([]float64, n), make([]float64, n)
	if _, invalid := r.scores(c.hash, r.cfg.Images[:n], values); invalid != "" {
		return false, nil // evaluate reports it
	}
	cost, err := r.cost(r.deps.Cost, c)
	if err != nil {
		return false, err
	}
	front := r.archive.front
	i := sort.Search(len(front), func(i int) bool { return front[i].Point.Cost > cost })
	if i == 0 {
		return false, nil
	}
	if _, invalid := r.scores(front[i-1].Hash, r.cfg.Images[:n], theirs); invalid != "" {
		return false, nil
	}
	mean, variance := 0.0, 0.0
	for k, v := range values {
		mean += (v - theirs[k]) / float64(n)
	}
	for k, v := range values {
		d := v - theirs[k] - mean
		variance += d * d / float64(n-1)
	}
	left := 1 - float64(n)/float64(len(r.cfg.Images))
	limit := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.Quantile(r.cfg.Racing.Confidence)
	return mean+limit*math.Sqrt(variance/float64(n)*left) < 0, nil
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
