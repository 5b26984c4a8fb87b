package schedule

import (
	"fmt"
	"io"
	"strings"
)

// Difference is a cell in which two schedules decide otherwise.
type Difference struct {
	Step      int       `json:"step"`
	Block     string    `json:"block"` // as in the file: "7", "single_7"
	Component Component `json:"component"`
	A         Decision  `json:"a"`
	B         Decision  `json:"b"`
}

// Comparison is what [Diff] finds.
type Comparison struct {
	Shape      Shape        `json:"shape"`
	Equivalent bool         `json:"equivalent"` // they make a model do the same thing
	Cells      []Difference `json:"cells"`      // in genome order
	OnlyA      int          `json:"only_a"`     // cells that only the first computes
	OnlyB      int          `json:"only_b"`     // cells that only the second computes
}

// Diff compares two schedules cell by cell, as they stand. Different shapes are
// an error that states both and wraps [ErrShape].
func Diff(a, b *Schedule) (Comparison, error) {
	if a.shape != b.shape {
		return Comparison{}, fmt.Errorf("%w: one schedule is for %v, the other for %v: only schedules of one shape can be compared",
			ErrShape, a.shape, b.shape)
	}
	c := Comparison{Shape: a.shape, Equivalent: a.Canonical().Equal(b.Canonical()), Cells: []Difference{}}
	for cell, d := range a.All() {
		other := b.At(cell.Step, cell.Block, cell.Comp)
		if d == other {
			continue
		}
		c.Cells = append(c.Cells, Difference{cell.Step, a.shape.BlockName(cell.Block), a.shape.Component(cell.Block, cell.Comp), d, other})
		if d == Compute {
			c.OnlyA++
		} else {
			c.OnlyB++
		}
	}
	return c, nil
}

// WriteText writes the comparison for a terminal, one line per step and
// component: which blocks only the first computes (-) and which only the second
// does (+), neighbours joined ("3-7").
func (c Comparison) WriteText(w io.Writer) error {
	var b strings.Builder
	switch {
	case len(c.Cells) == 0:
		fmt.Fprintf(&b, "equal: %v\n", c.Shape)
	default:
		fmt.Fprintf(&b, "%d of %d cells differ (%d computed only by the first, -; %d only by the second, +)",
			len(c.Cells), c.Shape.Cells(), c.OnlyA, c.OnlyB)
		if c.Equivalent {
			b.WriteString("; they do the same")
		}
		b.WriteByte('\n')
	}
	for rest := c.Cells; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Step == rest[0].Step {
			n++
		}
		writeStep(&b, rest[:n])
		rest = rest[n:]
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeStep writes the differences of one step.
func writeStep(b *strings.Builder, cells []Difference) {
	for component := range numComponents {
		line := ""
		for _, side := range []struct {
			computes Decision // what the first does
			sign     string
		}{{Compute, " -"}, {Reuse, " +"}} {
			var blocks []int
			for _, d := range cells {
				if d.Component == component && d.A == side.computes {
					n := 0
					fmt.Sscanf(strings.TrimPrefix(d.Block, "single_"), "%d", &n)
					blocks = append(blocks, n)
				}
			}
			if len(blocks) > 0 {
				line += side.sign + " " + ranges(blocks)
			}
		}
		if line != "" {
			fmt.Fprintf(b, "step %3d %-16v%s\n", cells[0].Step, component, line)
		}
	}
}

// ranges writes ascending numbers, neighbours joined.
func ranges(n []int) string {
	var parts []string
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", n[i], n[j]))
		} else {
			parts = append(parts, fmt.Sprint(n[i]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
