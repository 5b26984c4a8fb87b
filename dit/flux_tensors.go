package dit

import (
	"fmt"

	"ecadx/schedule"
)

// flux is the family of FluxTransformer2DModel.
type flux struct{ cfg FluxConfig }

func (p *flux) shape(steps int) schedule.Shape {
	return schedule.Shape{Family: schedule.Flux, Steps: steps, Blocks: p.cfg.Layers, SingleBlocks: p.cfg.SingleLayers}
}

// Where the pipeline cuts prompts: 512 tokens, 256 as schnell was distilled. Source: FluxPipeline.__call__, FLUX.1-schnell's model card.
const (
	fluxTextTokens    = 512
	schnellTextTokens = 256
)

func (p *flux) traits() traits {
	c := &p.cfg
	t := traits{
		Defaults: Defaults{Steps: 20, Guidance: 3.5, Guiding: Embedded, LatentChannels: c.InChannels / (fluxPatch * fluxPatch), LatentSize: 128,
			LatentMultiple: fluxPatch, TextTokens: fluxTextTokens, TextWidth: c.TextWidth, Unmasked: true, PooledWidth: c.PooledWidth},
		architecture: Architecture{Heads: c.Heads, HeadDim: c.HeadDim, Width: c.Width(), Layers: c.Layers, SingleLayers: c.SingleLayers, InChannels: c.InChannels,
			OutChannels: c.OutChannels, PatchSize: fluxPatch, TextWidth: c.TextWidth, PooledWidth: c.PooledWidth, RopeAxes: c.Axes[:], GuidanceEmbedded: c.Guidance},
		outputChannels: c.OutChannels / (fluxPatch * fluxPatch),
		adopt:          adoptFlux,
		pipeline:       fluxPipeline,
		parts:          []Part{Tokenizer, TextEncoder, Tokenizer2, TextEncoder2, Transformer, Scheduler, VAE},
		scheduler:      fmt.Sprintf(fluxScheduler, 3.0, true),
	}
	if !c.Guidance {
		t.Guidance, t.Guiding, t.TextTokens = 0, Unguided, schnellTextTokens
		t.scheduler = fmt.Sprintf(fluxScheduler, 1.0, false)
	}
	if c.OutChannels != c.InChannels {
		t.sampling = fmt.Errorf("the model makes %d channels from %d: a sampler needs as many", c.OutChannels, c.InChannels)
	}
	return t
}

func (p *flux) dims(height, width int) schedule.Dims {
	c := &p.cfg
	return schedule.Dims{Family: schedule.Flux, Width: c.Width(), ImageTokens: p.imageTokens(height, width), TextTokens: fluxTextTokens, BatchRows: 1, FFRatio: fluxRatio,
		InChannels: c.InChannels, OutChannels: c.OutChannels, Patch: 1, TextWidth: c.TextWidth, TimestepChannels: timestepWidth, PooledWidth: c.PooledWidth,
		GuidanceEmbed: c.Guidance}
}

// fluxRatio is the width of feed-forwards over that of tokens.
const fluxRatio = 4

func (p *flux) first(n int) family {
	q := *p
	q.cfg.Layers, q.cfg.SingleLayers = min(q.cfg.Layers, n), min(q.cfg.SingleLayers, n)
	return &q
}

// singleKey is the name of a tensor of one single-stream block.
func singleKey(block int, name string) string {
	return fmt.Sprintf("single_transformer_blocks.%d.%s", block, name)
}

// tensors lists the state dict in the order of the modules. Source: diffusers FluxTransformer2DModel.
func (p *flux) tensors() []TensorSpec {
	c := &p.cfg
	width, hidden, dim := int64(c.Width()), int64(fluxRatio*c.Width()), int64(c.HeadDim)
	var list specList
	list.mlp("time_text_embed.timestep_embedder", width, timestepWidth)
	if c.Guidance {
		list.mlp("time_text_embed.guidance_embedder", width, timestepWidth)
	}
	list.mlp("time_text_embed.text_embedder", width, int64(c.PooledWidth))
	list.linear("context_embedder", width, int64(c.TextWidth))
	list.linear("x_embedder", width, int64(c.InChannels))
	for i := range c.Layers {
		key := func(name string) string { return blockKey(i, name) }
		list.linear(key("norm1.linear"), 6*width, width)
		list.linear(key("norm1_context.linear"), 6*width, width)
		for _, name := range []string{"norm_q", "norm_k", "norm_added_q", "norm_added_k"} {
			list.add(key("attn."+name+".weight"), dim)
		}
		for _, name := range []string{"to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"} {
			list.linear(key("attn."+name), width, width)
		}
		for _, name := range []string{"ff", "ff_context"} {
			list.linear(key(name+".net.0.proj"), hidden, width)
			list.linear(key(name+".net.2"), width, hidden)
		}
	}
	for i := range c.SingleLayers {
		key := func(name string) string { return singleKey(i, name) }
		list.linear(key("norm.linear"), 3*width, width)
		list.linear(key("proj_mlp"), hidden, width)
		list.linear(key("proj_out"), width, width+hidden)
		for _, name := range []string{"norm_q", "norm_k"} {
			list.add(key("attn."+name+".weight"), dim)
		}
		for _, name := range []string{"to_q", "to_k", "to_v"} {
			list.linear(key("attn."+name), width, width)
		}
	}
	list.linear("norm_out.linear", 2*width, width)
	list.linear("proj_out", int64(c.OutChannels), width)
	return list
}

const fluxPipeline = "FluxPipeline"

// fluxArchitecture: the released models have 19 double-stream and 38 single-stream blocks of 24 heads x 128; schnell has no guidance embedding. Source: diffusers
// scripts/convert_flux_to_diffusers.py.
var fluxArchitecture = architecture{
	classes: []string{"FluxTransformer2DModel"},
	read: func(config []byte, _ string) (family, error) {
		cfg, err := decodeFlux(config)
		if err != nil {
			return nil, err
		}
		return &flux{cfg: *cfg}, nil
	},
	released: []released{
		{"flux-dev", fluxPipeline, fmt.Appendf(nil, fluxConfigJSON, true)},
		{"flux-schnell", fluxPipeline, fmt.Appendf(nil, fluxConfigJSON, false)},
	},
}

const fluxConfigJSON = `{
  "_class_name": "FluxTransformer2DModel",
  "attention_head_dim": 128,
  "axes_dims_rope": [
    16,
    56,
    56
  ],
  "guidance_embeds": %v,
  "in_channels": 64,
  "joint_attention_dim": 4096,
  "num_attention_heads": 24,
  "num_layers": 19,
  "num_single_layers": 38,
  "out_channels": null,
  "patch_size": 1,
  "pooled_projection_dim": 768
}
`

// fluxScheduler is the released scheduler_config.json: shift and whether it depends on the picture's size.
const fluxScheduler = `{
  "_class_name": "FlowMatchEulerDiscreteScheduler",
  "base_image_seq_len": 256,
  "base_shift": 0.5,
  "max_image_seq_len": 4096,
  "max_shift": 1.15,
  "num_train_timesteps": 1000,
  "shift": %.1f,
  "use_dynamic_shifting": %v
}
`
