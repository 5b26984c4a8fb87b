package ga

import (
	"math"
	"math/bits"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"ecadx/schedule"
)

// surrogate predicts the quality of schedules that nobody has scored: ridge regression (Hoerl and Kennard 1970) in its dual form on the errors that
// a drift says they make or, without one, on how stale each component's output is at each step. It is used only while it orders the last
// generation well.
type surrogate struct {
	shape   schedule.Shape
	steps   []int           // that a schedule may run; the first is the shape's
	drift   map[int]Drift   // by number of steps; nil: there is none
	shorter map[int]float64 // what a run of so many steps errs that computes everything
	x       [][]float64     // features of scored genomes, oldest first
	y       []float64       // their qualities
	fitted  *regression     // to x and y; nil: not yet
	tau     float64         // Kendall's rank correlation of predictions and scores of the last generation; NaN before there is one
}

// regression is a fit. alpha is nil when no lambda will do.
type regression struct {
	alpha []float64
	mean  float64
	left  []float64 // what each scored genome would have been predicted from all others
}

// Bounds of the surrogate.
const (
	surrogateMemory   = 600 // scored genomes that it learns from: the latest
	surrogateLeast    = 12  // fewer say nothing
	surrogateTau      = 0.5 // least rank correlation at which it may choose
	surrogateFreeRide = 5   // one child in so many is evaluated whatever it predicts
)

func newSurrogate(shape schedule.Shape, steps []int) *surrogate {
	return &surrogate{shape: shape, steps: steps, tau: math.NaN()}
}

// useDrift replaces staleness by what is known about errors.
func (m *surrogate) useDrift(d Drift) {
	m.drift, m.shorter = make(map[int]Drift), make(map[int]float64)
	for _, n := range m.steps {
		m.drift[n], m.shorter[n] = d.At(n), d.shorter(n)
	}
}

// trusted reports whether the last generation came out in about the predicted order.
func (m *surrogate) trusted() bool { return m.tau >= surrogateTau }

// features describe a genome to the regression: its reuse, and which number of steps below the shape's it runs.
func (m *surrogate) features(g Genome) []float64 {
	steps := stepsOf(m.shape, g)
	var x []float64
	if m.drift != nil {
		x = m.errors(g, steps)
	} else {
		x = m.staleness(retimed(m.shape, g, m.shape.Steps))
	}
	for _, n := range m.steps[1:] {
		v := 0.0
		if n == steps {
			v = totalWeight
		}
		x = append(x, v)
	}
	return x
}

// Weights of the features of errors, as found on 477 schedules of the miniature at 10 steps, where the root mean square error of predictions for
// the next generation fell from 3.1 dB (staleness) to 1.5 dB. It hardly moves between 3 and 30.
const (
	totalWeight = 10
	shareWeight = 3
	leastShare  = 0.01 // shares below it look alike
)

// errors are the logarithms of the sum of all errors that the drift expects, of the root of the sum of their squares and of that of the squares of the
// sums per step; and those of the shares of the sum that fall on each step, on each component of each block, and on each component: a sum of
// errors is a distance, quality measures are about logarithmic in it, and the shares say where the sum is wrong. Steps are those of the longest run.
func (m *surrogate) errors(g Genome, n int) []float64 {
	sh, row, drift := m.shape, m.shape.RowLen(), m.drift[n]
	x := make([]float64, sh.Steps+row+schedule.ComponentsPerBlock, sh.Steps+row+schedule.ComponentsPerBlock+2+len(m.steps))
	steps, cells, kinds := x[:sh.Steps], x[sh.Steps:sh.Steps+row], x[sh.Steps+row:]
	computed := make([]int, row)
	total, squares := 0.0, 0.0
	for i := row; i < n*row; i++ {
		step, cell := i/row, i%row
		if g.Get(i) {
			computed[cell] = step
			continue
		}
		e := drift.Errors[cell][computed[cell]*n+step]
		steps[step*sh.Steps/n] += e
		cells[cell] += e
		kinds[cell%schedule.ComponentsPerBlock] += e
		total += e
		squares += float64(e * e)
	}
	rows := 0.0
	for _, v := range steps {
		rows += float64(v * v)
	}
	for i, v := range x {
		share := 0.0
		if total > 0 {
			share = v / total
		}
		x[i] = shareWeight * math.Log(share+leastShare)
	}
	least := m.drift[sh.Steps].least()
	total += m.shorter[n]
	return append(x, totalWeight*math.Log(total+least), totalWeight/2*math.Log(squares+least*least), totalWeight/2*math.Log(rows+least*least))
}

// least is an error so small that less makes no difference: the smallest that is not zero.
func (d Drift) least() float64 {
	least := math.Inf(1)
	for _, m := range d.Errors {
		for _, v := range m {
			if v > 0 {
				least = min(least, v)
			}
		}
	}
	if math.IsInf(least, 1) {
		return 1
	}
	return least
}

// staleness is, per step, block and component, the number of steps since the output was computed, and per step the square root of their mean, so that
// what is stale together may count more than the sum.
func (m *surrogate) staleness(g Genome) []float64 {
	sh := m.shape
	row := sh.RowLen()
	x := make([]float64, sh.Cells()+sh.Steps)
	for i := row; i < sh.Cells(); i++ {
		if !g.Get(i) {
			x[i] = x[i-row] + 1
		}
	}
	for step := 1; step < sh.Steps; step++ {
		sum := 0.0
		for _, v := range x[step*row : (step+1)*row] {
			sum += v
		}
		x[sh.Cells()+step] = math.Sqrt(sum * float64(row))
	}
	return x
}

// learn takes the scores of a generation, and how well its predictions had ordered them.
func (m *surrogate) learn(scored []Individual, how map[string]origin) {
	var predicted, found []float64
	for _, ind := range scored {
		if !ind.Feasible() {
			continue
		}
		q := -ind.F[0]
		if o, ok := how[ind.Genome.key()]; ok && !math.IsNaN(o.predicted) {
			predicted, found = append(predicted, o.predicted), append(found, q)
		}
		m.x, m.y = append(m.x, m.features(ind.Genome)), append(m.y, q)
	}
	m.fitted = nil
	if over := len(m.x) - surrogateMemory; over > 0 {
		m.x, m.y = slices.Delete(m.x, 0, over), slices.Delete(m.y, 0, over)
	}
	switch {
	case len(predicted) >= 4:
		m.tau = stat.Kendall(predicted, found, nil)
	case math.IsNaN(m.tau) && len(m.y) >= surrogateLeast:
		// Nobody predicted the first population: what each would have been from all others says the same.
		if f := m.fit(); f.alpha != nil {
			m.tau = stat.Kendall(f.left, m.y, nil)
		}
	}
}

// predict returns the expected quality of each genome, nil when too little is known.
func (m *surrogate) predict(genomes []Genome) []float64 {
	n := len(m.x)
	if n < surrogateLeast {
		return nil
	}
	f := m.fit()
	if f.alpha == nil {
		return nil
	}
	out := make([]float64, len(genomes))
	for i, g := range genomes {
		x := m.features(g)
		out[i] = f.mean
		for k, a := range f.alpha {
			out[i] += a * dot(m.x[k], x)
		}
	}
	return out
}

// fit solves (K + lambda I) alpha = y - mean with the lambda of least leave-one-out error, which the dual form gives at once:
// residual i is alpha_i / inverse_ii (Cawley and Talbot 2004). It does so once for what was learned.
func (m *surrogate) fit() *regression {
	if m.fitted != nil {
		return m.fitted
	}
	n, f := len(m.x), new(regression)
	m.fitted = f
	for _, v := range m.y {
		f.mean += v
	}
	f.mean /= float64(n)
	y := mat.NewVecDense(n, nil)
	for i, v := range m.y {
		y.SetVec(i, v-f.mean)
	}
	k := mat.NewSymDense(n, nil)
	scale := 0.0
	for i := range n {
		for j := i; j < n; j++ {
			k.SetSym(i, j, dot(m.x[i], m.x[j]))
		}
		scale += k.At(i, i) / float64(n)
	}
	best := math.Inf(1)
	for _, share := range []float64{1e-3, 1e-2, 1e-1, 1} {
		ridge := mat.NewSymDense(n, nil)
		ridge.CopySym(k)
		for i := range n {
			ridge.SetSym(i, i, k.At(i, i)+share*scale+1e-9)
		}
		var chol mat.Cholesky
		if !chol.Factorize(ridge) {
			continue
		}
		var a mat.VecDense
		var inverse mat.SymDense
		if chol.SolveVecTo(&a, y) != nil || chol.InverseTo(&inverse) != nil {
			continue
		}
		loss, out := 0.0, make([]float64, n)
		for i := range n {
			r := a.AtVec(i) / inverse.At(i, i)
			out[i] = m.y[i] - r
			loss += r * r
		}
		if loss < best {
			best, f.alpha, f.left = loss, slices.Clone(a.RawVector().Data), out
		}
	}
	return f
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}

// expect returns the pool with the objectives that the surrogate expects; nil when it knows too little.
func (a *Structured) expect(pool []Genome) []Individual {
	predicted := a.screen.predict(pool)
	if predicted == nil {
		return nil
	}
	inds := make([]Individual, 0, len(pool))
	for i, g := range pool {
		how := a.children[g.key()]
		how.predicted = predicted[i]
		a.children[g.key()] = how
		s, err := ScheduleOf(a.shape, g)
		if err != nil {
			continue
		}
		cost, err := a.cfg.Cost.Cost(s)
		if err != nil {
			continue // Run meets the same error and reports it
		}
		inds = append(inds, Individual{Genome: g, F: []float64{-predicted[i], cost}})
	}
	return inds
}

// choose returns at most want genomes of the pool: every fifth whatever is predicted, of the others those that would add most to the hypervolume of
// the front of all time for the work of evaluating them, if the predictions were scores. It notes the predictions, so that the next Tell can judge them.
func (a *Structured) choose(pool []Genome, want int) []Genome {
	inds := a.expect(pool)
	if inds == nil || len(inds) <= want {
		return pool[:min(want, len(pool))]
	}
	free := max(1, want/surrogateFreeRide)
	chosen := make([]Genome, 0, want)
	for _, ind := range inds[:free] {
		chosen = append(chosen, ind.Genome)
	}
	best, rest := a.gainful(inds[:free], inds[free:], want-free)
	for _, ind := range append(best, prune(rest, want-free-len(best))...) {
		chosen = append(chosen, ind.Genome)
	}
	return chosen
}

// gainful picks up to n individuals one by one, each the one that adds the most hypervolume to the front of all time and those picked before per unit
// of work that it adds to evaluating them and those chosen already; rest are the others.
func (a *Structured) gainful(chosen, from []Individual, n int) (picked, rest []Individual) {
	ref := [2]float64{math.Inf(-1), math.Inf(-1)}
	points := make([][]float64, 0, len(a.elite)+n)
	for _, list := range [2][]Individual{a.elite, from} {
		for _, ind := range list {
			ref[0], ref[1] = max(ref[0], ind.F[0]), max(ref[1], ind.F[1])
		}
	}
	for _, ind := range a.elite {
		points = append(points, ind.F)
	}
	rest = slices.Clone(from)
	shared := make([]int, len(rest)) // whole steps that evaluating rest[i] shares with what is chosen
	share := func(with Individual) {
		for i, ind := range rest {
			shared[i] = max(shared[i], a.commonSteps(ind.Genome, with.Genome))
		}
	}
	for _, ind := range chosen {
		share(ind)
	}
	for len(picked) < n {
		best, most := -1, 0.0
		whole := Hypervolume(points, ref)
		for i, ind := range rest {
			steps := stepsOf(a.shape, ind.Genome)
			work := ind.F[1] * float64(steps-shared[i]) / float64(steps)
			if gain := (Hypervolume(append(points, ind.F), ref) - whole) / work; gain > most {
				best, most = i, gain
			}
		}
		if best < 0 {
			break
		}
		picked, points = append(picked, rest[best]), append(points, rest[best].F)
		rest, shared = slices.Delete(rest, best, best+1), slices.Delete(shared, best, best+1)
		share(picked[len(picked)-1])
	}
	return picked, rest
}

// commonSteps is how many steps from the first two genomes have in common; 0 when they differ in the number of steps.
func (a *Structured) commonSteps(g, o Genome) int {
	if g.Len() != o.Len() {
		return 0
	}
	for i, w := range g.words {
		if d := w ^ o.words[i]; d != 0 {
			return (i*64 + bits.TrailingZeros64(d)) / a.shape.RowLen()
		}
	}
	return stepsOf(a.shape, g)
}
