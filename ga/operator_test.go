package ga

import (
	"testing"

	"ecadx/schedule"
)

var fluxShape = schedule.Shape{Family: schedule.Flux, Steps: 5, Blocks: 2, SingleBlocks: 3}

// filled is a genome with every gene as given.
func filled(shape schedule.Shape, compute bool) Genome {
	g := NewGenome(shape.Cells())
	g.SetAll(compute)
	return g
}

// changed are the cells in which two genomes differ.
func changed(shape schedule.Shape, a, b Genome) []schedule.Cell {
	var cells []schedule.Cell
	for i := range a.Len() {
		if a.Get(i) != b.Get(i) {
			cells = append(cells, shape.Cell(i))
		}
	}
	return cells
}

// spans is how many distinct steps, blocks and components cells touch.
func spans(cells []schedule.Cell) (steps, blocks, comps int) {
	s, b, c := map[int]bool{}, map[int]bool{}, map[int]bool{}
	for _, cell := range cells {
		s[cell.Step], b[cell.Block], c[cell.Comp] = true, true, true
	}
	return len(s), len(b), len(c)
}

func TestOperatorsStayInTheirAxis(t *testing.T) {
	for _, shape := range []schedule.Shape{testShape, fluxShape, {Family: schedule.PixArt, Steps: 2, Blocks: 1}, {Family: schedule.PixArt, Steps: 1, Blocks: 2}} {
		ops := tensor{shape}
		edits := map[Operator]int{}
		for o := range numOperators {
			for k := range 200 {
				s := NewStream(7, int(o), PurposeChild, 0, k)
				before := filled(shape, k%2 == 0)
				if o == MutateShift || o == MutateRowSwap { // these move what differs
					for i := range before.Len() {
						before.Set(i, s.IntN(2) == 0)
					}
				}
				child := before.Clone()
				if o < crossovers {
					ops.cross(o, child, filled(shape, k%2 != 0), s)
				} else {
					ops.mutate(o, child, s)
				}
				cells := changed(shape, before, child)
				edits[o] += len(cells)
				steps, blocks, comps := spans(cells)
				for _, c := range cells {
					if c.Step == 0 {
						t.Fatalf("%v, %v: step 0 changed", shape, o)
					}
				}
				bad := false
				switch o {
				case CrossRows:
					bad = len(cells) != steps*shape.RowLen()
				case CrossBlocks:
					bad = len(cells) != blocks*steps*schedule.ComponentsPerBlock || steps > 0 && cells[len(cells)-1].Step != shape.Steps-1
				case CrossComponents:
					bad = comps > 1 || len(cells) != steps*shape.TotalBlocks()
				case MutateStepRun:
					bad = blocks > 1 || comps > 1
				case MutateBlockRun:
					bad = steps > 1 || comps > 1
				case MutateBlock:
					bad = blocks > 1
				case MutateShift:
					bad = steps > 2 || comps > 1 || child.Count() != before.Count()
				case MutateRowSwap:
					bad = steps > 2 || child.Count() != before.Count()
				case MutateFlip:
					bad = len(cells) > 4
				}
				if bad {
					t.Fatalf("%v, %v, draw %d: changed %v", shape, o, k, cells)
				}
			}
			if shape.Steps > 2 && edits[o] == 0 {
				t.Errorf("%v: %v never changes anything", shape, o)
			}
		}
	}
}

func TestCreditsFavourWhatWins(t *testing.T) {
	var c credits
	for range 50 {
		c.note(MutateShift, true)
		c.note(MutateFlip, false)
	}
	count := map[Operator]int{}
	for k := range 4000 {
		o := c.pick(crossovers, numOperators, NewStream(1, 1, PurposeChild, 0, k))
		if o < crossovers {
			t.Fatalf("picked %v", o)
		}
		count[o]++
	}
	if count[MutateShift] < 3*count[MutateFlip] || count[MutateFlip] < 100 {
		t.Errorf("of 4000 picks %d shift, %d flip", count[MutateShift], count[MutateFlip])
	}
}
