package dit

import (
	"fmt"
	"math"

	"ecadx/dit/hfconfig"
	"ecadx/dit/program"
)

// T5Config is the configuration of a T5 v1.1 encoder (T5EncoderModel), with transformers' defaults.
type T5Config struct {
	Width       int // d_model
	HeadDim     int // d_kv
	Heads       int
	FeedForward int // d_ff
	Layers      int
	Vocabulary  int
	Buckets     int // relative_attention_num_buckets
	MaxDistance int // relative_attention_max_distance
	Eps         float64
	Activation  program.Act
}

type t5JSON struct {
	ModelType   string         `json:"model_type"`
	Width       int            `json:"d_model"`
	HeadDim     int            `json:"d_kv"`
	Heads       int            `json:"num_heads"`
	FeedForward int            `json:"d_ff"`
	Layers      int            `json:"num_layers"`
	Vocabulary  int            `json:"vocab_size"`
	Buckets     int            `json:"relative_attention_num_buckets"`
	MaxDistance int            `json:"relative_attention_max_distance"`
	Eps         hfconfig.Float `json:"layer_norm_epsilon"`
	Projection  string         `json:"feed_forward_proj"`
}

// decodeT5 reads text_encoder/config.json. Errors name the key and how to fix it.
func decodeT5(data []byte) (*T5Config, error) {
	j := t5JSON{ModelType: "t5", Width: 512, HeadDim: 64, Heads: 8, FeedForward: 2048, Layers: 6, Vocabulary: 32128, Buckets: 32,
		MaxDistance: 128, Eps: 1e-6, Projection: "relu"}
	if err := hfconfig.Decode(data, &j); err != nil {
		return nil, err
	}
	if j.ModelType != "t5" {
		return nil, fmt.Errorf("key \"model_type\": %q is not supported: the text encoder must be a t5", j.ModelType)
	}
	// transformers reads gated-gelu as the tanh form, for the sake of the first v1.1 checkpoints.
	if j.Projection != "gated-gelu" {
		return nil, fmt.Errorf("key \"feed_forward_proj\": %q is not supported: T5 v1.1 has \"gated-gelu\"", j.Projection)
	}
	for _, r := range []within{
		{"d_model", j.Width, 1, 1 << 16}, {"d_kv", j.HeadDim, 1, 1024}, {"num_heads", j.Heads, 1, 1024}, {"d_ff", j.FeedForward, 1, 1 << 18},
		{"num_layers", j.Layers, 1, 256}, {"vocab_size", j.Vocabulary, 3, 1 << 22}, {"relative_attention_num_buckets", j.Buckets, 4, 4096},
		{"relative_attention_max_distance", j.MaxDistance, j.Buckets / 4, 1 << 16},
	} {
		if r.value < r.least || r.value > r.most {
			return nil, fmt.Errorf("key %q: %d is out of range: %d to %d", r.key, r.value, r.least, r.most)
		}
	}
	if eps := float64(j.Eps); !(eps > 0 && eps <= 1) {
		return nil, fmt.Errorf("key \"layer_norm_epsilon\": %v is out of range: above 0, at most 1", eps)
	}
	return &T5Config{Width: j.Width, HeadDim: j.HeadDim, Heads: j.Heads, FeedForward: j.FeedForward, Layers: j.Layers, Vocabulary: j.Vocabulary,
		Buckets: j.Buckets, MaxDistance: j.MaxDistance, Eps: float64(j.Eps), Activation: program.GeluTanh}, nil
}

// The two names of the embedding table: transformers shares one tensor and saves it under the first.
const (
	t5Shared = "shared.weight"
	t5Alias  = "encoder.embed_tokens.weight"
)

func t5Key(layer int, name string) string {
	return fmt.Sprintf("encoder.block.%d.layer.%s", layer, name)
}

// specs lists the state dict. table is the name of the embedding table in this file. Source: transformers T5EncoderModel.
func (c *T5Config) specs(table string) []TensorSpec {
	d, inner, f := int64(c.Width), int64(c.Heads*c.HeadDim), int64(c.FeedForward)
	list := []TensorSpec{
		{Name: table, Shape: []int64{int64(c.Vocabulary), d}},
		{Name: t5Key(0, "0.SelfAttention.relative_attention_bias.weight"), Shape: []int64{int64(c.Buckets), int64(c.Heads)}},
	}
	for i := range c.Layers {
		for _, p := range []string{"q", "k", "v"} {
			list = append(list, TensorSpec{Name: t5Key(i, "0.SelfAttention."+p+".weight"), Shape: []int64{inner, d}})
		}
		list = append(list,
			TensorSpec{Name: t5Key(i, "0.SelfAttention.o.weight"), Shape: []int64{d, inner}},
			TensorSpec{Name: t5Key(i, "0.layer_norm.weight"), Shape: []int64{d}},
			TensorSpec{Name: t5Key(i, "1.layer_norm.weight"), Shape: []int64{d}},
			TensorSpec{Name: t5Key(i, "1.DenseReluDense.wi_0.weight"), Shape: []int64{f, d}},
			TensorSpec{Name: t5Key(i, "1.DenseReluDense.wi_1.weight"), Shape: []int64{f, d}},
			TensorSpec{Name: t5Key(i, "1.DenseReluDense.wo.weight"), Shape: []int64{d, f}})
	}
	return append(list, TensorSpec{Name: "encoder.final_layer_norm.weight", Shape: []int64{d}})
}

// bucket is the row of the relative position table for a key at distance rel from its query: exact for near ones, then logarithmic.
// The logarithm is float32 as in transformers T5Attention._relative_position_bucket (bidirectional).
func (c *T5Config) bucket(rel int) int32 {
	half := c.Buckets / 2
	exact := half / 2
	base, a := 0, rel
	if rel > 0 {
		base = half
	} else {
		a = -rel
	}
	if a < exact {
		return int32(base + a)
	}
	ratio := float32(math.Log(float64(float32(a)/float32(exact)))) / float32(math.Log(float64(c.MaxDistance)/float64(exact)))
	return int32(base + min(half-1, exact+int(ratio*float32(half-exact))))
}

// Names of the encoder's ios.
const (
	ioInputIDs = "input_ids"     // int32 [B,L]
	ioCounts   = "token_counts"  // int32 [B]: tokens of each row that count, from the start
	ioHidden   = "hidden_states" // stream dtype [B,L,Width]; rows after the count are undefined
)

// compile makes the encoder for batch rows of L tokens. The result's one schedule encodes. Keys after a row's count have no
// weight, so padding changes nothing. table: see specs.
func (c *T5Config) compile(batch, tokens int, arithmetic DType, table string) (*program.Program, error) {
	b := program.NewBuilder(1)
	d, inner := c.Width, c.Heads*c.HeadDim
	dtype, residual := arithmetic.activation(), arithmetic.stream()
	ids, counts := b.Persistent(ioInputIDs, program.Int32, batch, tokens), b.Persistent(ioCounts, program.Int32, batch)
	hidden := b.Persistent(ioHidden, residual, batch, tokens, d)
	b.Input(ioInputIDs, ids)
	b.Input(ioCounts, counts)
	b.Output(ioHidden, hidden)

	b.Begin(program.Other, "encode")
	bias := c.bias(b, tokens, residual)
	x := b.Embedding("embed_tokens", ids, b.Weight(table, c.Vocabulary, d), b.Activation(residual, batch, tokens, d))
	norm := func(name string, terms []program.Term, weight string, out program.Tensor) program.Tensor {
		spec := program.ChainSpec{X: x, Terms: terms, Norm: program.RMSNorm, Eps: c.Eps, Weight: b.Weight(weight, d)}
		xOut := x
		if len(terms) == 0 {
			xOut = program.Tensor{}
		}
		b.Chain(name, spec, xOut, out)
		return out
	}
	h := norm("norm", nil, t5Key(0, "0.layer_norm.weight"), b.Activation(dtype, batch, tokens, d))
	for i := range c.Layers {
		b.At(i, -1)
		w := func(name string, n, k int) program.Tensor { return b.Weight(t5Key(i, name+".weight"), n, k) }
		qkv := b.Linear("qkv", program.LinearSpec{X: []program.Tensor{h}, W: []program.Tensor{
			w("0.SelfAttention.q", inner, d), w("0.SelfAttention.k", inner, d), w("0.SelfAttention.v", inner, d)}}, program.Tensor{})
		// T5 folds the scale into its initialisation: scores are not divided.
		a := b.Attention("attention", program.AttentionSpec{
			Q: b.Slice(qkv, -1, 0, inner), K: b.Slice(qkv, -1, inner, 2*inner), V: b.Slice(qkv, -1, 2*inner, 3*inner),
			Counts: counts, Bias: bias, Heads: c.Heads, HeadDim: c.HeadDim, Scale: 1,
		}, b.Activation(dtype, batch, tokens, inner))
		o := b.Linear("o", program.LinearSpec{X: []program.Tensor{a}, W: []program.Tensor{w("0.SelfAttention.o", d, inner)}}, program.Tensor{})
		h = norm("add+norm", []program.Term{{S: o}}, t5Key(i, "1.layer_norm.weight"), b.Activation(dtype, batch, tokens, d))
		g := b.GatedLinear("wi", c.Activation, h, w("1.DenseReluDense.wi_0", c.FeedForward, d), w("1.DenseReluDense.wi_1", c.FeedForward, d), program.Tensor{})
		f := b.Linear("wo", program.LinearSpec{X: []program.Tensor{g}, W: []program.Tensor{w("1.DenseReluDense.wo", d, c.FeedForward)}}, program.Tensor{})
		if i+1 < c.Layers {
			h = norm("add+norm", []program.Term{{S: f}}, t5Key(i+1, "0.layer_norm.weight"), b.Activation(dtype, batch, tokens, d))
		} else {
			norm("add+norm", []program.Term{{S: f}}, "encoder.final_layer_norm.weight", hidden)
		}
	}
	encode := b.End()
	b.Schedule("encode", []program.Item{{Section: encode}})
	return b.Finish()
}

// bias is the relative position bias [H,L,L] that all layers share.
func (c *T5Config) bias(b *program.Builder, tokens int, dtype program.DType) program.Tensor {
	buckets := make([]int32, 0, tokens*tokens)
	for q := range tokens {
		for k := range tokens {
			buckets = append(buckets, c.bucket(k-q))
		}
	}
	rows := b.Embedding("relative_position", b.Int32s("buckets", buckets, tokens*tokens),
		b.Weight(t5Key(0, "0.SelfAttention.relative_attention_bias.weight"), c.Buckets, c.Heads), b.Activation(dtype, tokens*tokens, c.Heads))
	bias := b.Permute("relative_bias", b.Reshape(rows, 1, tokens, tokens, c.Heads), [4]int{0, 3, 1, 2}, program.Tensor{})
	return b.Reshape(bias, c.Heads, tokens, tokens)
}
