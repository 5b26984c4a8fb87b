package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"

	"ecadx/ga/study"
)

// plotHeight is the height of a plot in pixels. Its width is that of the page: horizontal places are percentages.
const plotHeight = 340

// axis maps values to a range of places.
type axis struct{ lo, hi float64 }

// newAxis spans the values with a margin, never empty.
func newAxis(values ...float64) axis {
	a := axis{math.Inf(1), math.Inf(-1)}
	for _, v := range values {
		a.lo, a.hi = min(a.lo, v), max(a.hi, v)
	}
	if !(a.lo <= a.hi) {
		return axis{0, 1}
	}
	pad := 0.05 * (a.hi - a.lo)
	if pad == 0 {
		pad = max(0.05*math.Abs(a.hi), 1e-9)
	}
	return axis{a.lo - pad, a.hi + pad}
}

// share is the place of a value as a share of the axis.
func (a axis) share(v float64) float64 { return (v - a.lo) / (a.hi - a.lo) }

// across and down are places in a plot: percent of its width, pixels from its top.
func (a axis) across(v float64) string {
	return strconv.FormatFloat(100*a.share(v), 'f', 2, 64) + "%"
}

func (a axis) down(v float64) string {
	return strconv.FormatFloat((1-min(max(a.share(v), 0), 1))*plotHeight, 'f', 1, 64)
}

// tick is a mark of an axis with its label; Minor ones give way on narrow screens.
type tick struct {
	At, Label string
	Style     template.CSS
	Minor     bool
}

func (a axis) ticksAcross() []tick {
	var out []tick
	for i, v := range study.Ticks(a.lo, a.hi, 7) {
		at := a.across(v)
		out = append(out, tick{At: at, Label: study.SINumber(v, 6), Style: template.CSS("left:" + at), Minor: i%2 == 1})
	}
	return out
}

func (a axis) ticksDown() []tick {
	var out []tick
	for _, v := range study.Ticks(a.lo, a.hi, 6) {
		at := a.down(v)
		out = append(out, tick{At: at, Label: strconv.FormatFloat(v, 'g', 6, 64), Style: template.CSS("top:" + at + "px")})
	}
	return out
}

// mark is a point of a plot with its interval.
type mark struct {
	X, Y, Low, High string
	Tip             string
	Kind            string // its class: front, heuristic, steps, random, seed, uncached
	Index           int    // place in the front
}

// segment is a line between two points of a plot.
type segment struct{ X1, Y1, X2, Y2 string }

// plot is what the template draws.
type plot struct {
	Title, XTitle, YTitle string
	Height                int
	X, Y                  []tick
	Lines                 []segment
	Marks                 []mark
	Level                 string // the height of the uncached quality; empty where it is above the plot
	Remark                string
}

func polyline(marks []mark) []segment {
	var out []segment
	for i := 1; i < len(marks); i++ {
		out = append(out, segment{marks[i-1].X, marks[i-1].Y, marks[i].X, marks[i].Y})
	}
	return out
}

// judged is the quality by which an entry is read: the held-out one where there is one.
func judged(e study.FrontEntry) (quality *float64, ci [2]float64) {
	q, c := e.HeldOutQuality, e.HeldOutCI95
	if q == nil {
		q, c = e.Quality, e.QualityCI95
	}
	if q != nil && c == nil {
		return q, [2]float64{*q, *q}
	}
	if c != nil {
		ci = *c
	}
	return q, ci
}

// frontPlot is quality against cost.
func frontPlot(f *study.Front) plot {
	type drawn struct {
		e    study.FrontEntry
		kind string
		i    int
	}
	var list []drawn
	for _, e := range f.Seeds {
		list = append(list, drawn{e, "seed", -1})
	}
	for i, e := range f.Front {
		list = append(list, drawn{e, "front", i})
	}
	for _, e := range f.Baselines { // over the front, which some may be part of
		list = append(list, drawn{e, baselineKind(e.Name), -1})
	}
	var costs, qualities []float64
	for _, d := range list {
		if q, _ := judged(d.e); q != nil {
			costs, qualities = append(costs, d.e.Cost), append(qualities, *q)
		}
	}
	p := plot{Title: "Quality against cost", XTitle: study.CostTitle(f.Cost), YTitle: qualityTitle(f), Height: plotHeight}
	if q, _ := judged(f.Uncached); q != nil {
		costs = append(costs, f.Uncached.Cost)
		// Where it lies far above the others, as PSNR to itself, it would squeeze them into a line.
		if span := newAxis(qualities...); *q <= span.hi+0.5*(span.hi-span.lo) {
			qualities = append(qualities, *q)
			list = append(list, drawn{f.Uncached, "uncached", -1})
		} else {
			p.Remark = fmt.Sprintf("The uncached quality, %s, is above the scale.", number(*q))
		}
	}
	x, y := newAxis(costs...), newAxis(qualities...)
	p.X, p.Y = x.ticksAcross(), y.ticksDown()
	var front []mark
	for _, d := range list {
		q, ci := judged(d.e)
		if q == nil {
			continue
		}
		m := mark{X: x.across(d.e.Cost), Y: y.down(*q), Low: y.down(ci[0]), High: y.down(ci[1]), Tip: tip(d.e), Kind: d.kind, Index: d.i}
		p.Marks = append(p.Marks, m)
		switch d.kind {
		case "front":
			front = append(front, m)
		case "uncached":
			p.Level = m.Y
		}
	}
	p.Lines = polyline(front)
	return p
}

// historyPlot is hypervolume against work.
func historyPlot(history []Generation) *plot {
	if len(history) < 2 {
		return nil
	}
	byMACs := history[len(history)-1].MACs > 0
	work := func(g Generation) float64 {
		if byMACs {
			return g.MACs
		}
		return float64(g.Images)
	}
	p := &plot{Title: "Hypervolume against work", XTitle: "images scored", YTitle: "normalised hypervolume", Height: plotHeight}
	if byMACs {
		p.XTitle = "transformer work: MACs of all images scored, each a whole run"
	}
	var xs, ys []float64
	for _, g := range history {
		xs, ys = append(xs, work(g)), append(ys, g.Hypervolume)
	}
	x, y := newAxis(xs...), newAxis(ys...)
	p.X, p.Y = x.ticksAcross(), y.ticksDown()
	for _, g := range history {
		p.Marks = append(p.Marks, mark{X: x.across(work(g)), Y: y.down(g.Hypervolume), Kind: "front", Index: -1,
			Tip: fmt.Sprintf("generation %d: %.4f after %d images", g.Generation, g.Hypervolume, g.Images)})
	}
	p.Lines = polyline(p.Marks)
	return p
}
