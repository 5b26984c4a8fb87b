package ga

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// MaxGenes bounds the length of a genome. The largest published one, FLUX at 20 steps, has 3420 genes.
const MaxGenes = 1 << 23

// ErrGenome is wrapped by every error about a genome's length or bytes.
var ErrGenome = errors.New("ecadx/ga: genome")

// Genome is a string of genes, one bit each: 1 = compute, 0 = reuse. The zero value has no genes. A Genome is changed
// by Set and SetAll only; once it is shared it is treated as a constant, and operators make copies.
type Genome struct {
	n     int
	words []uint64 // gene i is bit i%64 of word i/64; the bits past n are 0
}

// NewGenome returns a genome of n genes, all reuse. A negative n counts as 0.
func NewGenome(n int) Genome {
	n = max(n, 0)
	return Genome{n: n, words: make([]uint64, (n+63)/64)}
}

// GenomeFromBytes decodes Bytes: gene i is bit i%8 of byte i/8. It fails with ErrGenome when data is not exactly
// ceil(n/8) bytes, a bit past gene n is set, or n is out of range.
func GenomeFromBytes(n int, data []byte) (Genome, error) {
	if n < 0 || n > MaxGenes {
		return Genome{}, fmt.Errorf("%w: %d genes; the number must be between 0 and %d", ErrGenome, n, MaxGenes)
	}
	if len(data) != (n+7)/8 {
		return Genome{}, fmt.Errorf("%w: %d genes need %d bytes, got %d", ErrGenome, n, (n+7)/8, len(data))
	}
	g := NewGenome(n)
	for i, b := range data {
		g.words[i/8] |= uint64(b) << (8 * (i % 8))
	}
	if r := n % 64; r != 0 && g.words[len(g.words)-1]>>r != 0 {
		return Genome{}, fmt.Errorf("%w: bits past gene %d are set", ErrGenome, n)
	}
	return g, nil
}

// Len returns the number of genes.
func (g Genome) Len() int { return g.n }

// Get reports whether gene i is compute. i must be in [0, Len).
func (g Genome) Get(i int) bool { return g.words[i>>6]>>(i&63)&1 != 0 }

// Set makes gene i compute or reuse. i must be in [0, Len).
func (g Genome) Set(i int, compute bool) {
	if compute {
		g.words[i>>6] |= 1 << (i & 63)
	} else {
		g.words[i>>6] &^= 1 << (i & 63)
	}
}

// SetAll makes every gene compute or reuse.
func (g Genome) SetAll(compute bool) {
	for i := range g.words {
		g.words[i] = 0
		if compute {
			g.words[i] = ^uint64(0)
		}
	}
	if r := g.n % 64; compute && r != 0 {
		g.words[len(g.words)-1] = 1<<r - 1
	}
}

// Flip inverts gene i. i must be in [0, Len).
func (g Genome) Flip(i int) { g.words[i>>6] ^= 1 << (i & 63) }

// Count returns the number of compute genes.
func (g Genome) Count() int {
	c := 0
	for _, w := range g.words {
		c += bits.OnesCount64(w)
	}
	return c
}

// Clone returns a copy that shares nothing with g.
func (g Genome) Clone() Genome {
	return Genome{n: g.n, words: append([]uint64(nil), g.words...)}
}

// Equal reports whether both genomes have the same genes.
func (g Genome) Equal(o Genome) bool {
	if g.n != o.n {
		return false
	}
	for i, w := range g.words {
		if w != o.words[i] {
			return false
		}
	}
	return true
}

// Bytes returns ceil(Len/8) bytes, gene 0 in the lowest bit of the first.
func (g Genome) Bytes() []byte {
	b := make([]byte, 0, len(g.words)*8)
	for _, w := range g.words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b[:(g.n+7)/8]
}

// key returns a map key that is equal for equal genomes.
func (g Genome) key() string { return string(binary.LittleEndian.AppendUint32(g.Bytes(), uint32(g.n))) }

// swapRange exchanges the genes [lo, hi) of two genomes of one length.
func swapRange(a, b Genome, lo, hi int) {
	for i := lo >> 6; i<<6 < hi; i++ {
		mask := ^uint64(0)
		if s := lo - i<<6; s > 0 {
			mask &= ^uint64(0) << s
		}
		if e := hi - i<<6; e < 64 {
			mask &= 1<<e - 1
		}
		d := (a.words[i] ^ b.words[i]) & mask
		a.words[i] ^= d
		b.words[i] ^= d
	}
}
