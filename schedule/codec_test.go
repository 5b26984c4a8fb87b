package schedule_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ecadx/schedule"
)

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t testing.TB, data []byte) *schedule.File {
	t.Helper()
	f, err := schedule.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestGoldenFiles: files written by Python's json module, genomes and hashes
// worked out there.
func TestGoldenFiles(t *testing.T) {
	var expected map[string]struct{ Genome, Hash string }
	if err := json.Unmarshal(readGolden(t, "expected.json"), &expected); err != nil {
		t.Fatal(err)
	}
	if len(expected) != 5 {
		t.Fatalf("%d golden files", len(expected))
	}
	for name, want := range expected {
		data := readGolden(t, name)
		f := decode(t, slices.Clone(data))
		var genome strings.Builder
		for _, compute := range f.Schedule().Bools() {
			genome.WriteByte("01"[map[bool]int{true: 1}[compute]])
		}
		if genome.String() != want.Genome {
			t.Errorf("%s: genome %s, want %s", name, genome.String(), want.Genome)
		}
		if got := f.Schedule().Hash().String(); got != want.Hash {
			t.Errorf("%s: hash %s, want %s", name, got, want.Hash)
		}
		// Setting the same decisions changes nothing; others and back again too,
		// but for the counts in the attributes, which then are right.
		if err := f.SetSchedule(f.Schedule()); err != nil || !bytes.Equal(f.Bytes(), data) {
			t.Errorf("%s: setting the same schedule changes the file (%v)", name, err)
		}
		if s, err := schedule.DecodeSchedule(data); err != nil || !s.Equal(f.Schedule()) {
			t.Errorf("%s: DecodeSchedule differs (%v)", name, err)
		}
		checkEdit(t, name, f)
	}
}

// checkEdit flips random cells and compares the texts line by line: the lines of
// those cells differ, and those of counts.
func checkEdit(t *testing.T, name string, f *schedule.File) {
	before := bytes.Split(slices.Clone(f.Bytes()), []byte("\n"))
	r := rand.New(rand.NewPCG(5, 6))
	s := f.Schedule()
	flips := 0
	for i := range s.Shape().Cells() {
		if r.IntN(3) == 0 {
			s.SetFlat(i, 1-s.AtFlat(i))
			flips++
		}
	}
	if err := f.SetSchedule(s); err != nil {
		t.Fatal(err)
	}
	if !f.Schedule().Equal(s) || !decode(t, f.Bytes()).Schedule().Equal(s) {
		t.Errorf("%s: the edited file has other decisions", name)
	}
	after := bytes.Split(f.Bytes(), []byte("\n"))
	if len(before) != len(after) {
		t.Fatalf("%s: %d lines became %d", name, len(before), len(after))
	}
	for i := range before {
		if bytes.Equal(before[i], after[i]) {
			continue
		}
		if bytes.Contains(before[i], []byte("num_affected")) {
			continue
		}
		swap := strings.NewReplacer("true", "false", "false", "true").Replace(string(before[i]))
		if string(after[i]) != swap {
			t.Errorf("%s: line %d: %s became %s", name, i+1, before[i], after[i])
		}
		flips--
	}
	if flips != 0 {
		t.Errorf("%s: %d flips are not in the text", name, flips)
	}
}

func TestEverythingIsRead(t *testing.T) {
	f := decode(t, readGolden(t, "pixart_everything.json"))
	if want := "handcrafted/bébé 雪 😀 \"q\" \\ \t\x7f"; f.Name() != want {
		t.Errorf("name %q, want %q", f.Name(), want)
	}
	custom := f.CustomFunctions()
	if len(custom) != 1 || custom[0] != (schedule.CustomFunction{Member: "custom_compute_attn", Name: "compute_attn_tgate", GateStep: 2, Cells: 1}) {
		t.Errorf("custom functions %+v", custom)
	}
	if u := f.Unsupported(); len(u) != 1 || !strings.Contains(u[0], "compute_attn_tgate") {
		t.Errorf("unsupported %q", u)
	}
	c, err := f.Config()
	if err != nil || c.Height != 256 || c.Guidance != 4.5 {
		t.Errorf("config %+v, %v", c, err)
	}
	if _, err := f.MACs(ecadDims(t, schedule.PixArt, 256)); err == nil {
		t.Error("T-GATE in one block was counted")
	}
	if err := f.SetName("né\U0001f600"); err != nil || f.Name() != "né\U0001f600" || !bytes.Contains(f.Bytes(), []byte(`"n\u00e9\ud83d\ude00"`)) {
		t.Errorf("name %q, %v", f.Name(), err)
	}
	if err := f.ClearMetrics(); err != nil || !bytes.Contains(f.Bytes(), []byte(`"metrics": {},`)) {
		t.Errorf("metrics are not empty: %v", err)
	}
}

func TestNewFile(t *testing.T) {
	for _, c := range []struct {
		ref, name string
		shape     schedule.Shape
	}{{"fora:3", "recompute_all_every_003", pixart20}, {"tgate-avg:10:3", "tgate_m_010_sp_003_fi_001_warmup_002", pixart20},
		{"random:0.7", "random_p_0.7_seed_0", flux20}, {"none", "default_512x256_gs_3.5", flux20}} {
		g := resolve(t, c.ref, c.shape)
		f, err := g.File(schedule.Config{Height: 512, Width: 256, Guidance: 3.5})
		if err != nil {
			t.Fatal(err)
		}
		if !f.Schedule().Equal(g.Schedule) || f.Shape() != c.shape || f.Name() != c.name {
			t.Errorf("%s: the file holds %v %s", c.ref, f.Shape(), f.Name())
		}
		if m := f.Meta(); m.Hash != g.Schedule.Hash().String() || m.Family != c.shape.Family || m.Steps != 20 || m.Origin != g.Ref {
			t.Errorf("%s: meta %+v", c.ref, m)
		}
		if cfg, err := f.Config(); err != nil || cfg.Height != 512 || cfg.Width != 256 || cfg.Guidance != 3.5 || cfg.GateStep != g.TGateStep {
			t.Errorf("%s: config %+v, %v", c.ref, cfg, err)
		}
		if !json.Valid(f.Bytes()) {
			t.Errorf("%s: no JSON", c.ref)
		}
		got, err := f.MACs(ecadDims(t, c.shape.Family, 256))
		if err != nil || g.TGateStep > 0 && got.Steps[19] != 114_901_401_600 {
			t.Errorf("%s: %v, last step %d", c.ref, err, got.Steps[19])
		}
		// A new decision changes the hash in the file as well.
		s := g.Schedule.Clone()
		s.Set(7, 3, 1, 1-s.At(7, 3, 1))
		if err := f.SetSchedule(s); err != nil || f.Meta().Hash != s.Hash().String() || f.Meta().Origin != g.Ref {
			t.Errorf("%s: after an edit meta %+v, %v", c.ref, f.Meta(), err)
		}
		if err := f.SetOrigin("me"); err != nil || f.Meta().Origin != "me" {
			t.Errorf("%s: meta %+v, %v", c.ref, f.Meta(), err)
		}
	}
}

// TestNewFileIsWhatPythonWrites: the worked example, written here, equals
// Python's text but for our own member.
func TestNewFileIsWhatPythonWrites(t *testing.T) {
	want := readGolden(t, "flux_example.json")
	old := decode(t, want)
	f, err := schedule.NewFile(old.Schedule(), schedule.FileOptions{Name: "demo", Origin: "x",
		Config: schedule.Config{Height: 256, Width: 256, Guidance: 5}})
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := bytes.Cut(f.Bytes(), []byte(",\n    \"ecadx\""))
	if !found || string(head)+"\n}" != string(want) {
		t.Errorf("written\n%s\nwant\n%s", f.Bytes(), want)
	}
	// Adding the member to Python's file gives the same text.
	if err := old.SetOrigin("x"); err != nil || !bytes.Equal(old.Bytes(), f.Bytes()) {
		t.Errorf("with origin\n%s\nwant\n%s (%v)", old.Bytes(), f.Bytes(), err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := string(readGolden(t, "pixart_old.json"))
	flux := string(readGolden(t, "flux_example.json"))
	replace := func(text, old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("golden file has no %s", old)
		}
		return strings.Replace(text, old, with, 1)
	}
	nested := strings.Repeat("[", 600)
	for _, c := range []struct{ text, path, problem string }{
		{"", "", "want an object, found the end of the file"},
		{"\ufeff{}", "", "byte order mark"},
		{"[]", "", "want an object, found an array"},
		{"{}", "", "no member cache_schedule"},
		{`{"cache_schedule": 1}`, "cache_schedule", "want an object, found 1"},
		{`{"cache_schedule": {}}`, "cache_schedule", "no member num_blocks"},
		{good + "x", "", "want nothing after the last }"},
		{good[:len(good)/2], "cache_schedule", ""},
		{replace(good, `"num_blocks": 2`, `"num_blocks": 2.0`), "cache_schedule.num_blocks", "want a whole number, found 2.0"},
		{replace(good, `"num_blocks": 2`, `"num_blocks": "2"`), "cache_schedule.num_blocks", "want a number, found a string"},
		{replace(good, `"num_blocks": 2`, `"num_blocks": 999999999999`), "cache_schedule.num_blocks", "use at most 1024"},
		{replace(good, `"num_blocks": 2`, `"num_blocks": 0`), "cache_schedule", "no blocks"},
		{replace(good, `"num_blocks": 2`, `"num_blocks": 1000`), "cache_schedule.schedule.000.2", "block is missing"},
		{replace(good, `"num_inference_steps": 3`, `"num_inference_steps": 4`), "cache_schedule.schedule.003", "step is missing"},
		{replace(good, `"num_inference_steps": 3`, `"num_inference_steps": -1`), "cache_schedule.num_inference_steps", "want a whole number"},
		{replace(good, `"attn2"`, `"attn9"`), "cache_schedule.schedule.000.0.attn2", "component is missing"},
		{replace(good, `"attn1"`, `"ff"`), "cache_schedule.schedule.000.0.ff", "twice"},
		{replace(good, `"001"`, `"0"`), "cache_schedule.schedule.0", "step 0 occurs twice"},
		{replace(good, `"001"`, `"\u0030\u00300"`), "cache_schedule.schedule.000", "member occurs twice"},
		{replace(good, `"metrics": {}`, `"metrics": NaN`), "metrics", "want an object, found NaN"},
		{replace(good, `"metrics": {}`, `"metrics": {"a": [1, NaN]}`), "metrics.a[1]", "found NaN"},
		{replace(good, `"metrics": {}`, `"metrics": {"a": -Infinity}`), "metrics.a", "found -Infinity"},
		{replace(good, `"metrics": {}`, `"metrics": {"a": 01}`), "metrics.a", "want a number, found 01"},
		{replace(good, `"metrics": {}`, `"metrics": {"a": 1,}`), "metrics", "want a member name"},
		{replace(good, `"metrics": {}`, `"metrics": {"a b": {"b": "\q"}}`), `metrics."a b".b`, "unknown escape"},
		{replace(good, `"metrics": {}`, "\"metrics\": {\"a\": \"\xff\"}"), "metrics.a", "not valid UTF-8"},
		{replace(good, `"metrics": {}`, "\"metrics\": {\"a\": \"\n\"}"), "metrics.a", "control character"},
		{replace(good, `"metrics": {}`, `"metrics": {"a": `+nested+`}`), "metrics.a[0]", "nested deeper"},
		{replace(good, `true`, `1`), "cache_schedule.schedule.0", "want true (compute) or false (reuse), found 1"},
		{replace(good, `true`, `truex`), "cache_schedule.schedule.0", "found truex"},
		{replace(good, `"name": "demo"`, `"name": 5`), "cache_schedule.name", "want a string, found 5"},
		{replace(good, `"config": null`, `"ecadx": {"family": "flux"}`), "ecadx.family", "but cache_schedule is for pixart"},
		{replace(good, `"config": null`, `"ecadx": {"family": "sdxl"}`), "ecadx.family", "no family"},
		{replace(flux, `"num_single_blocks": 1`, `"num_single_blocks": 2`), "cache_schedule.schedule.000.single_1", "block is missing"},
		{replace(flux, `"num_single_blocks": 1`, `"num_single_blocks": null`), "cache_schedule.schedule.000.0", "has none of attn1, attn2, ff"},
		{`{"cache_schedule": {"num_blocks": 1024, "num_inference_steps": 1000, "schedule": {}}}`, "cache_schedule.schedule", "too small"},
	} {
		_, err := schedule.Decode([]byte(c.text))
		var e *schedule.FormatError
		if !errors.As(err, &e) || !strings.HasPrefix(e.Path, c.path) || !strings.Contains(e.Problem, c.problem) || e.Line < 1 ||
			strings.Contains(e.Error(), "\n") {
			t.Errorf("%.60q...: error %v, want %s: %s", c.text, err, c.path, c.problem)
		}
	}
}

// TestDecodeAllocates: at most the size of the file and 1 MiB, for files made to
// cost more.
func TestDecodeAllocates(t *testing.T) {
	body := func(members string) []byte {
		return []byte(`{"cache_schedule": {"num_blocks": 1, "num_inference_steps": 1, "schedule": {"0": {"0": {"attn1": true, "attn2": true, "ff": true}}}}, "x": {` + members + `"z":0}}`)
	}
	var many strings.Builder
	for i := range 150_000 {
		fmt.Fprintf(&many, `"%x":0,`, i)
	}
	for name, data := range map[string][]byte{
		"many keys": body(many.String()),
		"large sizes": []byte(`{"cache_schedule": {"num_blocks": 1024, "num_single_blocks": 1024, "num_inference_steps": 1000, "schedule": {}}}` +
			strings.Repeat(" ", 100)),
		"many empty objects": body(`"a":[` + strings.Repeat("{},", 150_000) + `1],`),
		"many functions": []byte(`{"cache_schedule": {"num_blocks": 1000, "num_inference_steps": 1, "schedule": {"0": {` +
			strings.Repeat(`"0": {"custom_compute_ff": {"name": "x"}},`, 1000) + `"1": 0}}}}`),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := schedule.Decode(data)
		runtime.ReadMemStats(&after)
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(len(data)+1<<20); got > limit {
			t.Errorf("%s: %d bytes allocated for %d of input (%v)", name, got, len(data), err)
		}
	}
}

func TestReadFile(t *testing.T) {
	if _, err := schedule.ReadFile("testdata"); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := schedule.ReadFile("testdata/none.json"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := schedule.ReadFile("testdata/make.py"); err == nil || !strings.Contains(err.Error(), "make.py") {
		t.Errorf("not JSON: %v", err)
	}
	if f, err := schedule.ReadFile("testdata/flux_live.json"); err != nil || f.Shape().SingleBlocks != 2 {
		t.Errorf("%v", err)
	}
}
