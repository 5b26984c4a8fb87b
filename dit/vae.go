package dit

import (
	"fmt"
	"math"
	"strings"

	"ecadx/dit/hfconfig"
	"ecadx/dit/program"
)

// VAEConfig is the configuration of an AutoencoderKL's decoder, with diffusers' defaults.
type VAEConfig struct {
	LatentChannels int
	OutChannels    int
	Channels       []int // of the levels, from the picture inwards
	LayersPerBlock int   // of the encoder; the decoder has one more
	Groups         int
	MidAttention   bool
	PostQuantConv  bool
	Scaling, Shift float64 // the decoder reads latents / Scaling + Shift
}

type vaeJSON struct {
	ClassName      string          `json:"_class_name"`
	LatentChannels int             `json:"latent_channels"`
	OutChannels    int             `json:"out_channels"`
	Channels       []int           `json:"block_out_channels"`
	UpBlocks       []string        `json:"up_block_types"`
	LayersPerBlock int             `json:"layers_per_block"`
	Groups         int             `json:"norm_num_groups"`
	MidAttention   bool            `json:"mid_block_add_attention"`
	PostQuantConv  bool            `json:"use_post_quant_conv"`
	Activation     string          `json:"act_fn"`
	Scaling        hfconfig.Float  `json:"scaling_factor"`
	Shift          *hfconfig.Float `json:"shift_factor"`
	LatentsMean    []float64       `json:"latents_mean"`
}

// decodeVAE reads vae/config.json. Errors name the key and how to fix it.
func decodeVAE(data []byte) (*VAEConfig, error) {
	j := vaeJSON{ClassName: "AutoencoderKL", LatentChannels: 4, OutChannels: 3, Channels: []int{64}, LayersPerBlock: 1, Groups: 32, MidAttention: true,
		PostQuantConv: true, Activation: "silu", Scaling: 0.18215}
	if err := hfconfig.Decode(data, &j); err != nil {
		return nil, err
	}
	if j.ClassName != "AutoencoderKL" {
		return nil, fmt.Errorf("key \"_class_name\": %q is not supported: AutoencoderKL is", j.ClassName)
	}
	if j.Activation != "silu" && j.Activation != "swish" {
		return nil, fmt.Errorf("key \"act_fn\": %q is not supported: silu is", j.Activation)
	}
	for _, t := range j.UpBlocks {
		if t != "UpDecoderBlock2D" {
			return nil, fmt.Errorf("key \"up_block_types\": %q is not supported: UpDecoderBlock2D is", t)
		}
	}
	if len(j.LatentsMean) > 0 {
		return nil, fmt.Errorf("key \"latents_mean\": per-channel statistics are not supported: null is")
	}
	if n := len(j.Channels); n < 1 || n > 8 || (len(j.UpBlocks) > 0 && len(j.UpBlocks) != n) {
		return nil, fmt.Errorf("key \"block_out_channels\": %d levels with %d up blocks: give 1 to 8 of each", n, len(j.UpBlocks))
	}
	ranges := []within{
		{"latent_channels", j.LatentChannels, 1, 256}, {"out_channels", j.OutChannels, 1, 16},
		{"layers_per_block", j.LayersPerBlock, 1, 16}, {"norm_num_groups", j.Groups, 1, 1024},
	}
	for _, c := range j.Channels {
		ranges = append(ranges, within{"block_out_channels", c, 1, 1 << 13})
	}
	for _, r := range ranges {
		if r.value < r.least || r.value > r.most {
			return nil, fmt.Errorf("key %q: %d is out of range: %d to %d", r.key, r.value, r.least, r.most)
		}
	}
	for _, c := range j.Channels {
		if c%j.Groups != 0 {
			return nil, fmt.Errorf("key \"norm_num_groups\": %d groups do not divide %d channels", j.Groups, c)
		}
	}
	c := &VAEConfig{LatentChannels: j.LatentChannels, OutChannels: j.OutChannels, Channels: j.Channels, LayersPerBlock: j.LayersPerBlock,
		Groups: j.Groups, MidAttention: j.MidAttention, PostQuantConv: j.PostQuantConv, Scaling: float64(j.Scaling)}
	if j.Shift != nil {
		c.Shift = float64(*j.Shift)
	}
	if !(math.Abs(c.Scaling) > 1e-6 && math.Abs(c.Scaling) < 1e6) || !(math.Abs(c.Shift) < 1e6) {
		return nil, fmt.Errorf("key \"scaling_factor\": %v (shift_factor %v) is not a usable number", c.Scaling, c.Shift)
	}
	return c, nil
}

// Factor is how many pixels a latent spans in each direction.
func (c *VAEConfig) Factor() int { return 1 << (len(c.Channels) - 1) }

// oldAttention are the names that attention had before diffusers 0.13.
var oldAttention = strings.NewReplacer("to_q.", "query.", "to_k.", "key.", "to_v.", "value.", "to_out.0.", "proj_attn.")

// vaeNet emits the decoder's modules.
type vaeNet struct {
	cfg   *VAEConfig
	b     *program.Builder
	old   bool // attention under its old names
	dtype program.DType
}

const (
	vaeEps  = 1e-6 // of every group norm, fixed in diffusers
	vaeMid  = "decoder.mid_block."
	vaeAttn = vaeMid + "attentions.0."
	ioImage = "image" // float32 [B,H,W,3], about -1..1
)

// specs lists the tensors of the decoder. Source: diffusers AutoencoderKL, Decoder, UNetMidBlock2D, UpDecoderBlock2D.
func (c *VAEConfig) specs(old bool) []TensorSpec {
	var list []TensorSpec
	conv := func(name string, out, in, k int) {
		list = append(list, TensorSpec{Name: name + ".weight", Shape: []int64{int64(out), int64(in), int64(k), int64(k)}},
			TensorSpec{Name: name + ".bias", Shape: []int64{int64(out)}})
	}
	norm := func(name string, n int) {
		list = append(list, TensorSpec{Name: name + ".weight", Shape: []int64{int64(n)}}, TensorSpec{Name: name + ".bias", Shape: []int64{int64(n)}})
	}
	resnet := func(name string, in, out int) {
		norm(name+".norm1", in)
		conv(name+".conv1", out, in, 3)
		norm(name+".norm2", out)
		conv(name+".conv2", out, out, 3)
		if in != out {
			conv(name+".conv_shortcut", out, in, 1)
		}
	}
	top := c.Channels[len(c.Channels)-1]
	if c.PostQuantConv {
		conv("post_quant_conv", c.LatentChannels, c.LatentChannels, 1)
	}
	conv("decoder.conv_in", top, c.LatentChannels, 3)
	resnet(vaeMid+"resnets.0", top, top)
	if c.MidAttention {
		norm(vaeAttn+"group_norm", top)
		for _, p := range []string{"to_q", "to_k", "to_v", "to_out.0"} {
			list = append(list, TensorSpec{Name: attnKey(p+".weight", old), Shape: []int64{int64(top), int64(top)}},
				TensorSpec{Name: attnKey(p+".bias", old), Shape: []int64{int64(top)}})
		}
	}
	resnet(vaeMid+"resnets.1", top, top)
	in := top
	for level := range c.Channels {
		out := c.Channels[len(c.Channels)-1-level]
		for i := range c.LayersPerBlock + 1 {
			resnet(fmt.Sprintf("decoder.up_blocks.%d.resnets.%d", level, i), in, out)
			in = out
		}
		if level+1 < len(c.Channels) {
			conv(fmt.Sprintf("decoder.up_blocks.%d.upsamplers.0.conv", level), out, out, 3)
		}
	}
	norm("decoder.conv_norm_out", in)
	conv("decoder.conv_out", c.OutChannels, in, 3)
	return list
}

func attnKey(name string, old bool) string {
	if old {
		name = oldAttention.Replace(name)
	}
	return vaeAttn + name
}

// compile makes the decoder for latents [batch,Cz,h,w]: io latents in, io image out, one schedule.
func (c *VAEConfig) compile(batch, h, w int, arithmetic DType, old bool) (*program.Program, error) {
	b := program.NewBuilder(1)
	dtype, outer := arithmetic.activation(), arithmetic.stream()
	n := &vaeNet{cfg: c, b: b, old: old, dtype: dtype}
	f := c.Factor()
	latents := b.Persistent(IOLatents, outer, batch, c.LatentChannels, h, w)
	image := b.Persistent(ioImage, outer, batch, h*f, w*f, c.OutChannels)
	b.Input(IOLatents, latents)
	b.Output(ioImage, image)

	b.Begin(program.Other, "decode")
	z := b.Lincomb("unscale", []program.Tensor{latents}, b.Float64s("1/scaling", []float64{1 / c.Scaling}, 1), nil, b.Activation(outer, batch, c.LatentChannels, h, w))
	if c.Shift != 0 {
		shift := b.Float32s("shift", []float32{float32(c.Shift)}, 1, 1, 1, 1)
		z = b.Add("shift", z, shift, z)
	}
	x := b.Permute("channels_last", z, [4]int{0, 2, 3, 1}, b.Activation(dtype, batch, h, w, c.LatentChannels))
	if c.PostQuantConv {
		x = n.conv("post_quant_conv", x, c.LatentChannels, 1, program.Tensor{})
	}
	top := c.Channels[len(c.Channels)-1]
	x = n.conv("decoder.conv_in", x, top, 3, program.Tensor{})
	x = n.resnet(vaeMid+"resnets.0", x, top)
	if c.MidAttention {
		x = n.attention(x)
	}
	x = n.resnet(vaeMid+"resnets.1", x, top)
	for level := range c.Channels {
		out := c.Channels[len(c.Channels)-1-level]
		for i := range c.LayersPerBlock + 1 {
			x = n.resnet(fmt.Sprintf("decoder.up_blocks.%d.resnets.%d", level, i), x, out)
		}
		if level+1 < len(c.Channels) {
			name := fmt.Sprintf("decoder.up_blocks.%d.upsamplers.0", level)
			x = n.conv(name+".conv", b.Upsample(name, 2, x, program.Tensor{}), out, 3, program.Tensor{})
		}
	}
	n.conv("decoder.conv_out", n.norm("decoder.conv_norm_out", x, program.SiLU), c.OutChannels, 3, image)
	b.Schedule("decode", []program.Item{{Section: b.End()}})
	return b.Finish()
}

func (n *vaeNet) conv(name string, x program.Tensor, out, k int, y program.Tensor) program.Tensor {
	return n.b.Conv2D(name, program.Conv2DSpec{X: x, W: n.b.Weight(name+".weight", out, x.Dim(3), k, k), B: n.b.Weight(name+".bias", out), Stride: 1, Pad: k / 2}, y)
}

func (n *vaeNet) norm(name string, x program.Tensor, act program.Act) program.Tensor {
	ch := x.Dim(3)
	return n.b.GroupNorm(name, program.GroupNormSpec{X: x, Weight: n.b.Weight(name+".weight", ch), Bias: n.b.Weight(name+".bias", ch),
		Groups: n.cfg.Groups, Eps: vaeEps, Act: act}, program.Tensor{})
}

// resnet is x (or its 1x1 convolution) + conv2(silu(norm2(conv1(silu(norm1(x)))))).
func (n *vaeNet) resnet(name string, x program.Tensor, out int) program.Tensor {
	h := n.conv(name+".conv1", n.norm(name+".norm1", x, program.SiLU), out, 3, program.Tensor{})
	h = n.conv(name+".conv2", n.norm(name+".norm2", h, program.SiLU), out, 3, program.Tensor{})
	if x.Dim(3) != out {
		x = n.conv(name+".conv_shortcut", x, out, 1, program.Tensor{})
	}
	return n.b.Add(name+".add", h, x, h)
}

// attention is the middle block's: one head over all pixels.
func (n *vaeNet) attention(x program.Tensor) program.Tensor {
	b, ch := n.b, x.Dim(3)
	tokens := func(t program.Tensor) program.Tensor { return b.Reshape(t, t.Dim(0), t.Dim(1)*t.Dim(2), t.Dim(3)) }
	linear := func(name string, in program.Tensor, parts ...string) program.Tensor {
		spec := program.LinearSpec{X: []program.Tensor{in}}
		for _, p := range parts {
			spec.W = append(spec.W, b.Weight(attnKey(p+".weight", n.old), ch, ch))
			spec.B = append(spec.B, b.Weight(attnKey(p+".bias", n.old), ch))
		}
		return b.Linear(name, spec, program.Tensor{})
	}
	qkv := linear("mid.qkv", tokens(n.norm(vaeAttn+"group_norm", x, program.NoAct)), "to_q", "to_k", "to_v")
	a := b.Attention("mid.attention", program.AttentionSpec{Q: b.Slice(qkv, -1, 0, ch), K: b.Slice(qkv, -1, ch, 2*ch), V: b.Slice(qkv, -1, 2*ch, 3*ch),
		Heads: 1, HeadDim: ch, Scale: 1 / math.Sqrt(float64(ch))}, b.Activation(n.dtype, x.Dim(0), x.Dim(1)*x.Dim(2), ch))
	o := b.Reshape(linear("mid.out", a, "to_out.0"), x.Dims()...)
	return b.Add("mid.add", o, x, o)
}
