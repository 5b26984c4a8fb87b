package study

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strconv"
)

// The picture's measures in pixels.
const (
	svgWidth, svgHeight                    = 880, 540
	plotLeft, plotRight, plotTop, plotDown = 84, 856, 96, 476
)

// Colours that stay apart for people with colour-vision deficiencies (Okabe and Ito 2008).
const (
	colourFront    = "#0072b2"
	colourBaseline = "#d55e00"
	colourSeed     = "#8a8f98"
	colourUncached = "#111827"
)

// plotPoint is an entry as it is drawn.
type plotPoint struct {
	label, tip    string
	cost, quality float64
	ci            [2]float64
}

// chart maps objectives to pixels.
type chart struct {
	bytes.Buffer
	x0, x1, y0, y1 float64
	boxes          [][4]float64 // what labels must not cover
}

func (c *chart) px(cost float64) float64 {
	return plotLeft + (cost-c.x0)/(c.x1-c.x0)*(plotRight-plotLeft)
}

func (c *chart) py(quality float64) float64 {
	return plotDown - (quality-c.y0)/(c.y1-c.y0)*(plotDown-plotTop)
}

func (c *chart) f(format string, args ...any) { fmt.Fprintf(c, format, args...) }

// SVG returns the front as a self-contained picture: cost to the right, quality upwards, the speed-up in arithmetic or
// time along the top. It shows held-out qualities with their 95 % intervals if there are any, else those of the search.
func (f *Front) SVG() []byte {
	heldOut := f.Uncached.HeldOutQuality != nil
	front, baselines := f.points(f.Front, heldOut), f.points(f.Baselines, heldOut)
	seeds, uncached := f.points(f.Seeds, heldOut), f.points([]FrontEntry{f.Uncached}, heldOut)
	lowerTop(uncached, front, baselines, seeds)
	c := &chart{}
	c.fit(front, baselines, seeds, uncached)
	c.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" `+
		`font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif" font-size="13">`+"\n",
		svgWidth, svgHeight, svgWidth, svgHeight)
	c.f("<title>Pareto front of caching schedules</title>\n")
	c.f(`<rect width="%d" height="%d" rx="8" fill="#ffffff"/>`+"\n", svgWidth, svgHeight)
	c.heading(f, heldOut)
	c.axes(f, heldOut)
	for _, p := range uncached {
		c.f(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="5 4" stroke-opacity="0.45"/>`+"\n",
			plotLeft, plotRight, c.py(p.quality), c.py(p.quality), colourUncached)
	}
	for _, p := range seeds {
		c.f(`<circle cx="%.1f" cy="%.1f" r="3.2" fill="%s" fill-opacity="0.55"><title>%s</title></circle>`+"\n",
			c.px(p.cost), c.py(p.quality), colourSeed, p.tip)
	}
	c.drawFront(front)
	c.drawMarkers(front, baselines, uncached)
	c.f("</svg>\n")
	return c.Bytes()
}

// lowerTop names the uncached schedule and brings it down to just above the others when it lies so far above them that they would be
// squeezed into a line, as with PSNR, where it is equal to itself.
func lowerTop(uncached []plotPoint, others ...[]plotPoint) {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, list := range others {
		for _, p := range list {
			lo, hi = min(lo, p.quality), max(hi, p.quality)
		}
	}
	for i := range uncached {
		p := &uncached[i]
		p.label = "uncached"
		if lo < hi && p.quality > hi+0.5*(hi-lo) {
			p.label = fmt.Sprintf("uncached: %.4g, above the scale", p.quality)
			p.quality = hi + 0.06*(hi-lo)
		}
	}
}

// points returns the entries that have a score.
func (f *Front) points(list []FrontEntry, heldOut bool) []plotPoint {
	var out []plotPoint
	for _, e := range list {
		q, ci := e.Quality, e.QualityCI95
		if heldOut {
			q, ci = e.HeldOutQuality, e.HeldOutCI95
		}
		if q == nil || ci == nil {
			continue
		}
		name := e.Name
		if name == "" {
			name = e.Hash[:min(12, len(e.Hash))]
		}
		tip := fmt.Sprintf("%s: quality %.4f (95 %% %.4f to %.4f), cost %s, %.2fx fewer MACs", name, *q, ci[0], ci[1],
			SINumber(e.Cost, 4), e.MACsRatio)
		out = append(out, plotPoint{html.EscapeString(name), html.EscapeString(tip), e.Cost, *q, *ci})
	}
	return out
}

// fit chooses the ranges of the axes, with a margin, never empty.
func (c *chart) fit(lists ...[]plotPoint) {
	c.x0, c.x1, c.y0, c.y1 = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, list := range lists {
		for _, p := range list {
			c.x0, c.x1 = min(c.x0, p.cost), max(c.x1, p.cost)
			c.y0, c.y1 = min(c.y0, p.quality), max(c.y1, p.quality)
		}
	}
	widen := func(lo, hi float64) (float64, float64) {
		if !(lo <= hi) {
			return 0, 1
		}
		pad := 0.06 * (hi - lo)
		if pad == 0 {
			pad = max(0.05*math.Abs(hi), 1e-9)
		}
		return lo - pad, hi + pad
	}
	c.x0, c.x1 = widen(c.x0, c.x1)
	c.y0, c.y1 = widen(c.y0, c.y1)
}

// heading draws title and legend.
func (c *chart) heading(f *Front, heldOut bool) {
	c.f(`<text x="%d" y="32" font-size="18" font-weight="600" fill="#111827">Evolved caching schedules</text>`+"\n", plotLeft)
	volume, seeds := f.Hypervolume, f.SeedsHypervolume
	if heldOut {
		volume, seeds = f.HeldOut.Hypervolume, f.HeldOut.SeedsHypervolume
	}
	c.f(`<text x="%d" y="32" text-anchor="end" fill="#4b5563">hypervolume %.3f (seeds %.3f), %d schedules tried</text>`+"\n",
		plotRight, volume, seeds, f.Evaluations)
	x := float64(plotLeft)
	for _, item := range []struct{ name, shape string }{
		{"evolved front", fmt.Sprintf(`<circle cx="7" cy="-4" r="5" fill="%s"/>`, colourFront)},
		{"baselines", fmt.Sprintf(`<rect x="2" y="-9" width="10" height="10" fill="%s"/>`, colourBaseline)},
		{"seeds", fmt.Sprintf(`<circle cx="7" cy="-4" r="3.5" fill="%s"/>`, colourSeed)},
		{"uncached", fmt.Sprintf(`<path d="M7 -10 l6 6 l-6 6 l-6 -6 z" fill="%s"/>`, colourUncached)},
	} {
		c.f(`<g transform="translate(%.0f 56)">%s<text x="19" y="0" fill="#374151">%s</text></g>`+"\n", x, item.shape, item.name)
		x += 42 + 7.2*float64(len(item.name))
	}
}

// axes draws the frame, ticks with grid lines, and titles.
func (c *chart) axes(f *Front, heldOut bool) {
	for _, v := range Ticks(c.y0, c.y1, 6) {
		c.f(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#e5e7eb"/><text x="%d" y="%.1f" text-anchor="end" fill="#4b5563">%s</text>`+"\n",
			plotLeft, plotRight, c.py(v), c.py(v), plotLeft-9, c.py(v)+4.5, strconv.FormatFloat(v, 'g', 6, 64))
	}
	for _, v := range Ticks(c.x0, c.x1, 8) {
		c.f(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#e5e7eb"/><text x="%.1f" y="%d" text-anchor="middle" fill="#4b5563">%s</text>`+"\n",
			c.px(v), c.px(v), plotTop, plotDown, c.px(v), plotDown+20, SINumber(v, 6))
	}
	if base := f.Uncached.Cost; base > 0 {
		c.f(`<text x="%d" y="%d" text-anchor="end" font-size="12" fill="#6b7280">reduction</text>`+"\n", plotLeft-9, plotTop-10)
		last := math.Inf(1)
		for _, ratio := range []float64{1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 15, 20} {
			x := c.px(base / ratio)
			if x < plotLeft || x > plotRight || last-x < 36 {
				continue
			}
			last = x
			c.f(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#9ca3af"/><text x="%.1f" y="%d" text-anchor="middle" font-size="12" fill="#6b7280">%sx</text>`+"\n",
				x, x, plotTop-5, plotTop, x, plotTop-10, strconv.FormatFloat(ratio, 'g', 3, 64))
		}
	}
	c.f(`<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#9ca3af"/>`+"\n", plotLeft, plotTop, plotRight-plotLeft, plotDown-plotTop)
	c.f(`<text x="%d" y="%d" text-anchor="middle" fill="#111827">%s</text>`+"\n", (plotLeft+plotRight)/2, svgHeight-22, html.EscapeString(CostTitle(f.Cost)))
	quality := f.Quality + " quality"
	if heldOut {
		quality += fmt.Sprintf(", %d held-out prompts", f.HeldOut.Prompts)
	}
	c.f(`<text transform="translate(24 %d) rotate(-90)" text-anchor="middle" fill="#111827">%s</text>`+"\n", (plotTop+plotDown)/2, html.EscapeString(quality))
}

// drawFront draws the front as a line with intervals.
func (c *chart) drawFront(front []plotPoint) {
	if len(front) > 1 {
		c.f(`<polyline fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round" points="`, colourFront)
		for i, p := range front {
			c.f("%s%.1f,%.1f", map[bool]string{true: " "}[i > 0], c.px(p.cost), c.py(p.quality))
		}
		c.f("\"/>\n")
	}
	for _, p := range front {
		lo, hi := max(p.ci[0], c.y0), min(p.ci[1], c.y1)
		c.f(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-opacity="0.25" stroke-width="2"/>`+"\n",
			c.px(p.cost), c.px(p.cost), c.py(lo), c.py(hi), colourFront)
	}
}

// drawMarkers draws front, baselines and the uncached schedule, then the labels of the latter two.
func (c *chart) drawMarkers(front, baselines, uncached []plotPoint) {
	for _, list := range [][]plotPoint{front, baselines, uncached} {
		for _, p := range list {
			x, y := c.px(p.cost), c.py(p.quality)
			c.boxes = append(c.boxes, [4]float64{x - 5, y - 5, x + 5, y + 5})
		}
	}
	for _, p := range front {
		c.f(`<circle cx="%.1f" cy="%.1f" r="4.6" fill="%s" stroke="#ffffff"><title>%s</title></circle>`+"\n", c.px(p.cost), c.py(p.quality), colourFront, p.tip)
	}
	for _, p := range baselines {
		c.f(`<rect x="%.1f" y="%.1f" width="10" height="10" fill="%s" stroke="#ffffff"><title>%s</title></rect>`+"\n", c.px(p.cost)-5, c.py(p.quality)-5, colourBaseline, p.tip)
	}
	for _, p := range uncached {
		c.f(`<path d="M%.1f %.1f l7 7 l-7 7 l-7 -7 z" fill="%s" stroke="#ffffff"><title>%s</title></path>`+"\n", c.px(p.cost), c.py(p.quality)-7, colourUncached, p.tip)
		c.label(p, colourUncached)
	}
	for _, p := range baselines {
		c.label(p, colourBaseline)
	}
}

// label writes a name beside its marker, at the first of eight places that is free; without one it is left out (the
// marker still has its tooltip).
func (c *chart) label(p plotPoint, colour string) {
	x, y, w := c.px(p.cost), c.py(p.quality), 7*float64(len(html.UnescapeString(p.label)))
	for _, at := range [][2]float64{{10, 5}, {10, 19}, {10, -9}, {-w - 10, 5}, {-w - 10, -9}, {-w - 10, 19}, {-w / 2, 23}, {-w / 2, -12}} {
		box := [4]float64{x + at[0], y + at[1] - 11, x + at[0] + w, y + at[1] + 3}
		if box[0] < plotLeft || box[2] > plotRight || box[1] < plotTop || box[3] > plotDown || c.covered(box) {
			continue
		}
		c.boxes = append(c.boxes, box)
		c.f(`<text x="%.1f" y="%.1f" font-size="12" fill="%s" stroke="#ffffff" stroke-width="3" stroke-linejoin="round" paint-order="stroke">%s</text>`+"\n",
			box[0], y+at[1], colour, p.label)
		return
	}
}

func (c *chart) covered(box [4]float64) bool {
	for _, b := range c.boxes {
		if box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3] {
			return true
		}
	}
	return false
}

// Ticks returns up to n or so round numbers within [lo, hi].
func Ticks(lo, hi float64, n int) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, m := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(m*step) <= float64(n) {
			step *= m
			break
		}
	}
	var out []float64
	for k := math.Ceil(lo / step); k*step <= hi; k++ {
		// k*step carries rounding of step; nine digits hide it.
		v, _ := strconv.ParseFloat(strconv.FormatFloat(k*step, 'g', 9, 64), 64)
		out = append(out, v)
	}
	return out
}

// SINumber writes a number with a prefix of the SI: 2.13T for 2.13e12.
func SINumber(v float64, digits int) string {
	for _, p := range []struct {
		unit float64
		name string
	}{{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}} {
		if math.Abs(v) >= p.unit {
			return strconv.FormatFloat(v/p.unit, 'g', digits, 64) + p.name
		}
	}
	return strconv.FormatFloat(v, 'g', digits, 64)
}

// CostTitle names the cost axis.
func CostTitle(cost string) string {
	switch cost {
	case "macs":
		return "MACs per image"
	case "flops":
		return "FLOPs per image"
	case "latency":
		return "milliseconds per image"
	}
	return cost
}
