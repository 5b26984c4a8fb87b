package dit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	ecad "ecadx/cgo"
	"ecadx/dit/caption"
	"ecadx/dit/hfconfig"
	"ecadx/dit/tokenizer"
)

// maxVocabularyFile bounds tokenizer/spiece.model; T5's has 0.8 MB.
const maxVocabularyFile = 64 << 20

// PromptEncoder turns captions into Prompts with the T5 encoder and tokenizer of a snapshot. Safe for concurrent use; prompts are encoded one
// by one, so that an embedding never depends on its neighbours.
type PromptEncoder struct {
	CheckFinite bool // see PipelineConfig; set before use

	cfg     *T5Config
	path    string
	words   *tokenizer.Unigram
	limit   int // tokens, end of sequence included
	table   string
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

// OpenPromptEncoder opens the model's text encoder and tokenizer. A model without one (random models, a bare transformer) is an error that says
// what is missing.
func (m *Model) OpenPromptEncoder() (*PromptEncoder, error) {
	s := m.Snapshot()
	if s == nil {
		return nil, fmt.Errorf("%s: this model has no text encoder: use a snapshot, or ecadx denoise with embeddings", m.Ref())
	}
	config, err := s.ReadFile(TextEncoder, configFile, hfconfig.MaxSize)
	if err != nil {
		return nil, err
	}
	e := &PromptEncoder{path: s.Folder(TextEncoder).Path(""), limit: m.Defaults().TextTokens, programs: map[encoderKey]*Loaded{}}
	if e.cfg, err = decodeT5(config); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Folder(TextEncoder).Path(configFile), err)
	}
	if want := m.Defaults().TextWidth; e.cfg.Width != want {
		return nil, fmt.Errorf("%s: key \"d_model\": the encoder's width is %d, the transformer wants %d: the parts belong to different models",
			s.Folder(TextEncoder).Path(configFile), e.cfg.Width, want)
	}
	vocabulary, err := s.ReadFile(Tokenizer, "spiece.model", maxVocabularyFile)
	if err != nil {
		return nil, err
	}
	if e.words, err = tokenizer.New(vocabulary); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Folder(Tokenizer).Path("spiece.model"), err)
	}
	if n := e.words.VocabSize(); n > e.cfg.Vocabulary {
		return nil, fmt.Errorf("%s: %d pieces, but the encoder has %d: the parts belong to different models", s.Folder(Tokenizer).Path("spiece.model"), n, e.cfg.Vocabulary)
	}
	t, err := s.OpenTensors(TextEncoder)
	if err != nil {
		return nil, err
	}
	e.table = t5Shared
	if _, ok := t.Describe(t5Shared); !ok {
		e.table = t5Alias
	}
	if err := t.verify(e.cfg.specs(e.table), t5Shared, t5Alias).Err(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	e.weights, e.cache = NewWeights(t), newEmbeddingCache(t, config)
	return e, nil
}

// Tokenize cleans a prompt as the PixArt pipelines do (lower case, no outer spaces) and returns its ids, cut to the model's limit, end of
// sequence included.
func (e *PromptEncoder) Tokenize(prompt string) ([]int32, error) {
	return e.words.EncodeT5(caption.Clean(prompt), e.limit)
}

// Cut tells how many tokens of the prompt do not fit, 0 when all do.
func (e *PromptEncoder) Cut(prompt string) int {
	return max(0, len(e.words.Encode(caption.Clean(prompt)))+1-e.limit)
}

// Encode encodes prompts on the device. Equal prompts are encoded once. The arithmetic is that of dtype; embeddings are float32.
func (e *PromptEncoder) Encode(ctx context.Context, dev *ecad.Device, dtype DType, prompts []string) ([]Prompt, error) {
	out := make([]Prompt, len(prompts))
	known := map[string]int{}
	for i, prompt := range prompts {
		if j, ok := known[caption.Clean(prompt)]; ok {
			out[i] = out[j]
			continue
		}
		known[caption.Clean(prompt)] = i
		ids, err := e.Tokenize(prompt)
		if err == nil {
			out[i], err = e.encode(ctx, dev, dtype, ids)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: prompt %q: %w", e.path, short(prompt), err)
		}
	}
	return out, nil
}

func short(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return s
}

func (e *PromptEncoder) encode(ctx context.Context, dev *ecad.Device, dtype DType, ids []int32) (Prompt, error) {
	if kept, ok := e.cache.load(ids, e.cfg.Width, dtype); ok {
		return kept, nil
	}
	p, err := e.program(dev, len(ids), dtype)
	if err != nil {
		return Prompt{}, err
	}
	items, err := p.Schedule(0)
	if err != nil {
		return Prompt{}, err
	}
	state, err := p.NewState()
	if err != nil {
		return Prompt{}, err
	}
	defer state.Close()
	if err := errors.Join(ecad.Write(state, ioInputIDs, ids), ecad.Write(state, ioCounts, []int32{int32(len(ids))})); err != nil {
		return Prompt{}, err
	}
	if _, err := state.Run(ctx, p.Program, items, ecad.RunOptions{CheckFinite: e.CheckFinite}); err != nil {
		return Prompt{}, explainFinite(err, e.CheckFinite)
	}
	hidden, err := readFloats(state, p.Program, ioHidden)
	if err != nil {
		return Prompt{}, err
	}
	out := Prompt{Tokens: len(ids), Embeds: hidden}
	_ = e.cache.store(ids, e.cfg.Width, dtype, out) // without a cache the next call encodes again
	return out, nil
}

// program is the encoder for one length, compiled on first use.
func (e *PromptEncoder) program(dev *ecad.Device, tokens int, dtype DType) (*Loaded, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := encoderKey{dev, tokens, dtype}
	if p, ok := e.programs[key]; ok {
		return p, nil
	}
	compiled, err := e.cfg.compile(1, tokens, dtype, e.table)
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
func (e *PromptEncoder) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, p := range e.programs {
		errs = append(errs, p.Close())
	}
	e.programs = map[encoderKey]*Loaded{}
	return errors.Join(append(errs, e.weights.Close())...)
}
