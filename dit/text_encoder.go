package dit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ecad "ecadx/cgo"
	"ecadx/dit/hfconfig"
	"ecadx/dit/program"
)

// textNetwork is the architecture of a text encoder with the names its tensors have in one checkpoint.
type textNetwork struct {
	width      int
	vocabulary int
	specs      []TensorSpec
	ignored    []string
	// compile makes the program for one row of tokens: input_ids in, output out, and token_counts in where counted.
	compile func(tokens int, dtype DType) (*program.Program, error)
	output  string
	counted bool
	rows    func(tokens int) int      // of the output, each of the width
	reads   func(ids []int32) []int32 // what of the ids the output depends on; nil: all
}

// textEncoder is a part of a snapshot that turns token ids into embeddings. Safe for concurrent use; rows are encoded one by one, so that an
// embedding never depends on its neighbours.
type textEncoder struct {
	net     textNetwork
	path    string
	weights *Weights
	cache   *embeddingCache

	mu       sync.Mutex
	programs map[encoderKey]*Loaded
}

type encoderKey struct {
	dev    *ecad.Device
	tokens int
	dtype  DType
}

// openTextEncoder opens a part; read makes its network of its config.json and of the tensors there are.
func openTextEncoder(s *Snapshot, part Part, read func(config []byte, t *Tensors) (textNetwork, error)) (*textEncoder, error) {
	config, err := s.ReadFile(part, configFile, hfconfig.MaxSize)
	if err != nil {
		return nil, err
	}
	t, err := s.OpenTensors(part)
	if err != nil {
		return nil, err
	}
	net, err := read(config, t)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.Folder(part).Path(configFile), err), t.Close())
	}
	if err := t.verify(net.specs, net.ignored...).Err(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return &textEncoder{net: net, path: s.Folder(part).Path(""), weights: NewWeights(t), cache: newEmbeddingCache(t, config),
		programs: map[encoderKey]*Loaded{}}, nil
}

// checkWidth compares the encoder's width with what the transformer reads.
func checkWidth(key string, width, want int) error {
	if width != want {
		return fmt.Errorf("key %q: the encoder's width is %d, the transformer wants %d: the parts belong to different models", key, width, want)
	}
	return nil
}

// checkVocabulary compares a tokenizer's number of ids with the rows of the embedding table.
func (e *textEncoder) checkVocabulary(tokenizer string, ids int) error {
	if ids > e.net.vocabulary {
		return fmt.Errorf("%s: %d tokens, but the encoder %s has %d: the parts belong to different models", tokenizer, ids, e.path, e.net.vocabulary)
	}
	return nil
}

// readT5 makes a network of a T5's config.json; the transformer reads embeddings of the width.
func readT5(width int) func([]byte, *Tensors) (textNetwork, error) {
	return func(config []byte, t *Tensors) (textNetwork, error) {
		cfg, err := decodeT5(config)
		if err != nil {
			return textNetwork{}, err
		}
		table := t5Shared
		if _, ok := t.Describe(t5Shared); !ok {
			table = t5Alias
		}
		return textNetwork{width: cfg.Width, vocabulary: cfg.Vocabulary, specs: cfg.specs(table), ignored: []string{t5Shared, t5Alias},
			compile: func(tokens int, dtype DType) (*program.Program, error) { return cfg.compile(1, tokens, dtype, table) },
			output:  ioHidden, counted: true, rows: func(tokens int) int { return tokens }}, checkWidth("d_model", cfg.Width, width)
	}
}

// encode returns the output for ids, rows x width.
func (e *textEncoder) encode(ctx context.Context, dev *ecad.Device, dtype DType, ids []int32, checkFinite bool) ([]float32, error) {
	if e.net.reads != nil {
		ids = e.net.reads(ids)
	}
	rows := e.net.rows(len(ids))
	if kept, ok := e.cache.load(ids, rows, e.net.width, dtype); ok {
		return kept, nil
	}
	p, err := e.program(dev, len(ids), dtype)
	if err != nil {
		return nil, err
	}
	items, err := p.Schedule(0)
	if err != nil {
		return nil, err
	}
	state, err := p.NewState()
	if err != nil {
		return nil, err
	}
	defer state.Close()
	if err := ecad.Write(state, ioInputIDs, ids); err != nil {
		return nil, err
	}
	if e.net.counted {
		if err := ecad.Write(state, ioCounts, []int32{int32(len(ids))}); err != nil {
			return nil, err
		}
	}
	if _, err := state.Run(ctx, p.Program, items, ecad.RunOptions{CheckFinite: checkFinite}); err != nil {
		return nil, explainFinite(err, checkFinite)
	}
	out, err := readFloats(state, p.Program, e.net.output)
	if err != nil {
		return nil, err
	}
	_ = e.cache.store(ids, rows, e.net.width, dtype, out) // without a cache the next call encodes again
	return out, nil
}

// program is the encoder for one length, compiled on first use.
func (e *textEncoder) program(dev *ecad.Device, tokens int, dtype DType) (*Loaded, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := encoderKey{dev, tokens, dtype}
	if p, ok := e.programs[key]; ok {
		return p, nil
	}
	compiled, err := e.net.compile(tokens, dtype)
	if err != nil {
		return nil, err
	}
	p, err := e.weights.Load(dev, compiled)
	if err == nil {
		e.programs[key] = p
	}
	return p, err
}

// Close releases programs and weights. The device stays open.
func (e *textEncoder) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, p := range e.programs {
		errs = append(errs, p.Close())
	}
	e.programs = map[encoderKey]*Loaded{}
	return errors.Join(append(errs, e.weights.Close())...)
}
