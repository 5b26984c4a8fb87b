package program_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ecadx/dit/program"
)

// places are the elements of a view in row-major order.
func places(v *program.View) []int64 {
	var at []int64
	elements(v, 0, func(i int64) { at = append(at, i) })
	return at
}

// randomView slices and reshapes a dense tensor of up to 4 dims a few times.
func randomView(r *rand.Rand, b *program.Builder) program.Tensor {
	dims := make([]int, 1+r.IntN(4))
	for i := range dims {
		dims[i] = 1 + r.IntN(4)
	}
	t := b.Activation(program.Float32, dims...)
	for range r.IntN(3) {
		d := r.IntN(t.Rank())
		from := r.IntN(t.Dim(d))
		t = b.Slice(t, d, from, from+1+r.IntN(t.Dim(d)-from))
	}
	return t
}

// factors splits n into `rank` random factors.
func factors(r *rand.Rand, n, rank int) []int {
	dims := make([]int, rank)
	for i := range dims {
		dims[i] = 1
	}
	for f := 2; n > 1; {
		if n%f != 0 {
			f++
			continue
		}
		dims[r.IntN(rank)] *= f
		n /= f
	}
	return dims
}

// strided gives the strides that visit at with the given dims, or false when there are none whose last is 1.
func strided(at []int64, dims []int) bool {
	stride := make([]int64, len(dims))
	step := 1
	for d := len(dims) - 1; d >= 0; d-- {
		if dims[d] > 1 {
			stride[d] = at[step] - at[0]
		}
		step *= dims[d]
	}
	if last := len(dims) - 1; dims[last] > 1 && stride[last] != 1 {
		return false
	}
	for i := range at {
		want, rest := at[0], i
		for d := len(dims) - 1; d >= 0; d-- {
			want += int64(rest%dims[d]) * stride[d]
			rest /= dims[d]
		}
		if at[i] != want {
			return false
		}
	}
	return true
}

func TestReshape(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	verdicts := [2]int{}
	for range 4000 {
		b := program.NewBuilder(1)
		x := randomView(r, b)
		want := places(program.ViewOf(b, x))
		dims := factors(r, len(want), 1+r.IntN(4))
		y := b.Reshape(x, dims...)
		if possible := strided(want, dims); possible != (b.Err() == nil) {
			t.Fatalf("reshape of %+v to %v: possible %t, error %v", *program.ViewOf(b, x), dims, possible, b.Err())
		}
		if b.Err() != nil {
			verdicts[1]++
			continue
		}
		verdicts[0]++
		if got := places(program.ViewOf(b, y)); !slices.Equal(got, want) {
			t.Fatalf("reshape of %+v to %v visits %v, want %v", *program.ViewOf(b, x), dims, got, want)
		}
	}
	if verdicts[0] < 500 || verdicts[1] < 200 {
		t.Errorf("%d reshapes, %d refused: too few of one kind", verdicts[0], verdicts[1])
	}
}

// TestMayShare compares with sets of elements: it may err only on the side of true, and not for slices of one tensor along one dim.
func TestMayShare(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	apart, cautious := 0, 0
	for range 4000 {
		b := program.NewBuilder(1)
		dims := []int{1 + r.IntN(3), 1 + r.IntN(4), 1 + r.IntN(4)}
		whole := b.Activation(program.Float32, dims...)
		cut := func() (program.Tensor, int, [2]int) {
			d := r.IntN(3)
			from := r.IntN(dims[d])
			to := from + 1 + r.IntN(dims[d]-from)
			return b.Slice(whole, d, from, to), d, [2]int{from, to}
		}
		x, dx, rx := cut()
		y, dy, ry := cut()
		seen := map[int64]bool{}
		for _, at := range places(program.ViewOf(b, x)) {
			seen[at] = true
		}
		share := slices.ContainsFunc(places(program.ViewOf(b, y)), func(at int64) bool { return seen[at] })
		got := program.MayShare(program.ViewOf(b, x), program.ViewOf(b, y), 1)
		switch {
		case share && !got:
			t.Fatalf("slices %d%v and %d%v of %v share elements, told apart", dx, rx, dy, ry, dims)
		case !share && got && dx == dy:
			t.Fatalf("slices %d%v and %d%v of %v are apart, told to share", dx, rx, dy, ry, dims)
		case !share && got:
			cautious++
		case !share:
			apart++
		}
	}
	if apart < 200 {
		t.Errorf("only %d pairs apart (%d more not recognised)", apart, cautious)
	}
}

func TestStepAndExpand(t *testing.T) {
	b := program.NewBuilder(3)
	c := b.Float32s("c", []float32{0, 1, 2, 3, 4, 5}, 3, 2)
	s := program.ViewOf(b, b.Step(c))
	if s.Rank != 1 || s.Dims[0] != 2 || s.StepStride != 2 {
		t.Errorf("step of [3,2] is %+v", s)
	}
	one := program.ViewOf(b, b.Step(b.Float32s("d", []float32{7, 8, 9}, 3)))
	if one.Rank != 1 || one.Dims[0] != 1 || one.StepStride != 1 {
		t.Errorf("step of [3] is %+v", one)
	}
	e := program.ViewOf(b, b.Expand(b.Reshape(c, 1, 3, 2), 4, 3, 2))
	if e.Dims[0] != 4 || e.Strides[0] != 0 || e.Strides[1] != 2 {
		t.Errorf("expand of [1,3,2] is %+v", e)
	}
	if b.Float32s("again", []float32{0, 1, 2, 3, 4, 5}, 3, 2) != c {
		t.Error("equal constants are two")
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
}
