package dit

import (
	"fmt"

	"ecadx/schedule"
)

// pixart is the family of PixArtTransformer2DModel.
type pixart struct {
	cfg PixArtConfig
	// textTokens is where the pipeline cuts prompts: 120 for alpha, 300 for Sigma. It is no part of the transformer.
	textTokens int
}

func (p *pixart) shape(steps int) schedule.Shape {
	return schedule.Shape{Family: schedule.PixArt, Steps: steps, Blocks: p.cfg.Layers}
}

func (p *pixart) defaults() Defaults {
	c := &p.cfg
	return Defaults{Steps: 20, Guidance: 4.5, LatentChannels: c.InChannels, LatentSize: c.SampleSize / c.PatchSize * c.PatchSize,
		LatentMultiple: c.PatchSize, TextTokens: p.textTokens, TextWidth: c.CaptionChannels, Micro: c.MicroConditioned}
}

func (p *pixart) outputChannels() int { return p.cfg.OutChannels }

// checkSampling: the prediction has the latents' channels, or twice as many with a variance that is dropped.
func (p *pixart) checkSampling() error {
	if c := &p.cfg; c.OutChannels != c.InChannels && c.OutChannels != 2*c.InChannels {
		return fmt.Errorf("the model makes %d channels from %d: a sampler needs as many, or twice as many with a variance", c.OutChannels, c.InChannels)
	}
	return nil
}

func (p *pixart) first(n int) family {
	q := *p
	q.cfg.Layers = min(q.cfg.Layers, n)
	return &q
}

// ignored: old files hold the position table, which is computed.
func (p *pixart) ignored() []string { return []string{"pos_embed.pos_embed"} }

// blockKey is the name of a tensor of one block.
func blockKey(block int, name string) string {
	return fmt.Sprintf("transformer_blocks.%d.%s", block, name)
}

// tensors lists the state dict in the order of the modules. Source: diffusers PixArtTransformer2DModel.
func (p *pixart) tensors() []TensorSpec {
	c := &p.cfg
	width := int64(c.Width())
	var list []TensorSpec
	add := func(name string, shape ...int64) { list = append(list, TensorSpec{Name: name, Shape: shape}) }
	linear := func(name string, out, in int64) {
		add(name+".weight", out, in)
		add(name+".bias", out)
	}
	mlp := func(name string, out, in int64) {
		linear(name+".linear_1", out, in)
		linear(name+".linear_2", out, out)
	}
	add("scale_shift_table", 2, width)
	add("pos_embed.proj.weight", width, int64(c.InChannels), int64(c.PatchSize), int64(c.PatchSize))
	add("pos_embed.proj.bias", width)
	for i := range c.Layers {
		key := func(name string) string { return blockKey(i, name) }
		add(key("scale_shift_table"), 6, width)
		for _, attn := range []struct {
			name    string
			context int64
		}{{"attn1", width}, {"attn2", int64(c.CrossWidth)}} {
			for _, to := range []struct {
				name string
				in   int64
			}{{"to_q", width}, {"to_k", attn.context}, {"to_v", attn.context}} {
				add(key(attn.name+"."+to.name+".weight"), width, to.in)
				if c.AttentionBias {
					add(key(attn.name+"."+to.name+".bias"), width)
				}
			}
			linear(key(attn.name+".to_out.0"), width, width)
		}
		if c.NormAffine {
			for _, norm := range []string{"norm1", "norm2"} {
				add(key(norm+".weight"), width)
				add(key(norm+".bias"), width)
			}
		}
		linear(key("ff.net.0.proj"), 4*width, width)
		linear(key("ff.net.2"), width, 4*width)
	}
	linear("proj_out", int64(c.PatchSize*c.PatchSize*c.OutChannels), width)
	mlp("adaln_single.emb.timestep_embedder", width, timestepWidth)
	if c.MicroConditioned {
		mlp("adaln_single.emb.resolution_embedder", width/3, timestepWidth)
		mlp("adaln_single.emb.aspect_ratio_embedder", width/3, timestepWidth)
	}
	linear("adaln_single.linear", 6*width, width)
	if c.CaptionProjection {
		linear("caption_projection.linear_1", width, int64(c.CaptionChannels))
		linear("caption_projection.linear_2", width, width)
	}
	return list
}

// timestepWidth is the width of the sinusoids of timesteps and sizes.
const timestepWidth = 256

// released is a PixArt checkpoint whose shape `random:` can take.
type released struct {
	name       string
	sampleSize int
	sigma      bool
	scale      float64 // interpolation_scale in the released file; 0: null
}

// releasedPixArt are the released architectures; all have 28 blocks of 16 heads x 72. Alpha's files leave the interpolation scale and
// the micro-conditioning to the derived rules, Sigma's state them. Source: diffusers scripts/convert_pixart_*.py.
var releasedPixArt = []released{
	{"pixart-alpha-256", 32, false, 0},
	{"pixart-alpha-512", 64, false, 0},
	{"pixart-alpha-1024", 128, false, 0},
	{"pixart-sigma-256", 32, true, 0.5},
	{"pixart-sigma-512", 64, true, 1},
	{"pixart-sigma-1024", 128, true, 2},
}

// configJSON is the released config.json.
func (r released) configJSON() []byte {
	scale, conditions := "null", "null"
	if r.sigma {
		scale, conditions = fmt.Sprint(r.scale), "false"
	}
	return fmt.Appendf(nil, `{
  "_class_name": "PixArtTransformer2DModel",
  "activation_fn": "gelu-approximate",
  "attention_bias": true,
  "attention_head_dim": 72,
  "attention_type": "default",
  "caption_channels": 4096,
  "cross_attention_dim": 1152,
  "dropout": 0.0,
  "in_channels": 4,
  "interpolation_scale": %s,
  "norm_elementwise_affine": false,
  "norm_eps": 1e-06,
  "norm_num_groups": 32,
  "norm_type": "ada_norm_single",
  "num_attention_heads": 16,
  "num_embeds_ada_norm": 1000,
  "num_layers": 28,
  "out_channels": 8,
  "patch_size": 2,
  "sample_size": %d,
  "upcast_attention": false,
  "use_additional_conditions": %s
}
`, scale, r.sampleSize, conditions)
}
