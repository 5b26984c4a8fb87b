package program

// Slice is elements from..to-1 of dim, counted from the end when negative. No copy.
func (b *Builder) Slice(t Tensor, dim, from, to int) Tensor {
	v, ok := b.viewOf("slice", t)
	if !ok {
		return badTensor(t.dtype, int(t.rank))
	}
	if dim < 0 {
		dim += v.Rank
	}
	if dim < 0 || dim >= v.Rank || from < 0 || from >= to || int64(to) > v.Dims[dim] {
		b.errorf("slice of %v: dim %d from %d to %d is not inside", t, dim, from, to)
		return badTensor(t.dtype, v.Rank)
	}
	v.Offset += int64(from) * v.Strides[dim]
	v.Dims[dim] = int64(to - from)
	return b.tensor(v)
}

// Reshape gives t other dims over the same elements in the same order, without a copy: always for dense tensors; for others, when every
// new dim lies inside a run of old dims that is dense in itself (such as splitting a dim or merging neighbours).
func (b *Builder) Reshape(t Tensor, dims ...int) Tensor {
	v, ok := b.viewOf("reshape", t)
	if !ok {
		return badTensor(t.dtype, len(dims))
	}
	n := v
	if !b.setDims("reshape", &n, dims) {
		return badTensor(t.dtype, len(dims))
	}
	if n.Count() != v.Count() {
		b.errorf("reshape of %v to %v: %d elements to %d", t, dims, v.Count(), n.Count())
		return badTensor(t.dtype, len(dims))
	}
	if !restride(&v, &n) {
		b.errorf("reshape of %v (strides %v) to %v: needs a copy", t, v.Strides[:v.Rank], dims)
		return badTensor(t.dtype, len(dims))
	}
	return b.tensor(n)
}

// restride sets the strides of n, which has its dims, so that it visits the elements of v in the same order.
func restride(v, n *View) bool {
	d := n.Rank - 1
	// Walk the old dims from the last; [low, i] is a run that is dense in itself.
	for i := v.Rank - 1; i >= 0; {
		base, run := v.Strides[i], v.Dims[i]
		low := i
		for low > 0 && (v.Dims[low-1] == 1 || run == 1 || v.Strides[low-1] == run*base) {
			low--
			if run == 1 {
				base = v.Strides[low]
			}
			run *= v.Dims[low]
		}
		if low == 0 && run == 1 {
			base = 1
		}
		taken := int64(1)
		for d >= 0 && (taken < run || n.Dims[d] == 1) {
			n.Strides[d] = base * taken
			taken *= n.Dims[d]
			d--
		}
		if taken != run {
			return false
		}
		i = low - 1
	}
	last := n.Rank - 1
	if n.Dims[last] == 1 {
		n.Strides[last] = 1
	}
	return n.Strides[last] == 1
}

// Step is what t, whose first dim is the number of steps, holds for the step that runs: dims without the first ([steps] gives [1]).
func (b *Builder) Step(t Tensor) Tensor {
	v, ok := b.viewOf("step", t)
	if !ok {
		return badTensor(t.dtype, int(t.rank)-1)
	}
	if v.Dims[0] != int64(b.steps) || v.StepStride != 0 || b.buffers[v.Buffer].Kind == Arena {
		b.errorf("step of %v: wants a persistent buffer or a constant whose first dim is the %d steps", t, b.steps)
		return badTensor(t.dtype, v.Rank-1)
	}
	if b.steps > 1 {
		v.StepStride = v.Strides[0]
	}
	if v.Rank == 1 {
		v.Dims[0], v.Strides[0] = 1, 1
		return b.tensor(v)
	}
	copy(v.Dims[:], v.Dims[1:])
	copy(v.Strides[:], v.Strides[1:])
	v.Rank--
	for i := v.Rank; i < maxRank; i++ {
		v.Dims[i], v.Strides[i] = 1, 0
	}
	return b.tensor(v)
}

// Expand repeats a constant along leading dims of 1, without a copy.
func (b *Builder) Expand(t Tensor, dims ...int) Tensor {
	v, ok := b.viewOf("expand", t)
	if !ok {
		return badTensor(t.dtype, len(dims))
	}
	n := v
	if !b.setDims("expand", &n, dims) {
		return badTensor(t.dtype, len(dims))
	}
	if b.buffers[v.Buffer].Kind != Constant || n.Rank != v.Rank {
		b.errorf("expand of %v to %v: wants a constant of the same rank", t, dims)
		return badTensor(t.dtype, len(dims))
	}
	n.Strides = v.Strides
	leading := true
	for i := 0; i < n.Rank; i++ {
		if n.Dims[i] == v.Dims[i] {
			leading = leading && v.Dims[i] == 1
			continue
		}
		if v.Dims[i] != 1 || !leading || i == n.Rank-1 {
			b.errorf("expand of %v to %v: only leading dims of 1 can grow", t, dims)
			return badTensor(t.dtype, len(dims))
		}
		n.Strides[i] = 0
	}
	return b.tensor(n)
}

// viewOf is a copy of the view of t for an operation that makes another; weights have one view only.
func (b *Builder) viewOf(what string, t Tensor) (View, bool) {
	if t.bad() {
		return View{}, false
	}
	v := b.view(t)
	if v == nil {
		b.errorf("%s of nothing", what)
		return View{}, false
	}
	if b.buffers[v.Buffer].Kind == Weight {
		b.errorf("%s of weight %q: weights are used as they are stored", what, b.buffers[v.Buffer].Name)
		return View{}, false
	}
	return *v, true
}
