package ga

import (
	"fmt"

	"ecadx/schedule"
)

// GenomeOf returns a schedule's genome: its decisions in the flat order of schedule.Shape.Index, the reference's.
func GenomeOf(s *schedule.Schedule) Genome {
	return Genome{n: s.Shape().Cells(), words: s.Words()}
}

// ScheduleOf returns the schedule that a genome stands for, step 0 and dead genes as they are: of the shape, or of fewer steps where the genome has
// fewer rows.
func ScheduleOf(shape schedule.Shape, g Genome) (*schedule.Schedule, error) {
	steps := stepsOf(shape, g)
	if steps < 1 || g.n != steps*shape.RowLen() || steps > shape.Steps {
		return nil, fmt.Errorf("%w: %d genes for %v, which has %d in each step", ErrGenome, g.n, shape, shape.RowLen())
	}
	shape.Steps = steps
	return schedule.FromWords(shape, g.words)
}

// stepsOf is the number of whole rows of a genome.
func stepsOf(shape schedule.Shape, g Genome) int { return g.n / max(1, shape.RowLen()) }

// retimed returns the genome carried over to another number of steps, by position in the run; see schedule.Retime. Step i of n counts as being i/n
// of the way: samplers differ, but all spread their steps about evenly.
func retimed(shape schedule.Shape, g Genome, steps int) Genome {
	have := stepsOf(shape, g)
	if have == steps {
		return g
	}
	from, to := make([]float64, have), make([]float64, steps)
	for i := range from {
		from[i] = -float64(i * steps)
	}
	for i := range to {
		to[i] = -float64(i * have)
	}
	s, err := ScheduleOf(shape, g)
	if err == nil {
		s, err = schedule.Retime(s, from, to)
	}
	if err != nil {
		return g // no genome of the shape, which Run reports
	}
	return GenomeOf(s)
}
