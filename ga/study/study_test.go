package study

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ecadx/ga"
	"ecadx/schedule"
)

func TestStudyFiles(t *testing.T) {
	front, dir, images := whole(t)
	if images == 0 {
		t.Fatal("nothing was evaluated")
	}
	if !bytes.Equal(readFile(t, filepath.Join(dir, "config.toml")), testConfig) {
		t.Error("config.toml is not the configuration")
	}
	f, err := ReadFront(filepath.Join(dir, "front.json"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.Encode()
	if err != nil || !bytes.Equal(again, front) {
		t.Errorf("front.json does not survive reading: %v", err)
	}
	listed := map[string]bool{}
	for _, list := range [][]FrontEntry{{f.Uncached}, f.Baselines, f.Seeds, f.Front} {
		for _, e := range list {
			listed[e.File] = true
			if data := readFile(t, filepath.Join(dir, e.File)); !strings.Contains(string(data), e.Hash) {
				t.Errorf("%s is not the schedule %s", e.File, e.Hash)
			}
		}
	}
	files, _ := os.ReadDir(filepath.Join(dir, "schedules"))
	if len(files) != len(listed) {
		t.Errorf("%d schedule files, %d listed", len(files), len(listed))
	}
	o := testOptions()
	s, err := openLazy(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Dir() != dir || !s.Resumed() || s.Dropped() != 0 || s.Generations() != 4 || s.Scores() != images {
		t.Errorf("dir %s, resumed %v, dropped %d, %d generations, %d scores of %d", s.Dir(), s.Resumed(), s.Dropped(),
			s.Generations(), s.Scores(), images)
	}
	if err := s.WriteRun(map[string]float64{"seconds": 2.5}); err != nil {
		t.Error(err)
	}
	if got := string(readFile(t, filepath.Join(dir, "run.json"))); got != "{\n  \"seconds\": 2.5\n}\n" {
		t.Errorf("run.json is %q", got)
	}
	if err := s.WriteRun(math.NaN()); err == nil {
		t.Error("run.json with NaN is accepted")
	}
}

// TestFrontMembers checks the names that scripts rely on.
func TestFrontMembers(t *testing.T) {
	front, _, _ := whole(t)
	var top map[string]json.RawMessage
	if err := json.Unmarshal(front, &top); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"quality", "cost", "reference", "uncached", "baselines", "seeds", "front", "hypervolume",
		"confirm_prompts", "heldout", "evaluations", "images", "generations", "seed"} {
		if _, ok := top[name]; !ok {
			t.Errorf("front.json has no %q", name)
		}
	}
	var list []map[string]any
	if err := json.Unmarshal(top["front"], &list); err != nil || len(list) == 0 {
		t.Fatalf("front: %v", err)
	}
	for _, name := range []string{"hash", "file", "quality", "quality_ci95", "heldout_quality", "heldout_ci95", "cost", "macs_ratio"} {
		if list[0][name] == nil {
			t.Errorf("a front entry has no %q", name)
		}
	}
	if err := json.Unmarshal(top["baselines"], &list); err != nil || list[0]["name"] != "fora:2" {
		t.Errorf("baselines: %v, %v", list, err)
	}
	empty, err := NewFront(&ga.Result{Uncached: ga.Candidate{Quality: &ga.Estimate{}}}, "psnr", "macs").Encode()
	if err != nil || !strings.Contains(string(empty), `"baselines": [],`) || !strings.Contains(string(empty), `"heldout_quality": null`) {
		t.Errorf("an empty result is %s, %v", empty, err)
	}
	if _, err := (&Front{Hypervolume: math.Inf(1)}).Encode(); err == nil {
		t.Error("an infinite hypervolume is encoded")
	}
	for _, text := range []string{"", "[]", `{"front":3}`} {
		path := filepath.Join(t.TempDir(), "front.json")
		writeFile(t, path, []byte(text))
		if _, err := ReadFront(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "study")
	s, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testOptions()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("a second opener: %v, want ErrLocked with this process's id", err)
	}
	if out, err := child(dir, "ecad", 0).CombinedOutput(); err == nil || !strings.Contains(string(out), ErrLocked.Error()) {
		t.Errorf("a second process: %v: %s", err, out)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, testOptions()); err != nil {
		t.Fatalf("after closing: %v", err)
	}
	s.Close()
}

func TestDrift(t *testing.T) {
	_, dir, _ := whole(t)
	o := testOptions()
	o.Config = []byte("[search]\nmode = \"ecad\"\npopulation = 32\nseed = 7\n[prompts]\ncount = 2\n")
	o.Origin = []Part{{"weights", "aa"}, {"prompts", "cc"}, {"solver", "ddim"}}
	_, err := openLazy(dir, o)
	var d *DriftError
	if !errors.As(err, &d) || !errors.Is(err, ErrDrift) {
		t.Fatalf("error %v, want a *DriftError", err)
	}
	want := []Difference{{"prompts.count", "", "2"}, {"search.generations", "4", ""}, {"search.population", "6", "32"},
		{"prompts", "bb", "cc"}, {"solver", "", "ddim"}}
	if len(d.Differences) != len(want) {
		t.Fatalf("differences %v, want %v", d.Differences, want)
	}
	for i, w := range want {
		if d.Differences[i] != w {
			t.Errorf("difference %d is %v, want %v", i, d.Differences[i], w)
		}
	}
	if text := err.Error(); !strings.Contains(text, "search.population is 6 in the study, 32 now") || strings.Contains(text, "\n") {
		t.Errorf("the message is %q", text)
	}
	o = testOptions()
	o.Config = append([]byte("\n"), testConfig...)
	if _, err := openLazy(dir, o); !errors.Is(err, ErrDrift) {
		t.Errorf("another layout: %v", err)
	}
	o.Config = testConfig
	slices.Reverse(o.Origin)
	s, err := openLazy(dir, o)
	if err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	s.Close()
}

func TestSettings(t *testing.T) {
	got := settings([]byte("# c\n[a]\nx = 1 # y\nlist = [\n  \"p\",\n  \"q = 2\",\n]\n\n[b.c]\nx = \"[z]\"\n"))
	want := map[string]string{"a.x": "1 # y", "a.list": `[ "p", "q = 2", ]`, "b.c.x": `"[z]"`}
	if len(got) != len(want) {
		t.Errorf("settings %q, want %q", got, want)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
}

func TestNotAStudy(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "thesis.tex"), []byte("x"))
	if _, err := Open(dir, testOptions()); !errors.Is(err, ErrNotStudy) || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("a foreign directory: %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Error("a foreign directory was changed")
	}
	if _, err := Open(filepath.Join(dir, "thesis.tex"), testOptions()); err == nil {
		t.Error("a file was opened as a study")
	}
	_, done, _ := whole(t)
	os.Remove(filepath.Join(done, "config.toml"))
	if _, err := Open(done, testOptions()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a log without config.toml: %v", err)
	}
	long := testOptions()
	long.Origin = []Part{{"weights", strings.Repeat("x", maxPart+1)}}
	if _, err := Open(filepath.Join(dir, "new"), long); err == nil {
		t.Error("an origin of any length is accepted")
	}
}

// TestBegunOnly opens what a process leaves that was killed while it began the study.
func TestBegunOnly(t *testing.T) {
	want, _, _ := whole(t)
	for name, make := range map[string]func(dir string){
		"empty":           func(string) {},
		"lock":            func(dir string) { writeFile(t, filepath.Join(dir, "LOCK"), nil) },
		"config half":     func(dir string) { writeFile(t, filepath.Join(dir, "config.toml.tmp"), testConfig[:9]) },
		"config":          func(dir string) { writeFile(t, filepath.Join(dir, "config.toml"), testConfig) },
		"config of other": func(dir string) { writeFile(t, filepath.Join(dir, "config.toml"), []byte("x = 1\n")) },
		"log half": func(dir string) {
			writeFile(t, filepath.Join(dir, "config.toml"), testConfig)
			os.Mkdir(filepath.Join(dir, "log"), 0o777)
			writeFile(t, filepath.Join(dir, "log", "000001.ecadlog.tmp"), []byte("ECAD"))
		},
	} {
		dir := t.TempDir()
		make(dir)
		got, err := runStudy(dir, testOptions(), smallSearch(t), &synthetic{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sameFront(t, name, got, want)
		if left, _ := filepath.Glob(filepath.Join(dir, "*", "*"+temporary)); len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}

func TestFrozenConfig(t *testing.T) {
	_, dir, _ := whole(t)
	if config, err := FrozenConfig(dir); err != nil || !bytes.Equal(config, testConfig) {
		t.Errorf("config %q, %v", config, err)
	}
	if _, err := FrozenConfig(t.TempDir()); !errors.Is(err, ErrNotStudy) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestOtherVersion(t *testing.T) {
	_, dir, _ := whole(t)
	data := readFile(t, firstSegment(dir))
	binary.LittleEndian.PutUint32(data[len(magic):], Version+1)
	binary.LittleEndian.PutUint32(data[segmentHead-4:], crc32.Checksum(data[:segmentHead-4], castagnoli))
	writeFile(t, firstSegment(dir), data)
	_, err := Open(dir, testOptions())
	if err == nil || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("version %d", Version+1)) {
		t.Errorf("a log of another version: %v", err)
	}
}

func TestLogSemantics(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "study")
	s, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	var a, b schedule.Hash
	b[0] = 1
	records := []ga.Record{
		{Hash: a, Image: 9, Score: ga.Score{Value: 0.25}}, {Hash: a, Image: 2, Score: ga.Score{Value: -0.0}},
		{Hash: b, Image: 9, Score: ga.Score{Invalid: "NaN in step 3"}}, {Hash: b, Image: 1, Score: ga.Score{Value: math.Inf(1)}},
	}
	if err := s.Append(records); err != nil {
		t.Fatal(err)
	}
	size := s.pos.size
	// Known scores change nothing, whatever they are.
	if err := s.Append([]ga.Record{{Hash: a, Image: 9, Score: ga.Score{Value: 7}}, {Hash: b, Image: 9}}); err != nil || s.pos.size != size {
		t.Errorf("known scores were written again: %v", err)
	}
	check := func() {
		t.Helper()
		for _, r := range records {
			if got, ok := s.Score(r.Hash, r.Image); !ok || got != r.Score.Checked() {
				t.Errorf("score of image %d is %v, %v", r.Image, got, ok)
			}
		}
		if _, ok := s.Score(a, 3); ok || s.Scores() != 4 {
			t.Errorf("%d scores", s.Scores())
		}
	}
	check()
	c := testSnapshot(0)
	for _, next := range []*ga.Snapshot{c, testSnapshot(1)} {
		if err := s.Commit(next); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if s, err = Open(dir, testOptions()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	check()
	if err := s.Commit(c); err != nil {
		t.Errorf("the same generation again: %v", err)
	}
	for g := range 2 {
		if got, ok := s.Snapshot(g); !ok || !reflect.DeepEqual(got, testSnapshot(g)) {
			t.Errorf("snapshot %d reads back as %+v", g, got)
		}
	}
	if _, ok := s.Snapshot(2); ok || s.Generations() != 1 {
		t.Errorf("%d generations", s.Generations())
	}
	c.Images++
	for _, wrong := range []*ga.Snapshot{c, {Generation: 3}, {Generation: -1}} {
		if err := s.Commit(wrong); !errors.Is(err, ga.ErrDiverged) {
			t.Errorf("commit %+v: %v, want ErrDiverged", wrong, err)
		}
	}
}

// testSnapshot has everything that a snapshot can hold.
func testSnapshot(generation int) *ga.Snapshot {
	g, predicted := ga.NewGenome(30), 0.125
	g.Set(7, true)
	return &ga.Snapshot{Generation: generation, Evaluations: 5, Images: 6, Dropped: 1, Reference: ga.Point{Quality: 0.25, Cost: 9e12}, Digest: [32]byte{7},
		Candidates: []ga.Evaluation{
			{Genome: g, Hash: schedule.Hash{1}, Name: "fora:2", Status: ga.StatusScored, First: true, Images: 3, Quality: 0.5, StdErr: 0.01, Cost: 4e12, MACs: 3e12},
			{Genome: g, Hash: schedule.Hash{2}, Status: ga.StatusInvalid, Reason: "NaN in step 3", Images: 2, Cost: 1, MACs: 1},
			{Genome: ga.NewGenome(30), Hash: schedule.Hash{3}, Status: ga.StatusDropped, Images: 2, Quality: -1.5,
				Birth: ga.Birth{Operators: []string{"rows", "flip"}, Parents: []schedule.Hash{{1}, {2}}, Predicted: &predicted}},
		}}
}

func TestScoreListOrder(t *testing.T) {
	var l scoreList
	for i, image := range []ga.ImageID{5, 3, 9, 3, 5, 1} {
		l.add(image, float64(i))
	}
	for image, want := range map[ga.ImageID]float64{1: 5, 3: 1, 5: 0, 9: 2} {
		if v, ok := l.get(image); !ok || v != want {
			t.Errorf("image %d has %v, want %v, the first added", image, v, want)
		}
	}
	if _, ok := l.get(4); ok || l.Len() != 4 {
		t.Errorf("%d images", l.Len())
	}
}

// resume runs a study of PixArt's shape to its end, then opens it again and replays it.
func resume(t testing.TB, mode ga.Mode, generations, images int) (open, replay time.Duration, scores int) {
	shape := schedule.Shape{Family: schedule.PixArt, Steps: 20, Blocks: 28}
	w := world{seed: 2, shape: shape, population: 72, generations: generations, images: images, surrogate: 1}
	if mode == ga.ModeECADX {
		w.seed++
	}
	cfg, err := w.config()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "study")
	o := testOptions()
	want, err := runStudy(dir, o, cfg, &synthetic{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err = w.config(); err != nil { // mode ecadx learns: begin without what it has learned
		t.Fatal(err)
	}
	begin := time.Now()
	s, err := openLazy(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	open = time.Since(begin)
	e := &synthetic{}
	res, err := ga.Run(context.Background(), cfg, deps(e, s))
	if err != nil || e.images != 0 {
		t.Fatalf("%d images evaluated on resuming a finished study: %v", e.images, err)
	}
	replay = time.Since(begin) - open
	front, err := NewFront(res, "scene", "macs").Encode()
	if err != nil {
		t.Fatal(err)
	}
	sameFront(t, "resumed", front, want)
	scores = s.Scores()
	s.Close()
	return open, replay, scores
}

func TestResumeFinishedStudy(t *testing.T) {
	resume(t, ga.ModeECAD, 20, 4)
	resume(t, ga.ModeECADX, 20, 4)
}

// BenchmarkResume resumes a finished study of 500 generations of 72 candidates on 32 images (mode ecadx without surrogate, and most candidates lose
// their race after 2 images).
func BenchmarkResume(b *testing.B) {
	for _, mode := range []ga.Mode{ga.ModeECAD, ga.ModeECADX} {
		b.Run(mode.String(), func(b *testing.B) {
			var open, replay time.Duration
			scores := 0
			for range b.N {
				o, r, n := resume(b, mode, 500, 32)
				open, replay, scores = open+o, replay+r, n
			}
			b.ReportMetric(open.Seconds()/float64(b.N), "open-s")
			b.ReportMetric(replay.Seconds()/float64(b.N), "replay-s")
			b.ReportMetric(float64(scores), "scores")
		})
	}
}

func TestSVG(t *testing.T) {
	_, dir, _ := whole(t)
	data := readFile(t, filepath.Join(dir, "front.svg"))
	f, err := ReadFront(filepath.Join(dir, "front.json"))
	if err != nil {
		t.Fatal(err)
	}
	f.Baselines[0].Name = `a<b>&"c"`
	for _, picture := range [][]byte{data, f.SVG(), (&Front{}).SVG()} {
		d := xml.NewDecoder(bytes.NewReader(picture))
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("front.svg is not XML: %v\n%s", err, picture)
			}
		}
		if bytes.Contains(picture, []byte("NaN")) || bytes.Contains(picture, []byte("Inf")) || bytes.Contains(picture, []byte("href")) {
			t.Errorf("front.svg has a number that is none, or refers to something outside:\n%s", picture)
		}
	}
	text := string(data)
	for _, want := range []string{"evolved front", "baselines", "seeds", "uncached", "MACs per image", "held-out prompts", ">fora:2<", "2x<"} {
		if !strings.Contains(text, want) {
			t.Errorf("front.svg has no %q", want)
		}
	}
	// One circle per front schedule and seed, and three in the legend (two circles).
	valid := 0
	for _, e := range append(f.Front, f.Seeds...) {
		if e.HeldOutQuality != nil {
			valid++
		}
	}
	if n := strings.Count(text, "<circle"); n != valid+2 {
		t.Errorf("%d circles, want %d", n, valid+2)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{{0, 1, "0 0.2 0.4 0.6 0.8 1"}, {0.31, 0.93, "0.4 0.6 0.8"}, {1.2e12, 5.9e12, "2e+12 3e+12 4e+12 5e+12"}} {
		var got []string
		for _, v := range Ticks(c.lo, c.hi, 6) {
			got = append(got, strconv.FormatFloat(v, 'g', -1, 64))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("ticks of %v to %v: %v, want %v", c.lo, c.hi, got, c.want)
		}
	}
	for v, want := range map[float64]string{2.134989e12: "2.135T", 999: "999", 1.5e9: "1.5G", 34.25: "34.25", 0: "0"} {
		if got := SINumber(v, 4); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}
