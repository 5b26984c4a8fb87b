package ga

import (
	"bytes"
	"fmt"
	"slices"

	"ecadx/schedule"
)

// confirmConfidence is the probability, by the paired t-test on the search images, with which a schedule that is not scored on more images would
// have stayed behind the front on all of them.
const confirmConfidence = 0.95

// confirm scores what may belong to the front on the images that confirm it, and draws the front anew by the means over all images. Seeds and
// baselines are scored as well: what is reported of all is about the same images.
func (r *runner) confirm(seeds, baselines []candidate) error {
	if len(r.cfg.Confirm) == 0 {
		return nil
	}
	r.progress.Phase = PhaseConfirm
	born, err := r.born(baselines)
	if err != nil {
		return err
	}
	list, err := r.contenders()
	if err != nil {
		return err
	}
	list = r.scorable(list, seeds, baselines, []candidate{r.uncached})
	if err := r.score(list, r.cfg.Confirm); err != nil {
		return err
	}
	images := slices.Concat(r.cfg.Images, r.cfg.Confirm)
	values := make([]float64, len(images))
	r.archive = Archive{}
	r.archive.Mark(r.uncached.hash)
	for _, c := range list {
		n, invalid := r.scores(c.hash, images, values)
		r.progress.Images += int64(n - len(r.cfg.Images))
		generation, may := born[c.hash]
		switch {
		case invalid == "" && may:
			r.archive.Add(Entry{Hash: c.hash, Schedule: c.schedule, Point: Point{Quality: Mean(values), Cost: r.quality[c.hash].cost}, Generation: generation})
		case invalid != "" && c.hash == r.uncached.hash:
			return fmt.Errorf("ecadx/ga: the uncached schedule cannot be scored: %s", invalid)
		}
	}
	return nil
}

// born are the schedules that may belong to the front, with the generation that found them: those that a generation has scored on all search
// images and found feasible, and baselines, which are of generation 0.
func (r *runner) born(baselines []candidate) (map[schedule.Hash]int, error) {
	out := make(map[schedule.Hash]int)
	for _, b := range baselines {
		may, err := r.mayJoin(b)
		if err != nil {
			return nil, err
		}
		if may {
			out[b.hash] = 0
		}
	}
	err := r.eachScored(func(generation int, e *Evaluation) error {
		if _, known := out[e.Hash]; !known {
			out[e.Hash] = generation
		}
		return nil
	})
	return out, err
}

// eachScored visits what the generations have scored on all search images and found feasible, until visit returns an error.
func (r *runner) eachScored(visit func(generation int, e *Evaluation) error) error {
	for g := 1; g <= r.progress.Generation; g++ {
		s, ok := r.deps.Log.Snapshot(g)
		if !ok {
			return fmt.Errorf("ecadx/ga: the log has lost generation %d", g) // search has committed them all
		}
		for i := range s.Candidates {
			if e := &s.Candidates[i]; e.Status == StatusScored {
				if err := visit(g, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// contenders are the schedules of the front and, of the others that are not behind it beyond doubt, those that are the fewest standard errors
// behind: at most as many again.
func (r *runner) contenders() ([]candidate, error) {
	var list []candidate
	known := make(map[schedule.Hash]bool)
	for _, e := range r.archive.front {
		known[e.Hash] = true
		list = append(list, candidate{hash: e.Hash, schedule: e.Schedule})
	}
	type near struct {
		candidate
		behind float64
	}
	var others []near
	limit := studentT(confirmConfidence, max(2, len(r.cfg.Images)))
	err := r.eachScored(func(_ int, e *Evaluation) error {
		if known[e.Hash] {
			return nil
		}
		known[e.Hash] = true
		s, err := ScheduleOf(r.cfg.Shape, e.Genome)
		if err != nil {
			return err
		}
		c := newCandidate(e.Name, s)
		behind, err := r.behind(c, r.cfg.Images, len(r.cfg.Images)+len(r.cfg.Confirm))
		if behind <= limit {
			others = append(others, near{c, behind})
		}
		return err
	})
	slices.SortFunc(others, func(a, b near) int {
		if c := compareFloat(a.behind, b.behind); c != 0 {
			return c
		}
		return bytes.Compare(a.hash[:], b.hash[:])
	})
	for _, o := range others[:min(len(others), len(list))] {
		list = append(list, o.candidate)
	}
	return list, err
}

// scorable are the valid ones of all lists, each schedule once.
func (r *runner) scorable(lists ...[]candidate) []candidate {
	var all []candidate
	seen := make(map[schedule.Hash]bool)
	for _, c := range slices.Concat(lists...) {
		if o, known := r.quality[c.hash]; known && o.invalid == "" && !o.raced && !seen[c.hash] {
			seen[c.hash] = true
			all = append(all, c)
		}
	}
	return all
}
