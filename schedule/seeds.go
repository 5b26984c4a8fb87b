package schedule

import (
	"fmt"
	"math"
)

// The starting population of ECAD's PixArt search: 72 schedules for 28 blocks
// and 20 steps (schedules/population_initialization/pixart_alpha_256x256 in
// AniAggarwal/ecad). The pairs are affected blocks and affected steps.
var (
	seedSelfAttn = [][2]int{{25, 17}, {27, 13}, {25, 7}, {27, 17}, {25, 5}, {23, 9}, {27, 19}, {23, 7}, {25, 3}, {27, 11},
		{27, 7}, {25, 19}, {25, 9}, {3, 3}, {21, 3}, {27, 3}, {27, 15}, {27, 5}, {19, 5}, {21, 7}}
	seedFF = [][2]int{{17, 15}, {27, 19}, {21, 13}, {15, 7}, {19, 15}, {15, 11}, {17, 9}, {7, 9}, {3, 9}, {27, 15},
		{21, 17}, {15, 13}, {15, 15}, {15, 9}, {11, 9}, {21, 15}, {17, 13}, {27, 17}}
	seedCrossAttn = [][2]int{{27, 15}, {27, 19}, {25, 15}, {25, 17}, {27, 13}, {25, 19}, {27, 17}}
	// Gate step and interval before it.
	seedTGate = [][2]int{{20, 7}, {20, 11}, {12, 5}, {16, 9}, {14, 7}, {18, 11}, {14, 1}, {10, 1}, {14, 5}, {12, 1}, {12, 7},
		{12, 3}, {18, 7}}
	seedFORA      = []int{2, 3, 4, 5, 7, 10, 20}
	seedAttnEvery = []int{2, 4, 5, 7, 10, 20}
	// The FLUX search starts from splices of these.
	seedFluxFORA = []int{2, 3, 4, 5, 6, 7}
)

const seedSteps, seedBlocks, seedFluxBlocks = 20, 28, 57

// SeedSet returns a starting population for the search, the all-compute schedule
// first.
//
// For PixArt it is ECAD's, 72 schedules for 28 blocks and 20 steps; for other
// shapes affected blocks, affected steps, gate steps and the longest period are
// scaled in proportion (rounded, at least 1) and schedules that do the same as
// an earlier one are left out. For FLUX it is ECAD's default and FORA 2 to 7,
// then, since ECAD has no more, evenly spread reuse of the attentions and of
// everything else and attn-every. It returns an error that wraps [ErrShape] if
// the shape is outside the limits.
func SeedSet(shape Shape) ([]*Generated, error) {
	if err := shape.Validate(); err != nil {
		return nil, err
	}
	refs := []string{"none"}
	if shape.Family == PixArt {
		refs = append(refs, pixartSeeds(shape)...)
	} else {
		refs = append(refs, fluxSeeds(shape)...)
	}
	var set []*Generated
	seen := map[Hash]bool{}
	for _, ref := range refs {
		g, err := Resolve(ref, shape)
		if err != nil {
			return nil, err
		}
		if h := g.Schedule.Hash(); !seen[h] {
			seen[h] = true
			set = append(set, g)
		}
	}
	return set, nil
}

// scale maps n of from to the same share of to, at least 1.
func scale(n, from, to int) int {
	return max(1, int(math.Round(float64(n)*float64(to)/float64(from))))
}

// everySeeds are the references of an every-n family: the periods shorter than
// the run, and the one as long as the run.
func everySeeds(name string, periods []int, steps int) []string {
	var refs []string
	for _, n := range periods {
		if n == seedSteps {
			n = steps
		}
		if n <= steps {
			refs = append(refs, fmt.Sprintf("%s:%d", name, n))
		}
	}
	return refs
}

func pixartSeeds(shape Shape) []string {
	refs := everySeeds("fora", seedFORA, shape.Steps)
	refs = append(refs, everySeeds("attn-every", seedAttnEvery, shape.Steps)...)
	for _, set := range []struct {
		component string
		pairs     [][2]int
	}{{"attn1", seedSelfAttn}, {"ff", seedFF}, {"attn2", seedCrossAttn}} {
		for _, p := range set.pairs {
			refs = append(refs, fmt.Sprintf("evenly:%s:%d:%d", set.component,
				scale(p[0], seedBlocks, shape.Blocks), scale(p[1], seedSteps, shape.Steps)))
		}
	}
	for _, p := range seedTGate {
		refs = append(refs, fmt.Sprintf("tgate:%d:%d:1:2", scale(p[0], seedSteps, shape.Steps), p[1]))
	}
	return refs
}

func fluxSeeds(shape Shape) []string {
	refs := everySeeds("fora", seedFluxFORA, shape.Steps)
	refs = append(refs, everySeeds("attn-every", seedFluxFORA, shape.Steps)...)
	for _, component := range []string{"attn", "ff"} {
		for _, m := range []int{16, 31, 46, 57} {
			for _, k := range []int{7, 13, 19} {
				refs = append(refs, fmt.Sprintf("evenly:%s:%d:%d", component,
					scale(m, seedFluxBlocks, shape.TotalBlocks()), scale(k, seedSteps, shape.Steps)))
			}
		}
	}
	return refs
}
