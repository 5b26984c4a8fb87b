package dit

import (
	"encoding/json"
	"fmt"
	"math"

	"ecadx/dit/hfconfig"
	"ecadx/dit/program"
	"ecadx/schedule"
)

// PixArtConfig is the configuration of a PixArt transformer with the derived rules applied. Source: diffusers
// PixArtTransformer2DModel.__init__ and BasicTransformerBlock (norm_type "ada_norm_single").
type PixArtConfig struct {
	Heads             int
	HeadDim           int
	Layers            int
	InChannels        int
	OutChannels       int // twice InChannels when the model also predicts a variance, which is not used
	PatchSize         int
	SampleSize        int // native latent height and width
	CaptionChannels   int // width of the text embeddings
	CaptionProjection bool
	CrossWidth        int // width of what cross-attention's keys and values read
	AttentionBias     bool
	NormAffine        bool
	NormEps           float64
	Activation        program.Act
	Interpolation     float64 // of the position table
	MicroConditioned  bool    // conditioned on resolution and aspect ratio
}

// pixartJSON is transformer/config.json as diffusers writes it. Pointers tell null from a value.
type pixartJSON struct {
	Heads             int             `json:"num_attention_heads"`
	HeadDim           int             `json:"attention_head_dim"`
	InChannels        int             `json:"in_channels"`
	OutChannels       *int            `json:"out_channels"`
	Layers            int             `json:"num_layers"`
	CrossAttentionDim *int            `json:"cross_attention_dim"`
	AttentionBias     bool            `json:"attention_bias"`
	SampleSize        int             `json:"sample_size"`
	PatchSize         int             `json:"patch_size"`
	Activation        string          `json:"activation_fn"`
	AdaNormEmbeds     *int            `json:"num_embeds_ada_norm"`
	NormType          string          `json:"norm_type"`
	NormAffine        bool            `json:"norm_elementwise_affine"`
	NormEps           hfconfig.Float  `json:"norm_eps"`
	Interpolation     *hfconfig.Float `json:"interpolation_scale"`
	Conditions        *bool           `json:"use_additional_conditions"`
	CaptionChannels   *int            `json:"caption_channels"`
	AttentionType     *string         `json:"attention_type"`
}

// defaultPixArtJSON holds the defaults of the class, for keys that a file leaves out.
func defaultPixArtJSON() pixartJSON {
	return pixartJSON{Heads: 16, HeadDim: 72, InChannels: 4, OutChannels: ptr(8), Layers: 28, CrossAttentionDim: ptr(1152), AttentionBias: true,
		SampleSize: 128, PatchSize: 2, Activation: "gelu-approximate", AdaNormEmbeds: ptr(1000), NormType: "ada_norm_single", NormEps: 1e-6}
}

// decodePixArt reads transformer/config.json. Errors name the key and how to fix it.
func decodePixArt(data []byte) (*PixArtConfig, error) {
	j := defaultPixArtJSON()
	// A null must override the default of the keys whose null has a meaning.
	nulls := map[string]json.RawMessage{}
	if err := hfconfig.Decode(data, &nulls); err != nil {
		return nil, err
	}
	for key, field := range map[string]**int{"out_channels": &j.OutChannels, "cross_attention_dim": &j.CrossAttentionDim, "num_embeds_ada_norm": &j.AdaNormEmbeds} {
		if v, there := nulls[key]; there && string(v) == "null" {
			*field = nil
		}
	}
	if err := hfconfig.Decode(data, &j); err != nil {
		return nil, err
	}
	return j.config()
}

// config applies the derived rules and refuses what the compiler cannot do.
func (j *pixartJSON) config() (*PixArtConfig, error) {
	if j.NormType != "ada_norm_single" || j.AdaNormEmbeds == nil {
		return nil, fmt.Errorf("key \"norm_type\": %q (num_embeds_ada_norm %s): PixArt has ada_norm_single and a number", j.NormType, optional(j.AdaNormEmbeds))
	}
	if j.AttentionType != nil && *j.AttentionType != "default" {
		return nil, fmt.Errorf("key \"attention_type\": %q is not supported: PixArt has \"default\"", *j.AttentionType)
	}
	act, ok := map[string]program.Act{"gelu-approximate": program.GeluTanh, "gelu": program.GeluErf, "linear-silu": program.SiLU}[j.Activation]
	if !ok {
		return nil, fmt.Errorf("key \"activation_fn\": %q is not supported: gelu-approximate, gelu and linear-silu are", j.Activation)
	}
	if j.CrossAttentionDim == nil {
		return nil, fmt.Errorf("key \"cross_attention_dim\": null is not supported: PixArt blocks have cross-attention")
	}
	if j.OutChannels == nil {
		j.OutChannels = ptr(j.InChannels)
	}
	if err := checkWithin([]within{
		{"num_attention_heads", j.Heads, 1, 256}, {"attention_head_dim", j.HeadDim, 1, 1024}, {"num_layers", j.Layers, 1, schedule.MaxBlocks},
		{"in_channels", j.InChannels, 1, 256}, {"out_channels", *j.OutChannels, 1, 512}, {"patch_size", j.PatchSize, 1, 64},
		{"sample_size", j.SampleSize, j.PatchSize, 1 << 14}, {"cross_attention_dim", *j.CrossAttentionDim, 1, 1 << 16},
	}); err != nil {
		return nil, err
	}
	c := &PixArtConfig{Heads: j.Heads, HeadDim: j.HeadDim, Layers: j.Layers, InChannels: j.InChannels, OutChannels: *j.OutChannels,
		PatchSize: j.PatchSize, SampleSize: j.SampleSize, CrossWidth: *j.CrossAttentionDim, CaptionChannels: *j.CrossAttentionDim,
		AttentionBias: j.AttentionBias, NormAffine: j.NormAffine, NormEps: float64(j.NormEps), Activation: act,
		Interpolation: float64(max(j.SampleSize/64, 1)), MicroConditioned: j.SampleSize == 128}
	if j.Interpolation != nil {
		c.Interpolation = float64(*j.Interpolation)
	}
	if j.Conditions != nil {
		c.MicroConditioned = *j.Conditions
	}
	if j.CaptionChannels != nil {
		c.CaptionProjection, c.CaptionChannels = true, *j.CaptionChannels
	}
	return c, c.check()
}

func optional(v *int) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprint(*v)
}

// check refuses combinations of keys that the class cannot have either.
func (c *PixArtConfig) check() error {
	width := c.Width()
	switch {
	case width > 1<<16 || width%4 != 0:
		return fmt.Errorf("key \"num_attention_heads\": %d heads of %d make a width of %d: it must be a multiple of 4 and at most 65536", c.Heads, c.HeadDim, width)
	case c.MicroConditioned && width%3 != 0:
		return fmt.Errorf("key \"use_additional_conditions\": resolution and aspect ratio need a width that is a multiple of 3, not %d", width)
	case c.CaptionChannels < 1 || c.CaptionChannels > 1<<16:
		return fmt.Errorf("key \"caption_channels\": %d is out of range: 1 to 65536", c.CaptionChannels)
	case c.CaptionProjection && c.CrossWidth != width:
		return fmt.Errorf("key \"cross_attention_dim\": %d, but caption_channels projects the text to the width %d: both must agree", c.CrossWidth, width)
	case !(c.NormEps > 0 && c.NormEps <= 1):
		return fmt.Errorf("key \"norm_eps\": %v is out of range: above 0, at most 1", c.NormEps)
	case !(c.Interpolation > 0 && c.Interpolation <= 1024):
		return fmt.Errorf("key \"interpolation_scale\": %v is out of range: above 0, at most 1024", c.Interpolation)
	}
	return nil
}

// Width returns C, the channels of a token: heads x head dim.
func (c *PixArtConfig) Width() int { return c.Heads * c.HeadDim }

// positions returns the position table [N, C] for a latent of h x w: sines and cosines of the column in the first half, of
// the row in the second. Coordinates are float32 with two divisions, frequencies and angles float64, the result is rounded
// once. Source: diffusers get_2d_sincos_pos_embed and PatchEmbed.forward.
func (c *PixArtConfig) positions(h, w int) []float32 {
	width, base := c.Width(), float64(c.SampleSize/c.PatchSize)
	rows, cols := h/c.PatchSize, w/c.PatchSize
	quarter := width / 4
	axis := func(n int) [][]float32 { // [position][sin | cos]
		table := make([][]float32, n)
		for i := range table {
			table[i] = make([]float32, 2*quarter)
			at := float32(float32(i)/float32(float64(n)/base)) / float32(c.Interpolation)
			for k := range quarter {
				omega := 1 / math.Pow(10000, float64(k)/float64(quarter))
				table[i][k] = float32(math.Sin(float64(at) * omega))
				table[i][quarter+k] = float32(math.Cos(float64(at) * omega))
			}
		}
		return table
	}
	xs, ys := axis(cols), axis(rows)
	table := make([]float32, 0, rows*cols*width)
	for _, y := range ys {
		for _, x := range xs {
			table = append(append(table, x...), y...)
		}
	}
	return table
}
