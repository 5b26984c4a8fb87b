package schedule

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// Schedule is the tensor of decisions, steps x blocks x components. Make one
// with [New], [Resolve], [Decode], [FromWords] or [FromBools].
//
// As with a slice, addressing a cell outside the shape is a mistake of the
// program and panics; [Shape.Contains] tells. Nothing that comes from a file or
// an option can get that far.
type Schedule struct {
	shape Shape
	words []uint64 // bit i: cell i of the genome computes; bits past the end are 0
}

// New returns the schedule that computes everything. It returns an error that
// wraps [ErrShape] if the shape is outside the limits.
func New(shape Shape) (*Schedule, error) {
	if err := shape.Validate(); err != nil {
		return nil, err
	}
	s := &Schedule{shape: shape, words: make([]uint64, (shape.Cells()+63)/64)}
	for i := range s.words {
		s.words[i] = ^uint64(0)
	}
	s.clearTail()
	return s, nil
}

// clearTail keeps the bits past the last cell at 0, so that words can be
// compared and counted as they are.
func (s *Schedule) clearTail() {
	if n := s.shape.Cells() % 64; n != 0 {
		s.words[len(s.words)-1] &= 1<<n - 1
	}
}

// FromWords makes a schedule from a packed genome, cell i in bit i%64 of word
// i/64, set meaning compute. It copies words. The number of words must be
// (cells+63)/64 and unused bits are ignored.
func FromWords(shape Shape, words []uint64) (*Schedule, error) {
	if err := shape.Validate(); err != nil {
		return nil, err
	}
	if want := (shape.Cells() + 63) / 64; len(words) != want {
		return nil, fmt.Errorf("%w: genome has %d words, %v needs %d", ErrShape, len(words), shape, want)
	}
	s := &Schedule{shape: shape, words: slices.Clone(words)}
	s.clearTail()
	return s, nil
}

// FromBools makes a schedule from a genome with one bool per cell, true meaning
// compute, which is ECAD's genome.
func FromBools(shape Shape, genome []bool) (*Schedule, error) {
	s, err := New(shape)
	if err != nil {
		return nil, err
	}
	if len(genome) != shape.Cells() {
		return nil, fmt.Errorf("%w: genome has %d genes, %v needs %d", ErrShape, len(genome), shape, shape.Cells())
	}
	for i, compute := range genome {
		if !compute {
			s.SetFlat(i, Reuse)
		}
	}
	return s, nil
}

// Shape returns the schedule's shape.
func (s *Schedule) Shape() Shape { return s.shape }

// Words returns a copy of the packed genome; see [FromWords].
func (s *Schedule) Words() []uint64 { return slices.Clone(s.words) }

// Bools returns the genome with one bool per cell; see [FromBools].
func (s *Schedule) Bools() []bool {
	genome := make([]bool, s.shape.Cells())
	for i := range genome {
		genome[i] = s.AtFlat(i) == Compute
	}
	return genome
}

// AtFlat returns the decision at place index of the genome.
func (s *Schedule) AtFlat(index int) Decision {
	s.check(index)
	if s.words[index/64]>>(index%64)&1 != 0 {
		return Compute
	}
	return Reuse
}

// SetFlat changes the decision at place index of the genome.
func (s *Schedule) SetFlat(index int, d Decision) {
	s.check(index)
	if d == Compute {
		s.words[index/64] |= 1 << (index % 64)
	} else {
		s.words[index/64] &^= 1 << (index % 64)
	}
}

// check keeps an index past the last cell from landing in the unused bits of
// the last word.
func (s *Schedule) check(index int) {
	if index < 0 || index >= s.shape.Cells() {
		panic(fmt.Sprintf("ecadx/schedule: cell %d of %d (%v)", index, s.shape.Cells(), s.shape))
	}
}

// index checks the coordinates and flattens them.
func (s *Schedule) index(step, block, comp int) int {
	c := Cell{step, block, comp}
	if !s.shape.Contains(c) {
		panic(fmt.Sprintf("ecadx/schedule: step %d, block %d, component %d is outside %v", step, block, comp, s.shape))
	}
	return s.shape.Index(c)
}

// At returns the decision for a step, a block (numbered through all kinds) and a
// component of that block (0 to 2).
func (s *Schedule) At(step, block, comp int) Decision {
	return s.AtFlat(s.index(step, block, comp))
}

// Set changes one decision; see [Schedule.At].
func (s *Schedule) Set(step, block, comp int, d Decision) {
	s.SetFlat(s.index(step, block, comp), d)
}

// Row returns the decisions of one step in genome order: [block*3+component].
// The slice is the caller's.
func (s *Schedule) Row(step int) []Decision {
	start := s.index(step, 0, 0)
	row := make([]Decision, s.shape.RowLen())
	for i := range row {
		row[i] = s.AtFlat(start + i)
	}
	return row
}

// Clone returns a copy that shares nothing with s.
func (s *Schedule) Clone() *Schedule {
	return &Schedule{shape: s.shape, words: slices.Clone(s.words)}
}

// Equal reports whether both have the same shape and the same decisions, cell by
// cell. To ask whether they make a model do the same thing compare
// [Schedule.Hash].
func (s *Schedule) Equal(other *Schedule) bool {
	return s.shape == other.shape && slices.Equal(s.words, other.words)
}

// Distance returns the number of cells in which two schedules of one shape
// differ, or an error that wraps [ErrShape].
func (s *Schedule) Distance(other *Schedule) (int, error) {
	if err := s.shape.Fits(other.shape); err != nil {
		return 0, err
	}
	n := 0
	for i, w := range s.words {
		n += bits.OnesCount64(w ^ other.words[i])
	}
	return n, nil
}

// CommonSteps returns how many steps from step 0 on are the same in both
// schedules: their work can be shared up to there. Schedules of different
// models or step counts share nothing.
func (s *Schedule) CommonSteps(other *Schedule) int {
	if s.shape != other.shape {
		return 0
	}
	for i, w := range s.words {
		if d := w ^ other.words[i]; d != 0 {
			return (i*64 + bits.TrailingZeros64(d)) / s.shape.RowLen()
		}
	}
	return s.shape.Steps
}

// Reused returns the number of cells that reuse.
func (s *Schedule) Reused() int {
	n := s.shape.Cells()
	for _, w := range s.words {
		n -= bits.OnesCount64(w)
	}
	return n
}

// All iterates over the cells in genome order.
func (s *Schedule) All() iter.Seq2[Cell, Decision] {
	return func(yield func(Cell, Decision) bool) {
		for i := range s.shape.Cells() {
			if !yield(s.shape.Cell(i), s.AtFlat(i)) {
				return
			}
		}
	}
}
