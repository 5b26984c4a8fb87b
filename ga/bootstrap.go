package ga

import "slices"

// bootstrapResamples is the number of resampled prompt sets behind a confidence interval.
const bootstrapResamples = 2000

// Bootstrap computes 95 % confidence intervals of mean scores over prompts: prompts are drawn with replacement, each
// with all its images, and the interval spans the 2.5th to the 97.5th percentile of the resampled means (Efron 1979,
// percentile method, clustered by prompt). The draws are the same for every schedule scored on the same images, so
// intervals of different schedules are comparable. Make it with NewBootstrap.
type Bootstrap struct {
	prompts []int   // per image, the index of its prompt
	count   []int   // images per prompt
	draws   []int32 // bootstrapResamples rows of len(count) prompt indices
	means   []float64
	sums    []float64
}

// NewBootstrap prepares intervals for scores in the order of images. Everything is drawn from seed.
func NewBootstrap(images []Image, seed uint64) *Bootstrap {
	b := &Bootstrap{prompts: make([]int, len(images)), means: make([]float64, bootstrapResamples)}
	index := make(map[uint32]int)
	for i, im := range images {
		p, ok := index[im.Prompt]
		if !ok {
			p = len(index)
			index[im.Prompt] = p
			b.count = append(b.count, 0)
		}
		b.prompts[i] = p
		b.count[p]++
	}
	n := len(b.count)
	b.sums = make([]float64, n)
	if n < 2 {
		return b
	}
	b.draws = make([]int32, 0, bootstrapResamples*n)
	for r := range bootstrapResamples {
		s := NewStream(seed, 0, PurposeBootstrap, 0, r)
		for range n {
			b.draws = append(b.draws, int32(s.IntN(n)))
		}
	}
	return b
}

// Interval returns the interval for scores in image order; it contains their mean. With a single prompt there is
// nothing to resample and both ends are the mean.
func (b *Bootstrap) Interval(scores []float64) [2]float64 {
	mean := Mean(scores)
	n := len(b.count)
	if n < 2 {
		return [2]float64{mean, mean}
	}
	clear(b.sums)
	for i, v := range scores {
		b.sums[b.prompts[i]] += v
	}
	for r := range b.means {
		sum, count := 0.0, 0
		for _, p := range b.draws[r*n : (r+1)*n] {
			sum += b.sums[p]
			count += b.count[p]
		}
		b.means[r] = sum / float64(count)
	}
	slices.Sort(b.means)
	return [2]float64{min(quantile(b.means, 0.025), mean), max(quantile(b.means, 0.975), mean)}
}

// Mean returns the sum in slice order divided by the number of scores, 0 for none.
func Mean(scores []float64) float64 {
	if len(scores) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range scores {
		sum += v
	}
	return sum / float64(len(scores))
}

// quantile interpolates between the sorted values around position q*(n-1).
func quantile(sorted []float64, q float64) float64 {
	at := float64(q * float64(len(sorted)-1)) // the conversion keeps compilers from fusing it with what follows
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + float64((at-float64(i))*(sorted[i+1]-sorted[i]))
}
