package program

// Every op method takes the op's name, its operands and its output. The zero Tensor as output makes an activation of the right dims in
// the dtype of the first operand. It returns its output. Shapes and dtypes are those of the op table in kernels/PROGRAM.md.

// output is out, or an activation when it is the zero Tensor.
func (b *Builder) output(code Opcode, name string, out, like Tensor, dims ...int) Tensor {
	if out.Present() || !like.Present() {
		return out
	}
	if like.bad() {
		return badTensor(like.dtype, len(dims))
	}
	if like.dtype == Any {
		b.errorf("%s %q: the dtype of a weight is not known here, give it an output", code, name)
		return badTensor(Any, len(dims))
	}
	return b.Activation(like.dtype, dims...)
}

func (b *Builder) finish(op Op, in []Tensor, out Tensor) Tensor {
	if !b.add(op, in, []Tensor{out}) {
		return badTensor(out.dtype, int(out.rank))
	}
	return out
}

// withLast is the dims of t with another last one.
func withLast(t Tensor, last int) []int {
	dims := t.Dims()
	if len(dims) > 0 {
		dims[len(dims)-1] = last
	}
	return dims
}

// Copy writes x to out, converting to its dtype.
func (b *Builder) Copy(name string, x, out Tensor) Tensor {
	out = b.output(OpCopy, name, out, x, x.Dims()...)
	return b.finish(Op{Code: OpCopy, Name: name}, []Tensor{x}, out)
}

// LinearSpec are the operands of Linear.
type LinearSpec struct {
	X   []Tensor // [..,K_i], taken as one concatenation along the last dim, K = sum K_i
	W   []Tensor // [N_j,K], stacked, N = sum N_j
	B   []Tensor // [N_j], each may be absent; nil: none
	Act Act
}

// Linear writes act(concat(x) W^T + b) to out [..,N].
func (b *Builder) Linear(name string, spec LinearSpec, out Tensor) Tensor {
	var like Tensor
	if len(spec.X) > 0 {
		like = spec.X[0]
	}
	n := 0
	for _, w := range spec.W {
		n += w.Dim(0)
	}
	out = b.output(OpLinear, name, out, like, withLast(like, n)...)
	bs := spec.B
	if bs == nil {
		bs = make([]Tensor, len(spec.W))
	}
	in := append(append(append([]Tensor(nil), spec.X...), spec.W...), bs...)
	op := Op{Code: OpLinear, Name: name}
	op.Attr[0], op.Attr[1], op.Attr[2] = int32(len(spec.X)), int32(len(spec.W)), int32(spec.Act)
	return b.finish(op, in, out)
}

// GatedLinear writes act(x wg^T) * (x wu^T) to out [..,N]; x [..,K], wg and wu [N,K].
func (b *Builder) GatedLinear(name string, act Act, x, wg, wu, out Tensor) Tensor {
	out = b.output(OpGatedLinear, name, out, x, withLast(x, wg.Dim(0))...)
	op := Op{Code: OpGatedLinear, Name: name}
	op.Attr[0] = int32(act)
	return b.finish(op, []Tensor{x, wg, wu}, out)
}

// AttentionSpec are the operands of Attention.
type AttentionSpec struct {
	Q, K, V Tensor // [B,Nq,H D], [B,Nk,H D], [B,Nk,H D]
	Counts  Tensor // int32 [B]: keys that count, optional
	Bias    Tensor // [H,Nq,Nk], optional
	Heads   int
	HeadDim int
	Causal  bool
	Scale   float64
}

// Attention writes softmax(scale q k^T + bias) v to out [B,Nq,H D].
func (b *Builder) Attention(name string, spec AttentionSpec, out Tensor) Tensor {
	out = b.output(OpAttention, name, out, spec.Q, spec.Q.Dims()...)
	op := Op{Code: OpAttention, Name: name}
	op.Attr[0], op.Attr[1], op.Attr[2] = clampAttr(spec.Heads), clampAttr(spec.HeadDim), boolAttr(spec.Causal)
	op.FAttr[0] = spec.Scale
	return b.finish(op, []Tensor{spec.Q, spec.K, spec.V, spec.Counts, spec.Bias}, out)
}

// Term is gate * s in a chain: S [B,N,C], Gate [1 or B,C] or absent (1).
type Term struct{ S, Gate Tensor }

// ChainSpec are the operands of Chain.
type ChainSpec struct {
	X            Tensor // [B,N,C]
	Terms        []Term // added in this order
	Norm         Norm
	Eps          float64
	Scale, Shift Tensor // [1 or B,C], both or neither
	Weight, Bias Tensor // [C], optional
}

// Chain writes x' = x + sum gate s to xOut, which may be spec.X, and norm(x') (* weight + bias) * (1 + scale) + shift to y. Either may
// be absent; Finish also takes away one that nobody reads.
func (b *Builder) Chain(name string, spec ChainSpec, xOut, y Tensor) {
	op := Op{Code: OpChain, Name: name}
	op.Attr[0], op.Attr[1], op.FAttr[0] = int32(len(spec.Terms)), int32(spec.Norm), spec.Eps
	in := []Tensor{spec.X}
	for _, t := range spec.Terms {
		in = append(in, t.S, t.Gate)
	}
	in = append(in, spec.Scale, spec.Shift, spec.Weight, spec.Bias)
	b.add(op, in, []Tensor{xOut, y})
}

// Norm is a chain without terms: norm(x) (* weight + bias) * (1 + scale) + shift.
func (b *Builder) Norm(name string, spec ChainSpec, out Tensor) Tensor {
	out = b.output(OpChain, name, out, spec.X, spec.X.Dims()...)
	b.Chain(name, spec, Tensor{}, out)
	return out
}

// PatchEmbedSpec are the operands of PatchEmbed.
type PatchEmbedSpec struct {
	X      Tensor // [B,Ci,H,W]
	W      Tensor // [C,Ci,p,p]
	B      Tensor // [C], optional
	Pos    Tensor // [N,C], optional
	Patch  int
	Repeat int // copies of the batch in the output, 1 or more
}

// PatchEmbed writes the tokens of x, row-major, to out [Repeat B,N,C].
func (b *Builder) PatchEmbed(name string, spec PatchEmbedSpec, out Tensor) Tensor {
	p := max(spec.Patch, 1)
	out = b.output(OpPatchEmbed, name, out, spec.X, max(spec.Repeat, 1)*spec.X.Dim(0), max(1, spec.X.Dim(2)/p*(spec.X.Dim(3)/p)), spec.W.Dim(0))
	op := Op{Code: OpPatchEmbed, Name: name}
	op.Attr[0], op.Attr[1] = clampAttr(spec.Patch), clampAttr(spec.Repeat)
	return b.finish(op, []Tensor{spec.X, spec.W, spec.B, spec.Pos}, out)
}

// Unpatchify puts tokens x [B,N,p p channels] together as out [B,Ck,H,W], which must be given; only the first Ck channels are kept.
func (b *Builder) Unpatchify(name string, x Tensor, patch int, order PatchOrder, channels int, out Tensor) Tensor {
	op := Op{Code: OpUnpatchify, Name: name}
	op.Attr[0], op.Attr[1], op.Attr[2] = clampAttr(patch), int32(order), clampAttr(channels)
	return b.finish(op, []Tensor{x}, out)
}

// TimestepSpec are the attributes of TimestepEmbed.
type TimestepSpec struct {
	CosFirst       bool
	MaxPeriod      float64 // 10000
	Scale          float64 // t is multiplied by it
	DownscaleShift float64 // frequencies are exp(-ln(MaxPeriod) k / (half - DownscaleShift))
}

// TimestepEmbed writes the sinusoids of t [R] to out [R,dim], which must be given.
func (b *Builder) TimestepEmbed(name string, t Tensor, spec TimestepSpec, out Tensor) Tensor {
	op := Op{Code: OpTimestepEmbed, Name: name}
	op.Attr[0] = boolAttr(spec.CosFirst)
	op.FAttr = [numFAttrs]float64{spec.MaxPeriod, spec.Scale, spec.DownscaleShift}
	return b.finish(op, []Tensor{t}, out)
}

// Embedding writes rows of table [V,D] to out [..,D], which must be given; ids int32 [..].
func (b *Builder) Embedding(name string, ids, table, out Tensor) Tensor {
	return b.finish(Op{Code: OpEmbedding, Name: name}, []Tensor{ids, table}, out)
}

// Clamp is a closed range.
type Clamp struct{ Lo, Hi float64 }

// Lincomb writes sum c_i x_i to out, clamped unless clamp is nil. coefficients float64 [n], which may change with the step. out may be
// one of xs. A term whose coefficient is 0 is not read.
func (b *Builder) Lincomb(name string, xs []Tensor, coefficients Tensor, clamp *Clamp, out Tensor) Tensor {
	var like Tensor
	if len(xs) > 0 {
		like = xs[0]
	}
	out = b.output(OpLincomb, name, out, like, like.Dims()...)
	op := Op{Code: OpLincomb, Name: name}
	op.Attr[0] = int32(len(xs))
	if clamp != nil {
		op.Attr[1], op.FAttr[0], op.FAttr[1] = 1, clamp.Lo, clamp.Hi
	}
	return b.finish(op, append(append([]Tensor(nil), xs...), coefficients), out)
}

// Add writes x + y to out; dims of 1 are repeated, ranks are equal.
func (b *Builder) Add(name string, x, y, out Tensor) Tensor {
	dims := x.Dims()
	for i := range dims {
		dims[i] = max(dims[i], y.Dim(i))
	}
	like := x
	if x.dtype == Any {
		like = y
	}
	out = b.output(OpAdd, name, out, like, dims...)
	return b.finish(Op{Code: OpAdd, Name: name}, []Tensor{x, y}, out)
}

// Unary writes act(x) to out, which may be x.
func (b *Builder) Unary(name string, act Act, x, out Tensor) Tensor {
	out = b.output(OpUnary, name, out, x, x.Dims()...)
	op := Op{Code: OpUnary, Name: name}
	op.Attr[0] = int32(act)
	return b.finish(op, []Tensor{x}, out)
}

// Conv2DSpec are the operands of Conv2D.
type Conv2DSpec struct {
	X           Tensor // [B,H,W,Ci]
	W           Tensor // [Co,Ci,kh,kw]
	B           Tensor // [Co], optional
	Stride, Pad int
}

// Conv2D writes the cross-correlation of x with w, zeros around it, to out [B,Ho,Wo,Co].
func (b *Builder) Conv2D(name string, spec Conv2DSpec, out Tensor) Tensor {
	stride := max(spec.Stride, 1)
	ho := max((spec.X.Dim(1)+2*spec.Pad-spec.W.Dim(2))/stride+1, 1)
	wo := max((spec.X.Dim(2)+2*spec.Pad-spec.W.Dim(3))/stride+1, 1)
	out = b.output(OpConv2D, name, out, spec.X, spec.X.Dim(0), ho, wo, spec.W.Dim(0))
	op := Op{Code: OpConv2D, Name: name}
	op.Attr[0], op.Attr[1] = clampAttr(spec.Stride), clampAttr(spec.Pad)
	return b.finish(op, []Tensor{spec.X, spec.W, spec.B}, out)
}

// GroupNormSpec are the operands of GroupNorm.
type GroupNormSpec struct {
	X            Tensor // [B,H,W,C]
	Weight, Bias Tensor // [C]
	Groups       int
	Eps          float64
	Act          Act
}

// GroupNorm writes act(norm(x) * weight + bias) to out, statistics over (H, W, C/groups).
func (b *Builder) GroupNorm(name string, spec GroupNormSpec, out Tensor) Tensor {
	out = b.output(OpGroupNorm, name, out, spec.X, spec.X.Dims()...)
	op := Op{Code: OpGroupNorm, Name: name}
	op.Attr[0], op.Attr[1], op.FAttr[0] = clampAttr(spec.Groups), int32(spec.Act), spec.Eps
	return b.finish(op, []Tensor{spec.X, spec.Weight, spec.Bias}, out)
}

// Upsample writes x [B,H,W,C], every pixel f by f times, to out [B,fH,fW,C].
func (b *Builder) Upsample(name string, f int, x, out Tensor) Tensor {
	out = b.output(OpUpsample, name, out, x, x.Dim(0), max(f, 1)*x.Dim(1), max(f, 1)*x.Dim(2), x.Dim(3))
	op := Op{Code: OpUpsample, Name: name}
	op.Attr[0] = clampAttr(f)
	return b.finish(op, []Tensor{x}, out)
}

// Permute writes x, of rank 4, to out with out.dims[i] = x.dims[perm[i]].
func (b *Builder) Permute(name string, x Tensor, perm [4]int, out Tensor) Tensor {
	out = b.output(OpPermute, name, out, x, x.Dim(perm[0]), x.Dim(perm[1]), x.Dim(perm[2]), x.Dim(perm[3]))
	op := Op{Code: OpPermute, Name: name}
	for i, p := range perm {
		op.Attr[i] = clampAttr(p)
	}
	return b.finish(op, []Tensor{x}, out)
}

// QKNormRopeSpec are the operands of QKNormRope.
type QKNormRopeSpec struct {
	Q, K    Tensor // [B,N,H D]
	WQ, WK  Tensor // [D], weights of the norms
	Rope    Tensor // [N,D]: of pair m of token n the cosine at [n,2m], the sine at [n,2m+1]
	Heads   int
	HeadDim int
	Eps     float64
}

// QKNormRope normalises every head of queries and keys (rms norm over D, times its weight) and rotates each pair of adjacent elements by
// the token's angle, into qOut and kOut [B,N,H D]. These may be spec.Q and spec.K: then it works in place.
func (b *Builder) QKNormRope(name string, spec QKNormRopeSpec, qOut, kOut Tensor) (q, k Tensor) {
	qOut = b.output(OpQKNormRope, name, qOut, spec.Q, spec.Q.Dims()...)
	kOut = b.output(OpQKNormRope, name, kOut, spec.K, spec.K.Dims()...)
	op := Op{Code: OpQKNormRope, Name: name}
	op.Attr[0], op.Attr[1], op.FAttr[0] = clampAttr(spec.Heads), clampAttr(spec.HeadDim), spec.Eps
	if !b.add(op, []Tensor{spec.Q, spec.K, spec.WQ, spec.WK, spec.Rope}, []Tensor{qOut, kOut}) {
		return badTensor(qOut.dtype, int(qOut.rank)), badTensor(kOut.dtype, int(kOut.rank))
	}
	return qOut, kOut
}

func boolAttr(v bool) int32 {
	if v {
		return 1
	}
	return 0
}

// clampAttr keeps what does not fit an attribute out of range, for the check to tell.
func clampAttr(v int) int32 { return int32(min(max(int64(v), -1), maxDim)) }
