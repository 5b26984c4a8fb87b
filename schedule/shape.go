package schedule

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrShape is wrapped by errors about a shape that is impossible or does not fit.
var ErrShape = errors.New("ecadx/schedule: wrong shape")

// Shape is what a schedule ranges over: steps of the sampler, blocks of the
// model. Blocks are numbered through, FLUX's single-stream blocks after its
// double-stream blocks.
type Shape struct {
	Family       Family `json:"family"`
	Steps        int    `json:"steps"`
	Blocks       int    `json:"blocks"`                  // PixArt: all blocks; FLUX: double-stream blocks
	SingleBlocks int    `json:"single_blocks,omitempty"` // FLUX only
}

// Cell addresses one decision. Comp is the component's place in its block, 0 to
// 2; [Shape.Component] names it.
type Cell struct{ Step, Block, Comp int }

// Validate reports a shape outside the limits, wrapping [ErrShape].
func (s Shape) Validate() error {
	switch {
	case s.Family != PixArt && s.Family != Flux:
		return fmt.Errorf("%w: unknown %v: use PixArt or Flux", ErrShape, s.Family)
	case s.Steps < 1 || s.Steps > MaxSteps:
		return fmt.Errorf("%w: %d steps: use 1 to %d", ErrShape, s.Steps, MaxSteps)
	case s.Blocks < 0 || s.Blocks > MaxBlocks:
		return fmt.Errorf("%w: %d blocks: use at most %d", ErrShape, s.Blocks, MaxBlocks)
	case s.SingleBlocks < 0 || s.SingleBlocks > MaxBlocks:
		return fmt.Errorf("%w: %d single-stream blocks: use at most %d", ErrShape, s.SingleBlocks, MaxBlocks)
	case s.Family == PixArt && s.SingleBlocks != 0:
		return fmt.Errorf("%w: %d single-stream blocks in a pixart schedule: only flux has them", ErrShape, s.SingleBlocks)
	case s.TotalBlocks() == 0:
		return fmt.Errorf("%w: no blocks: use at least 1", ErrShape)
	}
	return nil
}

// String describes the shape, for messages.
func (s Shape) String() string {
	if s.Family == Flux {
		return fmt.Sprintf("flux, %d steps, %d double and %d single blocks", s.Steps, s.Blocks, s.SingleBlocks)
	}
	return fmt.Sprintf("%v, %d steps, %d blocks", s.Family, s.Steps, s.Blocks)
}

// TotalBlocks returns the number of blocks of all kinds.
func (s Shape) TotalBlocks() int { return s.Blocks + s.SingleBlocks }

// RowLen returns the number of cells of one step.
func (s Shape) RowLen() int { return s.TotalBlocks() * ComponentsPerBlock }

// Cells returns the number of cells, which is the length of the genome.
func (s Shape) Cells() int { return s.Steps * s.RowLen() }

// LiveCells returns the number of cells in which a reuse is possible: all but
// those of step 0, which always computes because nothing is kept yet.
func (s Shape) LiveCells() int { return (s.Steps - 1) * s.RowLen() }

// Kind returns the kind of a block.
func (s Shape) Kind(block int) BlockKind {
	switch {
	case s.Family == PixArt:
		return PixArtBlock
	case block < s.Blocks:
		return DoubleBlock
	}
	return SingleBlock
}

// Component returns the component at place comp, 0 to 2, of a block.
func (s Shape) Component(block, comp int) Component {
	return s.Kind(block).Components()[comp]
}

// BlockName returns the block's key in ECAD's files: "7", or "single_7" for the
// eighth single-stream block.
func (s Shape) BlockName(block int) string {
	if s.Kind(block) == SingleBlock {
		return "single_" + strconv.Itoa(block-s.Blocks)
	}
	return strconv.Itoa(block)
}

// Contains reports whether the cell is in the shape.
func (s Shape) Contains(c Cell) bool {
	return c.Step >= 0 && c.Step < s.Steps &&
		c.Block >= 0 && c.Block < s.TotalBlocks() &&
		c.Comp >= 0 && c.Comp < ComponentsPerBlock
}

// Index returns the cell's place in the flat genome. The order is ECAD's: step
// by step, block by block (double-stream before single-stream), component by
// component.
func (s Shape) Index(c Cell) int {
	return (c.Step*s.TotalBlocks()+c.Block)*ComponentsPerBlock + c.Comp
}

// Cell is the inverse of [Shape.Index].
func (s Shape) Cell(index int) Cell {
	row := s.RowLen()
	return Cell{
		Step:  index / row,
		Block: index % row / ComponentsPerBlock,
		Comp:  index % ComponentsPerBlock,
	}
}

// Fits returns an error that states both shapes, wrapping [ErrShape], unless a
// schedule of shape s can run on a model and step count of shape want.
func (s Shape) Fits(want Shape) error {
	if s == want {
		return nil
	}
	return fmt.Errorf("%w: the schedule is for %v, the run is %v: take a schedule made for this model and number of steps",
		ErrShape, s, want)
}
