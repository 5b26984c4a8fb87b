package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"ecadx/ga/study"
)

// judged is the quality by which a front is read: the held-out one where there is one.
func judged(e study.FrontEntry) (quality *float64, ci *[2]float64) {
	if e.HeldOutQuality != nil {
		return e.HeldOutQuality, e.HeldOutCI95
	}
	return e.Quality, e.QualityCI95
}

// shortName is how tables call an entry.
func shortName(e study.FrontEntry) string {
	if e.Name != "" {
		return e.Name
	}
	return e.Hash[:12]
}

// beats finds the schedule of the front that gains most quality over an entry at no more cost; schedules that do the same as it do not count.
func beats(front []study.FrontEntry, e study.FrontEntry) (best study.FrontEntry, ok bool) {
	quality, _ := judged(e)
	if quality == nil {
		return best, false
	}
	most := *quality
	for _, f := range front {
		if q, _ := judged(f); f.Hash != e.Hash && q != nil && f.Cost <= e.Cost && *q >= most {
			best, most, ok = f, *q, true
		}
	}
	return best, ok
}

// besideFront says how a baseline stands beside the front at equal cost: by the paired comparison on held-out prompts where there is one.
func besideFront(f *study.Front, e study.FrontEntry) string {
	for _, c := range f.HeldOut.Comparisons {
		switch {
		case c.Baseline != e.Hash:
			continue
		case c.Front == c.Baseline:
			return "part of the front"
		}
		for _, best := range f.Front {
			if best.Hash == c.Front {
				return fmt.Sprintf("%s is %+.4f (%+.4f to %+.4f) at %.2fx", shortName(best), c.Difference, c.CI95[0], c.CI95[1], best.MACsRatio)
			}
		}
	}
	if f.HeldOut.Prompts > 0 {
		return "not compared"
	}
	best, ok := beats(f.Front, e)
	if !ok {
		return "not beaten"
	}
	q, _ := judged(best)
	own, _ := judged(e)
	return fmt.Sprintf("beaten by %s: %+.4f at %.2fx", shortName(best), *q-*own, best.MACsRatio)
}

// printFront writes a study's result for people: the front, what it is compared with, and what to try next.
func printFront(w io.Writer, program, dir string, f *study.Front, p *searchPlan) error {
	var b strings.Builder
	on := "the searched prompts"
	if f.HeldOut.Prompts > 0 {
		on = fmt.Sprintf("%d held-out prompts", f.HeldOut.Prompts)
	}
	fmt.Fprintf(&b, "\nFront of %s: %s on %s by %s, %d schedules tried on %d images each, the best of them on %d\n\n", dir, f.Quality, on, f.Cost, f.Evaluations, p.cfg.Prompts.Count*p.cfg.Prompts.ImagesPerPrompt, (p.cfg.Prompts.Count+f.ConfirmPrompts)*p.cfg.Prompts.ImagesPerPrompt)
	fmt.Fprintf(&b, "  %-24s %8s  %-18s %10s  %6s\n", "schedule", "quality", "95 % interval", f.Cost, "macs")
	line := func(e study.FrontEntry, remark string) {
		quality, ci := judged(e)
		if quality == nil {
			fmt.Fprintf(&b, "  %-24s %8s  %-18s %10s  %5.2fx  invalid: %s\n", shortName(e), "-", "-", siPrefix(e.Cost), e.MACsRatio, oneLine(e.Invalid))
			return
		}
		fmt.Fprintf(&b, "  %-24s %8.4f  %-18s %10s  %5.2fx  %s\n", shortName(e), *quality, fmt.Sprintf("%.4f to %.4f", ci[0], ci[1]), siPrefix(e.Cost), e.MACsRatio, remark)
	}
	uncached := f.Uncached
	uncached.Name = "uncached"
	line(uncached, "")
	for i := len(f.Front) - 1; i >= 0; i-- {
		line(f.Front[i], "")
	}
	b.WriteString("\n  compared with\n")
	for _, e := range f.Baselines {
		line(e, besideFront(f, e))
	}
	fmt.Fprintf(&b, "\n  hypervolume %.4f, that of the seeds %.4f", f.Hypervolume, f.SeedsHypervolume)
	if f.HeldOut.Prompts > 0 {
		fmt.Fprintf(&b, "; held out %.4f and %.4f", f.HeldOut.Hypervolume, f.HeldOut.SeedsHypervolume)
	}
	fmt.Fprintf(&b, "\n")
	for _, l := range wrap(f.Verdict().Text(f.BaselineName), 110) {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	fmt.Fprintf(&b, "\nLook at %s and %s. Try next:\n", filepath.Join(dir, reportName), filepath.Join(dir, stripPath))
	if pick := stripEntries(f); len(pick) > 0 {
		e := pick[len(pick)/2]
		model := ""
		if p.cfg.Model.Path != p.options.defaultModel() {
			model = " --model " + p.cfg.Model.Path
		}
		text := p.prompts[0].Text
		fmt.Fprintf(&b, "  %s generate%s -p %q --schedule %s --compare\n", program, model, text, filepath.Join(dir, e.File))
		fmt.Fprintf(&b, "  %s schedule show %s\n", program, filepath.Join(dir, e.File))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
