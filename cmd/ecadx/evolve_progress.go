package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"ecadx/bench"
	"ecadx/ga"
	"ecadx/ga/study"
)

// searchProgress follows a search: a live line on a terminal, one line per generation, and the figures of run.json.
type searchProgress struct {
	line       *progress
	evaluator  *bench.Evaluator
	search     ga.Config
	population int
	start      time.Time
	workers    int
	base       float64 // cost of the uncached schedule
	last       ga.Progress
}

func (e *evolution) newSearchProgress(evaluator *bench.Evaluator, search ga.Config, base float64) *searchProgress {
	return &searchProgress{line: e.newProgress(e.env, "evolve", "", 0), evaluator: evaluator, search: search, population: e.plan.cfg.Search.Population, start: time.Now(), base: base,
		workers: len(e.plan.session.Workers)}
}

// rate is images per second of this process.
func (s *searchProgress) rate() float64 {
	seconds := time.Since(s.start).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(s.last.NewImages) / seconds
}

// sharing is how much work shared prefixes save: steps asked for by steps run.
func (s *searchProgress) sharing() float64 {
	run, asked := s.evaluator.Sharing()
	if run == 0 {
		return 1
	}
	return float64(asked) / float64(run)
}

// update is called by the search after every batch and generation.
func (s *searchProgress) update(p ga.Progress) {
	s.last = p
	note := s.note(p)
	if p.GenerationDone && p.NewImages > 0 {
		s.line.line("%s", note)
		return
	}
	if s.line != nil && s.line.live {
		columns := s.line.width - 1
		note = strings.Join(append(wrap(note, columns), frontPlot(p.Front, s.base, min(columns, maxPlotWidth), terminalGlyphs())...), "\n")
	}
	s.line.status(note)
}

// maxPlotWidth keeps a plot readable on wide terminals.
const maxPlotWidth = 88

// note is one line: where the search stands, how fast it is, what it has found, how long it will take.
func (s *searchProgress) note(p ga.Progress) string {
	text := ""
	switch p.Phase {
	case ga.PhaseStart:
		text = fmt.Sprintf("uncached and baselines, batch %d/%d", p.Batch, p.Batches)
	case ga.PhaseSearch:
		text = fmt.Sprintf("generation %d", p.Generation)
		if p.Generations > 0 {
			text += fmt.Sprintf("/%d", p.Generations)
		}
		if !p.GenerationDone {
			text += fmt.Sprintf(", batch %d/%d", p.Batch, p.Batches)
		}
	case ga.PhaseConfirm:
		text = fmt.Sprintf("the best on more prompts, batch %d/%d", p.Batch, p.Batches)
	case ga.PhaseHeldOut:
		text = fmt.Sprintf("held-out prompts, batch %d/%d", p.Batch, p.Batches)
	case ga.PhaseFinished:
		return fmt.Sprintf("done in %s: %.1f images/s, %.2fx by sharing", shortDuration(time.Since(s.start)), s.rate(), s.sharing())
	}
	text += fmt.Sprintf(": front of %d", len(p.Front))
	if n := len(p.Front); n > 0 && p.Front[0].Cost > 0 {
		text += fmt.Sprintf(" (%.2fx to %.2fx less)", s.base/p.Front[n-1].Cost, s.base/p.Front[0].Cost)
	}
	text += fmt.Sprintf(", hypervolume %.4f, %.1f images/s, %.2fx by sharing", p.Hypervolume, s.rate(), s.sharing())
	if left, ok := s.left(p); ok {
		text += ", " + shortDuration(left) + " left"
	}
	return text
}

// left estimates the time left from the images still to be made.
func (s *searchProgress) left(p ga.Progress) (time.Duration, bool) {
	rate := s.rate()
	if rate <= 0 || s.search.Generations == 0 {
		return 0, false
	}
	population := s.population
	perImage := float64(len(s.search.Images))
	if p.Evaluations > 0 && p.Generation > 1 { // races end early
		perImage = min(perImage, float64(p.Images)/float64(p.Evaluations))
	}
	candidates := float64(s.search.Generations-p.Generation) * float64(population)
	// Fronts grow to about as many schedules as survive; seeds that stayed on the front are counted once. Few others come close.
	front := max(len(p.Front), population/2)
	others := 1 + len(s.search.Baselines) + len(s.search.Seeds)
	confirm, heldOut := float64(len(s.search.Confirm)*(front+others)), float64(len(s.search.HeldOut)*(front+others))
	left := func() float64 {
		if p.Batches == 0 {
			return 1
		}
		return float64(p.Batches-p.Batch) / float64(p.Batches)
	}
	switch p.Phase {
	case ga.PhaseStart:
		candidates += float64(len(s.search.Seeds))
	case ga.PhaseSearch:
		if !p.GenerationDone && p.Batches > 0 {
			candidates += float64(population) * left()
		}
	case ga.PhaseConfirm:
		candidates, confirm = 0, confirm*left()
	case ga.PhaseHeldOut:
		candidates, confirm, heldOut = 0, 0, heldOut*left()
	}
	return time.Duration((candidates*perImage + confirm + heldOut) / rate * float64(time.Second)), true
}

func (s *searchProgress) end() { s.line.end() }

// runReport is run.json: whatever depends on the machine.
type runReport struct {
	Commit          string   `json:"commit"`
	Platform        string   `json:"platform"`
	Device          string   `json:"device"`
	DType           string   `json:"dtype"`
	Workers         int      `json:"workers"`
	Batch           int      `json:"batch"`
	Finished        string   `json:"finished"`
	Seconds         float64  `json:"seconds"`           // of the process that finished the study
	NewImages       int64    `json:"new_images"`        // made by that process; the others were in the log
	ImagesPerSecond float64  `json:"images_per_second"` // of that process
	StepsAsked      int64    `json:"steps_asked"`       // of batches, without shared prefixes
	StepsRun        int64    `json:"steps_run"`
	Sharing         float64  `json:"sharing"`     // asked / run
	FLOPsAsked      int64    `json:"flops_asked"` // of the transformer, without shared prefixes
	FLOPsRun        int64    `json:"flops_run"`
	StatePeak       int64    `json:"state_peak_bytes"` // most that the states of a device were planned to hold
	Replays         int64    `json:"replays"`          // branchings that kept no state for want of memory
	Dropped         int64    `json:"dropped"`          // candidates that lost a race
	Mismatches      int64    `json:"mismatches"`
	Scores          int      `json:"scores"`
	Samples         []string `json:"samples"`
	// Latency is how well the front's predicted times hold here; absent unless they are the cost and were measured here.
	Latency *latencyCheck `json:"latency,omitempty"`
}

func (s *searchProgress) report(st *study.Study, res *ga.Result) *runReport {
	work := s.evaluator.Work()
	return &runReport{
		Commit: commit, Platform: runtime.GOOS + "/" + runtime.GOARCH, Workers: s.workers, Finished: time.Now().UTC().Format(time.RFC3339),
		Seconds: time.Since(s.start).Seconds(), NewImages: s.last.NewImages, ImagesPerSecond: s.rate(), StepsAsked: work.StepsAsked, StepsRun: work.StepsRun, Sharing: s.sharing(),
		FLOPsAsked: work.FLOPsAsked, FLOPsRun: work.FLOPsRun, StatePeak: work.StatePeak, Replays: work.Replays,
		Dropped: s.last.Dropped, Mismatches: res.Mismatches, Scores: st.Scores(), Samples: []string{},
	}
}
