package dit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	ecad "ecadx/cgo"
	"ecadx/dit/caption"
	"ecadx/dit/hfconfig"
	"ecadx/dit/tokenizer"
)

// maxVocabularyFile bounds a tokenizer's file; T5's spiece.model has 0.8 MB, a CLIP's tokenizer.json 2.2 MB.
const maxVocabularyFile = 64 << 20

// maxTokenizerConfig bounds tokenizer_config.json, which lists T5's hundred extra tokens in 21 kB.
const maxTokenizerConfig = 256 << 10

// The files of tokenizers.
const (
	spieceFile          = "spiece.model"
	vocabFile           = "vocab.json"
	mergesFile          = "merges.txt"
	tokenizerFile       = "tokenizer.json"
	tokenizerConfigFile = "tokenizer_config.json"
)

// PromptEncoder turns captions into Prompts with the text encoders and tokenizers of a snapshot: T5 for the embeddings, CLIP for the pooled
// embedding of models that take one. Safe for concurrent use; prompts are encoded one by one, so that an embedding never depends on its
// neighbours.
type PromptEncoder struct {
	CheckFinite bool // see PipelineConfig; set before use

	path   string
	clean  func(string) string
	words  *tokenizer.Unigram
	limit  int  // tokens of T5, end of sequence included
	padded bool // T5 reads as many, padding included
	t5     *textEncoder

	pairs      *tokenizer.BPE // nil, as clip, for models without a pooled embedding
	pooledFrom int            // tokens of CLIP, begin and end included
	clip       *textEncoder
}

// HasText tells whether the model's snapshot has all text encoders and tokenizers that its prompts take.
func (m *Model) HasText() bool {
	s := m.Snapshot()
	for _, part := range m.Parts() {
		switch part {
		case TextEncoder, TextEncoder2:
			if s == nil || !s.Has(part, configFile) {
				return false
			}
		case Tokenizer, Tokenizer2:
			if s == nil || !s.Has(part, spieceFile) && !s.Has(part, vocabFile) && !s.Has(part, tokenizerFile) {
				return false
			}
		}
	}
	return true
}

// OpenPromptEncoder opens the model's text encoders and tokenizers. A model without them (random models, a bare transformer) is an error that
// says what is missing.
func (m *Model) OpenPromptEncoder() (*PromptEncoder, error) {
	s := m.Snapshot()
	if s == nil {
		return nil, fmt.Errorf("%s: this model has no text encoder: use a snapshot, or ecadx denoise with embeddings", m.Ref())
	}
	d := m.Defaults()
	e := &PromptEncoder{path: s.Path(), limit: d.TextTokens, padded: d.Unmasked, clean: caption.Clean}
	encoder, words := TextEncoder, Tokenizer
	if d.PooledWidth > 0 { // as in FLUX's pipeline, which takes prompts as they are
		encoder, words, e.clean = TextEncoder2, Tokenizer2, func(prompt string) string { return prompt }
		if err := e.openCLIP(s, d.PooledWidth); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	if err := e.openT5(s, encoder, words, d.TextWidth); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *PromptEncoder) openT5(s *Snapshot, encoder, words Part, width int) (err error) {
	if e.t5, err = openTextEncoder(s, encoder, readT5(width)); err != nil {
		return err
	}
	vocabulary, err := s.ReadFile(words, spieceFile, maxVocabularyFile)
	if err != nil {
		return err
	}
	where := s.Folder(words).Path(spieceFile)
	if e.words, err = tokenizer.New(vocabulary); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return e.t5.checkVocabulary(where, e.words.VocabSize())
}

func (e *PromptEncoder) openCLIP(s *Snapshot, width int) (err error) {
	var cfg *CLIPConfig
	if e.clip, err = openTextEncoder(s, TextEncoder, func(config []byte, t *Tensors) (net textNetwork, err error) {
		cfg, net, err = readCLIP(config, t, width)
		return net, err
	}); err != nil {
		return err
	}
	if e.pairs, err = openBPE(s, Tokenizer); err != nil {
		return err
	}
	own, err := s.tokenizerLength(Tokenizer, cfg.Positions)
	if err != nil {
		return err
	}
	e.pooledFrom = min(cfg.Positions, own)
	return e.clip.checkVocabulary(s.Folder(Tokenizer).Path(""), e.pairs.VocabSize())
}

// openBPE reads vocab.json and merges.txt, or tokenizer.json where they are missing.
func openBPE(s *Snapshot, part Part) (*tokenizer.BPE, error) {
	where := s.Folder(part).Path("")
	if !s.Has(part, vocabFile) && s.Has(part, tokenizerFile) {
		data, err := s.ReadFile(part, tokenizerFile, maxVocabularyFile)
		if err != nil {
			return nil, err
		}
		b, err := tokenizer.NewBPEFromJSON(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		return b, nil
	}
	vocab, err := s.ReadFile(part, vocabFile, maxVocabularyFile)
	if err != nil {
		return nil, err
	}
	merges, err := s.ReadFile(part, mergesFile, maxVocabularyFile)
	if err != nil {
		return nil, err
	}
	b, err := tokenizer.NewBPE(vocab, merges)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return b, nil
}

// tokenizerLength is the model_max_length of a tokenizer, or otherwise where the file or the key is missing, or the value is larger than any limit, as
// transformers' mark for none (1e30) is.
func (s *Snapshot) tokenizerLength(part Part, otherwise int) (int, error) {
	if !s.Has(part, tokenizerConfigFile) {
		return otherwise, nil
	}
	var config struct {
		Length *float64 `json:"model_max_length"`
	}
	data, err := s.ReadFile(part, tokenizerConfigFile, maxTokenizerConfig)
	if err != nil {
		return 0, err
	}
	where := s.Folder(part).Path(tokenizerConfigFile)
	if err := hfconfig.Decode(data, &config); err != nil {
		return 0, fmt.Errorf("%s: %w", where, err)
	}
	switch n := config.Length; {
	case n == nil || *n > maxRows:
		return otherwise, nil
	case *n < 2 || *n != math.Trunc(*n):
		return 0, fmt.Errorf("%s: key \"model_max_length\": %g is out of range: a whole number from 2 up", where, *n)
	default:
		return int(*n), nil
	}
}

// Tokenize cleans a prompt as the model's pipeline does (PixArt: lower case, no outer spaces) and returns its ids for T5, cut to the model's limit, end
// of sequence included, padding not.
func (e *PromptEncoder) Tokenize(prompt string) ([]int32, error) {
	return e.words.EncodeT5(e.clean(prompt), e.limit)
}

// Cut tells how many tokens of the prompt do not fit into T5, 0 when all do.
func (e *PromptEncoder) Cut(prompt string) int {
	return max(0, len(e.words.Encode(e.clean(prompt)))+1-e.limit)
}

// Encode encodes prompts on the device. Equal prompts are encoded once. The arithmetic is that of dtype; embeddings are float32.
func (e *PromptEncoder) Encode(ctx context.Context, dev *ecad.Device, dtype DType, prompts []string) ([]Prompt, error) {
	out := make([]Prompt, len(prompts))
	known := map[string]int{}
	for i, prompt := range prompts {
		text := e.clean(prompt)
		if j, ok := known[text]; ok {
			out[i] = out[j]
			continue
		}
		known[text] = i
		var err error
		if out[i], err = e.encode(ctx, dev, dtype, text); err != nil {
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

// padID is the id of T5's padding token, whose output FLUX reads.
const padID = 0

func (e *PromptEncoder) encode(ctx context.Context, dev *ecad.Device, dtype DType, text string) (p Prompt, err error) {
	ids, err := e.words.EncodeT5(text, e.limit)
	if err != nil {
		return p, err
	}
	if e.padded {
		ids = append(ids, slices.Repeat([]int32{padID}, e.limit-len(ids))...)
	}
	p.Tokens = len(ids)
	if p.Embeds, err = e.t5.encode(ctx, dev, dtype, ids, e.CheckFinite); err != nil || e.clip == nil {
		return p, err
	}
	if ids, err = e.pairs.EncodeCLIP(text, e.pooledFrom); err == nil {
		p.Pooled, err = e.clip.encode(ctx, dev, dtype, ids, e.CheckFinite)
	}
	return p, err
}

// Close releases programs and weights. The device stays open.
func (e *PromptEncoder) Close() error {
	var errs []error
	for _, t := range []*textEncoder{e.t5, e.clip} {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	return errors.Join(errs...)
}
