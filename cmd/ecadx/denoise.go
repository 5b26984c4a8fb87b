package main

import "github.com/urfave/cli/v2"

func denoiseCommand() *cli.Command {
	return &cli.Command{Name: "denoise", Usage: "tensors in, tensors out", Flags: runFlags()}
}
