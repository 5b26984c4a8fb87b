package program_test

import (
	"fmt"
	"testing"

	"ecadx/dit/program"
)

// tiny builds a transformer of two blocks with two components each, batch 2, 4 tokens of width 8, over len(rows) steps. A row's letters
// say which of b0 attn, b0 ff, b1 attn, b1 ff are computed ('c') and which reused ('r').
func tiny(b *program.Builder, rows []string) {
	const B, N, C = 2, 4, 8
	S := len(rows)
	latents := b.Persistent("latents", program.Float32, B, N, C)
	b.InOut("latents", latents)
	timesteps := make([]float32, S)
	coefficients := make([]float64, 0, 2*S)
	for i := range timesteps {
		timesteps[i] = float32(S - i)
		coefficients = append(coefficients, 1, -1/float64(S))
	}
	t := b.Float32s("timesteps", timesteps, S)
	coef := b.Float64s("sampler", coefficients, S, 2)
	mod := b.Persistent("modulation", program.Float32, S, 6*C)
	var slots [2][2]program.Tensor
	for blk := range slots {
		for c, name := range [2]string{"attn", "ff"} {
			slots[blk][c] = b.Slot(blk, c, fmt.Sprintf("b%d.%s", blk, name), program.Float32, B, N, C)
		}
	}

	b.Begin(program.Prologue, "prologue")
	e := b.TimestepEmbed("sinusoid", t, program.TimestepSpec{CosFirst: true, MaxPeriod: 10000, Scale: 1}, b.Activation(program.Float32, S, C))
	b.Linear("modulation", program.LinearSpec{X: []program.Tensor{e}, W: []program.Tensor{b.Weight("ada.weight", 6*C, C)},
		B: []program.Tensor{b.Weight("ada.bias", 6*C)}, Act: program.SiLU}, mod)
	items := []program.Item{{Section: b.End()}}

	now := b.Step(b.Reshape(mod, S, 1, 6*C))
	part := func(i int) program.Tensor { return b.Slice(now, -1, i*C, (i+1)*C) }
	for s, row := range rows {
		b.Begin(program.Step, fmt.Sprintf("step %d %s", s, row))
		x := b.Activation(program.Float32, B, N, C)
		b.Copy("tokens", latents, x)
		var terms []program.Term
		for i, letter := range row {
			blk, c := i/2, i%2
			if letter == 'c' {
				b.At(blk, c)
				h := b.Activation(program.Float32, B, N, C)
				b.Chain("chain", program.ChainSpec{X: x, Terms: terms, Norm: program.LayerNorm, Eps: 1e-6, Scale: part(3 * c), Shift: part(3*c + 1)}, x, h)
				terms = nil
				produce(b, blk, c, h, slots[blk][c])
			}
			terms = append(terms, program.Term{S: slots[blk][c], Gate: part(3*c + 2)})
		}
		b.At(-1, -1)
		y := b.Activation(program.Float32, B, N, C)
		b.Chain("chain", program.ChainSpec{X: x, Terms: terms, Norm: program.LayerNorm, Eps: 1e-6}, x, y)
		b.Lincomb("sampler", []program.Tensor{latents, y}, b.Step(coef), nil, latents)
		items = append(items, program.Item{Section: b.End(), Step: s})
	}
	b.Schedule("run", items)
}

func produce(b *program.Builder, blk, c int, h, slot program.Tensor) {
	C := h.Dim(-1)
	w := func(name string, dims ...int) program.Tensor {
		return b.Weight(fmt.Sprintf("blocks.%d.%s", blk, name), dims...)
	}
	if c == 0 {
		qkv := b.Linear("qkv", program.LinearSpec{X: []program.Tensor{h}, W: []program.Tensor{w("q", C, C), w("k", C, C), w("v", C, C)}}, program.Tensor{})
		a := b.Attention("attn", program.AttentionSpec{Q: b.Slice(qkv, -1, 0, C), K: b.Slice(qkv, -1, C, 2*C), V: b.Slice(qkv, -1, 2*C, 3*C),
			Heads: 2, HeadDim: C / 2, Scale: 0.5}, program.Tensor{})
		b.Linear("out", program.LinearSpec{X: []program.Tensor{a}, W: []program.Tensor{w("o", C, C)}, B: []program.Tensor{w("o.bias", C)}}, slot)
		return
	}
	f := b.Linear("up", program.LinearSpec{X: []program.Tensor{h}, W: []program.Tensor{w("up", 4*C, C)}, Act: program.GeluTanh}, program.Tensor{})
	b.Linear("down", program.LinearSpec{X: []program.Tensor{f}, W: []program.Tensor{w("down", C, 4*C)}}, slot)
}

func compileTiny(t testing.TB, rows ...string) *program.Program {
	t.Helper()
	b := program.NewBuilder(len(rows))
	tiny(b, rows)
	p, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
