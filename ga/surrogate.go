package ga

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"ecadx/schedule"
)

// surrogate predicts the quality of schedules that nobody has scored: ridge regression (Hoerl and Kennard 1970) in its dual form on how stale
// each component's output is at each step. It is used only while it orders the last generation well.
type surrogate struct {
	shape schedule.Shape
	x     [][]float64 // features of scored genomes, oldest first
	y     []float64   // their qualities
	tau   float64     // Kendall's rank correlation of predictions and scores of the last generation; NaN before there is one
}

// Bounds of the surrogate.
const (
	surrogateMemory   = 600 // scored genomes that it learns from: the latest
	surrogateLeast    = 24  // fewer say nothing
	surrogateTau      = 0.5 // least rank correlation at which it may choose
	surrogateFreeRide = 5   // one child in so many is evaluated whatever it predicts
)

func newSurrogate(shape schedule.Shape) *surrogate { return &surrogate{shape: shape, tau: math.NaN()} }

// trusted reports whether the last generation came out in about the predicted order.
func (m *surrogate) trusted() bool { return m.tau >= surrogateTau }

// features are, per step, block and component, the number of steps since the output was computed, and per step the square root of their mean, so
// that what is stale together may count more than the sum.
func (m *surrogate) features(g Genome) []float64 {
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
	if over := len(m.x) - surrogateMemory; over > 0 {
		m.x, m.y = slices.Delete(m.x, 0, over), slices.Delete(m.y, 0, over)
	}
	if len(predicted) >= 4 {
		m.tau = stat.Kendall(predicted, found, nil)
	}
}

// predict returns the expected quality of each genome, nil when too little is known.
func (m *surrogate) predict(genomes []Genome) []float64 {
	n := len(m.x)
	if n < surrogateLeast {
		return nil
	}
	alpha, mean := m.fit()
	if alpha == nil {
		return nil
	}
	out := make([]float64, len(genomes))
	for i, g := range genomes {
		x := m.features(g)
		out[i] = mean
		for k, a := range alpha {
			out[i] += a * dot(m.x[k], x)
		}
	}
	return out
}

// fit solves (K + lambda I) alpha = y - mean with the lambda of least leave-one-out error, which the dual form gives at once:
// residual i is alpha_i / inverse_ii (Cawley and Talbot 2004).
func (m *surrogate) fit() (alpha []float64, mean float64) {
	n := len(m.x)
	for _, v := range m.y {
		mean += v
	}
	mean /= float64(n)
	y := mat.NewVecDense(n, nil)
	for i, v := range m.y {
		y.SetVec(i, v-mean)
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
		loss := 0.0
		for i := range n {
			r := a.AtVec(i) / inverse.At(i, i)
			loss += r * r
		}
		if loss < best {
			best, alpha = loss, slices.Clone(a.RawVector().Data)
		}
	}
	return alpha, mean
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}

// choose returns at most want genomes of the pool: every fifth whatever is predicted, the others as selection would keep them if the
// predictions were scores. It notes the predictions, so that the next Tell can judge them.
func (a *Structured) choose(pool []Genome, want int) []Genome {
	predicted := a.screen.predict(pool)
	if predicted == nil {
		return pool[:min(want, len(pool))]
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
	if len(inds) <= want {
		return pool[:min(want, len(pool))]
	}
	free := max(1, want/surrogateFreeRide)
	chosen := make([]Genome, 0, want)
	for _, ind := range inds[:free] {
		chosen = append(chosen, ind.Genome)
	}
	for _, ind := range prune(inds[free:], want-free) {
		chosen = append(chosen, ind.Genome)
	}
	return chosen
}
