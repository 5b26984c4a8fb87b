package dit

import "ecadx/dit/program"

// residual is a residual stream [R, N, C] whose updates wait until somebody reads it: then one chain op adds all of them in a
// single pass and, if asked, normalises and modulates for the reader. So a run of reused components costs one op.
type residual struct {
	b       *program.Builder
	x       program.Tensor // in the dtype of the stream; updated in place
	from    program.Tensor // where its values are: x, or what it begins with until the first update
	act     program.DType  // what matrix products read
	pending []program.Term
	// parts, if any, are residuals of consecutive ranges of tokens of x, which have updates of their own to add: those of streams that were joined.
	parts []*residual
}

func newResidual(b *program.Builder, x program.Tensor, act program.DType) *residual {
	return &residual{b: b, x: x, from: x, act: act}
}

// join makes one residual of those of consecutive ranges of x's tokens, which must not be used any more. It costs no op.
func join(x program.Tensor, parts ...*residual) *residual {
	return &residual{b: parts[0].b, x: x, from: x, act: parts[0].act, parts: parts}
}

// add queues x += gate * s; a zero gate means 1.
func (r *residual) add(s, gate program.Tensor) {
	if r.parts == nil {
		r.pending = append(r.pending, program.Term{S: s, Gate: gate})
		return
	}
	for i, part := range r.parts {
		part.add(r.tokens(s, i), gate)
	}
}

// tokens is the view of t [R, N, ..] that belongs to part i.
func (r *residual) tokens(t program.Tensor, i int) program.Tensor {
	at := 0
	for _, part := range r.parts[:i] {
		at += part.x.Dim(1)
	}
	return r.b.Slice(t, 1, at, at+r.parts[i].x.Dim(1))
}

// last is the residual of the last n tokens: one of the parts, where it has such. r must not be used any more.
func (r *residual) last(n int) *residual {
	if r.parts != nil {
		return r.parts[len(r.parts)-1]
	}
	tail := func(t program.Tensor) program.Tensor { return r.b.Slice(t, 1, t.Dim(1)-n, t.Dim(1)) }
	out := newResidual(r.b, tail(r.x), r.act)
	for _, t := range r.pending {
		out.add(tail(t.S), t.Gate)
	}
	return out
}

// take hands out the queued terms and where the sum goes: nowhere new when there are none.
func (r *residual) take() (terms []program.Term, xOut program.Tensor) {
	terms, r.pending = r.pending, nil
	if len(terms) > 0 {
		xOut, r.from = r.x, r.x
	}
	return terms, xOut
}

// normalised returns norm(x) (* weight + bias) * (1 + scale) + shift; spec gives all but X and Terms.
func (r *residual) normalised(name string, spec program.ChainSpec) program.Tensor {
	y := r.b.Activation(r.act, r.x.Dims()...)
	r.normalise(name, spec, y)
	return y
}

// normalise writes the same to y. Parts are joined by it.
func (r *residual) normalise(name string, spec program.ChainSpec, y program.Tensor) {
	if r.parts != nil {
		for i, part := range r.parts {
			part.normalise(name, spec, r.tokens(y, i))
			part.settle(name)
		}
		r.parts = nil
		return
	}
	spec.X = r.from
	var xOut program.Tensor
	spec.Terms, xOut = r.take()
	r.b.Chain(name, spec, xOut, y)
}

// settle brings the values to x.
func (r *residual) settle(name string) {
	if r.from != r.x {
		r.b.Copy(name+".stream", r.from, r.x)
		r.from = r.x
	}
}

// plain returns x as it is, for a reader that neither normalises nor modulates.
func (r *residual) plain(name string) program.Tensor {
	x := r.from
	terms, xOut := r.take()
	if r.act == r.x.DType() {
		if len(terms) > 0 {
			r.b.Chain(name, program.ChainSpec{X: x, Terms: terms}, xOut, program.Tensor{})
		}
		return r.from
	}
	y := r.b.Activation(r.act, r.x.Dims()...)
	if len(terms) == 0 {
		return r.b.Copy(name, x, y)
	}
	r.b.Chain(name, program.ChainSpec{X: x, Terms: terms}, xOut, y)
	return y
}
