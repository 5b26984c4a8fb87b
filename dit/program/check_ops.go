package program

import "fmt"

func checkCopy(c *opCheck) {
	if c.arity(1, 1, 0, 0) && c.need("x y", c.in[0], c.out[0]) {
		c.convertible(c.in[0], c.out[0])
		c.like("y", c.out[0], c.in[0])
	}
}

func checkLinear(c *opCheck) {
	nx, nw := c.attr(0, "number of inputs", 1, maxParts), c.attr(1, "number of weights", 1, maxParts)
	c.act(2)
	if c.err != nil || !c.arity(int(nx+2*nw), 1, 3, 0) {
		return
	}
	xs, ws, bs := c.in[:nx], c.in[nx:nx+nw], c.in[nx+nw:]
	y := c.out[0]
	if !c.need("y x_1", y, xs[0]) {
		return
	}
	c.floats("y", y)
	var k, n int64
	for i, x := range xs {
		name := fmt.Sprintf("x_%d", i+1)
		if !c.need(name, x) {
			return
		}
		c.floats(name, x)
		c.rowsLike(name, x, xs[0], x.last())
		k += x.last()
	}
	for i, w := range ws {
		name := fmt.Sprintf("w_%d", i+1)
		if !c.need(name, w) {
			return
		}
		c.floats(name, w)
		c.dims(name, w, w.Dims[0], k)
		if b := bs[i]; b != nil {
			c.floats(fmt.Sprintf("b_%d", i+1), b)
			c.dims(fmt.Sprintf("b_%d", i+1), b, w.Dims[0])
		}
		n += w.Dims[0]
	}
	c.rowsLike("y", y, xs[0], n)
}

func checkGatedLinear(c *opCheck) {
	c.act(0)
	if !c.arity(3, 1, 1, 0) || !c.need("x wg wu y", c.in[0], c.in[1], c.in[2], c.out[0]) {
		return
	}
	x, wg, wu, y := c.in[0], c.in[1], c.in[2], c.out[0]
	c.floats("x wg wu y", x, wg, wu, y)
	c.dims("wg", wg, wg.Dims[0], x.last())
	c.dims("wu", wu, wg.Dims[0], x.last())
	c.rowsLike("y", y, x, wg.Dims[0])
}

func checkAttention(c *opCheck) {
	heads, dim := c.attr(0, "heads", 1, maxExtent), c.attr(1, "head dim", 1, maxExtent)
	c.attr(2, "causal", 0, 1)
	if !c.arity(5, 1, 3, 1) || !c.need("q k v y", c.in[0], c.in[1], c.in[2], c.out[0]) {
		return
	}
	q, k, v, counts, bias, y := c.in[0], c.in[1], c.in[2], c.in[3], c.in[4], c.out[0]
	c.floats("q k v bias y", q, k, v, bias, y)
	c.rank("q", q, 3)
	c.rank("k", k, 3)
	if c.err != nil {
		return
	}
	c.dims("q", q, q.Dims[0], q.Dims[1], heads*dim)
	c.dims("k", k, q.Dims[0], k.Dims[1], heads*dim)
	c.like("v", v, k)
	c.like("y", y, q)
	c.dims("counts", counts, q.Dims[0])
	c.dims("bias", bias, heads, q.Dims[1], k.Dims[1])
	if c.op.Attr[2] == 1 && q.Dims[1] != k.Dims[1] {
		c.fail("causal, but q is %s and k is %s: wants as many queries as keys", shapeText(q), shapeText(k))
	}
	if counts != nil && counts.DType != Int32 {
		c.fail("counts is %s: wants i32", shapeText(counts))
	}
}

func checkChain(c *opCheck) {
	n := c.attr(0, "number of terms", 0, maxTerms)
	c.attr(1, "norm", 0, int64(numNorms)-1)
	if c.err != nil || !c.arity(int(1+2*n+4), 2, 2, 1) || !c.need("x", c.in[0]) {
		return
	}
	x := c.in[0]
	c.floats("x", x)
	c.rank("x", x, 3)
	if c.err != nil {
		return
	}
	batch, width := x.Dims[0], x.Dims[2]
	for i := 0; i < int(n); i++ {
		s, g := c.in[1+2*i], c.in[2+2*i]
		sName, gName := fmt.Sprintf("s_%d", i+1), fmt.Sprintf("g_%d", i+1)
		if !c.need(sName, s) {
			return
		}
		c.floats(sName+" "+gName, s, g)
		c.like(sName, s, x)
		c.perBatch(gName, g, batch, width)
	}
	rest := c.in[1+2*n:]
	scale, shift, weight, bias := rest[0], rest[1], rest[2], rest[3]
	xOut, y := c.out[0], c.out[1]
	c.floats("scale shift weight bias x' y", scale, shift, weight, bias, xOut, y)
	c.perBatch("scale", scale, batch, width)
	c.perBatch("shift", shift, batch, width)
	c.dims("weight", weight, width)
	c.dims("bias", bias, width)
	c.like("x'", xOut, x)
	c.like("y", y, x)
	if (scale == nil) != (shift == nil) {
		c.fail("scale and shift come together")
	}
	if xOut == nil && y == nil {
		c.fail("has neither x' nor y")
	}
	if c.op.FAttr[0] < 0 {
		c.fail("eps is %v: wants 0 or more", c.op.FAttr[0])
	}
}

func checkPatchEmbed(c *opCheck) {
	p, repeat := c.attr(0, "patch size", 1, maxExtent), c.attr(1, "repeat", 1, maxExtent)
	if !c.arity(4, 1, 2, 0) || !c.need("x w y", c.in[0], c.in[1], c.out[0]) {
		return
	}
	x, w, b, pos, y := c.in[0], c.in[1], c.in[2], c.in[3], c.out[0]
	c.floats("x w b pos y", x, w, b, pos, y)
	c.rank("x", x, 4)
	c.rank("y", y, 3)
	if c.err != nil {
		return
	}
	if x.Dims[2]%p != 0 || x.Dims[3]%p != 0 {
		c.fail("x is %s: height and width must be multiples of the patch size %d", shapeText(x), p)
	}
	n := (x.Dims[2] / p) * (x.Dims[3] / p)
	width := y.Dims[2]
	c.dims("w", w, width, x.Dims[1], p, p)
	c.dims("b", b, width)
	c.dims("pos", pos, n, width)
	c.dims("y", y, repeat*x.Dims[0], n, width)
}

func checkUnpatchify(c *opCheck) {
	p := c.attr(0, "patch size", 1, maxExtent)
	c.attr(1, "order", 0, int64(numPatchOrders)-1)
	total := c.attr(2, "channels", 1, maxExtent)
	if !c.arity(1, 1, 3, 0) || !c.need("x y", c.in[0], c.out[0]) {
		return
	}
	x, y := c.in[0], c.out[0]
	c.floats("x y", x, y)
	c.rank("y", y, 4)
	if c.err != nil {
		return
	}
	if y.Dims[1] > total {
		c.fail("y is %s: wants at most %d channels", shapeText(y), total)
	}
	if y.Dims[2]%p != 0 || y.Dims[3]%p != 0 {
		c.fail("y is %s: height and width must be multiples of the patch size %d", shapeText(y), p)
	}
	c.dims("x", x, y.Dims[0], (y.Dims[2]/p)*(y.Dims[3]/p), p*p*total)
}

func checkTimestepEmbed(c *opCheck) {
	c.attr(0, "cos first", 0, 1)
	if !c.arity(1, 1, 1, 3) || !c.need("t y", c.in[0], c.out[0]) {
		return
	}
	t, y := c.in[0], c.out[0]
	c.floats("t y", t, y)
	c.rank("t", t, 1)
	c.dims("y", y, t.Dims[0], y.last())
	if y.last()%2 != 0 {
		c.fail("y is %s: wants an even width", shapeText(y))
	}
	if !(c.op.FAttr[0] > 0) {
		c.fail("max period is %v: must be positive", c.op.FAttr[0])
	}
	if !(c.op.FAttr[2] < float64(y.last()/2)) {
		c.fail("downscale shift is %v: wants less than %d", c.op.FAttr[2], y.last()/2)
	}
}

func checkEmbedding(c *opCheck) {
	if !c.arity(2, 1, 0, 0) || !c.need("ids table y", c.in[0], c.in[1], c.out[0]) {
		return
	}
	ids, table, y := c.in[0], c.in[1], c.out[0]
	c.floats("table y", table, y)
	c.rank("table", table, 2)
	if ids.DType != Int32 || ids.Rank > maxRank-1 {
		c.fail("ids is %s: wants i32 of rank 1 to 3", shapeText(ids))
	}
	c.dims("y", y, append(ids.Shape(), table.Dims[1])...)
}

func checkLincomb(c *opCheck) {
	n := c.attr(0, "number of terms", 1, maxTerms)
	clamp := c.attr(1, "clamp", 0, 1)
	if c.err != nil || !c.arity(int(n)+1, 1, 2, int(2*clamp)) || !c.need("y coefficients", c.out[0], c.in[n]) {
		return
	}
	y, coef := c.out[0], c.in[n]
	c.floats("y", y)
	for i, x := range c.in[:n] {
		name := fmt.Sprintf("x_%d", i+1)
		if !c.need(name, x) {
			return
		}
		c.floats(name, x)
		c.like(name, x, y)
	}
	c.dims("coefficients", coef, n)
	if coef.DType != Float64 {
		c.fail("coefficients is %s: wants f64", shapeText(coef))
	}
	if clamp == 1 && !(c.op.FAttr[0] <= c.op.FAttr[1]) {
		c.fail("clamps to [%v, %v]: wants lo <= hi", c.op.FAttr[0], c.op.FAttr[1])
	}
}

func checkAdd(c *opCheck) {
	if !c.arity(2, 1, 0, 0) || !c.need("a b y", c.in[0], c.in[1], c.out[0]) {
		return
	}
	y := c.out[0]
	c.floats("a b y", c.in[0], c.in[1], y)
	for i, x := range c.in {
		name := [2]string{"a", "b"}[i]
		c.rank(name, x, y.Rank)
		for d := 0; d < y.Rank; d++ {
			if x.Dims[d] != 1 && x.Dims[d] != y.Dims[d] {
				c.fail("%s is %s: its dims must be 1 or those of y, %s", name, shapeText(x), shapeText(y))
			}
		}
	}
}

func checkUnary(c *opCheck) {
	c.act(0)
	if c.arity(1, 1, 1, 0) && c.need("x y", c.in[0], c.out[0]) {
		c.floats("x y", c.in[0], c.out[0])
		c.like("y", c.out[0], c.in[0])
	}
}

func checkConv2D(c *opCheck) {
	stride, pad := c.attr(0, "stride", 1, maxExtent), c.attr(1, "pad", 0, maxExtent)
	if !c.arity(3, 1, 2, 0) || !c.need("x w y", c.in[0], c.in[1], c.out[0]) {
		return
	}
	x, w, b, y := c.in[0], c.in[1], c.in[2], c.out[0]
	c.floats("x w b y", x, w, b, y)
	c.rank("x", x, 4)
	c.rank("w", w, 4)
	if c.err != nil {
		return
	}
	c.dims("w", w, w.Dims[0], x.Dims[3], w.Dims[2], w.Dims[3])
	c.dims("b", b, w.Dims[0])
	h, wd := x.Dims[1]+2*pad-w.Dims[2], x.Dims[2]+2*pad-w.Dims[3]
	if h < 0 || wd < 0 {
		c.fail("w is %s: larger than x %s padded by %d", shapeText(w), shapeText(x), pad)
		return
	}
	c.dims("y", y, x.Dims[0], h/stride+1, wd/stride+1, w.Dims[0])
}

func checkGroupNorm(c *opCheck) {
	groups := c.attr(0, "groups", 1, maxExtent)
	c.act(1)
	if c.err != nil || !c.arity(3, 1, 2, 1) || !c.need("x weight bias y", c.in[0], c.in[1], c.in[2], c.out[0]) {
		return
	}
	x := c.in[0]
	c.floats("x weight bias y", x, c.in[1], c.in[2], c.out[0])
	c.rank("x", x, 4)
	if x.last()%groups != 0 {
		c.fail("x is %s: its channels are not a multiple of %d groups", shapeText(x), groups)
	}
	c.dims("weight", c.in[1], x.last())
	c.dims("bias", c.in[2], x.last())
	c.like("y", c.out[0], x)
	if c.op.FAttr[0] < 0 {
		c.fail("eps is %v: wants 0 or more", c.op.FAttr[0])
	}
}

func checkUpsample(c *opCheck) {
	f := c.attr(0, "factor", 1, maxExtent)
	if !c.arity(1, 1, 1, 0) || !c.need("x y", c.in[0], c.out[0]) {
		return
	}
	x := c.in[0]
	c.floats("x y", x, c.out[0])
	c.rank("x", x, 4)
	c.dims("y", c.out[0], x.Dims[0], f*x.Dims[1], f*x.Dims[2], x.Dims[3])
}

func checkPermute(c *opCheck) {
	if !c.arity(1, 1, 4, 0) || !c.need("x y", c.in[0], c.out[0]) {
		return
	}
	x, y := c.in[0], c.out[0]
	c.rank("x", x, 4)
	var seen [maxRank]bool
	want := make([]int64, maxRank)
	for i := range want {
		from := c.attr(i, "perm", 0, maxRank-1)
		if c.err != nil {
			return
		}
		if seen[from] {
			c.fail("perm %v names dim %d twice", c.op.Attr[:maxRank], from)
			return
		}
		seen[from] = true
		want[i] = x.Dims[from]
	}
	c.dims("y", y, want...)
	c.convertible(x, y)
}

func checkQKNormRope(c *opCheck) {
	heads, dim := c.attr(0, "heads", 1, maxExtent), c.attr(1, "head dim", 1, maxExtent)
	if !c.arity(5, 2, 2, 1) || !c.need("q k wq wk rope q' k'", append(append([]*View(nil), c.in...), c.out...)...) {
		return
	}
	q, k := c.in[0], c.in[1]
	c.floats("q k wq wk rope q' k'", q, k, c.in[2], c.in[3], c.in[4], c.out[0], c.out[1])
	c.rank("q", q, 3)
	if c.err != nil {
		return
	}
	if dim%2 != 0 {
		c.fail("head dim is %d: wants an even one, pairs of elements are rotated", dim)
	}
	c.dims("q", q, q.Dims[0], q.Dims[1], heads*dim)
	c.like("k", k, q)
	c.dims("wq", c.in[2], dim)
	c.dims("wk", c.in[3], dim)
	c.dims("rope", c.in[4], q.Dims[1], dim)
	c.like("q'", c.out[0], q)
	c.like("k'", c.out[1], q)
	if c.op.FAttr[0] < 0 {
		c.fail("eps is %v: wants 0 or more", c.op.FAttr[0])
	}
}
