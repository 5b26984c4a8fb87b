package main

import (
	"fmt"
	"math"
	"os"
	"strings"

	"ecadx/ga"
)

// plotGlyphs are the characters of a plot on a terminal.
type plotGlyphs struct{ point, axis, corner, line string }

var (
	unicodeGlyphs = plotGlyphs{"●", "│", "└", "─"}
	asciiGlyphs   = plotGlyphs{"o", "|", "+", "-"}
)

// terminalGlyphs are those that the terminal's encoding has: the first of the variables that is set says which that is (POSIX, 8.2).
func terminalGlyphs() plotGlyphs {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			if strings.Contains(v, "utf-8") || strings.Contains(v, "utf8") {
				return unicodeGlyphs
			}
			return asciiGlyphs
		}
	}
	return asciiGlyphs
}

// frontPlotRows is the height of a plot without its axis.
const frontPlotRows = 7

// frontPlot draws a front, quality upwards and cost to the right, in lines of at most width characters; base is the uncached cost. It is empty
// where there is nothing to draw, or no room.
func frontPlot(points []ga.Point, base float64, width int, g plotGlyphs) []string {
	const labels = 10 // columns left of the axis
	columns := width - labels - 1
	if len(points) < 2 || columns < 20 {
		return nil
	}
	x0, x1, y0, y1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, p := range points {
		x0, x1, y0, y1 = min(x0, p.Cost), max(x1, p.Cost), min(y0, p.Quality), max(y1, p.Quality)
	}
	place := func(v, lo, hi float64, n int) int {
		if !(hi > lo) {
			return 0
		}
		return int(math.Round((v - lo) / (hi - lo) * float64(n-1)))
	}
	grid := make([][]bool, frontPlotRows)
	for i := range grid {
		grid[i] = make([]bool, columns)
	}
	for _, p := range points {
		grid[frontPlotRows-1-place(p.Quality, y0, y1, frontPlotRows)][place(p.Cost, x0, x1, columns)] = true
	}
	var out []string
	for i, row := range grid {
		label := ""
		switch i {
		case 0:
			label = fmt.Sprintf("%.4g", y1)
		case frontPlotRows - 1:
			label = fmt.Sprintf("%.4g", y0)
		}
		var line strings.Builder
		fmt.Fprintf(&line, "%*s %s", labels-1, label, g.axis)
		for _, on := range row {
			if on {
				line.WriteString(g.point)
			} else {
				line.WriteByte(' ')
			}
		}
		out = append(out, strings.TrimRight(line.String(), " "))
	}
	out = append(out, strings.Repeat(" ", labels)+g.corner+strings.Repeat(g.line, columns))
	left, right := reduction(base, x0), reduction(base, x1)
	return append(out, strings.Repeat(" ", labels+1)+left+strings.Repeat(" ", max(1, columns-len(left)-len(right)))+right)
}

func reduction(base, cost float64) string {
	if cost <= 0 {
		return ""
	}
	return fmt.Sprintf("%.2fx less", base/cost)
}
