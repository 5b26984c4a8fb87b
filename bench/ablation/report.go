package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// Marks of the table in a document.
const (
	tableBegin = "<!-- ablation: begin -->\n"
	tableEnd   = "<!-- ablation: end -->\n"
)

// names are the variants in the order of their first search.
func (r *results) names() []string {
	var list []string
	for _, c := range r.Runs {
		if !slices.Contains(list, c.Variant) {
			list = append(list, c.Variant)
		}
	}
	return list
}

// table says what each variant reached, as medians over the seeds.
func (r *results) table() string {
	var b strings.Builder
	b.WriteString("| search | seeds | work until it reaches what ecad ends with | held-out hypervolume at a quarter of ecad's work | at its end | saved by the tree |\n|---|---|---|---|---|---|\n")
	for _, name := range r.names() {
		var quarter, end, saves []float64
		for _, c := range r.Runs {
			if c.Variant != name {
				continue
			}
			base := r.of(asECAD.Name, c.Seed)
			if p := c.at(r.Settings.Part * base.Work); p != nil {
				quarter = append(quarter, p.Hypervolume)
			}
			end, saves = append(end, c.Points[len(c.Points)-1].Hypervolume), append(saves, c.TreeSaves)
		}
		ratio := ""
		switch m := r.median(name); {
		case name == asECAD.Name:
			ratio = "100 %"
		case name == asECADX.Name && m == nil:
			ratio = "not reached"
		case m != nil:
			ratio = fmt.Sprintf("%.1f %%", 100**m)
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %.4f | %.4f | %.0f %% |\n", name, len(end), ratio, median(quarter), median(end), 100*median(saves))
	}
	return b.String()
}

// at is the last checkpoint whose work is at most that; nil: there is none.
func (c *curve) at(work float64) *checkpoint {
	var last *checkpoint
	for i := range c.Points {
		if p := &c.Points[i]; p.Work <= work {
			last = p
		}
	}
	return last
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(list))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// insert writes the table between the marks of a document.
func (r *results) insert(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(data)
	from, to := strings.Index(text, tableBegin), strings.Index(text, tableEnd)
	if from < 0 || to < from {
		return fmt.Errorf("%s: no %s", path, strings.TrimSpace(tableBegin))
	}
	return os.WriteFile(path, []byte(text[:from]+tableBegin+r.table()+text[to:]), 0o644)
}

// Size of the figure and its margins, in pixels.
const (
	figureWidth, figureHeight = 760, 420
	left, right, top, bottom  = 64, 220, 24, 48
)

var colours = []string{"#555555", "#c2410c", "#2563eb", "#16a34a", "#9333ea", "#0891b2", "#ca8a04", "#db2777"}

// figure draws held-out hypervolume against the share of ecad's work, one line per search, the work on a logarithmic axis.
func (r *results) figure() string {
	lo, hi, least := math.Inf(1), math.Inf(-1), 1.0
	for _, c := range r.Runs {
		base := r.of(asECAD.Name, c.Seed)
		for _, p := range c.Points {
			lo, hi, least = min(lo, p.Hypervolume), max(hi, p.Hypervolume), min(least, p.Work/base.Work)
		}
	}
	if !(hi > lo) {
		hi = lo + 1e-3
	}
	least = math.Pow(10, math.Floor(math.Log10(least)*2)/2)
	x := func(share float64) float64 {
		return left + (figureWidth-left-right)*(1-math.Log(min(share, 1))/math.Log(least))
	}
	y := func(v float64) float64 { return top + (figureHeight-top-bottom)*(hi-v)/(hi-lo) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		figureWidth, figureHeight, figureWidth, figureHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", figureWidth, figureHeight)
	for _, share := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1} {
		if share >= least {
			fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%g %%</text>`+"\n", x(share), top, figureHeight-bottom, x(share), figureHeight-bottom+16, 100*share)
		}
	}
	for i := range 5 {
		v := lo + (hi-lo)*float64(i)/4
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.3f</text>`+"\n", left, y(v), figureWidth-right, left-6, y(v)+4, v)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">DiT work, share of what mode ecad takes in all</text>`+"\n", (left+figureWidth-right)/2, figureHeight-10)
	middle := (top + figureHeight - bottom) / 2
	fmt.Fprintf(&b, `<text x="14" y="%d" transform="rotate(-90 14 %d)" text-anchor="middle">held-out hypervolume</text>`+"\n", middle, middle)
	for i, name := range r.names() {
		colour := colours[i%len(colours)]
		for _, c := range r.Runs {
			if c.Variant != name {
				continue
			}
			base, path := r.of(asECAD.Name, c.Seed), ""
			for _, p := range c.Points {
				path += fmt.Sprintf("%s%.1f %.1f", map[bool]string{true: "M", false: " L"}[path == ""], x(p.Work/base.Work), y(p.Hypervolume))
			}
			fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.6"/>`+"\n", path, colour)
		}
		fmt.Fprintf(&b, `<path d="M%d %d h20" stroke="%s" stroke-width="2"/><text x="%d" y="%d">%s</text>`+"\n", figureWidth-right+10, top+10+18*i, colour, figureWidth-right+36, top+14+18*i, name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
