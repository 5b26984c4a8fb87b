package main

import (
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecadx/dit"
	"ecadx/dit/mini"
	"ecadx/dit/safetensors"
	"ecadx/schedule"
)

const ringPrompt = "a small red ring above a large blue square on a grey background"

func needsModel(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIP: runs the miniature")
	}
	t.Parallel()
}

func TestVersion(t *testing.T) {
	out := succeed(t, ".", "--version")
	for _, want := range []string{"ecadx tested", "reference, cpu", dit.DefaultModel} {
		if !strings.Contains(out, want) {
			t.Errorf("--version does not say %q: %s", want, out)
		}
	}
}

func TestScheduleCommands(t *testing.T) {
	dir := t.TempDir()
	if out := succeed(t, dir, "schedule", "list"); !strings.Contains(out, "random:P[:SEED]") || !strings.Contains(out, "fora:N") {
		t.Errorf("list: %s", out)
	}
	if list := succeedJSON[[]schedule.Heuristic](t, dir, "schedule", "list"); len(list) != len(schedule.Heuristics()) {
		t.Errorf("list --json has %d entries", len(list))
	}
	succeed(t, dir, "schedule", "make", "fora:3", "--steps", "12", "--out", "f3.json")
	f, err := schedule.ReadFile(filepath.Join(dir, "f3.json"))
	if err != nil || f.Shape().Steps != 12 || f.Meta().Origin != "fora:3" {
		t.Fatalf("f3.json: %v", err)
	}
	if out := succeed(t, dir, "schedule", "make", "fora:3", "--steps", "12", "--out", "-"); out != string(f.Bytes()) {
		t.Error("make --out - writes something else than make --out FILE")
	}
	refuse(t, dir, exitBadInput, "--force", "schedule", "make", "fora:2", "--steps", "12", "--out", "f3.json")
	succeed(t, dir, "schedule", "make", "fora:2", "--steps", "12", "--out", "f2.json", "--force")
	if out := succeed(t, dir, "schedule", "show", "f3.json", "--ascii"); !strings.Contains(out, "#..#..#..#..") {
		t.Errorf("show: %s", out)
	}
	show := succeedJSON[struct {
		Hash   string     `json:"hash"`
		Reused int        `json:"reused"`
		Rows   [][]string `json:"rows"`
	}](t, dir, "schedule", "show", "f3.json")
	if show.Hash != f.Schedule().Hash().String() || show.Reused != 8*8*3 || len(show.Rows) != 12 || show.Rows[1][0] != "reuse" {
		t.Errorf("show --json: %+v", show)
	}
	diff := succeedJSON[schedule.Comparison](t, dir, "schedule", "diff", "f2.json", "fora:3")
	if want, err := schedule.Diff(readSchedules(t, dir, "f2.json"), f.Schedule()); err != nil || len(diff.Cells) != len(want.Cells) || len(want.Cells) == 0 {
		t.Errorf("diff: %d cells: %v", len(diff.Cells), err)
	}
	// The copy through convert is the file, byte for byte.
	succeed(t, dir, "schedule", "convert", "f3.json", "copy.json")
	if string(readTestFile(t, filepath.Join(dir, "copy.json"))) != string(f.Bytes()) {
		t.Error("convert changes a file in its own format")
	}
	succeed(t, dir, "schedule", "convert", "f3.json", "smooth.json", "--format", "smoothcache")
	succeed(t, dir, "schedule", "convert", "smooth.json", "back.json", "--steps", "12")
	if !readSchedules(t, dir, "back.json").Equal(f.Schedule()) {
		t.Error("through SmoothCache's JSON and back it is another schedule")
	}
	if r := ecadx(t, dir, "schedule", "convert", "f3.json", "mask.yaml"); r.code != 0 || !strings.Contains(r.stderr, "not carried over") {
		t.Errorf("convert to a mask: exit %d, %s", r.code, r.stderr)
	}
	if text := string(readTestFile(t, filepath.Join(dir, "mask.yaml"))); !strings.Contains(text, "[1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]") {
		t.Errorf("mask.yaml: %s", text)
	}
}

func readSchedules(t *testing.T, dir, name string) *schedule.Schedule {
	t.Helper()
	f, err := schedule.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return f.Schedule()
}

// TestMACs checks the two published counts of the uncached 256 and 1024 models (ECAD's files), and that a file of the miniature counts as
// the miniature.
func TestMACs(t *testing.T) {
	dir := t.TempDir()
	succeed(t, dir, "schedule", "make", "none", "--model", "random:pixart-alpha-256", "--out", "none.json")
	succeed(t, dir, "schedule", "make", "fora:2", "--out", "mini.json")
	type line struct {
		File  string  `json:"file"`
		Total int64   `json:"total_macs"`
		Ratio float64 `json:"macs_ratio"`
	}
	for _, c := range []struct {
		args []string
		dims func() (schedule.Dims, error)
	}{
		{[]string{"none.json"}, func() (schedule.Dims, error) { return schedule.ECADDims(schedule.PixArt, 256, 256) }},
		{[]string{"none.json", "--resolution", "1024"}, func() (schedule.Dims, error) { return schedule.ECADDims(schedule.PixArt, 1024, 1024) }},
		{[]string{"none.json", "--model", "random:pixart-alpha-1024"}, func() (schedule.Dims, error) { return schedule.ECADDims(schedule.PixArt, 1024, 1024) }},
	} {
		d, err := c.dims()
		if err != nil {
			t.Fatal(err)
		}
		want, err := readSchedules(t, dir, "none.json").MACs(d)
		if err != nil {
			t.Fatal(err)
		}
		got := succeedJSON[[]line](t, dir, append([]string{"schedule", "macs"}, c.args...)...)
		if len(got) != 1 || got[0] != (line{"none.json", want.Total, 1}) {
			t.Errorf("%v: %+v, want %d", c.args, got, want.Total)
		}
	}
	both := succeedJSON[[]line](t, dir, "schedule", "macs", "mini.json", "fora:2", "none.json")
	if len(both) != 3 || both[0].Total != both[1].Total || both[0].Ratio < 1.9 || both[2].Total < 100*both[0].Total {
		t.Errorf("macs of three: %+v", both)
	}
}

// generated is what these tests read of generate --json.
type generated struct {
	Images []struct {
		Prompt       string  `json:"prompt"`
		Seed         int64   `json:"seed"`
		File         string  `json:"file"`
		MS           float64 `json:"ms"`
		Ratio        float64 `json:"macs_ratio"`
		UncachedFile string  `json:"uncached_file"`
		CompareFile  string  `json:"compare_file"`
	} `json:"images"`
	Model, Device, DType, Schedule string
	Steps                          int
	Guidance                       float64
}

func TestGenerate(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "p.json"), `[{"id":"x-1","prompt":"`+ringPrompt+`"},{"id":"x-2","prompt":"a big green circle, white background"}]`)
	args := []string{"generate", "--prompts", "p.json", "--images", "2", "--seed", "7", "--steps", "4", "--schedule", "fora:2", "--out", "out", "--compare", "--negative", "Grüße"}
	g := succeedJSON[generated](t, dir, args...)
	if len(g.Images) != 4 || g.Model != "mini-pixart" || g.Device != "cpu" || g.Steps != 4 || g.Schedule != "fora:2" || g.Guidance != mini.PixArtGuidance {
		t.Fatalf("%+v", g)
	}
	for i, im := range g.Images {
		if im.Seed != int64(7+i%2) || im.Ratio < 1.9 || im.MS <= 0 || im.File != filepath.Join("out", fmt.Sprintf("x-%d-seed%d.png", 1+i/2, im.Seed)) {
			t.Errorf("image %d: %+v", i, im)
		}
		data := readTestFile(t, filepath.Join(dir, im.File))
		text := pngText(t, data)
		for k, v := range map[string]string{"prompt": im.Prompt, "seed": fmt.Sprint(im.Seed), "model": "mini-pixart", "schedule": "fora:2", "steps": "4", "negative_prompt": "Grüße"} {
			if text[k] != v {
				t.Errorf("%s: %s is %q, want %q", im.File, k, text[k], v)
			}
		}
		if w, h := pngSize(t, filepath.Join(dir, im.File)); w != 64 || h != 64 {
			t.Errorf("%s: %d x %d", im.File, w, h)
		}
		if w, _ := pngSize(t, filepath.Join(dir, im.CompareFile)); w <= 2*64 {
			t.Errorf("%s is %d wide", im.CompareFile, w)
		}
		if text := pngText(t, readTestFile(t, filepath.Join(dir, im.UncachedFile))); text["schedule"] != "none" {
			t.Errorf("%s: schedule %q", im.UncachedFile, text["schedule"])
		}
	}
	refuse(t, dir, exitBadInput, "--force", args...)
	before := readTestFile(t, filepath.Join(dir, g.Images[3].File))
	succeed(t, dir, append(args, "--force", "--threads", "1")...)
	if string(before) != string(readTestFile(t, filepath.Join(dir, g.Images[3].File))) {
		// Another number of threads makes other batches, but the pictures are the same.
		t.Errorf("%s changes with the number of threads", g.Images[3].File)
	}
}

func pngSize(t *testing.T, path string) (w, h int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := png.DecodeConfig(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c.Width, c.Height
}

// TestGenerateDefaults runs the shortest command twice: it names its files itself and overwrites none.
func TestGenerateDefaults(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	for range 2 {
		succeed(t, dir, "generate", "-p", ringPrompt, "--steps", "2", "--resolution", "32x64")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	if w, h := pngSize(t, files[0]); w != 64 || h != 32 {
		t.Errorf("%d x %d", w, h)
	}
	a, b := readTestFile(t, files[0]), readTestFile(t, files[1])
	if string(a) != string(b) {
		t.Error("the same command makes another picture")
	}
}

// tensors writes a file of inputs for the miniature; change edits it first.
func tensors(t *testing.T, dir string, change func(map[string]safetensors.Tensor)) string {
	t.Helper()
	m, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	d := m.Defaults()
	all := map[string]safetensors.Tensor{}
	put := func(name string, shape []int64, value func(i int) float32) {
		n := int64(1)
		for _, s := range shape {
			n *= s
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = value(i)
		}
		x, err := safetensors.FromFloat32(name, safetensors.F32, shape, v)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = x
	}
	wave := func(i int) float32 { return float32(1.4 * math.Sin(float64(i)*1.7+0.3)) }
	mask := func(i int) float32 { return float32(1 - i%3/2) } // 1 1 0 1 1 0
	put("latents", []int64{2, int64(d.LatentChannels), 8, 12}, wave)
	put("prompt_embeds", []int64{2, 7, int64(d.TextWidth)}, wave)
	put("prompt_mask", []int64{2, 7}, mask)
	put("negative_prompt_embeds", []int64{1, 3, int64(d.TextWidth)}, wave)
	put("negative_prompt_mask", []int64{1, 3}, func(int) float32 { return 1 })
	if change != nil {
		change(all)
	}
	var list []safetensors.Tensor
	for _, x := range all {
		list = append(list, x)
	}
	path := filepath.Join(dir, "in.safetensors")
	if err := safetensors.WriteFile(path, safetensors.Items(list...), nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func tensorOf(t *testing.T, path, name string) ([]int64, []float32) {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, ok := f.Tensor(name)
	if !ok || x.DType != safetensors.F32 {
		t.Fatalf("%s: %s: %v %v", path, name, ok, x.DType)
	}
	v, err := x.ToFloat32()
	if err != nil {
		t.Fatal(err)
	}
	return x.Shape, v
}

// relativeL2 is |a-b| / |b|.
func relativeL2(a, b []float32) float64 {
	num, den := 0.0, 0.0
	for i := range b {
		num += float64(a[i]-b[i]) * float64(a[i]-b[i])
		den += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(num / den)
}

func TestDenoise(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	tensors(t, dir, nil)
	run := func(out string, args ...string) []float32 {
		succeed(t, dir, append([]string{"denoise", "--inputs", "in.safetensors", "--out", out + ".safetensors"}, args...)...)
		name := "latents"
		if strings.Contains(strings.Join(args, " "), "--forward") {
			name = "output"
		}
		_, v := tensorOf(t, filepath.Join(dir, out+".safetensors"), name)
		return v
	}
	none := run("none", "--steps", "5")
	reference := run("reference", "--steps", "5", "--device", "reference")
	if e := relativeL2(none, reference); !(e <= 1e-5) {
		t.Errorf("cpu and reference differ by %g", e)
	}
	succeed(t, dir, "schedule", "make", "none", "--steps", "5", "--out", "all.json")
	if all := run("all", "--steps", "5", "--schedule", "all.json"); relativeL2(all, none) != 0 {
		t.Error("a schedule that computes everything changes bits")
	}
	cached := run("cached", "--steps", "5", "--schedule", "fora:2")
	if e := relativeL2(cached, none); !(e > 1e-4 && e < 2) {
		t.Errorf("fora:2 differs from no schedule by %g", e)
	}
	// Reused outputs carry the backends' rounding differences on: 2e-5 (1.03e-5 measured), well inside the 1e-4 that hold against diffusers.
	if e := relativeL2(cached, run("cached-reference", "--steps", "5", "--schedule", "fora:2", "--device", "reference")); !(e <= 2e-5) {
		t.Errorf("under fora:2 cpu and reference differ by %g", e)
	}
	if e := relativeL2(run("forward", "--forward", "432"), run("forward-reference", "--forward", "432", "--device", "reference")); !(e <= 1e-5) {
		t.Errorf("one call: cpu and reference differ by %g", e)
	}
	if shape, _ := tensorOf(t, filepath.Join(dir, "forward.safetensors"), "output"); fmt.Sprint(shape) != "[2 8 8 12]" {
		t.Errorf("output has shape %v", shape)
	}
	report := succeedJSON[denoiseReport](t, dir, "denoise", "--inputs", "in.safetensors", "--out", "j.safetensors", "--steps", "2", "--guidance", "1")
	if report.DType != "float32" || report.Guidance != 1 || fmt.Sprint(report.Shape) != "[2 4 8 12]" || report.Steps != 2 {
		t.Errorf("%+v", report)
	}
}

func TestDenoiseRefuses(t *testing.T) {
	needsModel(t)
	for name, c := range map[string]struct {
		change func(map[string]safetensors.Tensor)
		want   string
	}{
		"no latents":   {func(m map[string]safetensors.Tensor) { delete(m, "latents") }, `tensor "latents": it is missing`},
		"no negative":  {func(m map[string]safetensors.Tensor) { delete(m, "negative_prompt_embeds") }, `tensor "negative_prompt_embeds"`},
		"mask of 2":    {func(m map[string]safetensors.Tensor) { m["prompt_mask"].Data[3] = 0x40 }, `tensor "prompt_mask"`},
		"NaN":          {func(m map[string]safetensors.Tensor) { copy(m["latents"].Data, "\x00\x00\xc0\x7f") }, "finite"},
		"empty mask":   {func(m map[string]safetensors.Tensor) { clear(m["negative_prompt_mask"].Data) }, "at least one"},
		"wrong rank":   {func(m map[string]safetensors.Tensor) { reshape(m, "latents", 8, 8, 12) }, "4 dimensions"},
		"odd latents":  {func(m map[string]safetensors.Tensor) { reshape(m, "latents", 2, 4, 32, 3) }, "multiples of 2"},
		"channels":     {func(m map[string]safetensors.Tensor) { reshape(m, "latents", 4, 2, 8, 12) }, "channels"},
		"mask's shape": {func(m map[string]safetensors.Tensor) { reshape(m, "prompt_mask", 1, 14) }, `tensor "prompt_mask"`},
		"integers": {func(m map[string]safetensors.Tensor) {
			x := m["latents"]
			x.DType = safetensors.F8E4M3
			x.Shape = []int64{8, 4, 8, 12}
			m["latents"] = x
		}, "float32"},
	} {
		dir := t.TempDir()
		path := tensors(t, dir, c.change)
		refuse(t, dir, exitBadInput, c.want, "denoise", "--inputs", path, "--out", "out.safetensors", "--steps", "2")
		if _, err := os.Stat(filepath.Join(dir, "out.safetensors")); err == nil {
			t.Errorf("%s: a file is written", name)
		}
	}
	dir := t.TempDir()
	path := tensors(t, dir, nil)
	for _, c := range []struct {
		code exitCode
		want string
		args []string
	}{
		{exitUsage, "timestep", []string{"--forward", "1001"}},
		{exitUsage, "--inputs", []string{"--inputs", ""}},
		{exitUsage, "no schedule", []string{"--forward", "3", "--schedule", "fora:2"}},
		{exitUsage, "--resolution", []string{"--resolution", "64"}},
		{exitUsage, "float64", []string{"--dtype", "float64"}},
		{exitNoDevice, "--device cpu", []string{"--device", "cuda:7"}},
	} {
		refuse(t, dir, c.code, c.want, append([]string{"denoise", "--inputs", path, "--out", "out.safetensors"}, c.args...)...)
	}
	data := readTestFile(t, path)
	for n, cut := range []int{0, 7, 100, len(data) - 1} {
		writeTestFile(t, filepath.Join(dir, "cut.safetensors"), string(data[:cut]))
		refuse(t, dir, exitBadInput, "cut.safetensors", "denoise", "--inputs", "cut.safetensors", "--out", fmt.Sprintf("cut%d.out", n))
	}
}

func reshape(m map[string]safetensors.Tensor, name string, shape ...int64) {
	x := m[name]
	x.Shape = shape
	m[name] = x
}

// TestRefusals goes through wrong command lines and inputs of the other commands.
func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeTestFile(t, filepath.Join(dir, "bad.json"), `{"cache_schedule": {"num_blocks": 2}}`)
	writeTestFile(t, filepath.Join(dir, "empty.txt"), "\n")
	writeTestFile(t, filepath.Join(dir, "bad.toml"), "[search]\npoplation = 3\n")
	writeTestFile(t, filepath.Join(dir, "model", "transformer", "config.json"), `{"_class_name":"UNet"}`)
	writeTestFile(t, filepath.Join(dir, "full", "other.txt"), "x")
	succeed(t, dir, "schedule", "make", "fora:2", "--steps", "7", "--out", "seven.json")
	succeed(t, dir, "schedule", "make", "tgate-avg:4", "--out", "custom.json")
	for _, c := range []struct {
		code exitCode
		want string
		line string
	}{
		{exitUsage, `did you mean "generate"?`, "genrate -p x"},
		{exitUsage, "no prompt", "generate"},
		{exitUsage, "--device", "generate -p x --device gpu"},
		{exitUsage, "--dtype", "generate -p x --dtype int8"},
		{exitUsage, "--gemm", "generate -p x --gemm fast"},
		{exitUsage, "it is for --device cuda", "generate -p x --device cpu --gemm ecad"},
		{exitUsage, "--steps", "generate -p x --steps 0"},
		{exitUsage, "--steps", "generate -p x --steps many"},
		{exitUsage, "--threads", "generate -p x --threads -2"},
		{exitUsage, "--guidance", "generate -p x --guidance NaN"},
		{exitUsage, "--resolution", "generate -p x --resolution 63"},
		{exitUsage, "--images", "generate -p x --images 0"},
		{exitUsage, "name a directory", "generate -p x -p y --out one.png"},
		{exitUsage, "unexpected argument", "generate a ring"},
		{exitBadInput, "no prompts", "generate --prompts empty.txt"},
		{exitBadInput, "none.txt", "generate --prompts none.txt"},
		{exitBadInput, "nosuch", "generate -p x --model nosuch"},
		{exitBadInput, "UNet", "generate -p x --model model"},
		{exitBadInput, "unknown model", "generate -p x --model random:pixart-alpha-9"},
		{exitBadInput, "no autoencoder", "generate -p x --model random:pixart-alpha-256"},
		{exitBadInput, `did you mean "fora"?`, "generate -p x --schedule foar:2"},
		{exitBadInput, "fora:0", "generate -p x --schedule fora:0"},
		{exitBadInput, "bad.json", "generate -p x --schedule bad.json"},
		{exitBadInput, "7 steps", "generate -p x --schedule seven.json --steps 20"},
		{exitBadInput, "compute_attn_tgate", "generate -p x --schedule custom.json"},
		{exitBadInput, "compute_attn_tgate", "generate -p x --schedule tgate-avg:4"},
		{exitNoDevice, "--device cpu", "generate -p x --device cuda"},
		{exitBadInput, "no study", "generate --from-study full"},
		{exitUsage, "a command is missing", "schedule"},
		{exitUsage, "an argument is missing", "schedule show"},
		{exitUsage, "--out is missing", "schedule make fora:2"},
		{exitUsage, "unexpected argument", "schedule diff fora:2 fora:3 fora:4"},
		{exitBadInput, "20 steps", "schedule diff seven.json fora:2 --steps 20"},
		{exitUsage, `did you mean "smoothcache"?`, "schedule convert fora:2 x --format smothcache"},
		{exitUsage, "multiples", "schedule macs seven.json --model mini-pixart --resolution 63"},
		{exitBadInput, "28 blocks", "schedule macs seven.json --model random:pixart-alpha-256"},
		{exitBadInput, `did you mean "search.population"?`, "evolve bad.toml"},
		{exitBadInput, "ecadx init", "evolve none.toml"},
		{exitBadInput, "no study", "evolve --resume --out full"},
		{exitUsage, "--resume", "evolve bad.toml --resume"},
		{exitUsage, "model.steps", "evolve --steps 1"},
		{exitUsage, "unknown shell", "completion csh"},
	} {
		refuse(t, dir, c.code, c.want, strings.Fields(c.line)...)
	}
	refuse(t, dir, exitBadInput, "exists already", "init", "bad.toml")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := succeed(t, dir, "completion", shell); !strings.Contains(out, completeCommand) {
			t.Errorf("completion %s: %s", shell, out)
		}
	}
}
