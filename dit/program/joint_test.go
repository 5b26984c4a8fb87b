package program_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"ecadx/dit/program"
)

// joint builds FLUX's attention over text and image tokens that live in one buffer: a double block's, whose rows have weights of their
// own and two slots, then a single block's.
func joint(b *program.Builder) {
	const B, L, N, H, D = 2, 3, 4, 2, 4
	const T, C = L + N, H * D
	tokens, text, image := b.Persistent("tokens", f32, B, N, C), b.Slot(0, 0, "text attention", f32, B, L, C), b.Slot(0, 0, "image attention", f32, B, N, C)
	single := b.Slot(1, 0, "attention", f32, B, T, C)
	b.InOut("tokens", tokens)
	b.Output("text", text)
	b.Output("image", image)
	b.Output("single", single)
	rope := b.Float32s("rope", make([]float32, T*D), T, D)
	b.Begin(program.Step, "step")
	y := b.Activation(f32, B, T, C)
	b.Copy("image tokens", tokens, b.Slice(y, 1, L, T))
	b.Copy("text tokens", b.Slice(tokens, 1, 0, L), b.Slice(y, 1, 0, L))
	qkv := b.Activation(f32, B, T, 3*C)
	project := func(key string, from, to int) {
		rows := b.Slice(qkv, 1, from, to)
		b.Linear(key+"qkv", program.LinearSpec{X: []program.Tensor{b.Slice(y, 1, from, to)}, W: []program.Tensor{b.Weight(key+"qkv", 3*C, C)}}, rows)
		q, k := b.Slice(rows, 2, 0, C), b.Slice(rows, 2, C, 2*C)
		b.QKNormRope(key+"rope", program.QKNormRopeSpec{Q: q, K: k, WQ: b.Weight(key+"q", D), WK: b.Weight(key+"k", D), Rope: b.Slice(rope, 0, from, to),
			Heads: H, HeadDim: D, Eps: 1e-6}, q, k)
	}
	attend := func(out program.Tensor) program.Tensor {
		return b.Attention("attention", program.AttentionSpec{Q: b.Slice(qkv, 2, 0, C), K: b.Slice(qkv, 2, C, 2*C), V: b.Slice(qkv, 2, 2*C, 3*C), Heads: H, HeadDim: D, Scale: 0.5}, out)
	}
	b.At(0, 0)
	project("image.", L, T)
	project("text.", 0, L)
	a := attend(program.Tensor{})
	b.Linear("text.out", program.LinearSpec{X: []program.Tensor{b.Slice(a, 1, 0, L)}, W: []program.Tensor{b.Weight("text.out", C, C)}}, text)
	b.Linear("image.out", program.LinearSpec{X: []program.Tensor{b.Slice(a, 1, L, T)}, W: []program.Tensor{b.Weight("image.out", C, C)}}, image)
	b.At(1, 0)
	project("single.", 0, T)
	attend(single)
	b.At(-1, -1)
	b.Add("tokens", tokens, image, tokens)
	b.Schedule("run", []program.Item{{Section: b.End()}})
}

func compileJoint(t testing.TB) *program.Program {
	t.Helper()
	b := program.NewBuilder(1)
	joint(b)
	p, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestJointAttention: rows of one buffer are written and rotated by different ops, none of which is dead, and the bytes say that they need
// the version with the op.
func TestJointAttention(t *testing.T) {
	p := compileJoint(t)
	if removed := p.Stats().Removed; len(removed) != 0 {
		t.Errorf("removed %+v", removed)
	}
	var text bytes.Buffer
	if err := p.Disassemble(&text, program.DisassembleOptions{}); err != nil {
		t.Fatal(err)
	}
	const want = "image.qkv%6+72[2,4,8]f32, image.qkv%6+80[2,4,8]f32, W(image.q), W(image.k), const(rope)+12[4,4]f32, 2 heads of 4, eps 1e-06 -> image.rope%6+72[2,4,8]f32, image.rope%6+80[2,4,8]f32"
	if !strings.Contains(text.String(), want) {
		t.Errorf("disassembly lacks %q:\n%s", want, text.String())
	}
	at := slices.IndexFunc(p.Ops, func(op program.Op) bool { return op.Name == "image.rope" })
	if got, want := p.Cost(at), (program.Cost{Flops: 9 * 2 * 2 * 4 * 8, Bytes: 4 * (4*2*4*8 + 2*4 + 4*4)}); got != want {
		t.Errorf("costs %+v, want %+v", got, want)
	}
	if data := encode(t, p); data[12] != 1 {
		t.Errorf("minor version %d, want 1", data[12])
	}
	if data := encode(t, compileTiny(t, "cccc")); data[12] != 0 {
		t.Errorf("minor version %d of a program without the op, want 0", data[12])
	}
}

func TestQKNormRopeMistakes(t *testing.T) {
	for _, test := range []struct {
		change func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor)
		want   string
	}{
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) { s.Heads, s.HeadDim = 4, 3 }, "head dim is 3: wants an even one"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) { s.Heads = 2 }, "q is [1,5,12]f32: wants [1,5,8]"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) {
			s.K = b.Activation(f32, 1, 4, 12)
		}, "k is [1,4,12]f32: wants"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) { s.WK = b.Weight("w", 12) }, "wk is [12]any: wants [4]"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) {
			s.Rope = b.Activation(f32, 5, 2)
		}, "rope is [5,2]f32: wants [5,4]"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) { s.Rope = program.Tensor{} }, "operand rope is missing"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) { s.Eps = -1 }, "eps is -1"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) { *q, *k = s.K, s.Q }, "output 0 shares bytes with input 1"},
		{func(b *program.Builder, s *program.QKNormRopeSpec, q, k *program.Tensor) { *k = *q }, "two outputs share bytes"},
	} {
		b := program.NewBuilder(1)
		b.Begin(program.Step, "s")
		spec := program.QKNormRopeSpec{Q: b.Activation(f32, 1, 5, 12), K: b.Activation(f32, 1, 5, 12), WQ: b.Weight("q", 4), WK: b.Weight("k", 4),
			Rope: b.Activation(f32, 5, 4), Heads: 3, HeadDim: 4}
		q, k := spec.Q, spec.K
		test.change(b, &spec, &q, &k)
		b.QKNormRope("rope", spec, q, k)
		b.End()
		if err := b.Err(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("want %q, got %v", test.want, err)
		}
	}
}
