package program

// Cost is the work of one execution. Flops count a multiplication and an addition as two; Bytes count every operand once, read or
// written, without caches. Weights count in the dtype of the op's first output.
type Cost struct{ Flops, Bytes int64 }

// Plus is the sum.
func (c Cost) Plus(d Cost) Cost { return Cost{c.Flops + d.Flops, c.Bytes + d.Bytes} }

// Cost is the cost of op i:
//
//	linear          2 M N K, + M N with bias, + M N with act
//	gated_linear    4 M N K + 2 M N
//	attention       4 B Nq Nk H D + 5 B H Nq Nk for softmax, whatever the counts and the causal mask
//	chain           B N C (2 per gated term, 1 per ungated, 7 for layer norm, 4 for rms norm, 2 for modulation, 1 each for weight and bias)
//	patch_embed     2 B N C Ci p p, + B N C for bias, + R B N C for positions
//	conv2d          2 B Ho Wo Co Ci kh kw, + B Ho Wo Co with bias
//	group_norm      9 per element, + 1 with act
//	lincomb         2 per element and term
//	timestep_embed  3 per element
//	add, unary      1 per element
//	the others      0: they move data
func (p *Program) Cost(i int) Cost { return costOf(&p.Ops[i], p.Tensors) }

func costOf(op *Op, tensors []View) Cost {
	in, out := make([]*View, len(op.In)), make([]*View, len(op.Out))
	for i, id := range op.In {
		if id != absent {
			in[i] = &tensors[id]
		}
	}
	var first *View
	for i, id := range op.Out {
		if id == absent {
			continue
		}
		out[i] = &tensors[id]
		if first == nil {
			first = out[i]
		}
	}
	return Cost{Flops: flopsOf(op, in, out, first), Bytes: bytesOf(op, in, out, first)}
}

func bytesOf(op *Op, in, out []*View, first *View) int64 {
	total := int64(0)
	for i, v := range in {
		if v == nil {
			continue
		}
		size := v.DType.Size()
		if size == 0 {
			size = first.DType.Size()
		}
		count := int64(1)
		for d := 0; d < v.Rank; d++ {
			if v.Strides[d] != 0 { // repeated rows are read once
				count *= v.Dims[d]
			}
		}
		if op.Code == OpEmbedding && i == 1 {
			count = first.Count() // only the rows that ids name
		}
		total += count * size
	}
	for _, v := range out {
		if v != nil {
			total += v.Count() * v.DType.Size()
		}
	}
	return total
}

func flopsOf(op *Op, in, out []*View, y *View) int64 {
	n := y.Count()
	act := func(i int) int64 {
		if op.Attr[i] != int32(NoAct) {
			return n
		}
		return 0
	}
	switch op.Code {
	case OpLinear:
		nx, nw := int(op.Attr[0]), int(op.Attr[1])
		flops := 2*n*in[nx].last() + act(2)
		for i, b := range in[nx+nw:] {
			if b != nil {
				flops += y.rows() * in[nx+i].Dims[0]
			}
		}
		return flops
	case OpGatedLinear:
		return 4*n*in[0].last() + 2*n
	case OpAttention:
		pairs := in[0].Dims[0] * in[0].Dims[1] * in[1].Dims[1]
		return 4*pairs*in[0].Dims[2] + 5*pairs*int64(op.Attr[0])
	case OpChain:
		return n * chainFlops(op, in, out)
	case OpPatchEmbed:
		flops := 2 * n / int64(op.Attr[1]) * in[0].Dims[1] * int64(op.Attr[0]) * int64(op.Attr[0])
		if in[2] != nil {
			flops += n / int64(op.Attr[1])
		}
		if in[3] != nil {
			flops += n
		}
		return flops
	case OpConv2D:
		w := in[1]
		flops := 2 * n * w.Dims[1] * w.Dims[2] * w.Dims[3]
		if in[2] != nil {
			flops += n
		}
		return flops
	case OpGroupNorm:
		return 9*n + act(1)
	case OpLincomb:
		return 2 * n * int64(op.Attr[0])
	case OpTimestepEmbed:
		return 3 * n
	case OpAdd:
		return n
	case OpUnary:
		return act(0)
	}
	return 0
}

// chainFlops is the arithmetic per element.
func chainFlops(op *Op, in, out []*View) int64 {
	terms := int(op.Attr[0])
	per := int64(0)
	for i := 0; i < terms; i++ {
		per++
		if in[2+2*i] != nil {
			per++
		}
	}
	if out[1] == nil {
		return per
	}
	switch Norm(op.Attr[1]) {
	case LayerNorm:
		per += 7
	case RMSNorm:
		per += 4
	}
	rest := in[1+2*terms:]
	if rest[0] != nil {
		per += 2
	}
	for _, v := range rest[2:] {
		if v != nil {
			per++
		}
	}
	return per
}
