package page

import (
	"fmt"
	"strconv"
	"strings"

	"ecadx/schedule"
)

// panel is one component of one kind of block: a map of steps (to the right) and blocks (downwards).
type panel struct {
	Name          string
	Kind          string // of the blocks, where there are several
	First, Blocks int    // the blocks, numbered through all kinds
	Steps         int
	Comp          int
	Path          string  // the cells that the schedule shown first computes
	Levels        []level // of the map of tolerance
	Share         string  // of the reused cells on the front
	Thirds        []share // of them by blocks and by steps
}

// level is the cells that about the same share of the front's schedules reuse.
type level struct {
	Opacity string
	Path    string
}

type share struct{ Name, Value string }

// levels is how finely shares are drawn.
const levels = 8

// newPanels lays out the components of a shape.
func newPanels(shape schedule.Shape) []panel {
	var out []panel
	for _, part := range []struct{ first, n int }{{0, shape.Blocks}, {shape.Blocks, shape.SingleBlocks}} {
		if part.n == 0 {
			continue
		}
		for comp := range schedule.ComponentsPerBlock {
			p := panel{Name: shape.Component(part.first, comp).String(), First: part.first, Blocks: part.n, Steps: shape.Steps, Comp: comp}
			if shape.SingleBlocks > 0 {
				p.Kind = "double-stream blocks"
				if part.first > 0 || shape.Blocks == 0 {
					p.Kind = "single-stream blocks"
				}
			}
			out = append(out, p)
		}
	}
	return out
}

// path draws the cells of so many steps for which on holds, row by row, as an SVG path in units of cells.
func (p panel) path(steps int, on func(step, block int) bool) string {
	var b strings.Builder
	for block := range p.Blocks {
		for step := 0; step < steps; {
			if !on(step, p.First+block) {
				step++
				continue
			}
			from := step
			for step < steps && on(step, p.First+block) {
				step++
			}
			fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from, block, step-from, step-from)
		}
	}
	return b.String()
}

// tolerate fills in how much of the panel the schedules of a front reuse. Shorter runs are stretched to the panel's steps.
func (p *panel) tolerate(front []*schedule.Schedule) {
	counts := make([][]int, p.Blocks)
	for block := range counts {
		counts[block] = make([]int, p.Steps)
		for step := range p.Steps {
			for _, s := range front {
				if s.At(step*s.Shape().Steps/p.Steps, p.First+block, p.Comp) == schedule.Reuse {
					counts[block][step]++
				}
			}
		}
	}
	for l := 1; l <= levels; l++ {
		path := p.path(p.Steps, func(step, block int) bool {
			return (counts[block-p.First][step]*levels+len(front)-1)/len(front) == l
		})
		if path != "" {
			p.Levels = append(p.Levels, level{strconv.FormatFloat(float64(l)/levels, 'f', 3, 64), path})
		}
	}
	part := func(blocks, steps [2]int) string {
		sum, all := 0, 0
		for block := blocks[0]; block < blocks[1]; block++ {
			for step := max(1, steps[0]); step < steps[1]; step++ {
				sum, all = sum+counts[block][step], all+len(front)
			}
		}
		if all == 0 {
			return "–"
		}
		return fmt.Sprintf("%.0f %%", 100*float64(sum)/float64(all))
	}
	blocks, steps := [2]int{0, p.Blocks}, [2]int{0, p.Steps}
	p.Share = part(blocks, steps)
	for i, name := range []string{"first", "middle", "last"} {
		p.Thirds = append(p.Thirds, share{name + " third of the blocks", part(third(i, blocks), steps)})
	}
	for i, name := range []string{"first", "middle", "last"} {
		p.Thirds = append(p.Thirds, share{name + " third of the steps", part(blocks, third(i, steps))})
	}
}

func third(i int, r [2]int) [2]int { return [2]int{i * r[1] / 3, (i + 1) * r[1] / 3} }
