package main

import "github.com/urfave/cli/v2"

func evolveCommand() *cli.Command {
	return &cli.Command{Name: "evolve", Usage: "search schedules", Flags: runFlags()}
}
