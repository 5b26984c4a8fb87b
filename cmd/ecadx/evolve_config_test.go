package main

import (
	"bytes"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ecadx/schedule"
)

func TestInitParsesToDefaults(t *testing.T) {
	text := defaultEvolveConfig().commented()
	cfg, err := parseEvolveConfig("init", text)
	if err != nil {
		t.Fatal(err)
	}
	if want := defaultEvolveConfig(); !reflect.DeepEqual(cfg, want) {
		t.Errorf("init parses to\n%+v\nthe defaults are\n%+v", cfg, want)
	}
	// Every key is there, with a remark above it.
	for _, table := range defaultEvolveConfig().tables() {
		for _, s := range table.settings {
			if !strings.Contains(string(text), "\n"+s.key+" = ") || s.doc == "" {
				t.Errorf("%s.%s is not explained", table.name, s.key)
			}
		}
	}
}

func TestFrozenConfig(t *testing.T) {
	cfg := defaultEvolveConfig()
	cfg.Model.Guidance, cfg.Search.Budget, cfg.Search.Seed = 1e-7, 12.5, 1<<62
	cfg.Prompts.Builtin, cfg.Prompts.File, cfg.Prompts.Negative = false, `a "quoted" \ path`, "tab\tand\nline, 環"
	cfg.Seeds.Files = []string{"x.json", "y z.json"}
	cfg.Objectives.Cost, cfg.Latency = "latency", &latencySection{Table: `{"a":[1,2.5e-3]}`}
	text := cfg.freeze()
	back, err := parseEvolveConfig("frozen", text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if !reflect.DeepEqual(back, cfg) || !bytes.Equal(back.freeze(), text) {
		t.Errorf("frozen as\n%s\nread as %+v", text, back)
	}
	for line := range strings.Lines(string(text)) {
		if l := strings.TrimSpace(line); l != "" && !strings.HasPrefix(l, "[") && !strings.Contains(l, " = ") {
			t.Errorf("%q is no key on a line of its own", l)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[search]\npoplation = 3\n", `unknown key "search.poplation": did you mean "search.population"?`},
		{"[serch]\npopulation = 3\n", `did you mean "search"?`},
		{"steps = 3\n", `unknown key "steps"`},
		{"[model]\nsteps = \"x\"\n", "steps"},
		{"[model\n", "line 2"},
		{"[model]\nsteps = 1\n", `key "model.steps"`},
		{"[model]\nsteps = 5000\n", `key "model.steps"`},
		{"[model]\npath = \"\"\n", `key "model.path"`},
		{"[model]\ndevice = \"gpu\"\n", `key "model.device"`},
		{"[model]\ndtype = \"fp16\"\n", `key "model.dtype"`},
		{"[model]\nresolution = \"big\"\n", `key "model.resolution"`},
		{"[model]\nguidance = nan\n", `key "model.guidance"`},
		{"[search]\noperators = \"round\"\n", `key "search.operators"`},
		{"[search]\nsurrogate = 0\n", `key "search.surrogate"`},
		{"[seeds]\ndynamic = -1\n", `key "seeds.dynamic"`},
		{"[racing]\nrungs = [0.5, 0.25]\n", `key "racing.rungs"`},
		{"[racing]\nrungs = [nan]\n", `key "racing.rungs"`},
		{"[racing]\nconfidence = 1.0\n", `key "racing.confidence"`},
		{"[search]\nmode = \"random\"\n", `key "search.mode"`},
		{"[search]\npopulation = 1\n", `key "search.population"`},
		{"[search]\ngenerations = 0\n", "never end"},
		{"[search]\nbudget = inf\n", `key "search.budget"`},
		{"[search]\nseed = -1\n", `key "search.seed"`},
		{"[search]\nmutation_bit_probability = 1.5\n", `key "search.mutation_bit_probability"`},
		{"[objectives]\nquality = \"scnee\"\n", `did you mean "scene"?`},
		{"[objectives]\ncost = \"mac\"\n", `did you mean "macs"?`},
		{"[objectives]\nlatency_table = \"x.json\"\n", `key "objectives.latency_table"`},
		{"[objectives]\nmax_slot_mib = -1.0\n", `key "objectives.max_slot_mib"`},
		{"[prompts]\nbuiltin = true\nfile = \"x\"\n", "choose one"},
		{"[prompts]\nbuiltin = false\n", `key "prompts.file"`},
		{"[prompts]\ncount = 0\n", `key "prompts.count"`},
		{"[prompts]\nnoise_seed = 9223372036854775807\n", `key "prompts.noise_seed"`},
		{"[latency]\ntable = \"{}\"\n", `key "latency"`},
	} {
		_, err := parseEvolveConfig("c.toml", []byte(c.text))
		if codeOf(err) != exitBadInput || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "c.toml: ") {
			t.Errorf("%q: %v; want bad input with %q", c.text, err, c.want)
		}
	}
	for _, text := range []string{"", "[model]\nguidance = 4\n", "[search]\ngenerations = 0\nbudget = 2\n", "[prompts]\nfile = \"p.txt\"\n"} {
		if _, err := parseEvolveConfig("c.toml", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := readEvolveConfig(filepath.Join(t.TempDir(), "none.toml")); codeOf(err) != exitBadInput || !strings.Contains(err.Error(), "ecadx init") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestRungs(t *testing.T) {
	for _, c := range []struct {
		shares        []float64
		images, batch int
		want          []int
	}{
		{[]float64{0.25, 0.5}, 24, 4, []int{8, 12}}, {[]float64{0.25, 0.5}, 4, 4, nil}, {[]float64{0.25, 0.3}, 32, 8, []int{8, 16}},
		{[]float64{0.01, 0.5, 0.99}, 8, 1, []int{4}}, {nil, 32, 4, nil},
	} {
		if got := rungs(c.shares, c.images, c.batch); !slices.Equal(got, c.want) {
			t.Errorf("%v of %d images in batches of %d: %v, want %v", c.shares, c.images, c.batch, got, c.want)
		}
	}
}

func TestLoadPromptsKeepsListsApart(t *testing.T) {
	dir := t.TempDir()
	cfg := defaultEvolveConfig()
	cfg.Prompts.Builtin, cfg.Prompts.File, cfg.Prompts.Count, cfg.Prompts.HeldOut, cfg.Prompts.Confirm = false, "p.txt", 2, 2, 3
	writeTestFile(t, filepath.Join(dir, "p.txt"), "a\nb\nc\nd\ne\n")
	for mode, want := range map[string]int{"ecadx": 5, "ecad": 4} { // one is left to confirm, which the reference does not
		cfg.Search.Mode = mode
		list, err := loadPrompts(cfg, inputs{dir: dir})
		if err != nil || len(list) != want || list[3].Text != "d" {
			t.Errorf("%s: %v, %v", mode, list, err)
		}
	}
	cfg.Search.Mode = "ecadx"
	for text, want := range map[string]string{"a\nb\nc\n": "lower one of them", "a\nb\na\nd\n": "prompt 1 is searched on and prompt 3, the same, held out", "a\nb\nc\nd\nc\n": "prompt 3 is held out and prompt 5, the same, searched on"} {
		writeTestFile(t, filepath.Join(dir, "p.txt"), text)
		if _, err := loadPrompts(cfg, inputs{dir: dir}); codeOf(err) != exitBadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

// The default seeds suit every model: what makes no schedule of its family or number of steps is left out.
func TestHeuristicsForShape(t *testing.T) {
	all := defaultEvolveConfig().Seeds.Heuristics
	if got := heuristicsFor(schedule.Shape{Family: schedule.PixArt, Steps: 20, Blocks: 28}, all); !slices.Equal(got, all) {
		t.Errorf("PixArt's seeds are %v, want all of %v", got, all)
	}
	for name, shape := range map[string]schedule.Shape{
		"FLUX":      {Family: schedule.Flux, Steps: 20, Blocks: 19, SingleBlocks: 38},
		"ten steps": {Family: schedule.PixArt, Steps: 10, Blocks: 28},
	} {
		got := heuristicsFor(shape, all)
		if !slices.Contains(got, "fora:2") || len(got) == len(all) {
			t.Errorf("%s: seeds are %v of %v: fora shall stay, and something go", name, got, all)
		}
		for _, ref := range got {
			if _, err := schedule.Resolve(ref, shape); err != nil {
				t.Errorf("%s: %s stayed: %v", name, ref, err)
			}
		}
	}
}
