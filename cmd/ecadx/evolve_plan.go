package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ecadx/bench"
	"ecadx/dit"
	"ecadx/dit/mini"
	"ecadx/dit/safetensors"
	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// searchPlan is a configuration with everything resolved, checked and opened.
type searchPlan struct {
	cfg       evolveConfig // frozen: every default and the resolved device, dtype and batch written out
	options   options
	model     *dit.Model
	session   *session
	shape     schedule.Shape
	size      pixels
	quality   bench.Quality
	prompts   []prompt // of the search, then held out, then those that confirm the front
	seeds     []ga.Named
	seedFiles []*schedule.File // of seeds.files, in order
	baselines []ga.Named

	structured *ga.Structured // the algorithm of mode ecadx, from gaConfig
}

// confirming is how many prompts confirm the front.
func (p *searchPlan) confirming() int {
	return len(p.prompts) - p.cfg.Prompts.Count - p.cfg.Prompts.HeldOut
}

// close releases devices and weights.
func (p *searchPlan) close() error {
	var errs []error
	if p.session != nil {
		errs = append(errs, p.session.Close())
	}
	if p.model != nil {
		errs = append(errs, p.model.Close())
	}
	return errors.Join(errs...)
}

// inputs finds the files that a configuration names.
type inputs struct {
	dir  string // the configuration's folder, or the study
	kept bool   // a study's own copies
}

// inputsFolder is where a study keeps copies of its prompt and seed files, so that it can be moved and go on.
const inputsFolder = "inputs"

// Files of that folder.
const keptPrompts = "prompts.json"

func keptSeedFile(i int) string { return fmt.Sprintf("seed-%03d.json", i) }

func (in inputs) prompts(file string) string {
	switch {
	case in.kept:
		return filepath.Join(in.dir, inputsFolder, keptPrompts)
	case filepath.IsAbs(file):
		return file
	}
	return filepath.Join(in.dir, file)
}

func (in inputs) seed(i int, file string) string {
	switch {
	case in.kept:
		return filepath.Join(in.dir, inputsFolder, keptSeedFile(i))
	case filepath.IsAbs(file):
		return file
	}
	return filepath.Join(in.dir, file)
}

// newSearchPlan resolves a configuration. where is what errors call it. The caller closes the plan.
func newSearchPlan(o *options, cfg evolveConfig, where string, in inputs) (p *searchPlan, err error) {
	p = &searchPlan{cfg: cfg, options: *o}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
			p = nil
		}
	}()
	if err := p.open(where); err != nil {
		return p, err
	}
	if p.quality, err = bench.ParseQuality(cfg.Objectives.Quality); err != nil {
		return p, inputError("%s: key \"objectives.quality\": %w", where, err)
	}
	if p.prompts, err = loadPrompts(cfg, in); err != nil {
		return p, badInput(fmt.Errorf("%s: %w", where, err))
	}
	if err := p.checkScenes(where); err != nil {
		return p, err
	}
	if slices.Equal(cfg.Seeds.Heuristics, defaultEvolveConfig().Seeds.Heuristics) {
		cfg.Seeds.Heuristics = heuristicsFor(p.shape, cfg.Seeds.Heuristics)
		p.cfg.Seeds.Heuristics = cfg.Seeds.Heuristics
	}
	if p.seeds, err = p.heuristics("seeds.heuristics", cfg.Seeds.Heuristics, where); err != nil {
		return p, err
	}
	for _, n := range p.fewerSteps() {
		s, err := p.uncachedRun(n)
		if err != nil {
			return p, inputError("%s: key \"search.fewer_steps\": %w", where, err)
		}
		p.seeds = append(p.seeds, s)
	}
	for i, file := range cfg.Seeds.Files {
		r, err := p.resolveSeed(in.seed(i, file))
		if err != nil {
			return p, inputError("%s: key \"seeds.files\": %w", where, err)
		}
		p.seeds = append(p.seeds, ga.Named{Name: strings.TrimSuffix(filepath.Base(file), ".json"), Schedule: r.schedule})
		p.seedFiles = append(p.seedFiles, r.file)
	}
	p.baselines, err = p.resolveBaselines(where)
	return p, err
}

// heuristicsFor leaves out what makes no schedule of a shape (periods of a family without them, or of more steps), so that the default list suits
// every model and number of steps.
func heuristicsFor(shape schedule.Shape, refs []string) []string {
	return slices.DeleteFunc(slices.Clone(refs), func(ref string) bool {
		_, err := schedule.Resolve(ref, shape)
		return err != nil
	})
}

// open opens model and devices, and writes what was resolved into the configuration.
func (p *searchPlan) open(where string) error {
	o, c := &p.options, &p.cfg.Model
	var err error
	o.model, o.steps = c.Path, c.Steps
	if o.device, err = parseDevice(c.Device); err == nil {
		if o.dtype, err = parseDType(c.DType); err == nil {
			o.resolution, err = parseResolution(c.Resolution)
		}
	}
	if err != nil {
		return inputError("%s: %w", where, err)
	}
	if p.model, err = o.openModel(); err != nil {
		p.model = nil
		return err
	}
	o.guidance = nil
	if c.Guidance > 0 {
		o.guidance = &c.Guidance
	}
	if p.session, err = o.openSession(p.model); err != nil {
		return err
	}
	if why := negativeUnread(p.cfg.Prompts.Negative, p.model.Defaults(), p.session.guidance); why != "" {
		return inputError("%s: key \"prompts.negative\": %s", where, why)
	}
	if p.size, err = o.pictureSize(p.session); err != nil {
		if codeOf(err) != exitUsage {
			return err
		}
		return inputError("%s: key \"model.resolution\": %v: change it", where, err)
	}
	p.shape = p.model.Shape(c.Steps)
	c.Device, c.DType, c.Resolution, c.Guidance = p.session.deviceName(), p.session.DType.String(), p.size.String(), p.session.guidance
	if c.Batch == 0 {
		c.Batch = 1
		if len(p.session.Workers) > 1 || p.small() {
			c.Batch = defaultSearchBatch
		}
	}
	return nil
}

// defaultSearchBatch is how many images of a small model a device works on at a time.
const defaultSearchBatch = 4

// small tells whether the model is of the kind that runs on one device per core, whatever the number of cores.
func (p *searchPlan) small() bool {
	w, err := p.model.Weights()
	return err == nil && w.Tensors().Parameters() < 50e6
}

// loadPrompts returns the prompts of the search, then those held out, then those that confirm the front.
func loadPrompts(cfg evolveConfig, in inputs) ([]prompt, error) {
	count, least, confirm := cfg.Prompts.Count, cfg.Prompts.Count+cfg.Prompts.HeldOut, cfg.Prompts.Confirm
	if cfg.Search.Mode != ga.ModeECADX.String() {
		confirm = 0
	}
	if cfg.Prompts.Builtin {
		return builtinPrompts(count, cfg.Prompts.HeldOut, confirm)
	}
	path := in.prompts(cfg.Prompts.File)
	list, err := readPrompts(path)
	if err != nil {
		return nil, err
	}
	if len(list) < least {
		return nil, inputError("key \"prompts.count\": %s has %d prompts, %d are searched on and %d held out: lower one of them", path, len(list), count, cfg.Prompts.HeldOut)
	}
	list = list[:min(len(list), least+confirm)]
	seen := map[string]int{}
	for i, p := range list {
		held := i >= count && i < least
		if k, ok := seen[p.Text]; ok && held != (k >= count && k < least) {
			first, second := "held out", "searched on"
			if held {
				first, second = second, first
			}
			return nil, inputError("%s: prompt %d is %s and prompt %d, the same, %s: remove one", path, k+1, first, i+1, second)
		} else if !ok {
			seen[p.Text] = i
		}
	}
	return list, nil
}

// builtinPrompts are captions of the miniature's world, no scene twice.
func builtinPrompts(count, heldOut, confirm int) ([]prompt, error) {
	search, held, err := mini.SplitCaptions(count+confirm, heldOut)
	if err != nil {
		return nil, inputError("key \"prompts.count\": %w: lower prompts.count, prompts.heldout or prompts.confirm", err)
	}
	var list []prompt
	for _, text := range slices.Concat(search[:count], held, search[count:]) {
		list = append(list, prompt{Text: text})
	}
	return list, nil
}

// checkScenes refuses prompts that the scene score cannot judge, before any work is done.
func (p *searchPlan) checkScenes(where string) error {
	if p.quality.Name() != "scene" {
		return nil
	}
	for i, q := range p.prompts {
		if _, err := mini.ParseScene(q.Text); err != nil {
			return inputError("%s: key \"objectives.quality\": scene cannot judge prompt %d: %v: use psnr, or prompts of the miniature's grammar", where, i+1, err)
		}
	}
	return nil
}

// ecadSeeds stands for the reference's starting population in seeds.heuristics.
const ecadSeeds = "ecad"

// heuristics resolves a list of references.
func (p *searchPlan) heuristics(key string, refs []string, where string) ([]ga.Named, error) {
	var list []ga.Named
	for _, ref := range refs {
		if ref == ecadSeeds && key == "seeds.heuristics" {
			set, err := schedule.SeedSet(p.shape)
			if err != nil {
				return nil, inputError("%s: key %q: %w", where, key, err)
			}
			for _, g := range set[1:] { // the first computes everything
				list = append(list, ga.Named{Name: g.Ref, Schedule: g.Schedule})
			}
			continue
		}
		if !schedule.IsHeuristic(ref) {
			return nil, inputError("%s: key %q: %q is no heuristic: %s", where, key, ref,
				didYouMean(strings.SplitN(ref, ":", 2)[0], heuristicNames(), "see ecadx schedule list"))
		}
		r, err := resolveSchedule(ref, p.shape)
		if err != nil {
			return nil, inputError("%s: key %q: %w", where, key, err)
		}
		list = append(list, ga.Named{Name: ref, Schedule: r.schedule})
	}
	return list, nil
}

// gaConfig is the search's own configuration. cost is the objective.
func (p *searchPlan) gaConfig(cost ga.CostModel) (ga.Config, error) {
	mode, err := ga.ParseMode(p.cfg.Search.Mode)
	if err != nil {
		return ga.Config{}, err
	}
	s := p.cfg.Search
	c := ga.NewConfig(p.shape, uint64(s.Seed))
	if most := p.cfg.Objectives.MaxSlots; most > 0 {
		c.MaxMemory = most * (1 << 20)
		if c.Memory, err = p.slotBytes(); err != nil {
			return c, err
		}
	}
	switch mode {
	case ga.ModeECAD:
		a := ga.DefaultNSGA2(p.shape.Cells(), uint64(s.Seed))
		a.PopulationSize, a.CrossoverProb, a.CrossoverPoints = s.Population, s.Crossover, s.Points
		a.MutationChildProb, a.MutationBitProb = s.ChildProb, s.BitProb
		c.Algorithm = a
	case ga.ModeECADX:
		a := ga.DefaultStructured(uint64(s.Seed))
		a.PopulationSize, a.Offspring, a.CrossoverProb = s.Population, s.Population, s.Crossover
		a.Flat, a.Surrogate, a.Cost = s.Operators == flatOperators, s.Surrogate, cost
		a.FewerSteps = p.fewerSteps()
		c.FewerSteps = a.FewerSteps
		if c.Memory != nil {
			a.Allowed = func(s *schedule.Schedule) bool {
				v, err := c.Memory.Cost(s)
				return err == nil && v <= c.MaxMemory
			}
		}
		if p.structured, err = ga.NewStructured(p.shape, a); err != nil {
			return c, err
		}
		c.Algorithm = p.structured
		c.Racing.Confidence = p.cfg.Racing.Confidence
	}
	c.Generations, c.MinDiff = s.Generations, s.MinDiff
	c.Seeds, c.Baselines = p.seeds, p.baselines
	c.Batch = p.cfg.Model.Batch * len(p.session.Workers)
	per := p.cfg.Prompts.ImagesPerPrompt
	for i := range p.prompts {
		for k := range per {
			image := ga.Image{ID: ga.ImageID(i*per + k), Prompt: uint32(i)}
			switch count := p.cfg.Prompts.Count; {
			case i < count:
				c.Images = append(c.Images, image)
			case i < count+p.cfg.Prompts.HeldOut:
				c.HeldOut = append(c.HeldOut, image)
			default:
				c.Confirm = append(c.Confirm, image)
			}
		}
	}
	if mode == ga.ModeECADX {
		c.Racing.Rungs = rungs(p.cfg.Racing.Rungs, len(c.Images), p.cfg.Model.Batch)
	}
	return c, c.Validate()
}

// fewerSteps are the numbers of steps that schedules may run instead of all, descending; none in mode ecad.
func (p *searchPlan) fewerSteps() []int {
	if p.cfg.Search.Mode != ga.ModeECADX.String() {
		return nil
	}
	var out []int
	last := p.shape.Steps
	for _, share := range p.cfg.Search.FewerSteps {
		if n := int(math.Round(share * float64(p.shape.Steps))); n >= 2 && n < last {
			out = append(out, n)
			last = n
		}
	}
	return out
}

// rungs turns shares of the search images into numbers of images: whole batches of a device, so that the same numbers come out however many
// devices work. A rung of fewer than 2 images cannot judge, one of all images has nothing to save; they are left out.
func rungs(shares []float64, images, batch int) []int {
	var out []int
	last := 1
	for _, share := range shares {
		n := (int(math.Ceil(share*float64(images))) + batch - 1) / batch * batch
		if n > last && n < images {
			out = append(out, n)
			last = n
		}
	}
	return out
}

// timedSearch ends a search when its time is over: it proposes nothing for a generation that the log does not hold yet.
type timedSearch struct {
	ga.Algorithm
	logged int // generations in the log at the start
	until  time.Time
}

// Ask implements ga.Algorithm.
func (t *timedSearch) Ask(generation int, population []ga.Individual) []ga.Genome {
	if generation > t.logged && time.Now().After(t.until) {
		return nil
	}
	return t.Algorithm.Ask(generation, population)
}

// evaluatorConfig says what the evaluator makes pictures of.
func (p *searchPlan) evaluatorConfig() bench.EvaluatorConfig {
	c := bench.EvaluatorConfig{
		ImagesPerPrompt: p.cfg.Prompts.ImagesPerPrompt, Seed: p.cfg.Prompts.NoiseSeed, Negative: p.cfg.Prompts.Negative, Height: p.size.height, Width: p.size.width,
		Steps: p.cfg.Model.Steps, Guidance: p.cfg.Model.Guidance, Batch: p.cfg.Model.Batch, Quality: p.quality,
		Unshared: !p.cfg.Search.Tree,
	}
	for _, q := range p.prompts {
		c.Prompts = append(c.Prompts, q.Text)
	}
	return c
}

// origin names what scores depend on besides the configuration.
func (p *searchPlan) origin() ([]study.Part, error) {
	weights, err := hashModel(p.model)
	if err != nil {
		return nil, badModel(err)
	}
	prompts, schedules := sha256.New(), sha256.New()
	for _, q := range p.prompts {
		fmt.Fprintf(prompts, "%d:%s", len(q.Text), q.Text)
	}
	for _, list := range [][]ga.Named{p.seeds, p.baselines} {
		for _, n := range list {
			fmt.Fprintf(schedules, "%d:%s%v", len(n.Name), n.Name, n.Schedule.Hash())
		}
	}
	parts, err := p.surroundings()
	if err != nil {
		return nil, err
	}
	return append(parts, []study.Part{{Name: "weights", Value: weights}, {Name: "prompts", Value: hex.EncodeToString(prompts.Sum(nil))},
		{Name: "schedules", Value: hex.EncodeToString(schedules.Sum(nil))}}...), nil
}

// Files of a snapshot's parts that decide what a model computes, besides its weights.
var modelFiles = []string{"config.json", "scheduler_config.json", "spiece.model", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}

// maxHashed is how much of a tensor is hashed: all of the miniature's and of any small tensor, both ends of larger ones. A text encoder of 19
// GB would take minutes otherwise.
const maxHashed = 1 << 20

// hashModel identifies a model's weights and configurations. Random models are identified by their reference, which decides every value.
func hashModel(m *dit.Model) (string, error) {
	h := sha256.New()
	s := m.Snapshot()
	if s == nil {
		fmt.Fprintf(h, "%s", m.Ref())
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	for _, part := range m.Parts() {
		for _, name := range modelFiles {
			if !s.Has(part, name) {
				continue
			}
			data, err := s.ReadFile(part, name, 64<<20)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%s/%s %d\n", part, name, len(data))
			h.Write(data)
		}
	}
	for _, part := range m.Parts() {
		if !s.Has(part, "config.json") {
			continue
		}
		t, err := s.OpenTensors(part)
		if err != nil {
			return "", err
		}
		for _, name := range t.Names() {
			if err := t.Read(name, func(x safetensors.Tensor) error { return hashTensor(h, string(part), x) }); err != nil {
				return "", errors.Join(err, t.Close())
			}
		}
		if err := t.Close(); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashTensor(h hash.Hash, part string, x safetensors.Tensor) error {
	fmt.Fprintf(h, "%s/%s %v %v %d\n", part, x.Name, x.DType, x.Shape, len(x.Data))
	if len(x.Data) <= 2*maxHashed {
		_, err := h.Write(x.Data)
		return err
	}
	h.Write(x.Data[:maxHashed])
	_, err := h.Write(x.Data[len(x.Data)-maxHashed:])
	return err
}
