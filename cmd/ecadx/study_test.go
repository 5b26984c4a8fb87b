package main

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ecadx/ga/study"
	"ecadx/schedule"
)

// TestStudy looks at an unfinished study, finishes it, takes everything out of it, damages and mends it.
func TestStudy(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	text := strings.Replace(smallSearch, `mode = "ecad"`, `mode = "ecadx"`, 1)
	writeTestFile(t, filepath.Join(dir, "s.toml"), strings.Replace(text, "generations = 4", "generations = 3", 1)+"dynamic = 0\n")
	cmd, rest := start(t, dir, "generation 1/3", "evolve", "s.toml", "--out", "s", "--threads", "1")
	// While it runs it can be looked at, but neither run nor mended by another process.
	if list := succeedJSON[[]studySummary](t, dir, "study", "list"); len(list) != 1 || list[0].State != stateRunning || list[0].Dir != "s" {
		t.Errorf("list: %+v", list)
	}
	refuse(t, dir, exitFailed, "in use", "evolve", "s.toml", "--out", "s")
	refuse(t, dir, exitFailed, "in use", "study", "repair", "s")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-rest
	cmd.Wait()
	if out := succeed(t, dir, "study", "front", "s"); !strings.Contains(out, "interrupted") || !strings.Contains(out, "uncached") {
		t.Errorf("the front so far:\n%s", out)
	}
	if out := succeed(t, dir, "study", "verify", "s"); strings.Contains(out, "damage") {
		t.Errorf("a killed study:\n%s", out)
	}
	front := succeedJSON[study.Front](t, dir, "evolve", "--resume", "--out", "s")
	checkStudyDetail(t, dir, &front)
	checkExport(t, dir, &front)

	d := succeedJSON[studyDiff](t, dir, "study", "diff", "s", "s")
	if len(d.Differences) > 0 || d.Shared != len(front.Front) || d.Covered == nil || d.Covered[0] != 1 {
		t.Errorf("a study differs from itself: %+v", d)
	}
	checkRepair(t, dir)
	refuse(t, dir, exitBadInput, "not a study", "study", "show", ".")
	refuse(t, dir, exitUsage, "--out is missing", "study", "export", "s")
	refuse(t, dir, exitUsage, "--out is the study itself", "study", "export", "s", "--out", "s/")
	refuse(t, dir, exitUsage, "did you mean \"verify\"", "study", "verfy")
}

func checkStudyDetail(t *testing.T, dir string, front *study.Front) {
	t.Helper()
	s := succeedJSON[studyDetail](t, dir, "study", "show", "s")
	if s.State != stateFinished || s.Generations != 3 || s.Planned != 3 || s.Evaluations != front.Evaluations || s.Hypervolume != front.Hypervolume || s.Front != len(front.Front) ||
		len(s.Sessions) != 2 || s.Sessions[1].Generations == 0 || s.Sessions[0].About["commit"] == "" || len(s.Operators) == 0 || s.Origin["sampler"] == "" || s.Origin["hardware"] == "" {
		t.Errorf("show: %+v", s)
	}
	if out := succeed(t, dir, "study", "show", "s"); !strings.Contains(out, "hypervolume") || !strings.ContainsAny(out, "▁▂▃▄▅▆▇█") {
		t.Errorf("show:\n%s", out)
	}
	if out := succeed(t, dir, "study", "list"); !strings.Contains(out, "finished") {
		t.Errorf("list:\n%s", out)
	}
	if out := succeed(t, dir, "study", "front", "s"); strings.Count(out, "\n") != 4+len(front.Front) {
		t.Errorf("front:\n%s", out)
	}
}

func checkExport(t *testing.T, dir string, front *study.Front) {
	t.Helper()
	succeed(t, dir, "study", "export", "s", "--all", "--out", "x")
	refuse(t, dir, exitBadInput, "--force", "study", "export", "s", "--out", "x")
	rows := map[string]int{"evaluations.csv": int(front.Evaluations), "history.csv": 3, "front.csv": 1 + len(front.Front)}
	for name, want := range rows {
		data := readTestFile(t, filepath.Join(dir, "x", name))
		records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
		if err != nil || len(records) != want+1 {
			t.Errorf("%s: %d rows, want %d: %v", name, len(records)-1, want, err)
		}
		if !bytes.Equal(data, readTestFile(t, filepath.Join(dir, "s", name))) {
			t.Errorf("%s is not the study's", name)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "x", "schedules", "*.json"))
	for _, path := range files {
		f, err := schedule.ReadFile(path)
		if err != nil || f.Schedule().Hash().String()+".json" != filepath.Base(path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(files) != int(front.Evaluations) {
		t.Errorf("%d schedules of %d evaluations", len(files), front.Evaluations)
	}
}

// checkRepair damages the log and a result, mends the study and goes on.
func checkRepair(t *testing.T, dir string) {
	t.Helper()
	s := filepath.Join(dir, "s")
	want := readTestFile(t, filepath.Join(s, "front.json"))
	path := filepath.Join(s, "log", "000001.ecadlog")
	log := readTestFile(t, path)
	log[len(log)*3/4] ^= 1
	writeTestFile(t, path, string(log))
	writeTestFile(t, filepath.Join(s, "front.json"), strings.Replace(string(want), "0.", "1.", 1))
	if r := ecadx(t, dir, "study", "verify", "s"); r.code != int(exitBadInput) || !strings.Contains(r.stdout, "damage  log/000001.ecadlog") || !strings.Contains(r.stderr, "study repair") {
		t.Errorf("verify: exit %d:\n%s%s", r.code, r.stdout, r.stderr)
	}
	refuse(t, dir, exitBadInput, "study repair", "evolve", "--resume", "--out", "s")
	if list := succeedJSON[[]studySummary](t, dir, "study", "list"); len(list) != 1 || list[0].State != stateDamaged {
		t.Errorf("list: %+v", list)
	}
	if out := succeed(t, dir, "study", "repair", "s"); !strings.Contains(out, "damaged bytes are left out") || !strings.Contains(out, "front.json") {
		t.Errorf("repair:\n%s", out)
	}
	succeed(t, dir, "study", "verify", "s")
	succeed(t, dir, "evolve", "--resume", "--out", "s")
	if got := readTestFile(t, filepath.Join(s, "front.json")); !bytes.Equal(got, want) {
		t.Errorf("repaired, the study ends with\n%s\nwant\n%s", got, want)
	}
	if kept, _ := os.ReadDir(filepath.Join(s, "damaged")); len(kept) != 2 {
		t.Errorf("%d damaged files are kept", len(kept))
	}
}

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		values []float64
		width  int
		want   string
	}{{nil, 5, ""}, {[]float64{3}, 5, "▁"}, {[]float64{0, 7}, 5, "▁█"}, {[]float64{1, 1, 1}, 5, "▁▁▁"}, {[]float64{0, 1, 2, 3, 4, 5, 6, 7}, 4, "▂▄▆█"}} {
		if got := sparkline(c.values, c.width); got != c.want {
			t.Errorf("%v in %d: %q, want %q", c.values, c.width, got, c.want)
		}
	}
}
