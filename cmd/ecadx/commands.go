package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// commands lists the commands in the order of the help page.
func commands() []*cli.Command {
	list := []*cli.Command{
		generateCommand(), evolveCommand(), studyCommand(), initCommand(), reportCommand(), scoreCommand(), scheduleCommand(), benchCommand(), devicesCommand(), modelCommand(), denoiseCommand(),
		programCommand(), compileCommand(),
		completionCommand(),
	}
	for _, c := range list { // where a schedule is run, its file knows the number of steps; see parseOptions
		if steps, ok := findFlag(c.Flags, flagSteps).(*cli.IntFlag); ok && findFlag(c.Flags, flagSchedule) != nil {
			steps.DefaultText = fmt.Sprintf("%d, or those of the schedule's file", defaultSteps)
		}
	}
	return list
}
