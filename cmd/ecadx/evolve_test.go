package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// smallSearch takes a few seconds.
const smallSearch = `[model]
steps = 4
[search]
mode = "ecad"
population = 6
generations = 4
seed = 3
[objectives]
quality = "scene"
baselines = ["fora:2", "steps:0.5"]
[prompts]
count = 4
heldout = 2
[seeds]
heuristics = ["fora:2", "random:0.3:1", "attn-every:2", "random:0.2:5"]
`

// start runs evolve and returns once it has printed a line with want; the lines after it come through rest.
func start(t *testing.T, dir, want string, args ...string) (cmd *exec.Cmd, rest <-chan string) {
	t.Helper()
	cmd = exec.Command(builtCommand, args...)
	cmd.Dir = dir
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if strings.Contains(lines.Text(), want) {
			after := make(chan string, 1)
			go func() {
				text := ""
				for lines.Scan() {
					text += lines.Text() + "\n"
				}
				after <- text
			}()
			return cmd, after
		}
	}
	t.Fatalf("%v ended without %q", args, want)
	return nil, nil
}

// TestEvolve runs a small search to its end, interrupted in several ways and not at all: the same front, byte for byte.
func TestEvolve(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "s.toml"), smallSearch)
	if out := succeed(t, dir, "evolve", "s.toml", "--check"); !strings.Contains(out, "valid") || fileExists(dir, "s") {
		t.Errorf("--check: %s", out)
	}
	front := succeedJSON[study.Front](t, dir, "evolve", "s.toml")
	whole := readTestFile(t, filepath.Join(dir, "s", "front.json"))
	checkStudy(t, filepath.Join(dir, "s"), &front)

	// Ctrl-C finishes the batch, saves and leaves with 130.
	cmd, rest := start(t, dir, "generation 1/", "evolve", "s.toml", "--out", "interrupted")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if text := <-rest; !strings.Contains(text, "are saved in interrupted: run the same command again") {
		t.Errorf("an interrupted search says %q", text)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != int(exitInterrupted) || fileExists(dir, "interrupted/front.json") {
		t.Errorf("after an interrupt: exit %d", code)
	}
	// Then it is killed, twice, and goes on with another number of threads.
	for _, at := range []string{"goes on", "generation 3/"} {
		cmd, rest = start(t, dir, at, "evolve", "s.toml", "--out", "interrupted", "--threads", "1")
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-rest
		cmd.Wait()
	}
	succeed(t, dir, "evolve", "--resume", "--out", "interrupted")
	if got := readTestFile(t, filepath.Join(dir, "interrupted", "front.json")); !bytes.Equal(got, whole) {
		t.Errorf("interrupted and killed it ends with another front:\n%s\nwant\n%s", got, whole)
	}
	// Another run of the same command finds everything done.
	again := succeedJSON[struct {
		Run runReport `json:"run"`
	}](t, dir, "evolve", "s.toml")
	if again.Run.NewImages != 0 || again.Run.Mismatches != 0 || !bytes.Equal(readTestFile(t, filepath.Join(dir, "s", "front.json")), whole) {
		t.Errorf("run again: %+v", again.Run)
	}
	checkDrift(t, dir)

	// The strip can be drawn again, and a schedule of the front be run.
	os.RemoveAll(filepath.Join(dir, "s", "samples"))
	succeed(t, dir, "generate", "--from-study", "s")
	if !fileExists(dir, "s/samples/strip.png") {
		t.Error("generate --from-study draws nothing")
	}
	refuse(t, dir, exitBadInput, "--force", "generate", "--from-study", "s")
	succeed(t, dir, "generate", "-p", ringPrompt, "--steps", "4", "--schedule", filepath.Join("s", front.Front[0].File), "--out", "p.png")
}

// TestEvolveECADX runs a small search of mode ecadx to its end, killed in between and not at all, on one device and on all: the same front.
func TestEvolveECADX(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	text := strings.Replace(smallSearch, `mode = "ecad"`, `mode = "ecadx"`, 1)
	text = strings.Replace(text, "count = 4", "count = 8", 1) + "dynamic = 3\n[racing]\nrungs = [0.5]\n"
	writeTestFile(t, filepath.Join(dir, "x.toml"), text)
	front := succeedJSON[study.Front](t, dir, "evolve", "x.toml")
	if len(front.Seeds) < 7 || len(front.Seeds) > 9 || !strings.HasPrefix(front.Seeds[0].Name, "dynamic:") {
		t.Errorf("%d seeds, the first is %q", len(front.Seeds), front.Seeds[0].Name)
	}
	// Schedules of fewer steps are on the front, and run without being told how many.
	var short *study.FrontEntry
	for i, e := range front.Front {
		if f, err := schedule.ReadFile(filepath.Join(dir, "x", e.File)); err != nil {
			t.Fatal(err)
		} else if f.Schedule().Shape().Steps < 4 {
			short = &front.Front[i]
		}
	}
	if short == nil {
		t.Fatal("no schedule of the front runs fewer steps")
	}
	made := succeedJSON[generatedReport](t, dir, "generate", "-p", ringPrompt, "--schedule", filepath.Join("x", short.File), "--out", "short.png")
	if made.Steps >= 4 {
		t.Errorf("%s made pictures in %d steps", short.File, made.Steps)
	}
	whole := readTestFile(t, filepath.Join(dir, "x", "front.json"))
	writeTestFile(t, filepath.Join(dir, "alone.toml"), strings.Replace(text, "[search]\n", "[search]\ntree = false\n", 1))
	succeed(t, dir, "evolve", "alone.toml", "--quiet")
	if got := readTestFile(t, filepath.Join(dir, "alone", "front.json")); !bytes.Equal(got, whole) {
		t.Errorf("without the tree it ends with another front:\n%s\nwant\n%s", got, whole)
	}
	cmd, rest := start(t, dir, "generation 2/", "evolve", "x.toml", "--out", "killed", "--threads", "1")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-rest
	cmd.Wait()
	succeed(t, dir, "evolve", "--resume", "--out", "killed")
	if got := readTestFile(t, filepath.Join(dir, "killed", "front.json")); !bytes.Equal(got, whole) {
		t.Errorf("killed it ends with another front:\n%s\nwant\n%s", got, whole)
	}
	// The seeds alone, and a study whose seeds are damaged.
	seeds := succeedJSON[struct {
		Seeds []seedEntry `json:"seeds"`
	}](t, dir, "evolve", "x.toml", "--seeds-only", "--out", "seeds")
	for i, s := range seeds.Seeds {
		f, err := schedule.ReadFile(filepath.Join(dir, "seeds", s.File))
		if err != nil || f.Schedule().Hash().String() != s.Hash || !(s.MACsRatio > 1) {
			t.Errorf("seed %d: %+v: %v", i, s, err)
		}
	}
	writeTestFile(t, filepath.Join(dir, "killed", "inputs", "drift.json"), "[{]")
	refuse(t, dir, exitBadInput, "damaged", "evolve", "--resume", "--out", "killed")
}

func fileExists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
	return err == nil
}

// checkStudy checks the files of a finished study against its front.
func checkStudy(t *testing.T, dir string, f *study.Front) {
	t.Helper()
	if len(f.Front) == 0 || len(f.Baselines) != 2 || f.Baselines[1].Name != "steps:2" || len(f.HeldOut.Comparisons) == 0 || len(f.Seeds) != 4 || f.HeldOut.Prompts != 2 || f.Quality != "scene" || f.Cost != "macs" {
		t.Fatalf("%d schedules, %d baselines, %d seeds, %+v", len(f.Front), len(f.Baselines), len(f.Seeds), f.HeldOut)
	}
	for _, list := range [][]study.FrontEntry{f.Front, f.Baselines, f.Seeds, {f.Uncached}} {
		for _, e := range list {
			s, err := schedule.ReadFile(filepath.Join(dir, e.File))
			if err != nil || s.Schedule().Hash().String() != e.Hash {
				t.Errorf("%s is not schedule %s: %v", e.File, e.Hash, err)
			}
			if e.HeldOutQuality == nil || e.MACsRatio < 1 || e.Cost <= 0 {
				t.Errorf("%+v", e)
			}
		}
	}
	var macs []macsLine
	out := succeed(t, dir, "schedule", "macs", f.Front[0].File, "--json")
	if err := json.Unmarshal([]byte(out), &macs); err != nil || float64(macs[0].TotalMACs) != f.Front[0].Cost || macs[0].Ratio != f.Front[0].MACsRatio {
		t.Errorf("macs says %+v, the front %v and %v: %v", macs, f.Front[0].Cost, f.Front[0].MACsRatio, err)
	}
	for _, name := range []string{"config.toml", "front.svg", "run.json", "samples/strip.png"} {
		if !fileExists(dir, name) {
			t.Errorf("the study lacks %s", name)
		}
	}
	cfg, err := studyConfig(dir)
	if err != nil || cfg.Model.Device != "cpu" || cfg.Model.DType == "auto" || cfg.Model.Batch == 0 || cfg.Model.Resolution != "64" || cfg.Model.Guidance == 0 {
		t.Errorf("the frozen configuration is not resolved: %+v, %v", cfg.Model, err)
	}
}

// checkDrift changes one thing at a time; each must be named.
func checkDrift(t *testing.T, dir string) {
	t.Helper()
	for want, text := range map[string]string{
		"search.seed is 3 in the study, 4 now":    strings.Replace(smallSearch, "seed = 3", "seed = 4", 1),
		"prompts.count is 4 in the study":         strings.Replace(smallSearch, "count = 4", "count = 5", 1),
		"objectives.quality is \"scene\" in the ": strings.Replace(smallSearch, `"scene"`, `"psnr"`, 1),
	} {
		writeTestFile(t, filepath.Join(dir, "drift.toml"), text)
		refuse(t, dir, exitBadInput, want, "evolve", "drift.toml", "--out", "s")
	}
	writeTestFile(t, filepath.Join(dir, "foreign", "notes.txt"), "x")
	refuse(t, dir, exitBadInput, "not a study", "evolve", "s.toml", "--out", "foreign")
}

// TestEvolveFromFiles searches another model's way: prompts and a seed from files, PSNR, FLOPs.
func TestEvolveFromFiles(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "in", "p.txt"), "a cat\na red house, with a door\na third\n")
	succeed(t, dir, "schedule", "make", "random:0.5:9", "--steps", "3", "--out", "in/seed.json")
	writeTestFile(t, filepath.Join(dir, "in", "s.toml"), `[model]
steps = 3
device = "cpu"
dtype = "float32"
[search]
mode = "ecad"
population = 4
generations = 2
[objectives]
quality = "psnr"
cost = "flops"
baselines = []
[prompts]
file = "p.txt"
count = 2
heldout = 1
[seeds]
heuristics = ["fora:2"]
files = ["seed.json"]
`)
	front := succeedJSON[study.Front](t, dir, "evolve", "in/s.toml", "--out", "study")
	if front.Uncached.Quality == nil || *front.Uncached.Quality != 100 || front.Cost != "flops" || len(front.Seeds) != 2 || front.Seeds[1].Name != "seed" {
		t.Errorf("%+v", front)
	}
	for _, e := range front.Front {
		if *e.Quality >= 100 || *e.Quality < 3 {
			t.Errorf("%s has %v dB", e.Hash, *e.Quality)
		}
	}
	// Moved away from its inputs the study goes on by itself.
	if err := os.Rename(filepath.Join(dir, "study"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(dir, "in"))
	succeed(t, dir, "evolve", "--resume", "--out", "moved")
	succeed(t, dir, "generate", "--from-study", "moved", "--force")
}

// TestLatencyIsMeasuredOnce: the table is frozen with the configuration, and costs come from it.
func TestLatencyIsMeasuredOnce(t *testing.T) {
	table := &bench.LatencyTable{Model: "mini-pixart", Batch: 1, CostTable: bench.CostTable{Family: "pixart", Blocks: []int{1}, Steps: 2, Once: 1, Step: 2}}
	for range 3 {
		table.Cells = append(table.Cells, bench.CellCost{Compute: 10, Reuse: 0.5})
	}
	data, err := table.Encode()
	if err != nil {
		t.Fatal(err)
	}
	cfg := defaultEvolveConfig()
	cfg.Objectives.Cost, cfg.Latency = string(costLatency), &latencySection{Table: string(data)}
	e := &evolution{options: &options{}, plan: &searchPlan{cfg: cfg}, path: "c.toml"}
	cost, err := e.latency(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := schedule.Resolve("fora:2", schedule.Shape{Family: schedule.PixArt, Steps: 2, Blocks: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cost.Cost(s.Schedule); err != nil || got != 1+2*2+3*10+3*0.5 {
		t.Errorf("fora:2 costs %v, %v", got, err)
	}
	e.plan.cfg.Latency.Table = `{"blocks":`
	if _, err := e.latency(t.Context()); codeOf(err) != exitBadInput {
		t.Errorf("a damaged table: %v", err)
	}
}

// TestEvolveLatencyTable searches by the times of a report, as if another machine had made it, under a limit of memory.
func TestEvolveLatencyTable(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "there.json"), succeed(t, dir, "bench", "--steps", "3", "--repeat", "1", "--device", "cpu", "--json", "--quiet"))
	text := strings.Replace(smallSearch, "quality = \"scene\"\n", "quality = \"scene\"\ncost = \"latency\"\nlatency_table = \"there.json\"\nmax_slot_mib = 0.5\n", 1)
	writeTestFile(t, filepath.Join(dir, "l.toml"), text)
	front := succeedJSON[study.Front](t, dir, "evolve", "l.toml")
	if front.Cost != "latency" || len(front.Front) == 0 || !(front.Uncached.Cost > front.Front[0].Cost) {
		t.Errorf("%+v", front)
	}
	if run := string(readTestFile(t, filepath.Join(dir, "l", "run.json"))); strings.Contains(run, "predicted_ms") {
		t.Error("times of another machine are checked on this one")
	}
	writeTestFile(t, filepath.Join(dir, "none.toml"), strings.Replace(text, "= 0.5\n", "= 0.0001\n", 1))
	refuse(t, dir, exitBadInput, "raise the limit", "evolve", "none.toml")
	writeTestFile(t, filepath.Join(dir, "there.json"), "{}")
	refuse(t, dir, exitBadInput, "objectives.latency_table", "evolve", "l.toml", "--out", "other")
}

func TestStripEntries(t *testing.T) {
	front := func(ratios ...float64) *study.Front {
		f := &study.Front{}
		for i := len(ratios) - 1; i >= 0; i-- {
			q := 1 / ratios[i]
			f.Front = append(f.Front, study.FrontEntry{Name: fmt.Sprint(ratios[i]), Quality: &q, MACsRatio: ratios[i]})
		}
		return f
	}
	for _, c := range []struct {
		ratios []float64
		want   string
	}{
		{nil, ""}, {[]float64{2}, "2"}, {[]float64{1.3, 2, 3}, "1.3 2 3"}, {[]float64{1.1, 1.2, 2, 2.1, 3.9, 4}, "1.2 2.1 3.9"}, {[]float64{1, 1.01, 1.02, 8}, "1.01 1.02 8"},
	} {
		var got []string
		for _, e := range stripEntries(front(c.ratios...)) {
			got = append(got, e.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("of %v: %v, want %s", c.ratios, got, c.want)
		}
	}
}

func TestBeats(t *testing.T) {
	entry := func(name string, quality, cost float64) study.FrontEntry {
		return study.FrontEntry{Name: name, Hash: name, Quality: &quality, Cost: cost}
	}
	front := []study.FrontEntry{entry("a", 0.5, 10), entry("b", 0.7, 20), entry("c", 0.9, 30)}
	for _, c := range []struct {
		e    study.FrontEntry
		want string
	}{{entry("x", 0.6, 20), "b"}, {entry("x", 0.6, 19), ""}, {entry("c", 0.9, 30), ""}, {entry("x", 0.4, 40), "c"}, {entry("x", 0.7, 20), "b"}} {
		if best, ok := beats(front, c.e); best.Name != c.want || ok != (c.want != "") {
			t.Errorf("%v at %v is beaten by %q, want %q", *c.e.Quality, c.e.Cost, best.Name, c.want)
		}
	}
}

func TestBesideFront(t *testing.T) {
	entry := func(name string, quality, cost float64) study.FrontEntry {
		return study.FrontEntry{Name: name, Hash: name, Quality: &quality, Cost: cost, MACsRatio: 2}
	}
	f := &study.Front{Front: []study.FrontEntry{entry("a", 0.5, 10), entry("b", 0.7, 20)}}
	if got := besideFront(f, entry("x", 0.6, 20)); got != "beaten by b: +0.1000 at 2.00x" {
		t.Errorf("without held-out prompts: %s", got)
	}
	f.HeldOut = study.FrontHeldOut{Prompts: 3, Comparisons: []study.FrontComparison{{Baseline: "x", Front: "b", Difference: 0.25, CI95: [2]float64{-0.5, 1}}, {Baseline: "a", Front: "a"}}}
	for name, want := range map[string]string{"x": "b is +0.2500 (-0.5000 to +1.0000) at 2.00x", "a": "part of the front", "y": "not compared"} {
		if got := besideFront(f, entry(name, 0.6, 20)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestHashModel: the hash sees every byte that is hashed, and random models are their references.
func TestHashModel(t *testing.T) {
	hash := func(ref string) string {
		m, err := dit.Open(ref)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		h, err := hashModel(m)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if hash("random:pixart-alpha-256@1") == hash("random:pixart-alpha-256@2") || hash("random:pixart-alpha-256") != hash("random:pixart-alpha-256") {
		t.Error("random models are not told apart")
	}
	dir := filepath.Join(t.TempDir(), "copy")
	m, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Export(dir, dit.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	before := hash(dir)
	if before != hash(dit.DefaultModel) {
		t.Error("an exported copy has another hash")
	}
	files, err := filepath.Glob(filepath.Join(dir, "vae", "*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no weights in %s: %v", dir, err)
	}
	data := readTestFile(t, files[0])
	data[len(data)-1] ^= 1
	writeTestFile(t, files[0], string(data))
	if hash(dir) == before {
		t.Error("a changed weight does not change the hash")
	}
}

func TestChooseDevice(t *testing.T) {
	o := &options{device: deviceChoice{auto: true}}
	if b, _, err := o.chooseDevice(); err != nil || b == ecad.Reference {
		t.Errorf("auto is %v, %v", b, err)
	}
	o.device = deviceChoice{backend: ecad.Reference, ordinal: 5}
	if _, _, err := o.chooseDevice(); codeOf(err) != exitNoDevice {
		t.Errorf("the sixth reference device: %v", err)
	}
	o.dtype = dtypeChoice{auto: true}
	if d, err := o.chooseDType(ecad.Reference, 0, ecad.ISAAuto); err != nil || d != dit.Float32 {
		t.Errorf("reference computes in %v, %v", d, err)
	}
}
