package schedule

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Charset is the set of characters a picture is drawn with.
type Charset uint8

// The character sets.
const (
	Unicode Charset = iota // half blocks, two blocks of the model per line
	ASCII                  // '#' computes, '.' reuses, one block per line
)

// ShowOptions say how to draw.
type ShowOptions struct {
	Charset Charset
	Colour  Colour
	Width   int // columns of the terminal; 0 means 100
}

// Colour says whether to use ANSI colours.
type Colour uint8

// The colour settings.
const (
	Plain Colour = iota
	ANSI
)

// Show draws a schedule: one panel per component, a column per step, a row per
// block (two with half blocks), filled where it computes. The schedule is drawn
// as it stands; a reuse in step 0 shows as such.
func Show(w io.Writer, s *Schedule, o ShowOptions) error {
	if o.Width <= 0 {
		o.Width = 100
	}
	shape := s.Shape()
	p := painter{s: s, o: o}
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s compute, %s reuse; steps to the right, blocks down\n",
		shape, p.glyph(Compute, Compute), p.glyph(Reuse, Reuse))
	for _, part := range []struct {
		kind     BlockKind
		first, n int
	}{{shape.Kind(0), 0, shape.Blocks}, {SingleBlock, shape.Blocks, shape.SingleBlocks}} {
		if part.n == 0 {
			continue
		}
		var panels [][]string
		for comp := range ComponentsPerBlock {
			panels = append(panels, p.panel(part.kind, part.first, part.n, comp))
		}
		p.lay(&b, panels)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// painter draws panels.
type painter struct {
	s *Schedule
	o ShowOptions
}

// labelWidth is what stands left of the cells: "1023 ".
const labelWidth = 5

// panelWidth is the width of a panel in columns; a name may be wider than the
// cells.
func (p painter) panelWidth() int {
	return labelWidth + max(p.s.shape.Steps, len(SingleProjOut.String()))
}

// panel draws one component: its name, a ruler, the rows.
func (p painter) panel(kind BlockKind, first, n, comp int) []string {
	steps := p.s.shape.Steps
	lines := []string{
		strings.Repeat(" ", labelWidth) + kind.Components()[comp].String(),
		strings.Repeat(" ", labelWidth) + ruler(steps),
	}
	perLine := 2
	if p.o.Charset == ASCII {
		perLine = 1
	}
	for block := 0; block < n; block += perLine {
		var line strings.Builder
		fmt.Fprintf(&line, "%*d ", labelWidth-1, block)
		for step := range steps {
			upper := p.s.At(step, first+block, comp)
			lower := Reuse
			if block+1 < n {
				lower = p.s.At(step, first+block+1, comp)
			}
			if perLine == 1 {
				lower = upper
			}
			line.WriteString(p.glyph(upper, lower))
		}
		lines = append(lines, line.String())
	}
	return lines
}

// ruler marks every fifth step.
func ruler(steps int) string {
	var b strings.Builder
	for b.Len() < steps {
		mark := fmt.Sprintf("%-5d", b.Len())
		b.WriteString(mark)
	}
	return strings.TrimRight(b.String()[:steps], " ")
}

// glyph draws two blocks above each other.
func (p painter) glyph(upper, lower Decision) string {
	glyph := ""
	switch {
	case p.o.Charset == ASCII && upper == Compute:
		glyph = "#"
	case p.o.Charset == ASCII:
		glyph = "."
	case upper == Compute && lower == Compute:
		glyph = "█"
	case upper == Compute:
		glyph = "▀"
	case lower == Compute:
		glyph = "▄"
	default:
		glyph = "·"
	}
	if p.o.Colour != ANSI {
		return glyph
	}
	if upper == Reuse && lower == Reuse {
		return "\x1b[90m" + glyph + "\x1b[0m" // grey
	}
	return "\x1b[36m" + glyph + "\x1b[0m" // cyan
}

// lay sets panels side by side as far as the width allows.
func (p painter) lay(b *strings.Builder, panels [][]string) {
	width := p.panelWidth()
	perRow := max(1, p.o.Width/(width+1))
	for len(panels) > 0 {
		row := panels[:min(perRow, len(panels))]
		panels = panels[len(row):]
		for i := range row[0] {
			var line strings.Builder
			for j, panel := range row {
				line.WriteString(panel[i])
				if j+1 < len(row) {
					line.WriteString(strings.Repeat(" ", max(1, width+1-columns(panel[i]))))
				}
			}
			b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		}
	}
}

// columns is the width of a line on the terminal: colour codes take none.
func columns(line string) int {
	n := utf8.RuneCountInString(line)
	for rest := line; ; {
		_, after, found := strings.Cut(rest, "\x1b[")
		if !found {
			return n
		}
		end := strings.IndexByte(after, 'm')
		n -= len("\x1b[") + end + 1
		rest = after[end+1:]
	}
}
