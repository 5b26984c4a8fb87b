package schedule

import (
	"errors"
	"fmt"
)

// ErrDims is wrapped by errors about dimensions that no model has.
var ErrDims = errors.New("ecadx/schedule: wrong dimensions")

// Dims are the sizes that decide how much arithmetic one call of a transformer
// takes. [ECADDims] gives those of the released models. The numbers of blocks
// come from the schedule.
type Dims struct {
	Family      Family
	Width       int // channels of the residual stream (heads x head dimension)
	ImageTokens int // image tokens per row of the batch
	TextTokens  int // text tokens per row of the batch, padding included
	BatchRows   int // rows of the batch; guidance with a second pass counts 2 per image
	FFRatio     int // width of the feed-forward over Width: 4 in all released models

	InChannels       int // channels of the latents; FLUX: of a packed 2x2 patch, 64
	OutChannels      int // channels predicted: PixArt 8 with the variance; FLUX 64
	Patch            int // edge of a patch in latent pixels; FLUX: 1, latents come packed
	TextWidth        int // width of the text encoder's output; PixArt: 0 if there is no caption projection
	TimestepChannels int // width of the sinusoidal embedding: 256

	CrossWidth      int  // PixArt: width of what cross-attention reads; 0 means Width
	MicroConditions bool // PixArt: embeds resolution and aspect ratio (alpha 1024-MS)
	PooledWidth     int  // FLUX: width of the pooled text embedding, 768
	GuidanceEmbed   bool // FLUX: embeds the guidance scale (dev)
}

// ECADDims returns the sizes under which ECAD counts a model's work at a
// resolution in pixels (a multiple of 16 each way). For PixArt: two rows
// (guidance) and 120 text tokens, for Sigma too, which really has 300; at 1024
// x 1024 the 1024-MS model with its micro-conditions. For FLUX.1-dev: two rows
// as well, although it needs one, and 512 text tokens. Change the fields to
// count something else.
func ECADDims(family Family, height, width int) (Dims, error) {
	if height < 16 || width < 16 || height%16 != 0 || width%16 != 0 || height > 1<<16 || width > 1<<16 {
		return Dims{}, fmt.Errorf("%w: resolution %dx%d: use multiples of 16 up to %d", ErrDims, height, width, 1<<16)
	}
	d := Dims{
		Family: family, ImageTokens: height / 16 * (width / 16), BatchRows: 2, FFRatio: 4,
		TextWidth: 4096, TimestepChannels: 256,
	}
	switch family {
	case PixArt:
		d.Width, d.TextTokens = 1152, 120
		d.InChannels, d.OutChannels, d.Patch = 4, 8, 2
		d.MicroConditions = height == 1024 && width == 1024
	case Flux:
		d.Width, d.TextTokens = 3072, 512
		d.InChannels, d.OutChannels, d.Patch = 64, 64, 1
		d.PooledWidth, d.GuidanceEmbed = 768, true
	default:
		return Dims{}, fmt.Errorf("%w: unknown %v: use PixArt or Flux", ErrDims, family)
	}
	return d, nil
}

// Validate reports sizes that no model has, wrapping [ErrDims].
func (d Dims) Validate() error {
	if d.Family != PixArt && d.Family != Flux {
		return fmt.Errorf("%w: unknown %v: use PixArt or Flux", ErrDims, d.Family)
	}
	for _, f := range []struct {
		name   string
		n, min int
	}{
		{"width", d.Width, 1}, {"image tokens", d.ImageTokens, 1}, {"text tokens", d.TextTokens, 0},
		{"batch rows", d.BatchRows, 1}, {"feed-forward ratio", d.FFRatio, 1},
		{"input channels", d.InChannels, 1}, {"output channels", d.OutChannels, 1}, {"patch", d.Patch, 1},
		{"text width", d.TextWidth, 0}, {"timestep channels", d.TimestepChannels, 0},
		{"cross-attention width", d.CrossWidth, 0}, {"pooled width", d.PooledWidth, 0},
	} {
		if f.n < f.min || f.n > 1<<30 {
			return fmt.Errorf("%w: %s is %d: use %d to %d", ErrDims, f.name, f.n, f.min, 1<<30)
		}
	}
	return nil
}

// Cost is the work of one step, part by part, in multiply-accumulates.
type Cost struct {
	Base       int64                // what no schedule can save: embeddings, modulation, output
	Components [numComponents]int64 // one component of one block, by Component
}

// Component returns the cost of one evaluation of a component of one block.
func (c Cost) Component(component Component) int64 {
	if component >= numComponents {
		return 0
	}
	return c.Components[component]
}

// Step returns the cost of a step that computes everything.
func (c Cost) Step(shape Shape) int64 {
	total := c.Base
	for block := range shape.TotalBlocks() {
		for _, component := range shape.Kind(block).Components() {
			total += c.Components[component]
		}
	}
	return total
}

// MACs returns the multiply-accumulates of linear layers and convolutions, which
// is what ECAD counts: not the attention's two products with the scores (see
// [Dims.AttentionMACs]), norms, activations, text encoder or decoder. The closed
// forms equal every count in ECAD's files.
//
// With B rows, N image and T text tokens, S = N + T, width D, ratio r:
//
//	attn1            4 B N D^2          full_attn        4 B S D^2
//	attn2            2 B N D^2          full_ff          2 r B N D^2
//	               + 2 B T X D          full_ff_context  2 r B T D^2
//	ff               2 r B N D^2        single_attn      3 B S D^2
//	                                    single_proj_mlp  r B S D^2
//	                                    single_proj_out  (1 + r) B S D^2
//
// where X is what cross-attention reads, D in all released models. It returns an
// error that wraps [ErrDims] or [ErrShape], also if a whole run would not fit an
// int64.
func (d Dims) MACs(shape Shape) (Cost, error) {
	return d.cost(shape, linearCost)
}

// AttentionMACs returns the multiply-accumulates of the attentions' products,
// queries with keys and scores with values, which [Dims.MACs] leaves out:
// 2 B N^2 D for attn1, 2 B N T D for attn2, 2 B S^2 D for FLUX's attentions.
// Base is 0. Errors are those of MACs.
func (d Dims) AttentionMACs(shape Shape) (Cost, error) {
	return d.cost(shape, attentionCost)
}

// cost evaluates a closed form, first in floating point to see that a run of
// [MaxSteps] steps fits an int64.
func (d Dims) cost(shape Shape, form func(Dims, Shape) costForm) (Cost, error) {
	if err := d.Validate(); err != nil {
		return Cost{}, err
	}
	if err := shape.Validate(); err != nil {
		return Cost{}, err
	}
	if d.Family != shape.Family {
		return Cost{}, fmt.Errorf("%w: a %v schedule on a %v model", ErrDims, shape.Family, d.Family)
	}
	f := form(d, shape)
	step := f.base.float()
	for block := range shape.TotalBlocks() {
		for _, component := range shape.Kind(block).Components() {
			step += f.components[component].float()
		}
	}
	if !(step*MaxSteps < 1<<62) {
		return Cost{}, fmt.Errorf("%w: %.3g multiply-accumulates per step: use smaller sizes", ErrDims, step)
	}
	c := Cost{Base: f.base.int()}
	for i, s := range f.components {
		c.Components[i] = s.int()
	}
	return c, nil
}

// sum is a sum of products, kept unevaluated so that it can be bounded first.
type sum [][]int

func (s sum) float() float64 {
	total := 0.0
	for _, product := range s {
		p := 1.0
		for _, factor := range product {
			p *= float64(factor)
		}
		total += p
	}
	return total
}

func (s sum) int() int64 {
	var total int64
	for _, product := range s {
		p := int64(1)
		for _, factor := range product {
			p *= int64(factor)
		}
		total += p
	}
	return total
}

// costForm is a Cost before it is evaluated.
type costForm struct {
	base       sum
	components [numComponents]sum
}

func linearCost(d Dims, shape Shape) costForm {
	b, n, t, w, r := d.BatchRows, d.ImageTokens, d.TextTokens, d.Width, d.FFRatio
	seq, patch := n+t, d.Patch*d.Patch
	var f costForm
	f.base = sum{
		{b, n, d.InChannels, patch, w}, {b, n, w, patch, d.OutChannels}, // patches in and out
		{b, d.TimestepChannels, w}, {b, w, w}, // timestep embedding
	}
	if d.Family == PixArt {
		cross := d.CrossWidth
		if cross == 0 {
			cross = w
		}
		f.components[SelfAttn] = sum{{4, b, n, w, w}}
		f.components[CrossAttn] = sum{{2, b, n, w, w}, {2, b, t, cross, w}}
		f.components[FeedForward] = sum{{2, r, b, n, w, w}}
		f.base = append(f.base, []int{6, b, w, w}) // the modulation shared by all blocks
		if d.TextWidth > 0 {
			f.base = append(f.base, []int{b, t, d.TextWidth, w}, []int{b, t, w, w})
		}
		if d.MicroConditions { // height, width and aspect ratio, each embedded in a third of the width
			f.base = append(f.base, []int{3, b, d.TimestepChannels, w / 3}, []int{3, b, w / 3, w / 3})
		}
		return f
	}
	f.components[JointAttn] = sum{{4, b, seq, w, w}}
	f.components[ImageFF] = sum{{2, r, b, n, w, w}}
	f.components[ContextFF] = sum{{2, r, b, t, w, w}}
	f.components[SingleAttn] = sum{{3, b, seq, w, w}}
	f.components[SingleProjMLP] = sum{{r, b, seq, w, w}}
	f.components[SingleProjOut] = sum{{1 + r, b, seq, w, w}}
	f.base = append(f.base,
		[]int{b, t, d.TextWidth, w},
		[]int{b, d.PooledWidth, w}, []int{b, w, w},
		[]int{12, shape.Blocks, b, w, w}, []int{3, shape.SingleBlocks, b, w, w}, []int{2, b, w, w}) // modulations
	if d.GuidanceEmbed {
		f.base = append(f.base, []int{b, d.TimestepChannels, w}, []int{b, w, w})
	}
	return f
}

func attentionCost(d Dims, _ Shape) costForm {
	b, n, t, w := d.BatchRows, d.ImageTokens, d.TextTokens, d.Width
	var f costForm
	if d.Family == PixArt {
		f.components[SelfAttn] = sum{{2, b, n, n, w}}
		f.components[CrossAttn] = sum{{2, b, n, t, w}}
		return f
	}
	joint := sum{{2, b, n + t, n + t, w}}
	f.components[JointAttn], f.components[SingleAttn] = joint, joint
	return f
}
