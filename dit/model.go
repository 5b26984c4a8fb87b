package dit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ecadx/dit/hfconfig"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// DefaultModel is the reference of the miniature built into the binary.
const DefaultModel = "mini-pixart"

// ErrReference is wrapped by errors about a model reference that names nothing.
var ErrReference = errors.New("unknown model")

// Model is an opened model reference: a family with its configuration, and where its parts come from. Weights are opened when first
// needed. Safe for concurrent use; Close it when every program loaded from it is closed.
type Model struct {
	ref      string
	family   family
	config   []byte    // transformer/config.json
	snapshot *Snapshot // nil for random models
	builtin  fs.FS     // of built-in models
	own      ownDefaults
	seed     uint64 // of random models

	mu      sync.Mutex
	weights *Weights
	latest  latestCompiled
	// parent is the model whose weights a model with fewer blocks shares.
	parent *Model
}

// References lists the forms of reference that Open takes, for messages and completion; directories aside.
func References() []string {
	list := []string{}
	for name := range builtins {
		list = append(list, name)
	}
	for _, a := range architectures {
		for _, r := range a.released {
			list = append(list, randomPrefix+r.name)
		}
	}
	slices.Sort(list)
	return list
}

const randomPrefix = "random:"

// Open opens a model reference: the name of a built-in model, random:NAME[@SEED] with NAME of a released architecture, or the directory
// of a snapshot, or the file of a FLUX transformer in either layout. It reads configurations and headers, not weights. An unknown name is an error that wraps ErrReference; errors about files name the
// file and the key.
func Open(ref string) (*Model, error) {
	if rest, ok := strings.CutPrefix(ref, randomPrefix); ok {
		return openRandom(ref, rest)
	}
	if b, ok := builtins[ref]; ok {
		return openBuiltin(ref, b)
	}
	if _, err := os.Stat(ref); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q is no directory and no name: use a snapshot's directory or one of %s", ErrReference, ref, strings.Join(References(), ", "))
	}
	open := openSnapshotDir
	if info, err := os.Stat(ref); err == nil && info.Mode().IsRegular() && filepath.Ext(ref) == weightsSuffix {
		open = openSingleFile
	}
	s, err := open(ref)
	if err != nil {
		return nil, err
	}
	return newModel(ref, s)
}

func openBuiltin(ref string, b builtin) (*Model, error) {
	tree := b.tree()
	s, err := openSnapshotFS(ref, tree)
	if err != nil {
		return nil, err
	}
	m, err := newModel(ref, s)
	if err != nil {
		return nil, err
	}
	b.own.textTokens = m.own.textTokens
	m.builtin, m.own = tree, b.own
	return m, nil
}

// newModel reads the transformer's configuration.
func newModel(ref string, s *Snapshot) (*Model, error) {
	data, err := s.ReadFile(Transformer, configFile, hfconfig.MaxSize)
	if err != nil {
		return nil, err
	}
	pipeline, err := s.pipelineClass()
	if err != nil {
		return nil, err
	}
	f, err := readFamily(data, pipeline)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Folder(Transformer).Path(configFile), err)
	}
	m := &Model{ref: ref, family: f, config: data, snapshot: s}
	if d := f.traits().Defaults; d.Unmasked { // all prompts are as long, padding included, as the tokenizer says
		own, err := s.tokenizerLength(Tokenizer2, d.TextTokens)
		if err != nil {
			return nil, err
		}
		m.own.textTokens = min(d.TextTokens, own)
	}
	return m, nil
}

// pipelineClass is the class that model_index.json names. Without the file it is empty.
func (s *Snapshot) pipelineClass() (string, error) {
	var index struct {
		Class string `json:"_class_name"`
	}
	if s.bare || !s.src.Exists(modelIndexFile) {
		return "", nil
	}
	data, err := s.src.ReadFile(modelIndexFile, hfconfig.MaxSize)
	if err != nil {
		return "", err
	}
	if err := hfconfig.Decode(data, &index); err != nil {
		return "", fmt.Errorf("%s: %w", s.src.Path(modelIndexFile), err)
	}
	return index.Class, nil
}

// openRandom opens a released architecture with generated weights.
func openRandom(ref, rest string) (*Model, error) {
	name, seedText, hasSeed := strings.Cut(rest, "@")
	r, ok := releasedModel(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q: after %q comes one of %s", ErrReference, ref, randomPrefix, strings.ReplaceAll(strings.Join(References(), ", "), randomPrefix, ""))
	}
	seed := uint64(0)
	if hasSeed {
		var err error
		if seed, err = strconv.ParseUint(seedText, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: %q: the seed after @ is a whole number from 0 to 2^64-1", ErrReference, ref)
		}
	}
	return newRandomModel(ref, r.config, r.pipeline, seed)
}

// releasedModel finds a released checkpoint by its name.
func releasedModel(name string) (released, bool) {
	for _, a := range architectures {
		if i := slices.IndexFunc(a.released, func(r released) bool { return r.name == name }); i >= 0 {
			return a.released[i], true
		}
	}
	return released{}, false
}

// newRandomModel makes a model of any configuration with generated weights.
func newRandomModel(ref string, config []byte, pipeline string, seed uint64) (*Model, error) {
	f, err := readFamily(config, pipeline)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return &Model{ref: ref, family: f, config: config, seed: seed}, nil
}

// Ref returns the reference as the user gave it.
func (m *Model) Ref() string { return m.ref }

// Name is a short name for tables: the reference, or the last element of a directory.
func (m *Model) Name() string {
	if m.snapshot != nil && m.builtin == nil {
		if abs, err := filepath.Abs(m.ref); err == nil {
			return filepath.Base(abs)
		}
	}
	return m.ref
}

// Snapshot returns the folders of the model, nil for random models, which have a transformer only.
func (m *Model) Snapshot() *Snapshot { return m.snapshot }

// Builtin tells whether the model is part of the binary.
func (m *Model) Builtin() bool { return m.builtin != nil }

// Shape is what schedules of this model range over.
func (m *Model) Shape(steps int) schedule.Shape { return m.family.shape(steps) }

// Defaults is how the model runs when the user says nothing else.
func (m *Model) Defaults() Defaults {
	return m.own.apply(m.family.traits().Defaults)
}

// Guided tells whether a guidance scale doubles the model's rows: an unconditional one for every image.
func (m *Model) Guided(scale float64) bool { return m.family.traits().Guided(scale) }

// Architecture returns the sizes of the transformer.
func (m *Model) Architecture() Architecture { return m.family.traits().architecture }

// Dims are the sizes by which the work of a run is counted for one image, by ECAD's rule (schedule.Dims.MACs; as many text tokens as ECAD counts, whatever
// the prompt; where padding is attended, the length to which prompts are padded) with the model's own widths. Guidance that doubles the batch makes it two
// rows. height and width are those of the latents, which Defaults.LatentMultiple divides.
func (m *Model) Dims(height, width int, guidance float64) schedule.Dims {
	d := m.family.dims(height, width)
	if own := m.Defaults(); own.Unmasked {
		d.TextTokens = own.TextTokens
	}
	if m.Guided(guidance) {
		d.BatchRows = 2
	}
	return d
}

// First returns the same model with at most n blocks of each kind. It shares weights with m, which must stay open.
func (m *Model) First(n int) (*Model, error) {
	if n < 1 {
		return nil, fmt.Errorf("%d blocks: use at least 1", n)
	}
	return &Model{ref: m.ref, family: m.family.first(n), config: m.config, snapshot: m.snapshot, builtin: m.builtin, own: m.own, seed: m.seed, parent: m}, nil
}

// Weights opens the transformer's weights when first asked for.
func (m *Model) Weights() (*Weights, error) {
	if m.parent != nil {
		return m.parent.Weights()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.weights != nil {
		return m.weights, nil
	}
	var t *Tensors
	var err error
	if m.snapshot == nil {
		t, err = newRandomTensors(m.ref, m.family.tensors(), m.seed)
	} else {
		t, err = m.snapshot.OpenTensors(Transformer)
	}
	if err != nil {
		return nil, err
	}
	if adopt := m.family.traits().adopt; adopt != nil {
		if err := adopt(t); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	m.weights = NewWeights(t)
	return m.weights, nil
}

// Verify compares the transformer's tensors to the architecture.
func (m *Model) Verify() (*Verification, error) {
	w, err := m.Weights()
	if err != nil {
		return nil, err
	}
	return w.Tensors().verify(m.family.tensors(), m.family.traits().ignored...), nil
}

// Parts are the folders of a complete snapshot, in the order of a run.
func (m *Model) Parts() []Part { return m.family.traits().parts }

// SamplerConfig reads the model's scheduler; a model without one has its family's released settings. Where the picture's size matters it is the model's own,
// see Sampler.
func (m *Model) SamplerConfig() (sampler.Config, error) {
	t := m.family.traits()
	data, path := []byte(t.scheduler), ""
	if m.snapshot != nil && m.snapshot.Has(Scheduler, schedulerFile) {
		var err error
		if data, err = m.snapshot.ReadFile(Scheduler, schedulerFile, hfconfig.MaxSize); err != nil {
			return sampler.Config{}, err
		}
		path = m.snapshot.Folder(Scheduler).Path(schedulerFile) + ": "
	}
	c, err := sampler.ParseConfig(data)
	if err != nil {
		return c, fmt.Errorf("%s%w", path, err)
	}
	size := m.Defaults().LatentSize
	return c.ForTokens(m.family.dims(size, size).ImageTokens), nil
}

// Sampler makes the model's sampler for a number of steps on latents of height x width, whose number of tokens some samplers depend on.
func (m *Model) Sampler(steps, height, width int) (*sampler.Sampler, error) {
	c, err := m.SamplerConfig()
	if err != nil {
		return nil, err
	}
	return m.SamplerOf(c, steps, height, width)
}

// SamplerOf is Sampler with another configuration than the model's.
func (m *Model) SamplerOf(c sampler.Config, steps, height, width int) (*sampler.Sampler, error) {
	return sampler.New(c.ForTokens(m.family.dims(height, width).ImageTokens), steps)
}

// Close releases the weights, once nothing runs with them any more.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.weights
	m.weights = nil
	if w == nil {
		return nil
	}
	return w.Close()
}
