package ga

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"testing"
)

// Level C: the distribution of final hypervolumes over 30 seeds is that of pymoo 0.6.1.3 (testdata/pymoo/record.py).

// mannWhitney returns the two-sided p value of the rank-sum test, by the normal approximation with ties corrected and
// without continuity correction. Both samples have at least 20 values here.
func mannWhitney(a, b []float64) float64 {
	type value struct {
		v     float64
		first bool
	}
	var all []value
	for _, v := range a {
		all = append(all, value{v, true})
	}
	for _, v := range b {
		all = append(all, value{v, false})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].v < all[j].v })
	n, m := float64(len(a)), float64(len(b))
	rankSum, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		size := float64(j - i)
		ties += size*size*size - size
		for k := i; k < j; k++ {
			if all[k].first {
				rankSum += float64(i+j+1) / 2
			}
		}
		i = j
	}
	u := rankSum - n*(n+1)/2
	variance := n * m / 12 * ((n + m + 1) - ties/((n+m)*(n+m-1)))
	if variance == 0 {
		return 1
	}
	return math.Erfc(math.Abs(u-n*m/2) / math.Sqrt(2*variance))
}

func TestMannWhitney(t *testing.T) {
	var a, b []float64
	for i := range 30 {
		a, b = append(a, float64(i)), append(b, float64(i)+11)
	}
	// scipy.stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False): 6.7351e-05
	if p := mannWhitney(a, b); !(math.Abs(p-6.7351e-05) <= 1e-9) {
		t.Errorf("p = %v of samples shifted by 11", p)
	}
	if p := mannWhitney(a, a); !(math.Abs(p-1) <= 1e-12) {
		t.Errorf("p = %v of equal samples, want 1", p)
	}
}

// zdt5 evaluates ZDT5 with m = 11, n = 5, both objectives normalised: 30 + 10*5 genes.
func zdt5(g Genome) ([]float64, float64) {
	u := make([]int, 11)
	for i := range 80 {
		if g.Get(i) {
			if i < 30 {
				u[0]++
			} else {
				u[1+(i-30)/5]++
			}
		}
	}
	sum := 0
	for _, k := range u[1:] {
		if k == 5 {
			sum++
		} else {
			sum += 2 + k
		}
	}
	f1 := float64(1 + u[0])
	f2 := float64(sum) / f1
	return []float64{(f1 - 1) / 30, (f2 - 10.0/31) / (10 - 10.0/31)}, 0
}

func TestDistributionOfPymoo(t *testing.T) {
	if raceEnabled {
		t.Skip("pure arithmetic in one goroutine per problem; too slow under -race")
	}
	data, err := os.ReadFile("testdata/pymoo/statistics.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Seeds, Generations int
		PopSize            int `json:"pop_size"`
		Knapsack           struct {
			Profit, Weight []int
			Capacity       int
		}
		Runs []struct {
			Problem      string
			Reference    [2]float64
			MutationProb float64 `json:"mutation_prob"`
			Hypervolume  []float64
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if file.Seeds != 30 || len(file.Runs) != 4 {
		t.Fatalf("%d seeds and %d runs recorded, want 30 and 4", file.Seeds, len(file.Runs))
	}
	knapsack := func(g Genome) ([]float64, float64) {
		profit, weight := 0, 0
		for i, p := range file.Knapsack.Profit {
			if g.Get(i) {
				profit += p
				weight += file.Knapsack.Weight[i]
			}
		}
		return []float64{-float64(profit), float64(g.Count())}, float64(max(0, weight-file.Knapsack.Capacity))
	}
	for _, run := range file.Runs {
		t.Run(fmt.Sprintf("%s/%v", run.Problem, run.MutationProb), func(t *testing.T) {
			t.Parallel()
			problem, genes := zdt5, 80
			if run.Problem == "knapsack" {
				problem, genes = knapsack, len(file.Knapsack.Profit)
			}
			var ours []float64
			for seed := range file.Seeds {
				a := DefaultNSGA2(genes, uint64(seed))
				a.PopulationSize, a.MutationChildProb = file.PopSize, run.MutationProb
				ours = append(ours, Hypervolume(evolve(a, file.Generations, problem), run.Reference))
			}
			p := mannWhitney(ours, run.Hypervolume)
			t.Logf("median %.5f, pymoo %.5f, p = %.3f", median(ours), median(run.Hypervolume), p)
			if !(p > 0.01) {
				t.Errorf("hypervolumes differ from pymoo's: p = %v", p)
			}
		})
	}
}

func median(v []float64) float64 {
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// evolve runs the algorithm and returns the objectives of the feasible members of the last population.
func evolve(a NSGA2, generations int, problem func(Genome) ([]float64, float64)) [][]float64 {
	var pop []Individual
	for g := 1; g <= generations; g++ {
		genomes := a.First(nil)
		if g > 1 {
			genomes = a.Ask(g, pop)
		}
		off := make([]Individual, len(genomes))
		for i, x := range genomes {
			off[i].Genome = x
			off[i].F, off[i].CV = problem(x)
		}
		pop = a.Tell(g, pop, off)
	}
	var f [][]float64
	for _, ind := range pop {
		if ind.Feasible() {
			f = append(f, ind.F)
		}
	}
	return f
}
