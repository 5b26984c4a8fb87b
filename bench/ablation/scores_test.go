package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"ecadx/ga"
	"ecadx/schedule"
)

// Scores survive being reopened; a record cut short is dropped, a changed one is an error.
func TestScoresFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.bin")
	s, err := openScores(path)
	if err != nil {
		t.Fatal(err)
	}
	records := []ga.Record{{Hash: schedule.Hash{1}, Image: 2, Score: ga.Score{Value: math.Pi}}, {Hash: schedule.Hash{3}, Image: 4, Score: ga.Score{Value: -1}}}
	if err := s.add(append(records, records[0])); err != nil {
		t.Fatal(err)
	}
	if err := s.add([]ga.Record{{Score: ga.Score{Invalid: "x"}}}); err == nil {
		t.Error("an invalid score is kept")
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) != 2*recordSize {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	reopen := func(data []byte) (*scores, error) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return openScores(path)
	}
	if s, err = reopen(data[:len(data)-1]); err != nil {
		t.Fatal(err)
	}
	if v, ok := s.score(records[0].Hash, 2); !ok || v != math.Pi {
		t.Errorf("%v, %v", v, ok)
	}
	if _, ok := s.score(records[1].Hash, 4); ok {
		t.Error("a record that was cut short is kept")
	}
	if err := s.add(records[1:]); err != nil { // in its place
		t.Fatal(err)
	}
	s.close()
	if again, err := os.ReadFile(path); err != nil || string(again) != string(data) {
		t.Errorf("after the cut: %v, %v", again, err)
	}
	data[40] ^= 1
	if _, err := reopen(data); err == nil {
		t.Error("a changed score is read")
	}
}

// The ratio is that of the first checkpoint that reaches the target, and the median needs every seed.
func TestMedianOfRatios(t *testing.T) {
	a, b := 0.1, 0.3
	r := &results{Runs: []*curve{{Variant: "x", WorkRatio: &a}, {Variant: "x", Seed: 1, WorkRatio: &b}, {Variant: "y", WorkRatio: &a}, {Variant: "y", Seed: 1}}}
	if m := r.median("x"); m == nil || !(math.Abs(*m-0.2) <= 1e-12) {
		t.Errorf("median %v, want 0.2", m)
	}
	if r.median("y") != nil || r.median("z") != nil {
		t.Error("a median although a seed has no ratio")
	}
}
