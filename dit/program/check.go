package program

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// opCheck checks one op's attributes and the shapes and dtypes of its operands. Absent operands are nil. The first error stays.
type opCheck struct {
	op      *Op
	in, out []*View
	err     error
}

func (c *opCheck) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// shapeText is like [2,64,144] with the dtype.
func shapeText(v *View) string {
	if v == nil {
		return "nothing"
	}
	return dimsText(v.Dims[:v.Rank]) + v.DType.String()
}

func dimsText(dims []int64) string {
	var sb strings.Builder
	sb.WriteByte('[')
	for i, d := range dims {
		if i > 0 {
			sb.WriteByte(',')
		}
		fmt.Fprint(&sb, d)
	}
	sb.WriteByte(']')
	return sb.String()
}

// checkOp checks op against the table of PROGRAM.md. in and out are its operands, nil where absent.
func checkOp(op *Op, in, out []*View) error {
	c := &opCheck{op: op, in: in, out: out}
	if op.Code < OpCopy || op.Code >= numOpcodes {
		return fmt.Errorf("unknown opcode %d", uint32(op.Code))
	}
	for i, f := range op.FAttr {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("fattr%d is %v: must be finite", i, f)
		}
	}
	opRules[op.Code](c)
	return c.err
}

var opRules = [numOpcodes]func(*opCheck){
	OpCopy: checkCopy, OpLinear: checkLinear, OpGatedLinear: checkGatedLinear, OpAttention: checkAttention, OpChain: checkChain,
	OpPatchEmbed: checkPatchEmbed, OpUnpatchify: checkUnpatchify, OpTimestepEmbed: checkTimestepEmbed, OpEmbedding: checkEmbedding,
	OpLincomb: checkLincomb, OpAdd: checkAdd, OpUnary: checkUnary, OpConv2D: checkConv2D, OpGroupNorm: checkGroupNorm,
	OpUpsample: checkUpsample, OpPermute: checkPermute, OpQKNormRope: checkQKNormRope,
}

// arity wants exactly so many inputs and outputs and no attributes from attr `attrs` and fattr `fattrs` on.
func (c *opCheck) arity(in, out, attrs, fattrs int) bool {
	if len(c.in) != in || len(c.out) != out {
		c.fail("has %d inputs and %d outputs, wants %d and %d", len(c.in), len(c.out), in, out)
		return false
	}
	for i := attrs; i < numAttrs; i++ {
		if c.op.Attr[i] != 0 {
			c.fail("attr%d is %d, but the op does not use it", i, c.op.Attr[i])
		}
	}
	for i := fattrs; i < numFAttrs; i++ {
		if c.op.FAttr[i] != 0 {
			c.fail("fattr%d is %v, but the op does not use it", i, c.op.FAttr[i])
		}
	}
	return c.err == nil
}

// need wants the named operands to be present.
func (c *opCheck) need(names string, vs ...*View) bool {
	for i, name := range strings.Fields(names) {
		if vs[i] == nil {
			c.fail("operand %s is missing", name)
		}
	}
	return c.err == nil
}

// floats wants present operands to be of float dtype; weights are.
func (c *opCheck) floats(names string, vs ...*View) {
	for i, name := range strings.Fields(names) {
		if vs[i] != nil && !vs[i].DType.IsFloat() {
			c.fail("%s is %s: wants a float dtype", name, shapeText(vs[i]))
		}
	}
}

func (c *opCheck) rank(name string, v *View, rank int) {
	if v.Rank != rank {
		c.fail("%s is %s: wants rank %d", name, shapeText(v), rank)
	}
}

// dims wants v to be exactly of the given dims; a nil v passes.
func (c *opCheck) dims(name string, v *View, want ...int64) {
	if v == nil {
		return
	}
	if v.Rank == len(want) {
		same := true
		for i, d := range want {
			same = same && v.Dims[i] == d
		}
		if same {
			return
		}
	}
	c.fail("%s is %s: wants %s", name, shapeText(v), dimsText(want))
}

// like wants v to be of the dims of w.
func (c *opCheck) like(name string, v, w *View) { c.dims(name, v, w.Dims[:w.Rank]...) }

// rowsLike wants v to be of the dims of x but for the last, which is last.
func (c *opCheck) rowsLike(name string, v, x *View, last int64) {
	want := x.Shape()
	want[x.Rank-1] = last
	c.dims(name, v, want...)
}

// perBatch wants v to be [1,C] or [B,C]; a nil v passes.
func (c *opCheck) perBatch(name string, v *View, batch, width int64) {
	if v != nil && (v.Rank != 2 || (v.Dims[0] != 1 && v.Dims[0] != batch) || v.Dims[1] != width) {
		c.fail("%s is %s: wants [1,%d] or [%d,%d]", name, shapeText(v), width, batch, width)
	}
}

// attr wants lo <= attr i <= hi.
func (c *opCheck) attr(i int, name string, lo, hi int64) int64 {
	v := int64(c.op.Attr[i])
	if v < lo || v > hi {
		c.fail("%s is %d: wants %d to %d", name, v, lo, hi)
	}
	return v
}

// convertible wants x and y to be of one dtype or both floats.
func (c *opCheck) convertible(x, y *View) {
	if x.DType != y.DType && !(x.DType.IsFloat() && y.DType.IsFloat()) {
		c.fail("x is %s, y is %s: only floats are converted", shapeText(x), shapeText(y))
	}
}

func (c *opCheck) act(i int) { c.attr(i, "act", 0, int64(numActs)-1) }

// checkAliases wants no output to share bytes with an input or another output, but for the pairs that PROGRAM.md allows.
func checkAliases(op *Op, in, out []*View, steps int) error {
	for i, o := range out {
		if o == nil {
			continue
		}
		for j := i + 1; j < len(out); j++ {
			if out[j] != nil && mayShare(o, out[j], steps) {
				return errors.New("two outputs share bytes")
			}
		}
		for j, x := range in {
			if x == nil || !mayShare(o, x, steps) {
				continue
			}
			if *o == *x && inPlace(op, j, i) {
				continue
			}
			return fmt.Errorf("output %d shares bytes with input %d", i, j)
		}
	}
	return nil
}

// inPlace says whether input i may be output o, given that they are the same view.
func inPlace(op *Op, i, o int) bool {
	switch op.Code {
	case OpChain:
		return i == 0 && o == 0
	case OpLincomb:
		return i < int(op.Attr[0])
	case OpUnary, OpAdd, OpCopy:
		return true
	case OpQKNormRope:
		return i < 2 && i == o
	}
	return false
}
