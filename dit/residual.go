package dit

import "ecadx/dit/program"

// residual is a residual stream [R, N, C] whose updates wait until somebody reads it: then one chain op adds all of them in a
// single pass and, if asked, normalises and modulates for the reader. So a run of reused components costs one op.
type residual struct {
	b       *program.Builder
	x       program.Tensor // in the dtype of the stream; updated in place
	act     program.DType  // what matrix products read
	pending []program.Term
}

// add queues x += gate * s; a zero gate means 1.
func (r *residual) add(s, gate program.Tensor) {
	r.pending = append(r.pending, program.Term{S: s, Gate: gate})
}

// take hands out the queued terms and where the sum goes: nowhere new when there are none.
func (r *residual) take() (terms []program.Term, xOut program.Tensor) {
	terms, r.pending = r.pending, nil
	if len(terms) > 0 {
		xOut = r.x
	}
	return terms, xOut
}

// normalised returns norm(x) (* weight + bias) * (1 + scale) + shift; spec gives all but X and Terms.
func (r *residual) normalised(name string, spec program.ChainSpec) program.Tensor {
	var xOut program.Tensor
	spec.X = r.x
	spec.Terms, xOut = r.take()
	y := r.b.Activation(r.act, r.x.Dims()...)
	r.b.Chain(name, spec, xOut, y)
	return y
}

// plain returns x as it is, for a reader that neither normalises nor modulates.
func (r *residual) plain(name string) program.Tensor {
	terms, xOut := r.take()
	if r.act == r.x.DType() {
		if len(terms) > 0 {
			r.b.Chain(name, program.ChainSpec{X: r.x, Terms: terms}, xOut, program.Tensor{})
		}
		return r.x
	}
	y := r.b.Activation(r.act, r.x.Dims()...)
	if len(terms) == 0 {
		return r.b.Copy(name, r.x, y)
	}
	r.b.Chain(name, program.ChainSpec{X: r.x, Terms: terms}, xOut, y)
	return y
}
