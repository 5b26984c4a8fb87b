package schedule

import (
	"fmt"
	"io"
)

// Summary counts the reuse in a schedule.
type Summary struct {
	Shape      Shape              `json:"shape"`
	Hash       Hash               `json:"hash"`
	Cells      int                `json:"cells"`
	Reused     int                `json:"reused"`       // of the schedule as it stands, step 0 not counted
	ReuseShare float64            `json:"reuse_share"`  // reused / cells
	StepShares []float64          `json:"step_shares"`  // per step
	Components []ComponentSummary `json:"components"`   // in genome order
	Dead       int                `json:"dead_genes"`   // see Schedule.DeadGenes
	LongestRun int                `json:"longest_run"`  // most steps in a row that one component of one block is reused
	IdleSteps  int                `json:"idle_steps"`   // steps that reuse everything
	FullSteps  int                `json:"full_steps"`   // steps that compute everything
	IdleBlocks int                `json:"idle_blocks"`  // (step, block) pairs that reuse everything
	TotalPairs int                `json:"total_blocks"` // (step, block) pairs
}

// ComponentSummary is the reuse of one component over all steps and blocks.
type ComponentSummary struct {
	Component  Component `json:"component"`
	Cells      int       `json:"cells"`
	Reused     int       `json:"reused"`
	ReuseShare float64   `json:"reuse_share"`
}

// share is part / whole, 0 of nothing.
func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Summarize counts the reuse in a schedule. A reuse in step 0 computes and is
// not counted.
func Summarize(s *Schedule) Summary {
	shape := s.Shape()
	sum := Summary{Shape: shape, Hash: s.Hash(), Cells: shape.Cells(), Dead: len(s.DeadGenes()), TotalPairs: shape.Steps * shape.TotalBlocks()}
	var byComponent [numComponents]ComponentSummary
	runs := make([]int, shape.RowLen())
	for step := range shape.Steps {
		inStep := 0
		for block := range shape.TotalBlocks() {
			inBlock := 0
			for comp := range ComponentsPerBlock {
				c := &byComponent[shape.Component(block, comp)]
				c.Cells++
				run := &runs[block*ComponentsPerBlock+comp]
				if step == 0 || s.At(step, block, comp) == Compute {
					*run = 0
					continue
				}
				c.Reused++
				inBlock++
				*run++
				sum.LongestRun = max(sum.LongestRun, *run)
			}
			if inBlock == ComponentsPerBlock {
				sum.IdleBlocks++
			}
			inStep += inBlock
		}
		sum.Reused += inStep
		sum.StepShares = append(sum.StepShares, share(inStep, shape.RowLen()))
		switch inStep {
		case shape.RowLen():
			sum.IdleSteps++
		case 0:
			sum.FullSteps++
		}
	}
	sum.ReuseShare = share(sum.Reused, sum.Cells)
	for _, component := range shape.Family.Components() {
		c := byComponent[component]
		c.Component, c.ReuseShare = component, share(c.Reused, c.Cells)
		sum.Components = append(sum.Components, c)
	}
	return sum
}

// WriteText writes the summary in a few lines, for a terminal.
func (sum Summary) WriteText(w io.Writer) error {
	lines := fmt.Sprintf("%v; hash %.16s\n", sum.Shape, sum.Hash)
	lines += fmt.Sprintf("reused %d of %d cells (%.1f %%), %d steps compute all, %d compute nothing, longest reuse %d steps",
		sum.Reused, sum.Cells, 100*sum.ReuseShare, sum.FullSteps, sum.IdleSteps, sum.LongestRun)
	if sum.Dead > 0 {
		lines += fmt.Sprintf(", %d dead genes", sum.Dead)
	}
	lines += "\n"
	for _, c := range sum.Components {
		if c.Cells > 0 {
			lines += fmt.Sprintf("  %-16v reused %5d of %5d (%5.1f %%)\n", c.Component, c.Reused, c.Cells, 100*c.ReuseShare)
		}
	}
	_, err := io.WriteString(w, lines)
	return err
}
