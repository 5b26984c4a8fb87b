package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"

	"ecadx/ga"
	"ecadx/schedule"
)

// files are what is written, and the command that does so.
type files struct{ results, figure, readme, command string }

// results is the JSON file.
type results struct {
	Settings settings `json:"settings"`
	Command  string   `json:"command"`
	Complete bool     `json:"complete"` // false: searches are missing
	// WorkRatioMedian is, in the median of the seeds, the DiT work at which ecadx reaches the held-out hypervolume that ecad ends with, divided by
	// the work of ecad. Null when a seed has not reached it.
	WorkRatioMedian *float64 `json:"work_ratio_median"`
	Runs            []*curve `json:"runs"`
	// Converged is what the tree saves of a generation of converged searches.
	Converged []*converged `json:"converged"`
}

// curve is a search at its checkpoints.
type curve struct {
	Variant string  `json:"variant"`
	Seed    int     `json:"seed"`
	Work    float64 `json:"work_flops"` // at its end
	Images  int64   `json:"images"`
	// WorkRatio, of ecadx alone, is the work at the first checkpoint whose held-out hypervolume is at least what ecad ends with, divided by ecad's
	// work. Null when there is none.
	WorkRatio *float64     `json:"work_ratio"`
	Points    []checkpoint `json:"checkpoints"`
	// TreeSaves is the share of the work that shared prefixes save, or would have saved, in the second half of the generations.
	TreeSaves float64 `json:"tree_saves"`

	budget float64
}

// checkpoint is the front after a generation.
type checkpoint struct {
	Generation  int     `json:"generation"`
	Work        float64 `json:"work_flops"`
	Images      int64   `json:"images"`
	Hypervolume float64 `json:"heldout_hypervolume"`
	Search      float64 `json:"search_hypervolume"` // of the whole front, on the search images
	Points      int     `json:"points"`
}

// shares of ecad's work at which the fronts of the two whole searches are judged; those without a part at what they run to. Between the last
// front of ecadx below the hypervolume that ecad ends with and the first above it more are judged. Judging costs as much as searching: there are eight times as many
// held-out images as searched ones.
var shares = []float64{0.25, 1}

// add judges a search.
func (r *results) add(ctx context.Context, l *lab, t *trace) error {
	c := &curve{Variant: t.variant.Name, Seed: t.seed, Work: t.work(), Images: t.marks[len(t.marks)-1].images, budget: t.budget}
	half, end := t.marks[(len(t.marks)-1)/2], t.marks[len(t.marks)-1]
	if asked := end.alone - half.alone; asked > 0 {
		c.TreeSaves = 1 - (end.tree-half.tree)/asked
	}
	r.Runs = slices.DeleteFunc(r.Runs, func(o *curve) bool { return o.Variant == c.Variant && o.Seed == c.Seed })
	r.Runs = append(r.Runs, c)
	base := r.of(asECAD.Name, t.seed)
	at := shares
	if c.budget > 0 && c.budget < base.Work {
		at = []float64{r.Settings.Part}
	}
	for _, at := range places(t, base.Work, at) {
		if err := c.judge(ctx, l, t, at); err != nil {
			return err
		}
	}
	if t.variant != asECADX {
		return nil
	}
	target := base.Points[len(base.Points)-1].Hypervolume
	if err := c.refine(ctx, l, t, target); err != nil {
		return err
	}
	for _, p := range c.Points {
		if p.Hypervolume >= target {
			v := p.Work / base.Work
			c.WorkRatio = &v
			break
		}
	}
	return nil
}

func (r *results) of(name string, seed int) *curve {
	for _, c := range r.Runs {
		if c.Variant == name && c.Seed == seed {
			return c
		}
	}
	return nil
}

// places are the marks at which a front is judged: the first, and the last before each share of the work.
func places(t *trace, whole float64, shares []float64) []int {
	out := []int{0}
	for _, share := range shares {
		at := 0
		for i, m := range t.marks {
			if m.work <= share*whole {
				at = i
			}
		}
		if !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out // ascending, as the shares are
}

// refine judges marks between the last checkpoint below the target and the first that reaches it, by bisection.
func (c *curve) refine(ctx context.Context, l *lab, t *trace, target float64) error {
	for {
		i := slices.IndexFunc(c.Points, func(p checkpoint) bool { return p.Hypervolume >= target })
		if i < 1 {
			return nil
		}
		lo, hi := c.Points[i-1].Generation, c.Points[i].Generation
		if hi-lo < 2 {
			return nil
		}
		if err := c.judge(ctx, l, t, (lo+hi)/2-1); err != nil {
			return err
		}
	}
}

// judge adds a checkpoint.
func (c *curve) judge(ctx context.Context, l *lab, t *trace, at int) error {
	m := t.marks[at]
	front := ga.Subset(m.front, l.cfg.Points, t.reference)
	none, err := schedule.New(l.shape)
	if err != nil {
		return err
	}
	worst, err := ga.ScheduleOf(l.shape, ga.NewGenome(l.shape.Cells()))
	if err != nil {
		return err
	}
	list := []*schedule.Schedule{none, worst.Canonical()}
	for _, e := range front {
		list = append(list, e.Schedule)
	}
	quality, err := l.judge(ctx, list, l.heldOut)
	if err != nil {
		return err
	}
	base, err := l.macs.Cost(none)
	if err != nil {
		return err
	}
	points := make([]ga.Point, len(front))
	for i, e := range front {
		points[i] = ga.Point{Quality: quality[i+2], Cost: e.Point.Cost}
	}
	_, hv := ga.HypervolumeOf(points, ga.Point{Quality: quality[1], Cost: base}, quality[0])
	p := checkpoint{Generation: m.generation, Work: m.work, Images: m.images, Hypervolume: hv, Search: m.hypervolume, Points: len(front)}
	i, _ := slices.BinarySearchFunc(c.Points, p, func(a, b checkpoint) int { return a.Generation - b.Generation })
	c.Points = slices.Insert(c.Points, i, p)
	say("%s, seed %d: generation %d, %.2f T: held-out hypervolume %.4f of %d schedules", c.Variant, c.Seed, m.generation, m.work/1e12, hv, len(front))
	return nil
}

// median is that of the work ratios of a variant; nil when one is missing.
func (r *results) median(name string) *float64 {
	var list []float64
	for _, c := range r.Runs {
		if c.Variant != name {
			continue
		}
		if c.WorkRatio == nil {
			return nil
		}
		list = append(list, *c.WorkRatio)
	}
	if len(list) == 0 {
		return nil
	}
	m := median(list)
	return &m
}

// write writes the files.
func (r *results) write(out files, complete bool) error {
	r.Command, r.Complete, r.WorkRatioMedian = out.command, complete, r.median(asECADX.Name)
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(out.results, append(data, '\n'), 0o644); err != nil {
		return err
	}
	if out.figure != "" {
		if err := os.WriteFile(out.figure, []byte(r.figure()), 0o644); err != nil {
			return err
		}
	}
	if out.readme != "" {
		return r.insert(out.readme)
	}
	return nil
}
