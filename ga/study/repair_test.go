package study

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecadx/ga"
)

// TestRepair damages a study in many ways. Repaired, it passes the check, goes on and ends with the same files, and evaluates no more than what the
// lost bytes may have held.
func TestRepair(t *testing.T) {
	root := t.TempDir()
	done := filepath.Join(root, "done")
	o := testOptions()
	o.SegmentBytes = 2500
	cfg := smallSearch(t)
	first := &synthetic{}
	if _, err := runStudy(done, o, cfg, first); err != nil {
		t.Fatal(err)
	}
	total := first.images
	want := resultFiles(t, done)
	logs, err := filepath.Glob(filepath.Join(done, logDir, "*"+segmentSuffix))
	if err != nil || len(logs) < 4 {
		t.Fatalf("%d segments: %v", len(logs), err)
	}
	begin := founded(t, readFile(t, logs[0]))
	r := rand.New(rand.NewPCG(3, 3))
	rounds := 100
	if raceEnabled {
		rounds = 15
	}
	repaired := 0
	for round := range rounds {
		dir := filepath.Join(root, fmt.Sprint(round))
		copyTree(t, done, dir)
		spared := true
		for range 1 + r.IntN(2) {
			spared = damage(t, r, dir, begin) && spared
		}
		before, err := Verify(dir)
		if err != nil || !before.Damaged() {
			t.Fatalf("round %d: %+v, %v", round, before, err)
		}
		report, err := Repair(dir)
		if !spared {
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "cannot be repaired") {
				t.Fatalf("round %d: the beginning is lost: %v", round, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		repaired++
		if after, err := Verify(dir); err != nil || after.Damaged() || len(report.Actions) == 0 || after.Scores != report.Scores || after.Generations != report.Generations {
			t.Fatalf("round %d: after repair (%+v): %+v, %v", round, report, after, err)
		}
		e := &synthetic{}
		if _, err := runStudy(dir, o, cfg, e); err != nil {
			t.Fatalf("round %d: %v after %+v", round, err, report)
		}
		if e.images+report.Scores > total+e.largest {
			t.Errorf("round %d: %d images evaluated with %d scores left of %d", round, e.images, report.Scores, total)
		}
		got := resultFiles(t, dir)
		for name, text := range want {
			if got[name] != text {
				t.Fatalf("round %d: repaired, the study ends with another %s: %+v", round, name, report)
			}
		}
		if again, err := Verify(dir); err != nil || len(again.Findings) > 0 || !again.Closed {
			t.Fatalf("round %d: at the end: %+v, %v", round, again, err)
		}
	}
	if repaired < rounds/2 {
		t.Errorf("%d of %d repaired", repaired, rounds)
	}
}

// damage does something to a file of a study. It returns false if that hits the beginning of the log.
func damage(t *testing.T, r *rand.Rand, dir string, begin int) (spared bool) {
	t.Helper()
	var files []string
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != lockFile && path != filepath.Join(dir, endFile) {
			files = append(files, path)
		}
		return err
	})
	path := files[r.IntN(len(files))]
	if r.IntN(2) == 0 { // the log more often
		path = filepath.Join(dir, filepath.FromSlash(segmentName(uint32(1+r.IntN(4)))))
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return true // damaged before
	}
	at := r.IntN(len(data))
	switch r.IntN(4) {
	case 0:
		data[at] ^= 1 << r.IntN(8)
	case 1:
		data = data[:at]
	case 2:
		data = slices.Replace(data, at, min(len(data), at+1+r.IntN(600)), make([]byte, r.IntN(600))...)
	case 3:
		data, at = nil, 0
		os.Remove(path)
	}
	if data != nil {
		writeFile(t, path, data)
	}
	return path != firstSegment(dir) || at >= begin
}

// TestRepairSoundStudy leaves a sound study as it is, in good order or killed, and refuses one that runs or is none.
func TestRepairSoundStudy(t *testing.T) {
	_, dir, _ := whole(t)
	before := readFile(t, firstSegment(dir))
	if r, err := Repair(dir); err != nil || len(r.Actions) > 0 || r.Generations != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	if string(readFile(t, firstSegment(dir))) != string(before) || !closed(newOSDisk(dir)) {
		t.Error("a sound study was changed")
	}
	s, err := OpenExisting(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a study that is open: %v", err)
	}
	s.Close()
	if _, err := Repair(t.TempDir()); !errors.Is(err, ErrNotStudy) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := OpenExisting(t.TempDir(), Options{}); !errors.Is(err, ErrNotStudy) {
		t.Errorf("an empty folder is opened: %v", err)
	}
}

// TestOpenExisting adds a file to a study without its configuration at hand.
func TestOpenExisting(t *testing.T) {
	want, dir, _ := whole(t)
	s, err := OpenExisting(dir, Options{Session: []Part{{"commit", "another"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile("samples/strip.png", []byte("picture")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", "/x", "log/000001.ecadlog", "log", "LOCK", "config.toml", strings.Repeat("x", maxPart+1)} {
		if err := s.WriteFile(name, nil); err == nil {
			t.Errorf("%q can be written", name)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := Verify(dir)
	if err != nil || len(v.Findings) > 0 || !v.Closed || v.Generations != 4 {
		t.Errorf("%+v, %v", v, err)
	}
	e := &synthetic{}
	got, err := runStudy(dir, testOptions(), smallSearch(t), e)
	if err != nil || e.images != 0 {
		t.Fatalf("%d images, %v", e.images, err)
	}
	sameFront(t, "after a file was added", got, want)
	c, err := Read(dir)
	if err != nil || len(c.Sessions) != 1 || c.Sessions[0].Generations != 4 || c.Front == nil || c.Scores != v.Scores || c.Generations() != 4 || !c.Closed || c.Running {
		t.Errorf("%+v, %v", c, err)
	}
	writeFile(t, filepath.Join(dir, "samples", "strip.png"), []byte("pictura"))
	if s, err = OpenExisting(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadFile("samples/strip.png"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a changed file is read: %v", err)
	}
	s.Close()
	front := filepath.Join(dir, frontFile)
	writeFile(t, front, []byte(strings.Replace(string(readFile(t, front)), "0.", "1.", 1)))
	if _, err := Read(dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a changed front.json is read: %v", err)
	}
}

var _ ga.Log = (*Study)(nil)
