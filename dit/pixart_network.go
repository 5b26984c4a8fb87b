package dit

import (
	"fmt"
	"math"

	"ecadx/dit/program"
	"ecadx/schedule"
)

// pixartNetwork emits one program of a PixArt model. Formulas: diffusers PixArtTransformer2DModel.forward and
// BasicTransformerBlock.forward (ada_norm_single).
type pixartNetwork struct {
	layers
	c      *PixArtConfig
	g      geometry
	tokens int // N

	embeds, counts     program.Tensor // text [R,L,D], kept tokens first; how many [R]
	resolution, aspect program.Tensor // [M,2], [M,1] when micro-conditioned

	// What the prologue leaves for the steps.
	keyValues []program.Tensor   // per block [R,L,2C]: keys, then values
	mods      []program.Tensor   // per block [S,M,6C]: shift, scale, gate of attention, shift, scale, gate of feed-forward
	finalMod  program.Tensor     // [S,M,2C]: shift, scale
	positions program.Tensor     // [N,C]
	slots     [][]program.Tensor // per block and component [R,N,C]
}

// The rows of a block's modulation.
const (
	shiftAttn = iota
	scaleAttn
	gateAttn
	shiftFF
	scaleFF
	gateFF
	modulations
)

// finalEps is the epsilon of the last norm, whatever norm_eps says.
const finalEps = 1e-6

func (p *pixart) check(g geometry) error {
	n := p.cfg.PatchSize
	if g.height < n || g.width < n || g.height%n != 0 || g.width%n != 0 {
		return fmt.Errorf("latents of %d x %d: height and width must be multiples of %d, at least %d", g.height, g.width, n, n)
	}
	if tokens := g.height / n * (g.width / n); tokens > maxTokens || tokens*p.cfg.Width() > maxPositions {
		return fmt.Errorf("latents of %d x %d make %d tokens of width %d: use at most %d tokens and %d values", g.height, g.width, tokens, p.cfg.Width(), maxTokens, maxPositions)
	}
	return nil
}

// Bounds of the position table, four times what the largest released model has, so that no option asks for all memory.
const (
	maxTokens    = 1 << 16
	maxPositions = 1 << 27
)

func (p *pixart) network(b *program.Builder, g geometry) network {
	c := &p.cfg
	n := &pixartNetwork{layers: newLayers(b, g.dtype, c.Width()), c: c, g: g,
		tokens: g.height / c.PatchSize * (g.width / c.PatchSize)}
	n.embeds = b.Persistent(IOPrompt, n.stream, g.rows, g.tokens, c.CaptionChannels)
	n.counts = b.Persistent(IOCounts, program.Int32, g.rows)
	b.Input(IOPrompt, n.embeds)
	b.Input(IOCounts, n.counts)
	if c.MicroConditioned {
		n.resolution = b.Persistent(IOResolution, program.Float32, g.conditions, 2)
		n.aspect = b.Persistent(IOAspectRatio, program.Float32, g.conditions, 1)
		b.Input(IOResolution, n.resolution)
		b.Input(IOAspectRatio, n.aspect)
	}
	n.positions = b.Float32s("positions", c.positions(g.height, g.width), n.tokens, c.Width())
	for i := range c.Layers {
		n.keyValues = append(n.keyValues, b.Persistent(fmt.Sprintf("block %d keys and values", i), n.act, g.rows, g.tokens, 2*c.Width()))
		n.mods = append(n.mods, b.Persistent(fmt.Sprintf("block %d modulation", i), n.stream, b.Steps(), n.conditionRows(), modulations*c.Width()))
		var slots []program.Tensor
		for k, comp := range schedule.PixArtBlock.Components() {
			slots = append(slots, b.Slot(i, k, fmt.Sprintf("block %d %v", i, comp), n.act, g.rows, n.tokens, c.Width()))
		}
		n.slots = append(n.slots, slots)
	}
	n.finalMod = b.Persistent("final modulation", n.stream, b.Steps(), n.conditionRows(), 2*c.Width())
	return n
}

// conditionRows is M: modulations differ between rows only by their micro-conditions.
func (n *pixartNetwork) conditionRows() int {
	if n.c.MicroConditioned {
		return n.g.conditions
	}
	return 1
}

func (n *pixartNetwork) prologue() {
	n.textPrologue()
	n.timePrologue()
}

// textPrologue: caption projection, then keys and values of every block's cross-attention.
func (n *pixartNetwork) textPrologue() {
	c, width := n.c, n.c.Width()
	text := n.inAct("text", n.embeds)
	if c.CaptionProjection {
		hidden := n.Activation(n.act, n.g.rows, n.g.tokens, width)
		hidden = n.linear("caption_projection.1", text, program.GeluTanh, true, width, hidden, "caption_projection.linear_1")
		text = n.Activation(n.act, n.g.rows, n.g.tokens, width)
		text = n.linear("caption_projection.2", hidden, program.NoAct, true, width, text, "caption_projection.linear_2")
	}
	for i, kv := range n.keyValues {
		n.At(i, schedule.CrossAttn.Index())
		n.linear("attn2.kv", text, program.NoAct, c.AttentionBias, width, kv, blockKey(i, "attn2.to_k"), blockKey(i, "attn2.to_v"))
	}
	n.At(-1, -1)
}

// embedder is the sinusoids of t [rows] through a two-layer MLP: [rows, width].
func (n *pixartNetwork) embedder(name string, t program.Tensor, width int) program.Tensor {
	return n.embedding(name, "adaln_single.emb."+name, n.sinusoids(name, t), width, n.Activation(n.stream, t.Dim(0), width))
}

// timePrologue: the modulations of all steps at once.
func (n *pixartNetwork) timePrologue() {
	steps, m, width := n.Steps(), n.conditionRows(), n.c.Width()
	times := make([]float32, steps)
	for i, t := range n.g.timesteps {
		times[i] = float32(t)
	}
	e := n.embedder("timestep_embedder", n.Float32s("timesteps", times, steps), width)
	if n.c.MicroConditioned {
		e = n.Add("conditions", n.Reshape(e, steps, 1, width), n.Reshape(n.microConditions(), 1, m, width), n.Activation(n.stream, steps, m, width))
	}
	rows := steps * m
	e = n.Reshape(e, rows, width)
	active := n.Unary("timestep_embedder.silu", program.SiLU, e, n.Activation(n.stream, rows, width))
	all := n.linear("adaln_single", active, program.NoAct, true, modulations*width, n.Activation(n.stream, rows, modulations*width), "adaln_single.linear")
	all = n.Reshape(all, rows, modulations, width)
	table := func(key string, rows int) program.Tensor {
		w := n.Weight(key, rows, width)
		return n.Reshape(n.Copy("scale_shift_table", w, n.Activation(n.stream, rows, width)), 1, rows, width)
	}
	for i, mod := range n.mods {
		n.At(i, -1)
		n.Add("modulation", all, table(blockKey(i, "scale_shift_table"), modulations), n.Reshape(mod, rows, modulations, width))
	}
	n.At(-1, -1)
	n.Add("modulation", n.Reshape(e, rows, 1, width), table("scale_shift_table", 2), n.Reshape(n.finalMod, rows, 2, width))
}

// microConditions embeds resolution and aspect ratio: [M, C], a third of C each for height, width and aspect ratio.
func (n *pixartNetwork) microConditions() program.Tensor {
	m, width := n.g.conditions, n.c.Width()
	third := width / 3
	size := n.embedder("resolution_embedder", n.Reshape(n.resolution, 2*m), third)
	ratio := n.embedder("aspect_ratio_embedder", n.Reshape(n.aspect, m), third)
	all := n.Activation(n.stream, m, width)
	n.Copy("resolution", n.Reshape(size, m, 2*third), n.Slice(all, 1, 0, 2*third))
	n.Copy("aspect_ratio", ratio, n.Slice(all, 1, 2*third, width))
	return all
}

func (n *pixartNetwork) step(latents program.Tensor, row []schedule.Decision, out program.Tensor) {
	c, g, width := n.c, n.g, n.c.Width()
	x := n.PatchEmbed("pos_embed", program.PatchEmbedSpec{
		X: latents, W: n.Weight("pos_embed.proj.weight", width, c.InChannels, c.PatchSize, c.PatchSize), B: n.Weight("pos_embed.proj.bias", width),
		Pos: n.positions, Patch: c.PatchSize, Repeat: g.rows / g.batch,
	}, n.Activation(n.stream, g.rows, n.tokens, width))
	r := newResidual(n.Builder, x, n.act)
	for i := range c.Layers {
		n.block(i, r, row)
	}
	n.At(-1, -1)
	y := r.normalised("norm_out", program.ChainSpec{Norm: program.LayerNorm, Eps: finalEps,
		Shift: n.modulation(n.finalMod, 0), Scale: n.modulation(n.finalMod, 1)})
	patch := c.PatchSize * c.PatchSize * c.OutChannels
	tokens := n.linear("proj_out", y, program.NoAct, true, patch, n.Activation(n.stream, g.rows, n.tokens, patch), "proj_out")
	n.Unpatchify("unpatchify", tokens, c.PatchSize, program.PQC, c.OutChannels, out)
}

// block emits the components of block i that compute and queues the outputs of all three.
func (n *pixartNetwork) block(i int, r *residual, row decisions) {
	c := n.c
	for _, comp := range schedule.PixArtBlock.Components() {
		k := comp.Index()
		slot := n.slots[i][k]
		n.At(i, k)
		if row.compute(i, comp) {
			switch comp {
			case schedule.SelfAttn:
				n.selfAttention(i, r, slot)
			case schedule.CrossAttn:
				n.crossAttention(i, r, slot)
			case schedule.FeedForward:
				n.feedForward("ff", blockKey(i, "ff"), n.norm(i, r, "norm2", shiftFF, scaleFF), c.Activation, 4*c.Width(), slot)
			}
		}
		var gate program.Tensor // cross-attention has none
		switch comp {
		case schedule.SelfAttn:
			gate = n.modulation(n.mods[i], gateAttn)
		case schedule.FeedForward:
			gate = n.modulation(n.mods[i], gateFF)
		}
		r.add(slot, gate)
	}
}

// norm is the modulated norm before self-attention (norm1) and feed-forward (norm2).
func (n *pixartNetwork) norm(i int, r *residual, name string, shift, scale int) program.Tensor {
	spec := program.ChainSpec{Norm: program.LayerNorm, Eps: n.c.NormEps, Shift: n.modulation(n.mods[i], shift), Scale: n.modulation(n.mods[i], scale)}
	if n.c.NormAffine {
		spec.Weight = n.Weight(blockKey(i, name+".weight"), n.c.Width())
		spec.Bias = n.Weight(blockKey(i, name+".bias"), n.c.Width())
	}
	return r.normalised(name, spec)
}

// attend is attention and its output projection, from packed queries, keys and values, into the slot.
func (n *pixartNetwork) attend(i int, name string, q, k, v, counts, slot program.Tensor) {
	y := n.Attention(name+".attention", program.AttentionSpec{Q: q, K: k, V: v, Counts: counts, Heads: n.c.Heads, HeadDim: n.c.HeadDim,
		Scale: 1 / math.Sqrt(float64(n.c.HeadDim))}, n.Activation(n.act, n.g.rows, n.tokens, n.c.Width()))
	n.linear(name+".out", y, program.NoAct, true, n.c.Width(), slot, blockKey(i, name+".to_out.0"))
}

func (n *pixartNetwork) selfAttention(i int, r *residual, slot program.Tensor) {
	width := n.c.Width()
	y := n.norm(i, r, "norm1", shiftAttn, scaleAttn)
	qkv := n.linear("attn1.qkv", y, program.NoAct, n.c.AttentionBias, width, n.Activation(n.act, n.g.rows, n.tokens, 3*width),
		blockKey(i, "attn1.to_q"), blockKey(i, "attn1.to_k"), blockKey(i, "attn1.to_v"))
	n.attend(i, "attn1", n.columns(qkv, 0, width), n.columns(qkv, width, 2*width), n.columns(qkv, 2*width, 3*width), program.Tensor{}, slot)
}

func (n *pixartNetwork) crossAttention(i int, r *residual, slot program.Tensor) {
	width := n.c.Width()
	x := r.plain("attn2.input")
	q := n.linear("attn2.q", x, program.NoAct, n.c.AttentionBias, width, n.Activation(n.act, n.g.rows, n.tokens, width), blockKey(i, "attn2.to_q"))
	kv := n.keyValues[i]
	n.attend(i, "attn2", q, n.columns(kv, 0, width), n.columns(kv, width, 2*width), n.counts, slot)
}
