package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/bench/page"
	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// pageReport is what report --json prints.
type pageReport struct {
	File     string
	Bytes    int
	Compared int
	Verdict  string
}

// TestReport: evolve leaves a page with pictures; report writes it again, elsewhere, with and without pictures.
func TestReport(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "s.toml"), strings.Replace(smallSearch, "generations = 4", "generations = 2", 1))
	succeed(t, dir, "evolve", "s.toml")
	text := string(readTestFile(t, filepath.Join(dir, "s", reportName)))
	for _, want := range []string{"How the search went", "fora:2", "steps:2", `src="data:image/png;base64,`, "mini-pixart", "2 held-out prompts", "images/s"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page of evolve does not have %q", want)
		}
	}
	r := succeedJSON[pageReport](t, dir, "report", "s", "--prompts", "1", "--out", "one.html")
	if one := readTestFile(t, filepath.Join(dir, "one.html")); r.File != "one.html" || len(one) != r.Bytes || r.Compared == 0 || !strings.Contains(string(one), "Of ") || r.Verdict == "" {
		t.Errorf("%+v", r)
	}
	// Without the model, in a study that was moved.
	if err := os.Rename(filepath.Join(dir, "s"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	succeed(t, dir, "report", "moved", "--no-pictures", "--out", "plain.html")
	if plain := string(readTestFile(t, filepath.Join(dir, "plain.html"))); strings.Contains(plain, "<img") || !strings.Contains(plain, "fora:2") {
		t.Error("--no-pictures makes pictures, or no page")
	}
	// The study's own page is written again, and the study still knows all of its files.
	for _, args := range [][]string{{"report", "moved"}, {"report", "moved", "--no-pictures"}} {
		succeed(t, dir, args...)
		if v, err := study.Verify(filepath.Join(dir, "moved")); err != nil || v.Damaged() {
			t.Errorf("after %v: %+v, %v", args, v, err)
		}
	}
	refuse(t, dir, exitBadInput, "--force", "report", "moved", "--no-pictures", "--out", "plain.html")
	refuse(t, dir, exitBadInput, "no study", "report", "nowhere")
	refuse(t, dir, exitUsage, "--prompts", "report", "moved", "--prompts", "0")
	if err := os.Remove(filepath.Join(dir, "moved", "front.json")); err != nil {
		t.Fatal(err)
	}
	refuse(t, dir, exitBadInput, "not finished", "report", "moved")
}

// TestHistory: work and hypervolume of two generations by hand.
func TestHistory(t *testing.T) {
	candidate := func(hash byte, cost, quality float64, images int, status ga.Status, first bool) ga.Evaluation {
		return ga.Evaluation{Genome: ga.NewGenome(6), Hash: schedule.Hash{hash}, Cost: cost, Quality: quality, MACs: cost, Images: images, Status: status, First: first}
	}
	reference := ga.Point{Quality: 0, Cost: 10}
	shorter := candidate(9, 1, 0.9, 4, ga.StatusScored, true)
	shorter.Genome = ga.NewGenome(3)
	uncached := candidate(1, 10, 1, 4, ga.StatusScored, true)
	uncached.Name = ga.UncachedName
	got := historyOf(&study.Contents{Snapshots: []*ga.Snapshot{
		{Reference: reference, Candidates: []ga.Evaluation{uncached, shorter}},
		{Generation: 1, Images: 12, Reference: reference, Candidates: []ga.Evaluation{candidate(2, 5, 0.5, 4, ga.StatusScored, true), candidate(1, 10, 1, 4, ga.StatusScored, false)}},
		{Generation: 2, Images: 14, Reference: reference, Candidates: []ga.Evaluation{candidate(3, 2, 0.8, 2, ga.StatusDropped, true), candidate(4, 8, 0.9, 4, ga.StatusScored, true)}},
	}})
	want := []page.Generation{{Generation: 1, Images: 12, MACs: 40 + 4 + 20, Hypervolume: 0.25}, {Generation: 2, Images: 14, MACs: 64 + 4 + 32, Hypervolume: 0.25 + 0.08}}
	if len(got) != 2 || got[0] != want[0] || got[1].MACs != want[1].MACs || math.Abs(got[1].Hypervolume-want[1].Hypervolume) > 1e-12 {
		t.Errorf("%+v, want %+v", got, want)
	}
}
