package main

import (
	"image"
	"image/color"
	"image/draw"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// Measures of pictures with labels, in pixels.
const (
	tileSize   = 192 // small pictures are magnified to about this size
	tileGap    = 8
	lineHeight = 16
	charWidth  = 7
)

var (
	ink   = color.NRGBA{17, 24, 39, 255}
	faint = color.NRGBA{75, 85, 99, 255}
)

// grid lays pictures of one size out in rows and columns with a label over every column and under every row.
type grid struct {
	columns []string
	rows    []string
	tiles   [][]image.Image // by row and column
}

// draw makes the picture. Small tiles are magnified by a whole factor, pixel by pixel, so that nothing is smoothed away.
func (g grid) draw() *image.NRGBA {
	first := g.tiles[0][0].Bounds()
	factor := max(1, tileSize/max(first.Dx(), first.Dy()))
	w, h := first.Dx()*factor, first.Dy()*factor
	columnLines := make([][]string, len(g.columns))
	head := 0
	for i, c := range g.columns {
		columnLines[i] = wrap(c, w/charWidth)
		head = max(head, len(columnLines[i]))
	}
	width := len(g.columns)*(w+tileGap) + tileGap
	rowLines := make([][]string, len(g.rows))
	height := tileGap + head*lineHeight
	for i, r := range g.rows {
		rowLines[i] = wrap(r, (width-2*tileGap)/charWidth)
		height += h + len(rowLines[i])*lineHeight + tileGap
	}
	out := image.NewNRGBA(image.Rect(0, 0, width, height+tileGap))
	draw.Draw(out, out.Bounds(), image.White, image.Point{}, draw.Src)
	for i, lines := range columnLines {
		for k, line := range lines {
			write(out, tileGap+i*(w+tileGap), tileGap+(k+head-len(lines))*lineHeight, line, ink)
		}
	}
	y := tileGap + head*lineHeight
	for r, row := range g.tiles {
		for c, tile := range row {
			magnify(out, tileGap+c*(w+tileGap), y, tile, factor)
		}
		y += h
		for k, line := range rowLines[r] {
			write(out, tileGap, y+k*lineHeight, line, faint)
		}
		y += len(rowLines[r])*lineHeight + tileGap
	}
	return out
}

// magnify copies a picture with each pixel as a square.
func magnify(out *image.NRGBA, x0, y0 int, tile image.Image, factor int) {
	b := tile.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			square := image.Rect(x0+x*factor, y0+y*factor, x0+(x+1)*factor, y0+(y+1)*factor)
			draw.Draw(out, square, image.NewUniform(tile.At(b.Min.X+x, b.Min.Y+y)), image.Point{}, draw.Src)
		}
	}
}

// write puts a line of text with its upper left corner at x, y.
func write(out *image.NRGBA, x, y int, text string, c color.Color) {
	d := font.Drawer{Dst: out, Src: image.NewUniform(c), Face: basicfont.Face7x13, Dot: fixed.P(x, y+12)}
	d.DrawString(text)
}

// wrap breaks a text into lines of at most n characters, between words where that is possible.
func wrap(text string, n int) []string {
	n = max(n, 8)
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for len(word) > n {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, word[:n]), word[n:]
		}
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= n:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}
