package main

import "github.com/urfave/cli/v2"

// commands lists the commands in the order of the help page.
func commands() []*cli.Command {
	return []*cli.Command{
		generateCommand(), evolveCommand(), studyCommand(), initCommand(), reportCommand(), scoreCommand(), scheduleCommand(), benchCommand(), devicesCommand(), modelCommand(), denoiseCommand(),
		programCommand(), compileCommand(),
		completionCommand(),
	}
}
