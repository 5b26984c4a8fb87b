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
	guidance float64   // default of built-in models, 0: the family's
	seed     uint64    // of random models

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
	for _, r := range releasedPixArt {
		list = append(list, randomPrefix+r.name)
	}
	slices.Sort(list)
	return list
}

const randomPrefix = "random:"

// Open opens a model reference: the name of a built-in model, random:NAME[@SEED] with NAME of a released architecture, or the directory
// of a snapshot. It reads configurations, not weights. An unknown name is an error that wraps ErrReference; errors about files name the
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
	s, err := openSnapshotDir(ref)
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
	m.builtin, m.guidance = tree, b.guidance
	return m, nil
}

// newModel reads the transformer's configuration.
func newModel(ref string, s *Snapshot) (*Model, error) {
	data, err := s.ReadFile(Transformer, configFile, hfconfig.MaxSize)
	if err != nil {
		return nil, err
	}
	f, err := readFamily(data, s.sigmaPipeline())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Folder(Transformer).Path(configFile), err)
	}
	return &Model{ref: ref, family: f, config: data, snapshot: s}, nil
}

// sigmaPipeline tells whether model_index.json names PixArt-Sigma's pipeline. Without the file it does not.
func (s *Snapshot) sigmaPipeline() bool {
	var index struct {
		Class string `json:"_class_name"`
	}
	data, err := s.src.ReadFile(modelIndexFile, hfconfig.MaxSize)
	return err == nil && hfconfig.Decode(data, &index) == nil && index.Class == "PixArtSigmaPipeline"
}

// readFamily picks the architecture that a config.json describes.
func readFamily(config []byte, sigma bool) (family, error) {
	var class struct {
		Name string `json:"_class_name"`
		Norm string `json:"norm_type"`
	}
	if err := hfconfig.Decode(config, &class); err != nil {
		return nil, err
	}
	// The alpha checkpoints were saved under the older class, which diffusers maps by the norm type.
	if class.Name != "PixArtTransformer2DModel" && !(class.Name == "Transformer2DModel" && class.Norm == "ada_norm_single") {
		return nil, fmt.Errorf("key \"_class_name\": %q is not supported: PixArtTransformer2DModel and Transformer2DModel with norm_type ada_norm_single are", class.Name)
	}
	cfg, err := decodePixArt(config)
	if err != nil {
		return nil, err
	}
	p := &pixart{cfg: *cfg, textTokens: 120}
	if sigma {
		p.textTokens = 300
	}
	return p, nil
}

// openRandom opens a released architecture with generated weights.
func openRandom(ref, rest string) (*Model, error) {
	name, seedText, hasSeed := strings.Cut(rest, "@")
	i := slices.IndexFunc(releasedPixArt, func(r released) bool { return r.name == name })
	if i < 0 {
		return nil, fmt.Errorf("%w: %q: after %q comes one of %s", ErrReference, ref, randomPrefix, strings.ReplaceAll(strings.Join(References(), ", "), randomPrefix, ""))
	}
	seed := uint64(0)
	if hasSeed {
		var err error
		if seed, err = strconv.ParseUint(seedText, 10, 64); err != nil {
			return nil, fmt.Errorf("%w: %q: the seed after @ is a whole number from 0 to 2^64-1", ErrReference, ref)
		}
	}
	return newRandomModel(ref, releasedPixArt[i].configJSON(), releasedPixArt[i].sigma, seed)
}

// newRandomModel makes a model of any configuration with generated weights.
func newRandomModel(ref string, config []byte, sigma bool, seed uint64) (*Model, error) {
	f, err := readFamily(config, sigma)
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
	d := m.family.defaults()
	if m.guidance != 0 {
		d.Guidance = m.guidance
	}
	return d
}

// PixArt returns the configuration of a PixArt model and whether it is one.
func (m *Model) PixArt() (PixArtConfig, bool) {
	p, ok := m.family.(*pixart)
	if !ok {
		return PixArtConfig{}, false
	}
	return p.cfg, true
}

// First returns the same model with at most n blocks of each kind. It shares weights with m, which must stay open.
func (m *Model) First(n int) (*Model, error) {
	if n < 1 {
		return nil, fmt.Errorf("%d blocks: use at least 1", n)
	}
	return &Model{ref: m.ref, family: m.family.first(n), config: m.config, snapshot: m.snapshot, builtin: m.builtin, guidance: m.guidance, seed: m.seed, parent: m}, nil
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
	m.weights = NewWeights(t)
	return m.weights, nil
}

// Verify compares the transformer's tensors to the architecture.
func (m *Model) Verify() (*Verification, error) {
	w, err := m.Weights()
	if err != nil {
		return nil, err
	}
	return w.Tensors().verify(m.family.tensors(), m.family.ignored()...), nil
}

// SamplerConfig reads the model's scheduler; a model without one has its family's released settings.
func (m *Model) SamplerConfig() (sampler.Config, error) {
	if m.snapshot == nil || !m.snapshot.Has(Scheduler, schedulerFile) {
		return sampler.DefaultDPMSolver(), nil
	}
	data, err := m.snapshot.ReadFile(Scheduler, schedulerFile, hfconfig.MaxSize)
	if err != nil {
		return sampler.Config{}, err
	}
	c, err := sampler.ParseConfig(data)
	if err != nil {
		return c, fmt.Errorf("%s: %w", m.snapshot.Folder(Scheduler).Path(schedulerFile), err)
	}
	return c, nil
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
