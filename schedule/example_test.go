package schedule_test

import (
	"fmt"
	"os"

	"ecadx/schedule"
)

// A heuristic, its cost, and the file ECAD would write for it.
func Example() {
	shape := schedule.Shape{Family: schedule.PixArt, Steps: 20, Blocks: 28}
	g, err := schedule.Resolve("fora:3", shape)
	if err != nil {
		fmt.Println(err)
		return
	}
	dims, err := schedule.ECADDims(schedule.PixArt, 256, 256)
	if err != nil {
		fmt.Println(err)
		return
	}
	tally, err := g.Schedule.MACs(dims)
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := g.File(schedule.Config{Height: 256, Width: 256})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(file.Name(), file.Meta().Origin)
	fmt.Printf("%d MACs, %.2f times fewer\n", tally.Total, tally.Ratio)
	// Output:
	// recompute_all_every_003 fora:3
	// 2019308470272 MACs, 2.83 times fewer
}

// In FLUX's single-stream blocks a computation can be dead: nobody reads it.
func ExampleSchedule_DeadGenes() {
	s, err := schedule.New(schedule.Shape{Family: schedule.Flux, Steps: 3, SingleBlocks: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Set(1, 0, schedule.SingleProjOut.Index(), schedule.Reuse)
	for _, g := range s.DeadGenes() {
		fmt.Printf("step %d, %v: %v\n", g.Cell.Step, g.Component, g.Reason)
	}
	// Output:
	// step 1, single_attn: computed and never read
	// step 1, single_proj_mlp: computed and never read
}

// A picture of a small T-GATE schedule.
func ExampleShow() {
	g, err := schedule.Resolve("tgate:4:3", schedule.Shape{Family: schedule.PixArt, Steps: 8, Blocks: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := schedule.Show(os.Stdout, g.Schedule, schedule.ShowOptions{Charset: schedule.ASCII, Width: 80}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// pixart, 8 steps, 2 blocks: # compute, . reuse; steps to the right, blocks down
	//      attn1                attn2                ff
	//      0    5               0    5               0    5
	//    0 ##.#####           0 ####....           0 ########
	//    1 ##.#####           1 ####....           1 ########
}
