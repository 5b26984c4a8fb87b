package dit

import (
	"fmt"
	"math"
	"slices"

	"ecadx/dit/hfconfig"
	"ecadx/dit/program"
)

// CLIPConfig is the configuration of CLIP's text encoder (CLIPTextModel), with transformers' defaults.
type CLIPConfig struct {
	Width       int // hidden_size
	Heads       int
	FeedForward int // intermediate_size
	Layers      int
	Vocabulary  int
	Positions   int // tokens at most, begin and end included
	Eps         float64
	Activation  program.Act
	End         int32 // eos_token_id
}

type clipJSON struct {
	ModelType   string         `json:"model_type"`
	Width       int            `json:"hidden_size"`
	Heads       int            `json:"num_attention_heads"`
	FeedForward int            `json:"intermediate_size"`
	Layers      int            `json:"num_hidden_layers"`
	Vocabulary  int            `json:"vocab_size"`
	Positions   int            `json:"max_position_embeddings"`
	Eps         hfconfig.Float `json:"layer_norm_eps"`
	Activation  string         `json:"hidden_act"`
	End         int            `json:"eos_token_id"`
}

var clipActivations = map[string]program.Act{"quick_gelu": program.QuickGelu, "gelu": program.GeluErf}

// decodeCLIP reads the config.json of a CLIP text encoder. Errors name the key and how to fix it.
func decodeCLIP(data []byte) (*CLIPConfig, error) {
	j := clipJSON{ModelType: "clip_text_model", Width: 512, Heads: 8, FeedForward: 2048, Layers: 12, Vocabulary: 49408, Positions: 77, Eps: 1e-5,
		Activation: "quick_gelu", End: 49407}
	if err := hfconfig.Decode(data, &j); err != nil {
		return nil, err
	}
	if j.ModelType != "clip_text_model" {
		return nil, fmt.Errorf("key \"model_type\": %q is not supported: this text encoder must be a clip_text_model", j.ModelType)
	}
	act, ok := clipActivations[j.Activation]
	if !ok {
		return nil, fmt.Errorf("key \"hidden_act\": %q is not supported: quick_gelu and gelu are", j.Activation)
	}
	for _, r := range []within{
		{"hidden_size", j.Width, 1, 1 << 16}, {"num_attention_heads", j.Heads, 1, 1024}, {"intermediate_size", j.FeedForward, 1, 1 << 18},
		{"num_hidden_layers", j.Layers, 1, 256}, {"vocab_size", j.Vocabulary, 3, 1 << 22}, {"max_position_embeddings", j.Positions, 2, 1 << 14},
		{"eos_token_id", j.End, 0, j.Vocabulary - 1},
	} {
		if r.value < r.least || r.value > r.most {
			return nil, fmt.Errorf("key %q: %d is out of range: %d to %d", r.key, r.value, r.least, r.most)
		}
	}
	if j.Width%j.Heads != 0 || j.Width/j.Heads > 1024 {
		return nil, fmt.Errorf("key \"num_attention_heads\": %d heads of a width of %d: heads must divide it into at most 1024 each", j.Heads, j.Width)
	}
	if eps := float64(j.Eps); !(eps > 0 && eps <= 1) {
		return nil, fmt.Errorf("key \"layer_norm_eps\": %v is out of range: above 0, at most 1", eps)
	}
	return &CLIPConfig{Width: j.Width, Heads: j.Heads, FeedForward: j.FeedForward, Layers: j.Layers, Vocabulary: j.Vocabulary, Positions: j.Positions,
		Eps: float64(j.Eps), Activation: act, End: int32(j.End)}, nil
}

// legacyEnd is the end token's id in configurations written before transformers 4.31, whatever the vocabulary.
const legacyEnd = 2

// pooledAt is the position whose output is the pooled one: the first end token's; with the legacy id that of the first largest id, which the end
// token of the released vocabularies has. Without an end token it is 0. Source: transformers CLIPTextTransformer.forward.
func (c *CLIPConfig) pooledAt(ids []int32) int {
	if c.End == legacyEnd {
		return slices.Index(ids, slices.Max(ids))
	}
	return max(0, slices.Index(ids, c.End))
}

// clipPrefix begins the names of the tensors, but for files that transformers 5.24 and later write.
const clipPrefix = "text_model."

// specs lists the state dict; prefix is clipPrefix or nothing. Source: transformers CLIPTextModel.
func (c *CLIPConfig) specs(prefix string) []TensorSpec {
	var list []TensorSpec
	add := func(name string, shape ...int64) { list = append(list, TensorSpec{Name: prefix + name, Shape: shape}) }
	d, f := int64(c.Width), int64(c.FeedForward)
	linear := func(name string, out, in int64) {
		add(name+".weight", out, in)
		add(name+".bias", out)
	}
	norm := func(name string) {
		add(name+".weight", d)
		add(name+".bias", d)
	}
	add("embeddings.token_embedding.weight", int64(c.Vocabulary), d)
	add("embeddings.position_embedding.weight", int64(c.Positions), d)
	for i := range c.Layers {
		layer := fmt.Sprintf("encoder.layers.%d.", i)
		norm(layer + "layer_norm1")
		for _, p := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			linear(layer+"self_attn."+p, d, d)
		}
		norm(layer + "layer_norm2")
		linear(layer+"mlp.fc1", f, d)
		linear(layer+"mlp.fc2", d, f)
	}
	norm("final_layer_norm")
	return list
}

// ioPooled is the encoder's output: float [B, Width], the normalised output of the last token.
const ioPooled = "pooled"

// compile makes the encoder for batch rows of tokens that end with the pooled one: attention is causal, so no later token has a say. Its one
// schedule encodes input_ids to pooled.
func (c *CLIPConfig) compile(batch, tokens int, arithmetic DType, prefix string) (*program.Program, error) {
	b := program.NewBuilder(1)
	d, dtype, residual := c.Width, arithmetic.activation(), arithmetic.stream()
	ids := b.Persistent(ioInputIDs, program.Int32, batch, tokens)
	pooled := b.Persistent(ioPooled, residual, batch, 1, d)
	b.Input(ioInputIDs, ids)
	b.Output(ioPooled, pooled)

	b.Begin(program.Other, "encode")
	x := b.Embedding("token_embedding", ids, b.Weight(prefix+"embeddings.token_embedding.weight", c.Vocabulary, d), b.Activation(residual, batch, tokens, d))
	positions := b.Embedding("position_embedding", b.Int32s("positions", upTo(tokens), 1, tokens),
		b.Weight(prefix+"embeddings.position_embedding.weight", c.Positions, d), b.Activation(residual, 1, tokens, d))
	b.Add("positions", x, positions, x)
	norm := func(in program.Tensor, terms []program.Term, name string, out program.Tensor) program.Tensor {
		xOut := in
		if len(terms) == 0 {
			xOut = program.Tensor{}
		}
		b.Chain(name, program.ChainSpec{X: in, Terms: terms, Norm: program.LayerNorm, Eps: c.Eps,
			Weight: b.Weight(prefix+name+".weight", d), Bias: b.Weight(prefix+name+".bias", d)}, xOut, out)
		return out
	}
	normed := func() program.Tensor { return b.Activation(dtype, batch, tokens, d) }
	h := norm(x, nil, "encoder.layers.0.layer_norm1", normed())
	for i := range c.Layers {
		b.At(i, -1)
		layer := fmt.Sprintf("encoder.layers.%d.", i)
		linear := func(in program.Tensor, act program.Act, out, k int, names ...string) program.Tensor {
			spec := program.LinearSpec{X: []program.Tensor{in}, Act: act}
			for _, n := range names {
				spec.W = append(spec.W, b.Weight(prefix+layer+n+".weight", out, k))
				spec.B = append(spec.B, b.Weight(prefix+layer+n+".bias", out))
			}
			return b.Linear(names[0], spec, program.Tensor{})
		}
		qkv := linear(h, program.NoAct, d, d, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
		a := b.Attention("attention", program.AttentionSpec{Q: b.Slice(qkv, -1, 0, d), K: b.Slice(qkv, -1, d, 2*d), V: b.Slice(qkv, -1, 2*d, 3*d),
			Heads: c.Heads, HeadDim: d / c.Heads, Causal: true, Scale: 1 / math.Sqrt(float64(d/c.Heads))}, b.Activation(dtype, batch, tokens, d))
		h = norm(x, []program.Term{{S: linear(a, program.NoAct, d, d, "self_attn.out_proj")}}, layer+"layer_norm2", normed())
		f := linear(linear(h, c.Activation, c.FeedForward, d, "mlp.fc1"), program.NoAct, d, c.FeedForward, "mlp.fc2")
		if i+1 < c.Layers {
			h = norm(x, []program.Term{{S: f}}, fmt.Sprintf("encoder.layers.%d.layer_norm1", i+1), normed())
			continue
		}
		last := func(t program.Tensor) program.Tensor { return b.Slice(t, 1, tokens-1, tokens) }
		norm(last(x), []program.Term{{S: last(f)}}, "final_layer_norm", pooled)
	}
	b.Schedule("encode", []program.Item{{Section: b.End()}})
	return b.Finish()
}

// upTo is 0 to n-1.
func upTo(n int) []int32 {
	list := make([]int32, n)
	for i := range list {
		list[i] = int32(i)
	}
	return list
}

// readCLIP makes a network of a CLIP text encoder's config.json; the transformer reads pooled embeddings of the width.
func readCLIP(config []byte, t *Tensors, width int) (*CLIPConfig, textNetwork, error) {
	cfg, err := decodeCLIP(config)
	if err != nil {
		return nil, textNetwork{}, err
	}
	prefix := clipPrefix
	if _, ok := t.Describe(clipPrefix + "final_layer_norm.weight"); !ok {
		prefix = ""
	}
	return cfg, textNetwork{width: cfg.Width, vocabulary: cfg.Vocabulary, specs: cfg.specs(prefix), ignored: []string{prefix + "embeddings.position_ids"},
		compile: func(tokens int, dtype DType) (*program.Program, error) { return cfg.compile(1, tokens, dtype, prefix) },
		output:  ioPooled, rows: func(int) int { return 1 },
		reads: func(ids []int32) []int32 { return ids[:cfg.pooledAt(ids)+1] }}, checkWidth("hidden_size", cfg.Width, width)
}
