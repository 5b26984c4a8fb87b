package dit

import (
	"fmt"

	"ecadx/dit/hfconfig"
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

func (p *pixart) traits() traits {
	c := &p.cfg
	t := traits{
		Defaults: Defaults{Steps: 20, Guidance: 4.5, LatentChannels: c.InChannels, LatentSize: c.SampleSize / c.PatchSize * c.PatchSize,
			LatentMultiple: c.PatchSize, TextTokens: p.textTokens, TextWidth: c.CaptionChannels, Micro: c.MicroConditioned},
		architecture: Architecture{Heads: c.Heads, HeadDim: c.HeadDim, Width: c.Width(), Layers: c.Layers, InChannels: c.InChannels, OutChannels: c.OutChannels,
			PatchSize: c.PatchSize, TextWidth: c.CaptionChannels, Interpolation: c.Interpolation, MicroConditioned: c.MicroConditioned},
		outputChannels: c.OutChannels,
		ignored:        []string{"pos_embed.pos_embed"}, // old files hold the position table, which is computed
		pipeline:       alphaPipeline,
		parts:          []Part{Tokenizer, TextEncoder, Transformer, Scheduler, VAE},
		scheduler:      pixartScheduler,
	}
	if p.textTokens > alphaTextTokens {
		t.pipeline = sigmaPipeline
	}
	// The prediction has the latents' channels, or twice as many with a variance that is dropped.
	if c.OutChannels != c.InChannels && c.OutChannels != 2*c.InChannels {
		t.sampling = fmt.Errorf("the model makes %d channels from %d: a sampler needs as many, or twice as many with a variance", c.OutChannels, c.InChannels)
	}
	return t
}

// ecadTextTokens is how many text tokens ECAD counts for every PixArt, Sigma included.
const ecadTextTokens = 120

func (p *pixart) dims(height, width int) schedule.Dims {
	c := &p.cfg
	d := schedule.Dims{
		Family: schedule.PixArt, Width: c.Width(), ImageTokens: height / c.PatchSize * (width / c.PatchSize),
		TextTokens: ecadTextTokens, BatchRows: 1, FFRatio: 4, InChannels: c.InChannels, OutChannels: c.OutChannels, Patch: c.PatchSize,
		TimestepChannels: timestepWidth, CrossWidth: c.CrossWidth, MicroConditions: c.MicroConditioned,
	}
	if c.CaptionProjection {
		d.TextWidth = c.CaptionChannels
	}
	return d
}

func (p *pixart) first(n int) family {
	q := *p
	q.cfg.Layers = min(q.cfg.Layers, n)
	return &q
}

// blockKey is the name of a tensor of one block.
func blockKey(block int, name string) string {
	return fmt.Sprintf("transformer_blocks.%d.%s", block, name)
}

// tensors lists the state dict in the order of the modules. Source: diffusers PixArtTransformer2DModel.
func (p *pixart) tensors() []TensorSpec {
	c := &p.cfg
	width := int64(c.Width())
	var list specList
	list.add("scale_shift_table", 2, width)
	list.add("pos_embed.proj.weight", width, int64(c.InChannels), int64(c.PatchSize), int64(c.PatchSize))
	list.add("pos_embed.proj.bias", width)
	for i := range c.Layers {
		key := func(name string) string { return blockKey(i, name) }
		list.add(key("scale_shift_table"), 6, width)
		for _, attn := range []struct {
			name    string
			context int64
		}{{"attn1", width}, {"attn2", int64(c.CrossWidth)}} {
			for _, to := range []struct {
				name string
				in   int64
			}{{"to_q", width}, {"to_k", attn.context}, {"to_v", attn.context}} {
				list.add(key(attn.name+"."+to.name+".weight"), width, to.in)
				if c.AttentionBias {
					list.add(key(attn.name+"."+to.name+".bias"), width)
				}
			}
			list.linear(key(attn.name+".to_out.0"), width, width)
		}
		if c.NormAffine {
			for _, norm := range []string{"norm1", "norm2"} {
				list.add(key(norm+".weight"), width)
				list.add(key(norm+".bias"), width)
			}
		}
		list.linear(key("ff.net.0.proj"), 4*width, width)
		list.linear(key("ff.net.2"), width, 4*width)
	}
	list.linear("proj_out", int64(c.PatchSize*c.PatchSize*c.OutChannels), width)
	list.mlp("adaln_single.emb.timestep_embedder", width, timestepWidth)
	if c.MicroConditioned {
		list.mlp("adaln_single.emb.resolution_embedder", width/3, timestepWidth)
		list.mlp("adaln_single.emb.aspect_ratio_embedder", width/3, timestepWidth)
	}
	list.linear("adaln_single.linear", 6*width, width)
	if c.CaptionProjection {
		list.linear("caption_projection.linear_1", width, int64(c.CaptionChannels))
		list.linear("caption_projection.linear_2", width, width)
	}
	return list
}

// Diffusers' pipelines, and where each cuts prompts.
const (
	alphaPipeline   = "PixArtAlphaPipeline"
	sigmaPipeline   = "PixArtSigmaPipeline"
	alphaTextTokens = 120
	sigmaTextTokens = 300
)

// pixartArchitecture: the alpha checkpoints were saved under the older class, which diffusers maps by the norm type. All released models have 28 blocks of 16
// heads x 72. Alpha's files leave the interpolation scale and the micro-conditioning to the derived rules, Sigma's state them. Source: diffusers
// scripts/convert_pixart_*.py.
var pixartArchitecture = architecture{
	classes: []string{"PixArtTransformer2DModel", "Transformer2DModel"},
	read:    readPixArt,
	released: []released{
		{"pixart-alpha-256", alphaPipeline, pixartConfigJSON(32, "null", "null")},
		{"pixart-alpha-512", alphaPipeline, pixartConfigJSON(64, "null", "null")},
		{"pixart-alpha-1024", alphaPipeline, pixartConfigJSON(128, "null", "null")},
		{"pixart-sigma-256", sigmaPipeline, pixartConfigJSON(32, "0.5", "false")},
		{"pixart-sigma-512", sigmaPipeline, pixartConfigJSON(64, "1", "false")},
		{"pixart-sigma-1024", sigmaPipeline, pixartConfigJSON(128, "2", "false")},
	},
}

func readPixArt(config []byte, pipeline string) (family, error) {
	var class struct {
		Name string `json:"_class_name"`
		Norm string `json:"norm_type"`
	}
	if err := hfconfig.Decode(config, &class); err != nil {
		return nil, err
	}
	if class.Name == "Transformer2DModel" && class.Norm != "ada_norm_single" {
		return nil, fmt.Errorf("key \"_class_name\": %q is supported with norm_type ada_norm_single only, not %q", class.Name, class.Norm)
	}
	cfg, err := decodePixArt(config)
	if err != nil {
		return nil, err
	}
	p := &pixart{cfg: *cfg, textTokens: alphaTextTokens}
	if pipeline == sigmaPipeline {
		p.textTokens = sigmaTextTokens
	}
	return p, nil
}

// pixartConfigJSON is a released config.json.
func pixartConfigJSON(sampleSize int, scale, conditions string) []byte {
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
`, scale, sampleSize, conditions)
}

// pixartScheduler is the released scheduler_config.json: the class's defaults.
const pixartScheduler = `{
  "_class_name": "DPMSolverMultistepScheduler",
  "algorithm_type": "dpmsolver++",
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "beta_start": 0.0001,
  "final_sigmas_type": "zero",
  "lower_order_final": true,
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "solver_order": 2,
  "solver_type": "midpoint",
  "timestep_spacing": "linspace"
}
`
