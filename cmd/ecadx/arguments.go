package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// walk is a command line taken apart: the command it names, its flags and the other arguments.
type walk struct {
	path  []*cli.Command
	names []string // of path, as written
	flags []string
	rest  []string
	// pending is the flag that still wants a value, at the end of an incomplete line.
	pending cli.Flag
}

// command is the innermost command, nil for the program itself.
func (w *walk) command() *cli.Command {
	if len(w.path) == 0 {
		return nil
	}
	return w.path[len(w.path)-1]
}

// title is the command as it is typed.
func (w *walk) title() string { return strings.Join(append([]string{"ecadx"}, w.names...), " ") }

// arrange puts flags before other arguments, where the flag package wants them, so that users may write them anywhere, and reports unknown
// commands and flags with the nearest known name.
func arrange(app *cli.App, args []string) ([]string, error) {
	w, err := takeApart(app, args[1:])
	if err != nil {
		return nil, err
	}
	if w.pending != nil {
		return nil, usageError("%s: flag --%s needs a value: see %s --help", w.title(), w.pending.Names()[0], w.title())
	}
	out := append([]string{args[0]}, w.names...)
	out = append(out, w.flags...)
	if len(w.rest) > 0 {
		out = append(append(out, "--"), w.rest...)
	}
	return out, nil
}

// takeApart walks a command line. Errors are usage errors.
func takeApart(app *cli.App, args []string) (*walk, error) {
	w := &walk{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			w.rest = append(w.rest, args[i+1:]...)
			return w, nil
		case len(arg) > 1 && arg[0] == '-' && !isNumber(arg):
			name, _, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			f := findFlag(w.flagsHere(app), name)
			if f == nil {
				names := flagNames(w.flagsHere(app))
				return w, usageError("%s: unknown flag %s: %s", w.title(), strings.SplitN(arg, "=", 2)[0],
					didYouMean("--"+name, names, "see "+w.title()+" --help"))
			}
			w.flags = append(w.flags, arg)
			if takesValue(f) && !inline {
				if i+1 == len(args) {
					w.pending = f
					return w, nil
				}
				i++
				w.flags = append(w.flags, args[i])
			}
		case len(w.rest) == 0 && len(w.subcommands(app)) > 0:
			c := findCommand(w.subcommands(app), arg)
			if c == nil {
				return w, usageError("%s: unknown command %q: %s", w.title(), arg,
					didYouMean(arg, commandNames(w.subcommands(app)), "see "+w.title()+" --help"))
			}
			w.path, w.names = append(w.path, c), append(w.names, c.Name)
		default:
			w.rest = append(w.rest, arg)
		}
	}
	return w, nil
}

// isNumber tells a negative number from a flag.
func isNumber(arg string) bool { return arg[1] >= '0' && arg[1] <= '9' || arg[1] == '.' }

func (w *walk) subcommands(app *cli.App) []*cli.Command {
	if c := w.command(); c != nil {
		return c.Subcommands
	}
	return app.Commands
}

// flagsHere are the flags of the command reached so far, --help included.
func (w *walk) flagsHere(app *cli.App) []cli.Flag {
	if c := w.command(); c != nil {
		return append(slices.Clone(c.Flags), cli.HelpFlag)
	}
	return append(slices.Clone(app.Flags), cli.HelpFlag, cli.VersionFlag)
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return flags[i]
}

func findCommand(list []*cli.Command, name string) *cli.Command {
	i := slices.IndexFunc(list, func(c *cli.Command) bool { return c.HasName(name) })
	if i < 0 {
		return nil
	}
	return list[i]
}

// flagNames are the long names with their dashes.
func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		for _, n := range f.Names() {
			if len(n) > 1 {
				names = append(names, "--"+n)
			}
		}
	}
	return names
}

func commandNames(list []*cli.Command) []string {
	var names []string
	for _, c := range list {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// positional checks how many arguments a command has got besides its flags.
func positional(c *cli.Context, least, most int, what string) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < least || most >= 0 && len(args) > most {
		if len(args) > most && most >= 0 {
			return nil, usageError("%s: unexpected argument %q: write %s", c.Command.HelpName, args[most], what)
		}
		return nil, usageError("%s: an argument is missing: write %s", c.Command.HelpName, what)
	}
	return args, nil
}
