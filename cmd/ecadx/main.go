package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/urfave/cli/v2"

	ecad "ecadx/cgo"
	"ecadx/dit"
)

// commit is set by the linker.
var commit = "unknown"

func main() { os.Exit(int(run(os.Args, os.Stdout, os.Stderr))) }

// environment is what commands reach besides their options; see environmentOf.
type environment struct {
	stdout, stderr io.Writer
	program        string // as it was called
	// abort is closed by the second interrupt: stop at once instead of finishing the batch at work.
	abort <-chan struct{}
}

const environmentKey = "environment"

// environmentOf returns the environment of a running command.
func environmentOf(c *cli.Context) *environment { return c.App.Metadata[environmentKey].(*environment) }

// run is the whole command: it returns what the process exits with and never panics.
func run(args []string, stdout, stderr io.Writer) (code exitCode) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(stderr, "ecadx: internal error: %s: please report this with the command line\n", oneLine(fmt.Sprint(p)))
			code = exitFailed
		}
	}()
	ctx, abort, stop := interrupts()
	defer stop()
	app := newApp(&environment{stdout: stdout, stderr: stderr, abort: abort, program: calledAs(args)})
	if len(args) > 1 && args[1] == completeCommand {
		for _, line := range completions(app, args[2:]) {
			fmt.Fprintln(stdout, line)
		}
		return exitDone
	}
	ordered, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, ordered)
	}
	return report(stderr, err)
}

// calledAs is how the user calls the command, for commands that are printed to be tried next.
func calledAs(args []string) string {
	if len(args) == 0 || !strings.ContainsRune(args[0], os.PathSeparator) {
		return "ecadx"
	}
	return args[0]
}

// interrupts returns a context that the first interrupt cancels and a channel that the second one closes; the third ends the process.
func interrupts() (ctx context.Context, abort <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	second, done := make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var count atomic.Int32
	go func() {
		for {
			select {
			case <-signals:
				switch count.Add(1) {
				case 1:
					cancel()
				case 2:
					close(second)
				default:
					os.Exit(int(exitInterrupted))
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, second, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// newApp builds the command tree.
func newApp(env *environment) *cli.App {
	cli.VersionPrinter = func(c *cli.Context) { fmt.Fprint(c.App.Writer, version()) }
	app := &cli.App{
		Name:  "ecadx",
		Usage: "evolve caching schedules for diffusion transformers, and run models under them",
		Description: "ecadx learns which parts of which denoising step may reuse the last result instead of computing a new one.\n" +
			"Without --model every command works on the miniature model built into the binary.",
		Version:                   commit,
		Commands:                  commands(),
		Writer:                    env.stdout,
		ErrWriter:                 env.stderr,
		Metadata:                  map[string]any{environmentKey: env},
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true, // prompts hold commas
		CustomAppHelpTemplate:     appHelp,
		ExitErrHandler:            func(*cli.Context, error) {}, // report does it
		OnUsageError:              onUsageError,
		Action: func(c *cli.Context) error {
			return cli.ShowAppHelp(c)
		},
	}
	setUsageErrors(app.Commands)
	return app
}

// setUsageErrors makes every command report wrong flags as errors of ours.
func setUsageErrors(list []*cli.Command) {
	for _, c := range list {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = true
		setUsageErrors(c.Subcommands)
	}
}

// badValue is how the flag package reports a value it cannot read.
var badValue = regexp.MustCompile(`^invalid value (".*") for flag -(\S+): `)

func onUsageError(c *cli.Context, err error, _ bool) error {
	if m := badValue.FindStringSubmatch(err.Error()); m != nil {
		return usageError("%s: --%s: %s is no value of it: see %s --help", c.Command.HelpName, m[2], m[1], c.Command.HelpName)
	}
	return usageError("%s: %w: see %s --help", c.Command.HelpName, err, c.Command.HelpName)
}

// version is what --version prints.
func version() string {
	var backends []string
	for _, b := range []ecad.Backend{ecad.Reference, ecad.CPU, ecad.CUDA} {
		if n, _ := ecad.DeviceCount(b); n > 0 {
			backends = append(backends, b.String())
		}
	}
	return fmt.Sprintf("ecadx %s\nbuilt with %s for %s/%s\nbackends: %s\nmodels: %s\n", commit, runtime.Version(), runtime.GOOS, runtime.GOARCH,
		strings.Join(backends, ", "), strings.Join(dit.References(), ", "))
}
