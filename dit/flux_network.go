package dit

import (
	"fmt"
	"math"

	"ecadx/dit/program"
	"ecadx/schedule"
)

// fluxNetwork emits one program of a FLUX model. Text and image tokens lie in one buffer [R,L+N,C], text first, so that joining them costs nothing. Formulas:
// diffusers FluxTransformer2DModel.forward, FluxTransformerBlock.forward and FluxSingleTransformerBlock.forward.
type fluxNetwork struct {
	layers
	c           *FluxConfig
	g           geometry
	text, image int // L, N

	embeds, pooled program.Tensor // [R,L,D], [R,P]

	// What the prologue leaves for the steps.
	context    program.Tensor   // text in the model's width [R,L,C]
	doubleMods []program.Tensor // per block [S,R,12C]: six of the image stream, six of the text stream
	singleMods []program.Tensor // per block [S,R,3C]
	finalMod   program.Tensor   // [S,R,2C]: scale, shift
	rope       program.Tensor   // [L+N,D]

	double []doubleSlots
	single []singleSlots
}

// doubleSlots are the outputs of a double-stream block's components.
type doubleSlots struct {
	attnImage, attnText program.Tensor // of full_attn [R,N,C], [R,L,C]
	ff                  program.Tensor // [R,N,C]
	ffText              program.Tensor // [R,L,C]
}

// singleSlots are the outputs of a single-stream block's components.
type singleSlots struct {
	attn program.Tensor // [R,L+N,C]
	mlp  program.Tensor // after the GELU: the same numbers as before it, and less work for who reuses them [R,L+N,4C]
	out  program.Tensor // [R,L+N,C]
}

// Where a single-stream block's modulation has its rows; those of a double-stream block's streams have PixArt's order, text after image.
const (
	singleShift = iota
	singleScale
	singleGate
	singleModulations
)

const fluxEps = 1e-6 // of all norms

func (p *flux) network(b *program.Builder, g geometry) network {
	c := &p.cfg
	n := &fluxNetwork{layers: newLayers(b, g.dtype, c.Width()), c: c, g: g, text: g.tokens, image: p.imageTokens(g.height, g.width)}
	width, joint := c.Width(), n.text+n.image
	n.embeds = b.Persistent(IOPrompt, n.stream, g.rows, n.text, c.TextWidth)
	n.pooled = b.Persistent(IOPooled, n.stream, g.rows, c.PooledWidth)
	b.Input(IOPrompt, n.embeds)
	b.Input(IOPooled, n.pooled)
	n.context = b.Persistent("text", n.stream, g.rows, n.text, width)
	n.rope = b.Float32s("rope", c.rope(positions(n.text, g.height/fluxPatch, g.width/fluxPatch)), joint, c.HeadDim)
	modulation := func(name string, rows int) program.Tensor {
		return b.Persistent(name+" modulation", n.stream, b.Steps(), g.rows, rows*width)
	}
	slot := func(block int, comp schedule.Component, of string, tokens, width int) program.Tensor {
		return b.Slot(block, comp.Index(), fmt.Sprintf("block %d %v%s", block, comp, of), n.act, g.rows, tokens, width)
	}
	for i := range c.Layers {
		n.doubleMods = append(n.doubleMods, modulation(fmt.Sprintf("block %d", i), 2*modulations))
		n.double = append(n.double, doubleSlots{
			attnImage: slot(i, schedule.JointAttn, " image", n.image, width), attnText: slot(i, schedule.JointAttn, " text", n.text, width),
			ff: slot(i, schedule.ImageFF, "", n.image, width), ffText: slot(i, schedule.ContextFF, "", n.text, width),
		})
	}
	for i := range c.SingleLayers {
		block := c.Layers + i
		n.singleMods = append(n.singleMods, modulation(fmt.Sprintf("block %d", block), singleModulations))
		n.single = append(n.single, singleSlots{
			attn: slot(block, schedule.SingleAttn, "", joint, width), mlp: slot(block, schedule.SingleProjMLP, "", joint, fluxRatio*width),
			out: slot(block, schedule.SingleProjOut, "", joint, width),
		})
	}
	n.finalMod = modulation("final", 2)
	return n
}

func (n *fluxNetwork) prologue() {
	n.linear("context_embedder", n.inAct("text", n.embeds), program.NoAct, true, n.c.Width(), n.context, "context_embedder")
	n.modulations()
}

// modulations of all steps: each block's in one product.
func (n *fluxNetwork) modulations() {
	width, steps, rows := n.c.Width(), n.Steps(), n.g.rows
	active := n.Unary("time_text_embed.silu", program.SiLU, n.conditioning(), n.Activation(n.act, steps*rows, width))
	linear := func(name string, out program.Tensor, count int, keys ...string) {
		n.linear(name, active, program.NoAct, true, count*width, n.Reshape(out, steps*rows, out.Dim(-1)), keys...)
	}
	for i, mod := range n.doubleMods {
		n.At(i, -1)
		linear("norm1", mod, modulations, blockKey(i, "norm1.linear"), blockKey(i, "norm1_context.linear"))
	}
	for i, mod := range n.singleMods {
		n.At(n.c.Layers+i, -1)
		linear("norm", mod, singleModulations, singleKey(i, "norm.linear"))
	}
	n.At(-1, -1)
	linear("norm_out", n.finalMod, 2, "norm_out.linear")
}

// conditioning is what all modulations are made of, (timestep + guidance) + pooled text: [S R,C].
func (n *fluxNetwork) conditioning() program.Tensor {
	width, steps, rows := n.c.Width(), n.Steps(), n.g.rows
	embed := func(name string, x program.Tensor) program.Tensor {
		return n.embedding(name, "time_text_embed."+name, x, width, n.Activation(n.stream, x.Dim(0), width))
	}
	level := func(name string, values []float32) program.Tensor {
		return embed(name, n.sinusoids(name, n.Float32s(name, values, len(values))))
	}
	e := n.Reshape(level("timestep_embedder", noiseLevels(n.g.dtype, true, n.g.timesteps...)), steps, 1, width)
	if n.c.Guidance {
		guidance := level("guidance_embedder", noiseLevels(n.g.dtype, false, n.g.guidance))
		e = n.Add("guidance", e, n.Reshape(guidance, 1, 1, width), n.Activation(n.stream, steps, 1, width))
	}
	pooled := n.Reshape(embed("text_embedder", n.pooled), 1, rows, width)
	return n.Reshape(n.Add("conditioning", e, pooled, n.Activation(n.stream, steps, rows, width)), steps*rows, width)
}

// norm is a layer norm with rows shift and scale of a modulation table.
func (n *fluxNetwork) norm(table program.Tensor, shift, scale int) program.ChainSpec {
	return program.ChainSpec{Norm: program.LayerNorm, Eps: fluxEps, Shift: n.modulation(table, shift), Scale: n.modulation(table, scale)}
}

// textRows and imageRows are parts of a tensor [R,L+N,..].
func (n *fluxNetwork) textRows(x program.Tensor) program.Tensor { return n.Slice(x, 1, 0, n.text) }

func (n *fluxNetwork) imageRows(x program.Tensor) program.Tensor {
	return n.Slice(x, 1, n.text, n.text+n.image)
}

func (n *fluxNetwork) step(latents program.Tensor, row []schedule.Decision, out program.Tensor) {
	c, width := n.c, n.c.Width()
	x := n.Activation(n.stream, n.g.rows, n.text+n.image, width)
	n.PatchEmbed("x_embedder", program.PatchEmbedSpec{
		X: latents, W: n.Weight("x_embedder.weight", width, c.InChannels/(fluxPatch*fluxPatch), fluxPatch, fluxPatch), B: n.Weight("x_embedder.bias", width),
		Patch: fluxPatch, Repeat: 1,
	}, n.imageRows(x))
	text, image := newResidual(n.Builder, n.textRows(x), n.act), newResidual(n.Builder, n.imageRows(x), n.act)
	text.from = n.context
	for i := range c.Layers {
		n.doubleBlock(i, text, image, row)
	}
	joint := join(x, text, image)
	for i := range c.SingleLayers {
		n.singleBlock(i, joint, row)
	}
	n.At(-1, -1)
	y := joint.last(n.image).normalised("norm_out", n.norm(n.finalMod, 1, 0))
	tokens := n.linear("proj_out", y, program.NoAct, true, c.OutChannels, n.Activation(n.stream, n.g.rows, n.image, c.OutChannels), "proj_out")
	n.Unpatchify("unpack", tokens, fluxPatch, program.CPQ, c.OutChannels/(fluxPatch*fluxPatch), out)
}

// doubleBlock emits the components of block i that compute and queues the outputs of all three.
func (n *fluxNetwork) doubleBlock(i int, text, image *residual, row decisions) {
	mod, slots := n.doubleMods[i], &n.double[i]
	const ofText = modulations // text's rows of the modulation come after the image's
	n.At(i, schedule.JointAttn.Index())
	if row.compute(i, schedule.JointAttn) {
		n.jointAttention(i, text, image)
	}
	image.add(slots.attnImage, n.modulation(mod, gateAttn))
	text.add(slots.attnText, n.modulation(mod, ofText+gateAttn))
	n.At(i, schedule.ImageFF.Index())
	if row.compute(i, schedule.ImageFF) {
		n.feedForward("ff", blockKey(i, "ff"), image.normalised("norm2", n.norm(mod, shiftFF, scaleFF)), program.GeluTanh, fluxRatio*n.c.Width(), slots.ff)
	}
	image.add(slots.ff, n.modulation(mod, gateFF))
	n.At(i, schedule.ContextFF.Index())
	if row.compute(i, schedule.ContextFF) {
		y := text.normalised("norm2_context", n.norm(mod, ofText+shiftFF, ofText+scaleFF))
		n.feedForward("ff_context", blockKey(i, "ff_context"), y, program.GeluTanh, fluxRatio*n.c.Width(), slots.ffText)
	}
	text.add(slots.ffText, n.modulation(mod, ofText+gateFF))
}

// jointAttention fills both slots of full_attn: each stream has weights of its own, all tokens attend to all.
func (n *fluxNetwork) jointAttention(i int, text, image *residual) {
	width, mod, slots := n.c.Width(), n.doubleMods[i], &n.double[i]
	y := n.Activation(n.act, n.g.rows, n.text+n.image, width)
	text.normalise("norm1_context", n.norm(mod, modulations+shiftAttn, modulations+scaleAttn), n.textRows(y))
	image.normalise("norm1", n.norm(mod, shiftAttn, scaleAttn), n.imageRows(y))
	qkv := n.Activation(n.act, n.g.rows, n.text+n.image, 3*width)
	for _, s := range []struct {
		name         string
		rows         func(program.Tensor) program.Tensor
		from, to     int // tokens
		q, k, v      string
		normQ, normK string
	}{
		{"attn.added_qkv", n.textRows, 0, n.text, "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.norm_added_q", "attn.norm_added_k"},
		{"attn.qkv", n.imageRows, n.text, n.text + n.image, "attn.to_q", "attn.to_k", "attn.to_v", "attn.norm_q", "attn.norm_k"},
	} {
		rows := n.linear(s.name, s.rows(y), program.NoAct, true, width, s.rows(qkv), blockKey(i, s.q), blockKey(i, s.k), blockKey(i, s.v))
		n.turn(s.name, rows, n.Slice(n.rope, 0, s.from, s.to), blockKey(i, s.normQ), blockKey(i, s.normK))
	}
	a := n.attend(qkv, n.Activation(n.act, n.g.rows, n.text+n.image, width))
	n.linear("attn.out", n.imageRows(a), program.NoAct, true, width, slots.attnImage, blockKey(i, "attn.to_out.0"))
	n.linear("attn.add_out", n.textRows(a), program.NoAct, true, width, slots.attnText, blockKey(i, "attn.to_add_out"))
}

// turn normalises the queries and keys of qkv [R,..,3C] and turns them by their positions, in place.
func (n *fluxNetwork) turn(name string, qkv, rope program.Tensor, normQ, normK string) {
	width := n.c.Width()
	q, k := n.columns(qkv, 0, width), n.columns(qkv, width, 2*width)
	n.QKNormRope(name+".norm_rope", program.QKNormRopeSpec{Q: q, K: k, WQ: n.Weight(normQ+".weight", n.c.HeadDim), WK: n.Weight(normK+".weight", n.c.HeadDim),
		Rope: rope, Heads: n.c.Heads, HeadDim: n.c.HeadDim, Eps: fluxEps}, q, k)
}

// attend is the attention of all tokens of qkv [R,L+N,3C] to all, padding of the text included.
func (n *fluxNetwork) attend(qkv, out program.Tensor) program.Tensor {
	width := n.c.Width()
	return n.Attention("attn.attention", program.AttentionSpec{Q: n.columns(qkv, 0, width), K: n.columns(qkv, width, 2*width), V: n.columns(qkv, 2*width, 3*width),
		Heads: n.c.Heads, HeadDim: n.c.HeadDim, Scale: 1 / math.Sqrt(float64(n.c.HeadDim))}, out)
}

// singleBlock emits the components of single-stream block i that compute and queues the output of the last.
func (n *fluxNetwork) singleBlock(i int, x *residual, row decisions) {
	block, width, mod, slots := n.c.Layers+i, n.c.Width(), n.singleMods[i], &n.single[i]
	attn, mlp := row.compute(block, schedule.SingleAttn), row.compute(block, schedule.SingleProjMLP)
	var y program.Tensor
	if attn || mlp {
		if attn {
			n.At(block, schedule.SingleAttn.Index())
		} else {
			n.At(block, schedule.SingleProjMLP.Index())
		}
		y = x.normalised("norm", n.norm(mod, singleShift, singleScale))
	}
	n.At(block, schedule.SingleAttn.Index())
	if attn {
		qkv := n.linear("attn.qkv", y, program.NoAct, true, width, n.Activation(n.act, n.g.rows, n.text+n.image, 3*width),
			singleKey(i, "attn.to_q"), singleKey(i, "attn.to_k"), singleKey(i, "attn.to_v"))
		n.turn("attn.qkv", qkv, n.rope, singleKey(i, "attn.norm_q"), singleKey(i, "attn.norm_k"))
		n.attend(qkv, slots.attn)
	}
	n.At(block, schedule.SingleProjMLP.Index())
	if mlp {
		n.linear("proj_mlp", y, program.GeluTanh, true, fluxRatio*width, slots.mlp, singleKey(i, "proj_mlp"))
	}
	n.At(block, schedule.SingleProjOut.Index())
	if row.compute(block, schedule.SingleProjOut) {
		n.Linear("proj_out", program.LinearSpec{X: []program.Tensor{slots.attn, slots.mlp}, W: []program.Tensor{n.Weight(singleKey(i, "proj_out.weight"), width, (1+fluxRatio)*width)},
			B: []program.Tensor{n.Weight(singleKey(i, "proj_out.bias"), width)}}, slots.out)
	}
	x.add(slots.out, n.modulation(mod, singleGate))
}
