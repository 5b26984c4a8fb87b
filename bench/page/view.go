package page

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"ecadx/ga/study"
	"ecadx/schedule"
)

// view is what the template reads: texts and places, nothing to be computed.
type view struct {
	Study, Summary, Verdict string
	Holds                   bool
	Facts                   []Fact
	Plot                    plot
	History                 *plot
	Legend                  []legend
	At, Last                int // the slider's place at first, and the highest
	First                   step
	Galleries               []gallery
	Panels                  []panel
	Shape                   string
	Baselines               []baselineRow
	Front                   []frontRow
	Quality, Cost, Judged   string
	Data                    data
}

type legend struct{ Kind, Name string }

// gallery is a prompt with what is shown first.
type gallery struct {
	Prompt          string
	Uncached, First shown
	Pixelated       bool
}

// step is one place on the slider as texts.
type step struct {
	Name    string `json:"name"`
	Text    string `json:"text"` // what a screen reader says of it
	Ratio   string `json:"ratio"`
	Cost    string `json:"cost"`
	Quality string `json:"quality"`
	File    string `json:"file"`
	Command string `json:"command"`
	Run     int    `json:"run"`     // its number of steps
	Cells   string `json:"cells"`   // base64; bit i%8 of byte i/8 says that cell i computes
	Drawn   int    `json:"drawn"`   // place in the lists of pictures; -1 without any
	Remark  string `json:"remark"`  // says whose pictures are shown, if they are not its own
	Reused  string `json:"reused"`  // share of the cells
	Heatmap string `json:"heatmap"` // the map of decisions in words
}

// shown is a picture with what is said about it.
type shown struct {
	Source  any    `json:"source"` // template.URL
	Quality string `json:"quality"`
}

// data is what the script reads.
type data struct {
	Steps    []step       `json:"steps"`
	Pictures [][]shown    `json:"pictures"` // by prompt, then drawn schedule
	Panels   []panelShape `json:"panels"`
	RowLen   int          `json:"row_len"`
	Comps    int          `json:"comps"`
}

type panelShape struct {
	First  int `json:"first"`
	Blocks int `json:"blocks"`
	Comp   int `json:"comp"`
}

type baselineRow struct{ Name, Kind, Cost, Ratio, Quality, Interval, Beside, Difference, DifferenceInterval, Judgement string }

type frontRow struct{ Name, File, Cost, Ratio, Quality, Interval string }

// baselineKind tells runs with fewer steps and random schedules from heuristics.
func baselineKind(name string) string {
	switch kind, _, _ := strings.Cut(name, ":"); kind {
	case "steps", "random":
		return kind
	}
	return "heuristic"
}

var kindNames = map[string]string{"steps": "fewer steps, no caching", "random": "random", "heuristic": "heuristic"}

func newView(c Content) view {
	f := c.Front
	verdict := f.Verdict()
	v := view{
		Study: c.Study, Verdict: verdict.Text(f.BaselineName), Holds: verdict.Holds(), Facts: c.Facts, Plot: frontPlot(f), History: historyPlot(c.History), Last: len(f.Front) - 1,
		Legend: []legend{{"front", "evolved front"}, {"heuristic", "heuristics"}, {"steps", "fewer steps, no caching"}, {"random", "random schedules"}, {"seed", "seeds"}, {"uncached", "uncached"}},
		Shape:  c.longest().String(), Quality: f.Quality, Cost: f.Cost, Judged: judgedOn(f),
	}
	v.Summary = summary(f)
	v.Panels = newPanels(c.longest())
	v.Data = newData(c, v.Panels)
	at := len(f.Front) / 2
	v.At = at
	v.First = v.Data.Steps[at]
	for i := range v.Panels {
		p := &v.Panels[i]
		p.Path = p.path(v.First.Run, func(step, block int) bool { return c.Schedules[at].At(step, block, p.Comp) == schedule.Compute })
		p.tolerate(c.Schedules)
	}
	for i, g := range c.Galleries {
		v.Galleries = append(v.Galleries, gallery{g.Prompt, newShown(g.Uncached, f.Quality), v.Data.Pictures[i][v.First.Drawn], g.Uncached.Type == "image/png"})
	}
	v.Baselines = baselineRows(f)
	for _, e := range f.Front {
		q, ci := judged(e)
		v.Front = append(v.Front, frontRow{entryName(e), e.File, study.SINumber(e.Cost, 4), ratio(e), optional(q), interval(q, ci)})
	}
	return v
}

// newData makes what the script reads.
func newData(c Content, panels []panel) data {
	shape := c.Schedules[0].Shape()
	d := data{RowLen: shape.RowLen(), Comps: schedule.ComponentsPerBlock}
	for _, p := range panels {
		d.Panels = append(d.Panels, panelShape{p.First, p.Blocks, p.Comp})
	}
	for i, e := range c.Front.Front {
		q, ci := judged(e)
		s := step{Name: entryName(e), Ratio: ratio(e), Cost: study.SINumber(e.Cost, 4), Quality: optional(q), File: e.File, Run: c.Schedules[i].Shape().Steps, Cells: cells(c.Schedules[i]), Drawn: -1}
		if r := interval(q, ci); r != "" {
			s.Quality += " (" + r + ")"
		}
		if c.Generate != "" {
			s.Command = fmt.Sprintf(c.Generate, e.File)
		}
		sum := schedule.Summarize(c.Schedules[i])
		s.Reused = fmt.Sprintf("%.0f %%", 100*sum.ReuseShare)
		s.Heatmap = heatmapText(s.Run, sum)
		s.Text = fmt.Sprintf("schedule %d of %d, %s, %s, quality %s", i+1, len(c.Front.Front), s.Name, s.Ratio, s.Quality)
		if len(c.Galleries) > 0 {
			s.Drawn = nearestDrawn(c, i)
			if k := c.Drawn[s.Drawn]; k != i {
				s.Remark = fmt.Sprintf("Pictures of the nearest schedule that was drawn, %s, %s.", entryName(c.Front.Front[k]), ratio(c.Front.Front[k]))
			}
		}
		d.Steps = append(d.Steps, s)
	}
	for _, g := range c.Galleries {
		var list []shown
		for _, p := range g.Front {
			list = append(list, newShown(p, c.Front.Quality))
		}
		d.Pictures = append(d.Pictures, list)
	}
	return d
}

// nearestDrawn is the place in Drawn of the schedule nearest in cost to entry i.
func nearestDrawn(c Content, i int) int {
	best := 0
	for k, d := range c.Drawn {
		if math.Abs(c.Front.Front[d].Cost-c.Front.Front[i].Cost) < math.Abs(c.Front.Front[c.Drawn[best]].Cost-c.Front.Front[i].Cost) {
			best = k
		}
	}
	return best
}

func newShown(p Picture, quality string) shown {
	s := shown{Source: p.source()}
	if p.Quality != nil {
		s.Quality = quality + " " + number(*p.Quality)
	}
	return s
}

// cells packs a schedule for the script.
func cells(s *schedule.Schedule) string {
	packed := make([]byte, (s.Shape().Cells()+7)/8)
	for i := range s.Shape().Cells() {
		if s.AtFlat(i) == schedule.Compute {
			packed[i/8] |= 1 << (i % 8)
		}
	}
	return base64.StdEncoding.EncodeToString(packed)
}

func heatmapText(steps int, sum schedule.Summary) string {
	var parts []string
	for _, c := range sum.Components {
		if c.Cells > 0 {
			parts = append(parts, fmt.Sprintf("%v %.0f %%", c.Component, 100*c.ReuseShare))
		}
	}
	return fmt.Sprintf("%d steps. Reused: %s. %d steps compute everything, %d nothing; the longest reuse is %d steps.", steps, strings.Join(parts, ", "), sum.FullSteps, sum.IdleSteps, sum.LongestRun)
}

func baselineRows(f *study.Front) []baselineRow {
	front := map[string]study.FrontEntry{}
	for _, e := range f.Front {
		front[e.Hash] = e
	}
	compared := map[string]study.FrontComparison{}
	for _, c := range f.HeldOut.Comparisons {
		compared[c.Baseline] = c
	}
	var rows []baselineRow
	for _, e := range f.Baselines {
		q, ci := judged(e)
		r := baselineRow{Name: entryName(e), Kind: kindNames[baselineKind(e.Name)], Cost: study.SINumber(e.Cost, 4), Ratio: ratio(e), Quality: optional(q), Interval: interval(q, ci), Beside: "–", Difference: "–"}
		c, ok := compared[e.Hash]
		switch {
		case e.Invalid != "":
			r.Judgement = "invalid: " + e.Invalid
		case !ok:
			r.Judgement = "not compared"
		default:
			r.Beside, r.Difference, r.DifferenceInterval = entryName(front[c.Front]), signed(c.Difference), signed(c.CI95[0])+" to "+signed(c.CI95[1])
			switch {
			case c.Baseline == c.Front:
				r.Judgement = "it is part of the front"
			case c.CI95[0] > 0:
				r.Judgement = "the front is better"
			case c.CI95[1] < 0:
				r.Judgement = "the front is worse"
			default:
				r.Judgement = "no difference beyond the interval"
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func summary(f *study.Front) string {
	mildest, boldest := f.Front[len(f.Front)-1], f.Front[0]
	volume, seeds, on := f.Hypervolume, f.SeedsHypervolume, "the searched prompts"
	if f.HeldOut.Prompts > 0 {
		volume, seeds, on = f.HeldOut.Hypervolume, f.HeldOut.SeedsHypervolume, "held-out prompts"
	}
	return fmt.Sprintf("%d schedules from %s to %s, found in %d generations and %d images of the search. Hypervolume on %s: %.4f, of the seeds alone %.4f.",
		len(f.Front), ratio(mildest), ratio(boldest), f.Generations, f.Images, on, volume, seeds)
}

func judgedOn(f *study.Front) string {
	if f.HeldOut.Prompts > 0 {
		return fmt.Sprintf("%d held-out prompts; intervals hold 95 %% of bootstraps over prompts", f.HeldOut.Prompts)
	}
	return "the prompts of the search: nothing was held out"
}

func qualityTitle(f *study.Front) string {
	if f.HeldOut.Prompts > 0 {
		return fmt.Sprintf("%s quality on %d held-out prompts", f.Quality, f.HeldOut.Prompts)
	}
	return f.Quality + " quality on the searched prompts"
}

func entryName(e study.FrontEntry) string {
	if e.Name != "" {
		return e.Name
	}
	return e.Hash[:min(12, len(e.Hash))]
}

func tip(e study.FrontEntry) string {
	q, ci := judged(e)
	return fmt.Sprintf("%s: quality %s (%s), cost %s, %s", entryName(e), optional(q), interval(q, ci), study.SINumber(e.Cost, 4), ratio(e))
}

func ratio(e study.FrontEntry) string { return fmt.Sprintf("%.2fx fewer MACs", e.MACsRatio) }

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func signed(v float64) string { return fmt.Sprintf("%+.4g", v) }

func optional(q *float64) string {
	if q == nil {
		return "–"
	}
	return number(*q)
}

func interval(q *float64, ci [2]float64) string {
	if q == nil {
		return ""
	}
	return number(ci[0]) + " to " + number(ci[1])
}
