package dit

import (
	"encoding/json"
	"fmt"
	"math"

	"ecadx/dit/hfconfig"
	"ecadx/schedule"
)

// FluxConfig is the configuration of a FLUX.1 transformer. Source: diffusers FluxTransformer2DModel.__init__.
type FluxConfig struct {
	Heads        int
	HeadDim      int
	Layers       int // double-stream blocks
	SingleLayers int // single-stream blocks, after them
	InChannels   int // of a token: latent channels times fluxPatch^2
	OutChannels  int
	TextWidth    int // of the text embeddings
	PooledWidth  int // of the pooled text embedding
	Guidance     bool
	Axes         [3]int // of a head's dims, how many turn with the image's index, row and column
}

// fluxPatch is the height and width of the latents that the pipeline packs into a token. Source: FluxPipeline._pack_latents.
const fluxPatch = 2

// fluxJSON is transformer/config.json as diffusers writes it.
type fluxJSON struct {
	PatchSize    int   `json:"patch_size"`
	InChannels   int   `json:"in_channels"`
	OutChannels  *int  `json:"out_channels"`
	Layers       int   `json:"num_layers"`
	SingleLayers int   `json:"num_single_layers"`
	HeadDim      int   `json:"attention_head_dim"`
	Heads        int   `json:"num_attention_heads"`
	TextWidth    int   `json:"joint_attention_dim"`
	PooledWidth  int   `json:"pooled_projection_dim"`
	Guidance     bool  `json:"guidance_embeds"`
	Axes         []int `json:"axes_dims_rope"`
}

// decodeFlux reads transformer/config.json; keys that are missing have the class's defaults, which are the released sizes. Errors name the key
// and how to fix it.
func decodeFlux(data []byte) (*FluxConfig, error) {
	j := fluxJSON{PatchSize: 1, InChannels: 64, Layers: 19, SingleLayers: 38, HeadDim: 128, Heads: 24, TextWidth: 4096, PooledWidth: 768}
	var axes struct {
		Axes json.RawMessage `json:"axes_dims_rope"`
	}
	if err := hfconfig.Decode(data, &axes); err != nil {
		return nil, err
	}
	if err := hfconfig.Decode(data, &j); err != nil {
		return nil, err
	}
	if len(axes.Axes) == 0 || string(axes.Axes) == "null" {
		j.Axes = []int{16, 56, 56}
	}
	return j.config()
}

// config refuses what the class or the compiler cannot do.
func (j *fluxJSON) config() (*FluxConfig, error) {
	if j.OutChannels == nil || *j.OutChannels == 0 {
		j.OutChannels = ptr(j.InChannels)
	}
	if err := checkWithin([]within{
		{"patch_size", j.PatchSize, 1, 1}, {"num_attention_heads", j.Heads, 1, 256}, {"attention_head_dim", j.HeadDim, 2, 1024},
		{"num_layers", j.Layers, 0, schedule.MaxBlocks}, {"num_single_layers", j.SingleLayers, 0, schedule.MaxBlocks},
		{"in_channels", j.InChannels, 4, 1024}, {"out_channels", *j.OutChannels, 4, 2048},
		{"joint_attention_dim", j.TextWidth, 1, 1 << 16}, {"pooled_projection_dim", j.PooledWidth, 1, 1 << 16},
	}); err != nil {
		return nil, err
	}
	c := &FluxConfig{Heads: j.Heads, HeadDim: j.HeadDim, Layers: j.Layers, SingleLayers: j.SingleLayers, InChannels: j.InChannels, OutChannels: *j.OutChannels,
		TextWidth: j.TextWidth, PooledWidth: j.PooledWidth, Guidance: j.Guidance}
	total := 0
	for _, n := range j.Axes {
		if n < 2 || n > c.HeadDim || n%2 != 0 {
			return nil, fmt.Errorf("key \"axes_dims_rope\": %d is out of range: even numbers from 2 to attention_head_dim, %d", n, c.HeadDim)
		}
		total += n
	}
	const pack = fluxPatch * fluxPatch
	switch {
	case len(j.Axes) != len(c.Axes) || total != c.HeadDim:
		return nil, fmt.Errorf("key \"axes_dims_rope\": %d axes of %d dims in all: give %d whose sum is attention_head_dim, %d", len(j.Axes), total, len(c.Axes), c.HeadDim)
	case c.Width() > 1<<16:
		return nil, fmt.Errorf("key \"num_attention_heads\": %d heads of %d make a width of %d: at most 65536", c.Heads, c.HeadDim, c.Width())
	case c.InChannels%pack != 0:
		return nil, fmt.Errorf("key \"in_channels\": %d: a token is %d latents, so it must be a multiple of %d", c.InChannels, pack, pack)
	case c.OutChannels%pack != 0:
		return nil, fmt.Errorf("key \"out_channels\": %d: a token is %d latents, so it must be a multiple of %d", c.OutChannels, pack, pack)
	case c.Layers+c.SingleLayers == 0:
		return nil, fmt.Errorf("key \"num_layers\": 0, as num_single_layers: a model has at least one block")
	}
	copy(c.Axes[:], j.Axes)
	return c, nil
}

// Width returns C, the channels of a token: heads x head dim.
func (c *FluxConfig) Width() int { return c.Heads * c.HeadDim }

// position is a token's place on the three axes that heads turn by: index, row, column.
type position [3]int

// positions are those of the tokens: text is at 0 on every axis, an image token at its row and its column. Source: FluxPipeline._prepare_latent_image_ids.
func positions(text, rows, cols int) []position {
	list := make([]position, text, text+rows*cols)
	for i := range rows {
		for j := range cols {
			list = append(list, position{0, i, j})
		}
	}
	return list
}

// rope is the table [tokens, D] by which queries and keys turn: of pair m of a token the cosine at 2m, the sine at 2m+1. Angles are float64, rounded once.
// Source: FluxPosEmbed and get_1d_rotary_pos_embed.
func (c *FluxConfig) rope(tokens []position) []float32 {
	var turns [len(c.Axes)]map[int][]float32 // by place: cosine and sine of each pair
	for axis := range turns {
		turns[axis] = map[int][]float32{}
	}
	table := make([]float32, 0, len(tokens)*c.HeadDim)
	for _, at := range tokens {
		for axis, dims := range c.Axes {
			turn := turns[axis][at[axis]]
			for m := len(turn) / 2; m < dims/2; m++ {
				angle := float64(at[axis]) * (1 / math.Pow(10000, float64(2*m)/float64(dims)))
				turn = append(turn, float32(math.Cos(angle)), float32(math.Sin(angle)))
			}
			turns[axis][at[axis]] = turn
			table = append(table, turn...)
		}
	}
	return table
}

// noiseLevels are timesteps or guidance scales as the model embeds them: v/1000 (timesteps alone) times 1000, rounded by each operation as the arithmetic of
// diffusers' pipeline and model is. In bfloat16 guidance 3.5 becomes 3504.
func noiseLevels(d DType, perMille bool, values ...float64) []float32 {
	round := func(v float32) float32 { return v }
	if d == BFloat16 {
		round = roundBFloat16
	}
	out := make([]float32, len(values))
	for i, v := range values {
		x := round(float32(v))
		if perMille {
			x = round(x / 1000)
		}
		out[i] = round(x * 1000)
	}
	return out
}

// roundBFloat16 rounds a finite value to the nearest bfloat16, ties to even.
func roundBFloat16(v float32) float32 {
	b := math.Float32bits(v)
	return math.Float32frombits((b + 0x7FFF + b>>16&1) &^ 0xFFFF)
}

func (p *flux) check(g geometry) error {
	if g.height < fluxPatch || g.width < fluxPatch || g.height%fluxPatch != 0 || g.width%fluxPatch != 0 {
		return fmt.Errorf("latents of %d x %d: height and width must be multiples of %d, at least %d", g.height, g.width, fluxPatch, fluxPatch)
	}
	tokens := g.tokens + p.imageTokens(g.height, g.width)
	if tokens > maxTokens || tokens*p.cfg.HeadDim > maxPositions {
		return fmt.Errorf("latents of %d x %d make %d tokens with the text's %d: use at most %d", g.height, g.width, tokens, g.tokens, maxTokens)
	}
	if !(g.guidance >= 0 && g.guidance <= maxGuidance) {
		return fmt.Errorf("guidance %v: use 0 to %d", g.guidance, maxGuidance)
	}
	return nil
}

// maxGuidance bounds the scale that the model is told.
const maxGuidance = 1000

func (p *flux) imageTokens(height, width int) int { return height / fluxPatch * (width / fluxPatch) }
