package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"ecadx/bench"
	"ecadx/dit"
	"ecadx/ga"
	"ecadx/schedule"
)

// evolveConfig is the configuration of evolve. Its TOML has one key per line in the order of the fields; the texts are what `ecadx init`
// writes above the keys.
type evolveConfig struct {
	Model      modelSection     `toml:"model" doc:"What is searched."`
	Search     searchSection    `toml:"search" doc:"How it is searched."`
	Objectives objectiveSection `toml:"objectives" doc:"What is better: more quality at less cost."`
	Prompts    promptSection    `toml:"prompts" doc:"What the schedules are judged on."`
	Seeds      seedSection      `toml:"seeds" doc:"The first population."`
	Racing     racingSection    `toml:"racing" doc:"Bad candidates are dropped before they are scored on all prompts (mode ecadx)."`
	// Latency is measured at the start of a search by latency and frozen with the rest.
	Latency *latencySection `toml:"latency,omitempty"`
}

type modelSection struct {
	Path       string  `toml:"path" doc:"A built-in model, the directory of a snapshot, or random:NAME[@SEED]."`
	Device     string  `toml:"device" doc:"auto, reference, cpu or cuda[:N]. A study stays with the device and dtype it began with."`
	DType      string  `toml:"dtype" doc:"auto, float32 or bfloat16; auto is bfloat16 where the device multiplies it faster."`
	Resolution string  `toml:"resolution" doc:"Pixels, 512 or 512x768 (height x width); empty: the model's own."`
	Steps      int     `toml:"steps" doc:"Denoising steps."`
	Guidance   float64 `toml:"guidance" doc:"Guidance scale, at most 1 for none; 0: the model's own (4.5 for PixArt, 3.5 for FLUX.1-dev and the miniatures)."`
	Batch      int     `toml:"batch" doc:"Images that a device works on at a time; 0: chosen by the size of the model."`
}

type searchSection struct {
	Mode        string    `toml:"mode" doc:"ecadx: operators along steps, blocks and components, seeds by dynamic programming, racing, a surrogate. ecad: NSGA-II as the\nreference runs it."`
	Population  int       `toml:"population" doc:"Survivors and offspring per generation. The reference takes 72."`
	Generations int       `toml:"generations" doc:"Generations, the seeds being the first; 0: until the budget is used."`
	Seed        int64     `toml:"seed" doc:"Seed of the search. Same configuration and seed: same front, byte for byte."`
	Budget      float64   `toml:"budget" doc:"Minutes after which no generation is begun; 0: no limit. How far a search gets in a time depends on the machine, so with a\nbudget two runs need not end with the same front."`
	Crossover   float64   `toml:"crossover_probability" doc:"Chance that two parents exchange genes. The reference takes 0.9."`
	Points      int       `toml:"crossover_points" doc:"Cuts of a mating. Genes are ordered by step, then block, then component."`
	ChildProb   float64   `toml:"mutation_child_probability" doc:"Chance that a child keeps its flipped genes. The reference takes 0.05, which changes one child in thirty: right for hundreds of\ngenerations. A search of minutes finds better fronts with more."`
	BitProb     float64   `toml:"mutation_bit_probability" doc:"Chance of each gene to flip in such a child; 0: one gene on average, as in the reference."`
	Operators   string    `toml:"operators" doc:"Mode ecadx: structured, or flat for those of the reference."`
	FewerSteps  []float64 `toml:"fewer_steps" doc:"Mode ecadx: shares of the steps that a schedule may run instead of all, so that caching and shorter runs are searched together;\nempty: every schedule runs all steps."`
	Surrogate   int       `toml:"surrogate" doc:"Mode ecadx: children made for each that is evaluated, in each of five rounds of breeding, while predictions prove right; 1: none."`
	Tree        bool      `toml:"tree" doc:"Schedules that agree in their first steps run them once: less work, the same scores bit for bit."`
	MinDiff     int       `toml:"min_diff" doc:"Least number of genes that a schedule reuses."`
}

type objectiveSection struct {
	Quality   string   `toml:"quality" doc:"scene: does the picture show its caption (prompts of the miniature's grammar); psnr: decibels to the uncached picture, ssim: structural similarity to it\n(any model)."`
	Cost      string   `toml:"cost" doc:"macs: multiply-accumulates by the reference's rule; flops: everything counted; latency: measured at the start."`
	Latency   string   `toml:"latency_table" doc:"Cost latency: JSON of ecadx bench of another machine, or of this one; empty: measured here at the start."`
	MaxSlots  float64  `toml:"max_slot_mib" doc:"Most MiB of cache slots that a schedule may keep per image; 0: no limit."`
	Baselines []string `toml:"baselines" doc:"What the front is compared with: heuristics, and runs with fewer steps and no caching (steps:10, or steps:0.5 for half of them)."`
}

type promptSection struct {
	Builtin         bool   `toml:"builtin" doc:"Captions of the miniature's world, search and held-out ones apart."`
	File            string `toml:"file" doc:"Or a file with a prompt per line, or ECAD's JSON: the first count are searched on, the next heldout are held out, those after\nthem confirm."`
	Count           int    `toml:"count" doc:"Prompts that every candidate is scored on."`
	ImagesPerPrompt int    `toml:"images_per_prompt" doc:"Images per prompt, each with noise of its own."`
	HeldOut         int    `toml:"heldout" doc:"Prompts that the search never sees: the final front is judged on them."`
	Confirm         int    `toml:"confirm" doc:"Mode ecadx: further prompts, at most, on which whatever may belong to the final front is scored as well before it is drawn, since the\nbest of many on few prompts is in part the luckiest; 0: none."`
	NoiseSeed       int64  `toml:"noise_seed" doc:"Noise seed of the first image; each following image, over all prompts, takes the next one."`
	Negative        string `toml:"negative" doc:"Prompt that guidance moves away from."`
}

type seedSection struct {
	Heuristics []string `toml:"heuristics" doc:"References of heuristics (ecadx schedule list); \"ecad\" stands for the reference's starting population."`
	Dynamic    int      `toml:"dynamic" doc:"Mode ecadx: schedules by dynamic programming over how far outputs drift in an uncached pass; 0: none."`
	Files      []string `toml:"files" doc:"Schedule files, such as those of another study."`
	Retime     bool     `toml:"retime" doc:"Files of another number of steps, even one of search.fewer_steps, are carried over to all steps by position in the noise schedule,\nas by ecadx schedule retime."`
}

type racingSection struct {
	Rungs      []float64 `toml:"rungs" doc:"Shares of the search images after which a candidate is compared with the front, rounded up to whole batches; empty: no racing."`
	Confidence float64   `toml:"confidence" doc:"Probability that a dropped candidate would have stayed behind."`
}

// latencySection is what a search by latency has measured.
type latencySection struct {
	Table string `toml:"table" doc:"Milliseconds per step and component, as JSON."`
}

// defaultEvolveConfig searches the miniature within three minutes on two cores.
func defaultEvolveConfig() evolveConfig {
	return evolveConfig{
		Model:  modelSection{Path: dit.DefaultModel, Device: "auto", DType: "auto", Steps: defaultSteps},
		Search: searchSection{Mode: ga.ModeECADX.String(), Population: 20, Generations: 12, Crossover: 0.7, Points: 4, ChildProb: 0.7, BitProb: 0.01, Operators: structuredOperators, FewerSteps: ga.DefaultFewerSteps(), Surrogate: 4, Tree: true, MinDiff: 1},
		Objectives: objectiveSection{Quality: "psnr", Cost: string(costMACs), Baselines: []string{"fora:2", "fora:3", "fora:4", "fora:5",
			"steps:0.5", "steps:0.35", "steps:0.25", "random:0.526:7", "random:0.789:7"}},
		Prompts: promptSection{Builtin: true, Count: 24, ImagesPerPrompt: 1, HeldOut: 64, Confirm: 24},
		Seeds: seedSection{Heuristics: []string{
			"random:0.1:1", "random:0.2:1", "periods:1:2:1", "periods:1:3:1", "periods:1:4:1:19", "periods:1:2:2", "fora:2", "periods:2:4:2:19",
			"periods:2:6:2", "fora:3", "periods:3:6:3", "fora:4", "periods:4:8:4", "fora:5", "fora:7"}, Dynamic: 16, Files: []string{}},
		Racing: racingSection{Rungs: []float64{0.25, 0.5}, Confidence: 0.95},
	}
}

// costName is the name of a cost in a configuration.
type costName string

// The costs.
const (
	costMACs    costName = "macs"
	costFLOPs   costName = "flops"
	costLatency costName = "latency"
)

var costNames = []string{string(costMACs), string(costFLOPs), string(costLatency)}

// readEvolveConfig reads a configuration over the defaults. Unknown keys are errors that name the nearest known key; errors name the
// file, the key and how to fix it.
func readEvolveConfig(path string) (evolveConfig, error) {
	cfg := defaultEvolveConfig()
	data, err := readLimited(path, maxConfigFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return cfg, inputError("%s: no such configuration: write one with ecadx init %s", path, path)
		}
		return cfg, err
	}
	return parseEvolveConfig(path, data)
}

func parseEvolveConfig(path string, data []byte) (evolveConfig, error) {
	cfg := defaultEvolveConfig()
	if err := checkTOMLLimits(data); err != nil {
		return cfg, inputError("%s: %w", path, err)
	}
	meta, err := toml.Decode(string(data), &cfg)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax):
		return cfg, inputError("%s: line %d: %s: see ecadx init for the format", path, syntax.Position.Line, clip(strings.TrimSuffix(syntax.Message, ".")))
	case err != nil:
		return cfg, inputError("%s: %s: see ecadx init for the types", path, clip(strings.TrimPrefix(err.Error(), "toml: ")))
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := clip(unknown[0].String())
		return cfg, inputError("%s: unknown key %q: %s", path, key, didYouMean(key, configKeys(), "see ecadx init for the known ones"))
	}
	// Files are named relative to the configuration.
	if meta.IsDefined("prompts", "file") && !meta.IsDefined("prompts", "builtin") {
		cfg.Prompts.Builtin = cfg.Prompts.File == ""
	}
	if err := cfg.validate(); err != nil {
		return cfg, inputError("%s: %w", path, err)
	}
	return cfg, nil
}

// configKeys are the dotted names of all keys, for suggestions.
func configKeys() []string {
	var keys []string
	for table, settings := range configTables(defaultEvolveConfig()) {
		keys = append(keys, table)
		for _, s := range settings {
			keys = append(keys, table+"."+s.key)
		}
	}
	slices.Sort(keys)
	return keys
}

// validate checks every value and how they go together; errors name the key.
func (c *evolveConfig) validate() error {
	bad := func(key, format string, args ...any) error {
		return fmt.Errorf("key %q: %s", key, fmt.Sprintf(format, args...))
	}
	chance := func(key string, p float64) error {
		if !(p >= 0 && p <= 1) {
			return bad(key, "%v is no probability: use 0 to 1", p)
		}
		return nil
	}
	if c.Model.Path == "" {
		return bad("model.path", "it is empty: name a model, such as %s", dit.DefaultModel)
	}
	if _, err := parseDevice(c.Model.Device); err != nil {
		return bad("model.device", "%v", err)
	}
	if _, err := parseDType(c.Model.DType); err != nil {
		return bad("model.dtype", "%v", err)
	}
	if _, err := parseResolution(c.Model.Resolution); err != nil {
		return bad("model.resolution", "%v", err)
	}
	for _, r := range []struct {
		key         string
		value       int
		least, most int
	}{
		{"model.steps", c.Model.Steps, 2, schedule.MaxSteps}, {"model.batch", c.Model.Batch, 0, 1024},
		{"search.population", c.Search.Population, 2, 1 << 16}, {"search.generations", c.Search.Generations, 0, 1 << 20},
		{"search.crossover_points", c.Search.Points, 1, 64}, {"search.min_diff", c.Search.MinDiff, 0, 1 << 22},
		{"prompts.count", c.Prompts.Count, 1, 1 << 20}, {"prompts.images_per_prompt", c.Prompts.ImagesPerPrompt, 1, 1 << 16},
		{"prompts.heldout", c.Prompts.HeldOut, 0, 1 << 20}, {"prompts.confirm", c.Prompts.Confirm, 0, 1 << 20},
	} {
		if r.value < r.least || r.value > r.most {
			return bad(r.key, "%d is out of range: use %d to %d", r.value, r.least, r.most)
		}
	}
	if c.Search.Seed < 0 {
		return bad("search.seed", "%d: use 0 or more", c.Search.Seed)
	}
	if g := c.Model.Guidance; math.IsNaN(g) || g < 0 || g > 1000 {
		return bad("model.guidance", "%v: use a number from 0 to 1000", g)
	}
	if b := c.Search.Budget; math.IsNaN(b) || math.IsInf(b, 0) || b < 0 {
		return bad("search.budget", "%v minutes: use a number of minutes, 0 for no limit", b)
	}
	if err := c.validateMode(bad); err != nil {
		return err
	}
	if c.Search.Generations == 0 && c.Search.Budget == 0 {
		return bad("search.generations", "0 with search.budget 0 would never end: set one of them")
	}
	for _, p := range []struct {
		key string
		p   float64
	}{{"search.crossover_probability", c.Search.Crossover}, {"search.mutation_child_probability", c.Search.ChildProb}, {"search.mutation_bit_probability", c.Search.BitProb}} {
		if err := chance(p.key, p.p); err != nil {
			return err
		}
	}
	return c.validateObjectives(bad)
}

// Names of the operators of mode ecadx.
const (
	structuredOperators = "structured"
	flatOperators       = "flat"
)

// validateMode checks the mode and what belongs to mode ecadx.
func (c *evolveConfig) validateMode(bad func(key, format string, args ...any) error) error {
	if _, err := ga.ParseMode(c.Search.Mode); err != nil {
		return bad("search.mode", "%q is none: use %q or %q", c.Search.Mode, ga.ModeECADX.String(), ga.ModeECAD.String())
	}
	if o := c.Search.Operators; o != structuredOperators && o != flatOperators {
		return bad("search.operators", "%q are none: use %q or %q", o, structuredOperators, flatOperators)
	}
	for i, share := range c.Search.FewerSteps {
		if !(share > 0 && share < 1) || i > 0 && share >= c.Search.FewerSteps[i-1] {
			return bad("search.fewer_steps", "%v: shares descend between 1 and 0", share)
		}
	}
	if n := c.Search.Surrogate; n < 1 || n > 64 {
		return bad("search.surrogate", "%d is out of range: use 1 (none) to 64", n)
	}
	if n := c.Seeds.Dynamic; n < 0 || n > 1<<10 {
		return bad("seeds.dynamic", "%d is out of range: use 0 to %d", n, 1<<10)
	}
	last := 0.0
	for _, share := range c.Racing.Rungs {
		if !(share > last && share < 1) {
			return bad("racing.rungs", "%v: shares ascend between 0 and 1", share)
		}
		last = share
	}
	if p := c.Racing.Confidence; !(p >= 0.5 && p < 1) {
		return bad("racing.confidence", "%v is out of range: use 0.5 up to below 1", p)
	}
	return nil
}

// validateObjectives checks what is better and what it is judged on.
func (c *evolveConfig) validateObjectives(bad func(key, format string, args ...any) error) error {
	if _, err := bench.ParseQuality(c.Objectives.Quality); err != nil {
		return bad("objectives.quality", "%q is none: %s", c.Objectives.Quality, didYouMean(c.Objectives.Quality, bench.Qualities(), "use "+strings.Join(bench.Qualities(), " or ")))
	}
	if !slices.Contains(costNames, c.Objectives.Cost) {
		return bad("objectives.cost", "%q is none: %s", c.Objectives.Cost, didYouMean(c.Objectives.Cost, costNames, "use "+strings.Join(costNames, ", ")))
	}
	switch {
	case c.Prompts.Builtin && c.Prompts.File != "":
		return bad("prompts.file", "prompts.builtin is true as well: choose one")
	case !c.Prompts.Builtin && c.Prompts.File == "":
		return bad("prompts.file", "it is empty and prompts.builtin is false: name a file of prompts")
	case c.Objectives.Latency != "" && c.Objectives.Cost != string(costLatency):
		return bad("objectives.latency_table", "objectives.cost is %q: the table is for \"latency\"", c.Objectives.Cost)
	case !(c.Objectives.MaxSlots >= 0 && c.Objectives.MaxSlots <= 1<<30):
		return bad("objectives.max_slot_mib", "%v is out of range: use a number of MiB, 0 for no limit", c.Objectives.MaxSlots)
	case c.Prompts.NoiseSeed > math.MaxInt64-math.MaxUint32:
		return bad("prompts.noise_seed", "%d is too large: image k uses noise_seed + k", c.Prompts.NoiseSeed)
	}
	if total := int64(c.Prompts.Count+c.Prompts.HeldOut+c.Prompts.Confirm) * int64(c.Prompts.ImagesPerPrompt); total > math.MaxUint32 {
		return bad("prompts.count", "%d images in all: use at most %d", total, int64(math.MaxUint32))
	}
	if l := c.Latency; (l != nil) && c.Objectives.Cost != string(costLatency) {
		return bad("latency", "objectives.cost is %q: the table is for \"latency\"", c.Objectives.Cost)
	}
	return nil
}

// setting is one key of a table with its value as TOML and its text.
type setting struct{ key, value, doc string }

// configTables are the tables of a configuration by name.
func configTables(c evolveConfig) map[string][]setting {
	out := map[string][]setting{}
	for _, t := range c.tables() {
		out[t.name] = t.settings
	}
	return out
}

// freeze writes the canonical text: every key, one per line, no comments. Equal configurations give equal bytes.
func (c evolveConfig) freeze() []byte {
	var b bytes.Buffer
	for i, t := range c.tables() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "[%s]\n", t.name)
		for _, s := range t.settings {
			fmt.Fprintf(&b, "%s = %s\n", s.key, s.value)
		}
	}
	return b.Bytes()
}

// commented writes the text of `ecadx init`.
func (c evolveConfig) commented() []byte {
	var b bytes.Buffer
	b.WriteString("# Configuration of ecadx evolve. Every key may be left out; the values here are the defaults.\n#   ecadx evolve FILE --out study\n")
	for _, t := range c.tables() {
		fmt.Fprintf(&b, "\n# %s\n[%s]\n", t.doc, t.name)
		for _, s := range t.settings {
			for line := range strings.Lines(s.doc) {
				fmt.Fprintf(&b, "# %s\n", strings.TrimSpace(line))
			}
			fmt.Fprintf(&b, "%s = %s\n", s.key, s.value)
		}
	}
	return b.Bytes()
}

// studyConfig reads the frozen configuration of a study.
func studyConfig(dir string) (evolveConfig, error) {
	path := dir + string(os.PathSeparator) + "config.toml"
	data, err := readLimited(path, maxConfigFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return evolveConfig{}, inputError("%s: no study: it has no config.toml: begin one with ecadx evolve --out %s", dir, dir)
		}
		return evolveConfig{}, err
	}
	return parseEvolveConfig(path, data)
}

// tomlValue writes a value as TOML.
func tomlValue(v any) string {
	switch v := v.(type) {
	case string:
		return tomlString(v)
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s
	case []string:
		return tomlList(v)
	case []float64:
		return tomlList(v)
	}
	return fmt.Sprint(v)
}

func tomlList[T any](list []T) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = tomlValue(v)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// tomlString quotes a text for one line of TOML.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}
