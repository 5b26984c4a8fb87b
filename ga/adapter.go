package ga

import (
	"fmt"

	"ecadx/schedule"
)

// GenomeOf returns a schedule's genome: its decisions in the flat order of schedule.Shape.Index, the reference's.
func GenomeOf(s *schedule.Schedule) Genome {
	return Genome{n: s.Shape().Cells(), words: s.Words()}
}

// ScheduleOf returns the schedule that a genome of the shape stands for, step 0 and dead genes as they are.
func ScheduleOf(shape schedule.Shape, g Genome) (*schedule.Schedule, error) {
	if g.n != shape.Cells() {
		return nil, fmt.Errorf("%w: %d genes for %v, which has %d", ErrGenome, g.n, shape, shape.Cells())
	}
	return schedule.FromWords(shape, g.words)
}
