package program

import (
	"math"
	"math/bits"
)

// Cost is the work of one execution. Flops count a multiplication and an addition as two; Bytes count the elements of every operand
// once. Weights, whose dtype a program does not know, count in the dtype of the op's first output.
type Cost struct{ Flops, Bytes int64 }

// Plus is the sum.
func (c Cost) Plus(d Cost) Cost { return Cost{add(c.Flops, d.Flops), add(c.Bytes, d.Bytes)} }

// Cost is the cost of op i. Flops are those of kernels/core/flops.cpp; any elementary function counts one, a bias none: it is where
// the sum starts.
//
//	linear          2 M N K, + M N with act
//	gated_linear    4 M N K + M N, + M N with act
//	attention       4 B Nq Nk H D, whatever the counts and the causal mask
//	chain           B N C (2 per gated term, 1 per other, 7 for layer norm, 5 for rms, 2 for modulation, 1 each for weight and bias)
//	patch_embed     2 R B N C Ci p p
//	conv2d          2 B Ho Wo Co Ci kh kw
//	group_norm      9 per element, + 1 with act
//	lincomb         2 per element and term
//	qk_norm_rope    9 per element of q and k: 5 for the norm, 1 for its weight, 3 for the rotation
//	timestep_embed  4 per element
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
		count := v.Count()
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
	attr := func(i int) int64 { return int64(op.Attr[i]) }
	act := func(i int) int64 {
		if op.Attr[i] != int32(NoAct) {
			return n
		}
		return 0
	}
	switch op.Code {
	case OpLinear:
		return add(product(2, n, in[op.Attr[0]].last()), act(2))
	case OpGatedLinear:
		return add(product(4, n, in[0].last()), n+act(0))
	case OpAttention:
		return product(4, n, in[1].Dims[1])
	case OpChain:
		return product(in[0].Count(), chainFlops(op, in, out))
	case OpPatchEmbed:
		return product(2, n, in[1].Dims[1], attr(0), attr(0))
	case OpConv2D:
		w := in[1]
		return product(2, n, w.Dims[1], w.Dims[2], w.Dims[3])
	case OpGroupNorm:
		return 9*n + act(1)
	case OpLincomb:
		return product(2, n, attr(0))
	case OpQKNormRope:
		return product(18, n)
	case OpTimestepEmbed:
		return 4 * n
	case OpAdd, OpUnary:
		return n
	}
	return 0
}

// product and add stop at the largest int64: dims of hostile programs multiply to more.
func product(factors ...int64) int64 {
	result := int64(1)
	for _, f := range factors {
		hi, lo := bits.Mul64(uint64(result), uint64(f))
		if hi != 0 || lo > math.MaxInt64 {
			return math.MaxInt64
		}
		result = int64(lo)
	}
	return result
}

func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
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
		per += 5
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
