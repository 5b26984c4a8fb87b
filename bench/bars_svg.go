package bench

import (
	"bytes"
	"fmt"
	"html"
)

// Measures of the picture in pixels. Bars lie in rows of barPitch, labels left and right of them.
const (
	barsWidth               = 880
	barsLeft, barsRight     = 152, 790
	barsTop                 = 112
	barPitch, barHeight     = 22, 14
	axisGap, barsBelow      = 8, 44
	mostTicks, legendColumn = 5, 132
)

// barsStyle colours the picture for light and dark pages: Okabe and Ito's colours, which stay apart for people with colour-vision deficiencies.
const barsStyle = `<style>
  text { fill: #24292f; } .quiet { fill: #57606a; } .page { fill: #ffffff; } .grid { stroke: #d0d7de; }
  .computed { fill: #0072b2; } .reused { fill: #e69f00; } .other { fill: #8c959f; } .saved { fill: none; stroke: #8c959f; stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9da7b3; } .page { fill: #0d1117; } .grid { stroke: #30363d; }
    .computed { fill: #56b4e9; } .reused { fill: #e69f00; } .other { fill: #6e7681; } .saved { stroke: #6e7681; }
  }
</style>
`

// SVG is the picture of the steps: one bar each, what was computed, what was reused, the rest, and what was saved against a step that computes
// everything, in milliseconds. It follows the page's light or dark scheme.
func (r *Report) SVG() []byte {
	var b bytes.Buffer
	f := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	bottom := barsTop + len(r.StepTimes)*barPitch
	height := bottom + axisGap + barsBelow
	f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif" font-size="12">`+"\n",
		barsWidth, height, barsWidth, height)
	f("<title>%s</title>\n%s", html.EscapeString(fmt.Sprintf("Milliseconds per denoising step of %s under %s", r.Model, r.Schedule)), barsStyle)
	f(`<rect class="page" width="%d" height="%d" rx="8"/>`+"\n", barsWidth, height)
	f(`<text x="24" y="34" font-size="17" font-weight="600">%s, schedule %s</text>`+"\n", html.EscapeString(r.Model), html.EscapeString(r.Schedule))
	f(`<text class="quiet" x="24" y="55">%s</text>`+"\n", html.EscapeString(fmt.Sprintf("%s px, batch %d, %s, %s on %s (%s): run %s ms, all computed %s ms, speedup %.2f",
		r.Resolution, r.Batch, plural(r.Steps, "step"), r.DType, r.Device, r.Hardware.Name, msText(r.RunMS), msText(r.UncachedRunMS), r.Speedup)))
	for i, p := range r.parts(StepTime{}) {
		x := 24 + i*legendColumn
		f(`<rect class="%s" x="%d" y="72" width="14" height="12" rx="2"/><text x="%d" y="82">%s</text>`+"\n", p.class, x, x+20, p.name)
	}
	r.svgAxis(&b, bottom)
	longest := r.longestBar()
	for i, s := range r.StepTimes {
		y := barsTop + i*barPitch
		f(`<text x="24" y="%d">step %d</text><text class="quiet" x="%d" y="%d" text-anchor="end">%d of %d</text>`+"\n", y+11, s.Step, barsLeft-10, y+11, s.Computed, s.Cells)
		at := float64(barsLeft)
		for _, p := range r.parts(s) {
			if width := p.ms / longest * (barsRight - barsLeft); longest > 0 && width >= 0.05 {
				f(`<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s %s ms</title></rect>`+"\n", p.class, at, y, width, barHeight, p.name, msText(p.ms))
				at += width
			}
		}
		f(`<text x="%d" y="%d" text-anchor="end">%s ms</text>`+"\n", barsWidth-16, y+11, msText(s.MS))
	}
	f("</svg>\n")
	return b.Bytes()
}

// svgAxis draws ticks in milliseconds behind the bars.
func (r *Report) svgAxis(b *bytes.Buffer, bottom int) {
	longest := r.longestBar()
	if longest <= 0 {
		return
	}
	tick := niceTick(longest / mostTicks)
	for i := 0; float64(i)*tick <= longest; i++ {
		x := barsLeft + float64(i)*tick/longest*(barsRight-barsLeft)
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="quiet" x="%.1f" y="%d" text-anchor="middle">%.4g</text>`+"\n",
			x, x, barsTop-6, bottom+axisGap/2, x, bottom+axisGap+12, float64(i)*tick)
	}
	fmt.Fprintf(b, `<text class="quiet" x="%d" y="%d">milliseconds; before each bar, components computed</text>`+"\n", barsLeft, bottom+axisGap+30)
}

// niceTick is 1, 2 or 5 times a power of ten, the next above.
func niceTick(least float64) float64 {
	tick := 1e-6
	for {
		for _, m := range []float64{1, 2, 5} {
			if tick*m >= least || tick > 1e12 {
				return tick * m
			}
		}
		tick *= 10
	}
}
