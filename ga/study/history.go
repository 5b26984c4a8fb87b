package study

import (
	"ecadx/ga"
)

// HistoryEntry is where a search stood after a generation.
type HistoryEntry struct {
	Generation  int     `json:"generation"`
	Evaluations int64   `json:"evaluations"`
	Images      int64   `json:"images"`
	Dropped     int64   `json:"dropped"`
	Front       int     `json:"front"` // schedules on the front of all time
	Hypervolume float64 `json:"hypervolume"`
	// IGDPlus is the mean distance of the front of the last generation to this one, both objectives in units of the rectangle of the
	// hypervolume.
	IGDPlus float64 `json:"igd_plus"`
}

// progress is the front of all time, generation by generation.
type progress struct {
	archive  ga.Archive
	uncached ga.Evaluation
	fronts   [][]ga.Entry // after each snapshot
}

// follow repeats what a search did to its archive.
func follow(snapshots []*ga.Snapshot) *progress {
	p := &progress{}
	for _, s := range snapshots {
		for _, e := range s.Candidates {
			if s.Generation == 0 && e.Name == ga.UncachedName {
				p.uncached = e
				p.archive.Mark(e.Hash)
			}
			// Runs with fewer steps and the run that reuses everything are only compared with.
			if s.Generation == 0 && (e.Name == ga.AllReusedName || e.Genome.Len() != p.uncached.Genome.Len()) {
				continue
			}
			if e.Status == ga.StatusScored {
				p.archive.Add(ga.Entry{Hash: e.Hash, Point: ga.Point{Quality: e.Quality, Cost: e.Cost}, Generation: s.Generation})
			}
		}
		p.fronts = append(p.fronts, p.archive.Front())
	}
	return p
}

// history is what the snapshots say about each generation.
func history(snapshots []*ga.Snapshot) []HistoryEntry {
	p := follow(snapshots)
	var list []HistoryEntry
	var last [][]float64
	for i := len(snapshots) - 1; i > 0; i-- { // from the last on, which the others are compared with
		s := snapshots[i]
		var points []ga.Point
		var unit [][]float64
		for _, e := range p.fronts[i] {
			points = append(points, e.Point)
			unit = append(unit, []float64{-(e.Point.Quality - s.Reference.Quality) / (p.uncached.Quality - s.Reference.Quality), e.Point.Cost / s.Reference.Cost})
		}
		if last == nil {
			last = unit
		}
		h := HistoryEntry{Generation: s.Generation, Evaluations: s.Evaluations, Images: s.Images, Dropped: s.Dropped, Front: len(points)}
		_, h.Hypervolume = ga.HypervolumeOf(points, s.Reference, p.uncached.Quality)
		if p.uncached.Quality > s.Reference.Quality && s.Reference.Cost > 0 && len(last) > 0 {
			h.IGDPlus = ga.IGDPlus(unit, last)
		}
		list = append(list, h)
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

// History says where the search stood after each generation.
func (c *Contents) History() []HistoryEntry { return history(c.Snapshots) }

// Evaluations are all candidates in the order in which they were first asked for.
func (c *Contents) Evaluations() []ga.Evaluation { return evaluations(c.Snapshots) }

func evaluations(snapshots []*ga.Snapshot) []ga.Evaluation {
	var list []ga.Evaluation
	for _, s := range snapshots {
		for _, e := range s.Candidates {
			if e.First {
				list = append(list, e)
			}
		}
	}
	return list
}

// FrontSoFar is the front of the finished generations by ascending cost, on the search images. A finished study has it in Front, with intervals.
func (c *Contents) FrontSoFar() []ga.Evaluation {
	if len(c.Snapshots) == 0 {
		return nil
	}
	byHash := map[string]ga.Evaluation{}
	for _, e := range c.Evaluations() {
		byHash[string(e.Hash[:])] = e
	}
	fronts := follow(c.Snapshots).fronts
	var list []ga.Evaluation
	for _, e := range fronts[len(fronts)-1] {
		list = append(list, byHash[string(e.Hash[:])])
	}
	return list
}

// Uncached is the evaluation of the schedule that computes everything; ok is false before there is one.
func (c *Contents) Uncached() (e ga.Evaluation, ok bool) {
	if len(c.Snapshots) == 0 {
		return e, false
	}
	e = follow(c.Snapshots[:1]).uncached
	return e, e.Name != ""
}
