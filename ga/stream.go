package ga

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// Purpose names what a random stream decides. The numbers are part of the format of a study: they never change.
type Purpose uint32

// The purposes of random streams.
const (
	PurposeInit      Purpose = 1  // random first genomes
	PurposeSelection Purpose = 2  // the order in which parents meet in tournaments
	PurposeTie       Purpose = 3  // a tournament without a winner
	PurposeCrossover Purpose = 4  // whether a mating crosses, and where it cuts
	PurposeMutation  Purpose = 5  // whether a child mutates, and which genes flip
	PurposeSurvival  Purpose = 6  // the order of equally crowded individuals
	PurposeBootstrap Purpose = 7  // resampling of prompts for confidence intervals
	PurposeChild     Purpose = 8  // how a child of mode ecadx is made
	PurposeFocus     Purpose = 9  // which number of steps the children of a generation of mode ecadx run
	PurposeLitter    Purpose = 10 // the first parents of a generation of mode ecadx
)

// Stream is a sequence of random numbers that depends on nothing but the arguments of NewStream. It runs PCG-DXSM
// (math/rand/v2.PCG, whose sequence is specified) and derives everything else from its 64-bit outputs here, so that no
// release of the standard library can change a trajectory. Not for concurrent use.
type Stream struct{ pcg rand.PCG }

// NewStream returns the stream of one random decision: SHA-256 over the five numbers seeds the generator.
func NewStream(seed uint64, generation int, purpose Purpose, round, index int) *Stream {
	var b [16 + 5*8]byte
	copy(b[:], "ecadx.ga.stream1")
	for i, v := range [5]uint64{seed, uint64(generation), uint64(purpose), uint64(round), uint64(index)} {
		binary.LittleEndian.PutUint64(b[16+8*i:], v)
	}
	h := sha256.Sum256(b[:])
	return &Stream{pcg: *rand.NewPCG(binary.LittleEndian.Uint64(h[:8]), binary.LittleEndian.Uint64(h[8:16]))}
}

// Uint64 returns 64 uniform bits.
func (s *Stream) Uint64() uint64 { return s.pcg.Uint64() }

// Float64 returns a uniform number in [0, 1), a multiple of 2^-53.
func (s *Stream) Float64() float64 { return float64(s.Uint64()>>11) * 0x1p-53 }

// IntN returns a uniform number in [0, n); n must be positive. Unbiased (Lemire 2019, "Fast random integer generation
// in an interval").
func (s *Stream) IntN(n int) int {
	m := uint64(n)
	hi, lo := bits.Mul64(s.Uint64(), m)
	for lo < m {
		// Reject the low words that would make some results likelier than others.
		if lo >= -m%m {
			break
		}
		hi, lo = bits.Mul64(s.Uint64(), m)
	}
	return int(hi)
}

// Perm returns a uniform permutation of 0..n-1.
func (s *Stream) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		j := s.IntN(i + 1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}

// Draws are the random decisions of one generation of NSGA-II, in the shapes in which pymoo draws them. The same
// arguments always give the same result, in whatever order they are asked for. Tests replay recorded draws through it.
type Draws interface {
	// Slots returns n indices of a population of size members: permutations of the population, one after the other.
	Slots(round, size, n int) []int
	// Tie returns 0 or 1: which of the two individuals wins a tournament that nothing else decides.
	Tie(round, tournament int) int
	// Cross returns a uniform number in [0, 1) that decides whether a mating crosses over.
	Cross(round, mating int) float64
	// Cuts returns k distinct positions in [1, n), in any order. k is at most n-1.
	Cuts(round, mating, n, k int) []int
	// Mutate returns a uniform number in [0, 1) that decides whether a child keeps its flipped genes.
	Mutate(round, child int) float64
	// Flips fills dst with uniform numbers in [0, 1), one per gene.
	Flips(round, child int, dst []float64)
	// SurvivalOrder returns a permutation of 0..n-1 that orders equally crowded individuals.
	SurvivalOrder(n int) []int
}

// streamDraws derives every decision from (seed, generation, purpose, round, index).
type streamDraws struct {
	seed       uint64
	generation int
}

// NewDraws returns the random decisions of a generation under a seed.
func NewDraws(seed uint64, generation int) Draws { return streamDraws{seed, generation} }

func (d streamDraws) stream(p Purpose, round, index int) *Stream {
	return NewStream(d.seed, d.generation, p, round, index)
}

func (d streamDraws) Slots(round, size, n int) []int {
	slots := make([]int, 0, n+size)
	for k := 0; len(slots) < n && size > 0; k++ {
		slots = append(slots, d.stream(PurposeSelection, round, k).Perm(size)...)
	}
	return slots[:n]
}

func (d streamDraws) Tie(round, tournament int) int {
	return int(d.stream(PurposeTie, round, tournament).Uint64() >> 63)
}

func (d streamDraws) Cross(round, mating int) float64 {
	return d.stream(PurposeCrossover, round, 2*mating).Float64()
}

func (d streamDraws) Cuts(round, mating, n, k int) []int {
	s := d.stream(PurposeCrossover, round, 2*mating+1)
	cuts := make([]int, 0, k)
	for len(cuts) < k {
		c := 1 + s.IntN(n-1)
		fresh := true
		for _, o := range cuts {
			fresh = fresh && o != c
		}
		if fresh {
			cuts = append(cuts, c)
		}
	}
	return cuts
}

func (d streamDraws) Mutate(round, child int) float64 {
	return d.stream(PurposeMutation, round, 2*child).Float64()
}

func (d streamDraws) Flips(round, child int, dst []float64) {
	s := d.stream(PurposeMutation, round, 2*child+1)
	for i := range dst {
		dst[i] = s.Float64()
	}
}

func (d streamDraws) SurvivalOrder(n int) []int { return d.stream(PurposeSurvival, 0, 0).Perm(n) }
