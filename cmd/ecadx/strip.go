package main

import "github.com/urfave/cli/v2"

func (o *options) strip(c *cli.Context, dir string) error { return nil }
