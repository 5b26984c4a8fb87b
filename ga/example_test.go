package ga_test

import (
	"context"
	"fmt"

	"ecadx/ga"
	"ecadx/schedule"
)

// staleness scores a schedule by how old its reused outputs are: the older, the worse.
type staleness struct{}

func (staleness) Evaluate(_ context.Context, schedules []*schedule.Schedule, images []ga.ImageID) ([][]ga.Score, error) {
	scores := make([][]ga.Score, len(schedules))
	for i, s := range schedules {
		age := make([]int, s.Shape().RowLen())
		total := 0
		for cell, d := range s.All() {
			k := cell.Block*schedule.ComponentsPerBlock + cell.Comp
			age[k]++
			if d == schedule.Compute {
				age[k] = 0
			}
			total += age[k] * age[k]
		}
		for range images {
			scores[i] = append(scores[i], ga.Score{Value: 100 - float64(total)})
		}
	}
	return scores, nil
}

// A search over schedules of a small model: the quality is made up, the cost is the number of computed components.
func ExampleRun() {
	shape := schedule.Shape{Family: schedule.PixArt, Steps: 4, Blocks: 1}
	cfg := ga.NewConfig(shape, 1)
	fora, err := schedule.Resolve("fora:2", shape)
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg.Baselines = []ga.Named{{Name: "fora:2", Schedule: fora.Schedule}}
	cfg.Images = []ga.Image{{ID: 0, Prompt: 0}}
	count := ga.CostFunc(func(s *schedule.Schedule) (float64, error) {
		return float64(shape.Cells() - s.Reused()), nil
	})
	res, err := ga.Run(context.Background(), cfg, ga.Deps{Evaluator: staleness{}, Cost: count, MACs: count, Log: &ga.MemoryLog{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range res.Front {
		fmt.Printf("%v components: quality %v %q\n", c.Cost, c.Quality.Mean, c.Name)
	}
	// Output:
	// 3 components: quality 58 ""
	// 4 components: quality 70 ""
	// 5 components: quality 82 ""
	// 6 components: quality 94 "fora:2"
	// 7 components: quality 95 ""
	// 8 components: quality 96 ""
	// 9 components: quality 97 ""
	// 10 components: quality 98 ""
	// 11 components: quality 99 ""
}
