package bench

import (
	"context"
	"errors"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/schedule"
)

// MeasureRuns measures the denoising loop of each schedule, prologue included, in milliseconds per image: repeats runs of each after one that warms up,
// in turns, so that a drift of the machine meets all alike. A schedule runs its own number of steps, whatever cfg says. It opens its own device and closes it. Of cfg the members about schedules and
// repetition are not looked at. When ctx is cancelled it returns the context's error soon.
func MeasureRuns(ctx context.Context, cfg Config, schedules []*schedule.Schedule, repeats int) (runs []Spread, err error) {
	cfg.Schedule = nil
	b := &bench{cfg: cfg}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	b.makeInputs()
	loops := make([]*dit.Loop, len(schedules))
	for i, s := range schedules {
		run, err := cfg.Model.Sampler(s.Shape().Steps, b.size.LatentHeight, b.size.LatentWidth)
		if err != nil {
			return nil, err
		}
		if loops[i], err = b.loop([]*schedule.Schedule{s}, run); err != nil {
			return nil, err
		}
		defer loops[i].Release()
	}
	times := make([][]float64, len(schedules))
	for round := range repeats + 1 {
		for k := range loops {
			i := (k + round) % len(loops)
			ms, _, _, err := b.run(ctx, loops[i], ecad.RunOptions{})
			if err != nil {
				return nil, err
			}
			if round > 0 {
				times[i] = append(times[i], ms/float64(b.cfg.Batch))
			}
		}
	}
	for _, t := range times {
		runs = append(runs, NewSpread(t))
	}
	return runs, nil
}
