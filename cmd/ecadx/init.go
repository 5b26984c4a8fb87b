package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:               "init",
		Usage:              "write a commented configuration for evolve",
		UsageText:          "ecadx init [FILE]",
		CustomHelpTemplate: commandHelp("It holds every key with its default. FILE is evolve.toml unless named; - is standard output.", "ecadx init", "ecadx init study.toml"),
		Flags:              commonFlags(flagJSON, flagForce),
		Action: func(c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			args, err := positional(c, 0, 1, "ecadx init [FILE]")
			if err != nil {
				return err
			}
			path, env := "evolve.toml", environmentOf(c)
			if len(args) == 1 {
				path = args[0]
			}
			text := defaultEvolveConfig().commented()
			if path == "-" {
				_, err := env.stdout.Write(text)
				return err
			}
			if err := o.checkAbsent(path); err != nil {
				return err
			}
			if err := writeFile(path, text); err != nil {
				return err
			}
			if o.output == asJSON {
				return writeJSON(env.stdout, struct {
					File string `json:"file"`
				}{path})
			}
			_, err = fmt.Fprintf(env.stdout, "%s: next: ecadx evolve %s --check\n", path, path)
			return err
		},
	}
}
