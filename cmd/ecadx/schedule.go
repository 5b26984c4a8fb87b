package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"ecadx/schedule"
)

// Flags of the schedule commands.
const (
	flagFamily    = "family"
	flagBlocks    = "blocks"
	flagFormat    = "format"
	flagThreshold = "threshold"
)

func scheduleCommand() *cli.Command {
	return &cli.Command{
		Name:      "schedule",
		Usage:     "list, show, make, convert, re-time, compare and count schedules",
		UsageText: "ecadx schedule COMMAND [flags] [arguments]",
		CustomHelpTemplate: commandHelp("A schedule says for every step, block and component whether to compute or to reuse the last output.",
			"ecadx schedule show fora:3", "ecadx schedule macs study/schedules/*.json --json"),
		Subcommands: []*cli.Command{
			scheduleListCommand(), scheduleShowCommand(), scheduleMakeCommand(), scheduleConvertCommand(), scheduleRetimeCommand(), scheduleDiffCommand(), scheduleMACsCommand(),
		},
		Action: func(c *cli.Context) error {
			return usageError("ecadx schedule: a command is missing: use one of %s", strings.Join(commandNames(c.Command.Subcommands), ", "))
		},
	}
}

// shapeFlags say what a heuristic's schedule is for, where there is no file to say it.
func shapeFlags(c *cli.Context, o *options) (schedule.Shape, error) {
	m, err := o.openModel()
	if err != nil {
		return schedule.Shape{}, err
	}
	defer m.Close()
	return m.Shape(o.steps), nil
}

func scheduleListCommand() *cli.Command {
	return &cli.Command{
		Name:               "list",
		Usage:              "name the heuristics with their parameters",
		UsageText:          "ecadx schedule list [--json]",
		CustomHelpTemplate: commandHelp("", "ecadx schedule list", "ecadx schedule list --json"),
		Flags:              commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			if _, err := positional(c, 0, 0, "ecadx schedule list"); err != nil {
				return err
			}
			out := environmentOf(c).stdout
			if o.output == asJSON {
				return writeJSON(out, schedule.Heuristics())
			}
			for _, h := range schedule.Heuristics() {
				fmt.Fprintf(out, "%-28s %s\n", h.Usage(), h.Doc)
				for _, p := range h.Params {
					text := p.Doc
					if len(p.Choices) > 0 {
						text += " (" + strings.Join(p.Choices, ", ") + ")"
					}
					if p.Default != "" {
						text += "; default " + p.Default
					}
					fmt.Fprintf(out, "    %-10s %s\n", p.Name, text)
				}
				if len(h.Families) == 1 {
					fmt.Fprintf(out, "    for %v only\n", h.Families[0])
				}
				fmt.Fprintf(out, "    for example %s\n", h.Example)
			}
			return nil
		},
	}
}

// scheduleArguments parses options and references of a command about schedules.
func scheduleArguments(c *cli.Context, least, most int, what string) (*options, []*resolved, error) {
	o, err := parseOptions(c)
	if err != nil {
		return nil, nil, err
	}
	args, err := positional(c, least, most, what)
	if err != nil {
		return nil, nil, err
	}
	var list []*resolved
	var shape schedule.Shape
	for _, ref := range args {
		if schedule.IsHeuristic(ref) && shape == (schedule.Shape{}) {
			// A heuristic beside a file takes the file's shape; alone it is for the model and the steps.
			for _, other := range args {
				if !schedule.IsHeuristic(other) && !c.IsSet(flagModel) && !c.IsSet(flagSteps) {
					r, err := readSchedule(other, shape)
					if err != nil {
						return nil, nil, err
					}
					shape = r.schedule.Shape()
					break
				}
			}
			if shape == (schedule.Shape{}) {
				if shape, err = shapeFlags(c, o); err != nil {
					return nil, nil, err
				}
			}
		}
		r, err := readSchedule(ref, shape)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, r)
	}
	return o, list, nil
}

func scheduleShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "draw steps x blocks x components, and sum up",
		UsageText: "ecadx schedule show REF [flags]",
		CustomHelpTemplate: commandHelp("REF is a file, or a heuristic, which is made for --model and --steps.",
			"ecadx schedule show fora:3", "ecadx schedule show study/schedules/3f2a.json --ascii"),
		Flags: append(commonFlags(flagModel, flagSteps, flagJSON), &cli.BoolFlag{DisableDefaultText: true, Name: "ascii", Usage: "draw with # and ."}),
		Action: func(c *cli.Context) error {
			o, list, err := scheduleArguments(c, 1, 1, "ecadx schedule show REF")
			if err != nil {
				return err
			}
			out := environmentOf(c).stdout
			s := list[0].schedule
			sum := schedule.Summarize(s)
			if o.output == asJSON {
				return writeJSON(out, struct {
					Ref string `json:"ref"`
					schedule.Summary
					Rows [][]schedule.Decision `json:"rows"`
				}{list[0].ref, sum, rows(s)})
			}
			draw := schedule.ShowOptions{Width: terminalWidth()}
			if c.Bool("ascii") {
				draw.Charset = schedule.ASCII
			}
			if isTerminal(out) && os.Getenv("NO_COLOR") == "" {
				draw.Colour = schedule.ANSI
			}
			if err := schedule.Show(out, s, draw); err != nil {
				return err
			}
			return sum.WriteText(out)
		},
	}
}

// rows are the decisions by step, in genome order.
func rows(s *schedule.Schedule) [][]schedule.Decision {
	out := make([][]schedule.Decision, s.Shape().Steps)
	for i := range out {
		out[i] = s.Row(i)
	}
	return out
}

// terminalWidth is what the shell says the terminal has, 0 if it says nothing.
func terminalWidth() int {
	n := 0
	fmt.Sscan(os.Getenv("COLUMNS"), &n)
	return n
}

func scheduleMakeCommand() *cli.Command {
	return &cli.Command{
		Name:      "make",
		Usage:     "write a heuristic's schedule as a file",
		UsageText: "ecadx schedule make REF [--model M] [--steps S] --out FILE [flags]",
		CustomHelpTemplate: commandHelp("The file is ECAD's JSON. --out - writes it to standard output.",
			"ecadx schedule make fora:3 --out fora3.json", "ecadx schedule make tgate:10:3 --model random:pixart-alpha-256 --steps 20 --out tgate.json"),
		Flags: append(commonFlags(flagModel, flagSteps, flagJSON, flagForce), &cli.StringFlag{Name: flagOut, Usage: "write `FILE`"}),
		Action: func(c *cli.Context) error {
			o, list, err := scheduleArguments(c, 1, 1, "ecadx schedule make REF --out FILE")
			if err != nil {
				return err
			}
			f := list[0].file
			if list[0].made != nil {
				if f, err = list[0].made.File(schedule.Config{TransformerWeights: o.model}); err != nil {
					return err
				}
			}
			return o.deliver(c, f, nil)
		},
	}
}

// deliver writes a schedule file where --out says.
func (o *options) deliver(c *cli.Context, f *schedule.File, lossy []string) error {
	path, env := c.String(flagOut), environmentOf(c)
	switch path {
	case "":
		return usageError("%s: --out is missing: name the file to write, or - for standard output", o.command)
	case "-":
		_, err := env.stdout.Write(f.Bytes())
		return err
	}
	return o.deliverBytes(env, path, f.Bytes(), f.Schedule(), lossy)
}

// deliverBytes writes a file made from a schedule and says so.
func (o *options) deliverBytes(env *environment, path string, data []byte, s *schedule.Schedule, lossy []string) error {
	if err := o.checkAbsent(path); err != nil {
		return err
	}
	if err := writeFile(path, data); err != nil {
		return err
	}
	for _, l := range lossy {
		o.remark(env, "%s: not carried over: %s", path, l)
	}
	if o.output == asJSON {
		return writeJSON(env.stdout, struct {
			File  string         `json:"file"`
			Hash  schedule.Hash  `json:"hash"`
			Shape schedule.Shape `json:"shape"`
			Lossy []string       `json:"lossy"`
		}{path, s.Hash(), s.Shape(), append([]string{}, lossy...)})
	}
	_, err := fmt.Fprintf(env.stdout, "%s: %v, hash %.16s\n", path, s.Shape(), s.Hash())
	return err
}

func scheduleDiffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "compare two schedules cell by cell",
		UsageText: "ecadx schedule diff A B [flags]",
		CustomHelpTemplate: commandHelp("A heuristic beside a file is made for the file's steps and blocks.",
			"ecadx schedule diff fora:2 fora:3", "ecadx schedule diff study/schedules/3f2a.json fora:2 --json"),
		Flags: commonFlags(flagModel, flagSteps, flagJSON),
		Action: func(c *cli.Context) error {
			o, list, err := scheduleArguments(c, 2, 2, "ecadx schedule diff A B")
			if err != nil {
				return err
			}
			d, err := schedule.Diff(list[0].schedule, list[1].schedule)
			if err != nil {
				return inputError("%s, %s: %w", list[0].ref, list[1].ref, shapeProblem(err))
			}
			if o.output == asJSON {
				return writeJSON(environmentOf(c).stdout, d)
			}
			return d.WriteText(environmentOf(c).stdout)
		},
	}
}

func scheduleMACsCommand() *cli.Command {
	return &cli.Command{
		Name:      "macs",
		Usage:     "count the multiply-accumulates of schedules",
		UsageText: "ecadx schedule macs FILE... [--model M] [--resolution PX] [--json]",
		CustomHelpTemplate: commandHelp("ECAD's rule: linear layers and convolutions of the transformer, whole run, one image with guidance. Without --model the\n"+
			"sizes are those of the released model of the file's shape (miniatures by their number of blocks).",
			"ecadx schedule macs study/schedules/*.json", "ecadx schedule macs schedule.json --model random:pixart-alpha-1024 --resolution 1024 --json"),
		Flags: append(commonFlags(flagResolution, flagSteps, flagGuidance, flagJSON),
			&cli.StringFlag{Name: flagModel, Usage: "`REF`: count by this model's sizes", DefaultText: "the released model of the file's shape"}),
		Action: scheduleMACs,
	}
}

// macsLine is one entry of macs --json.
type macsLine struct {
	File         string  `json:"file"`
	TotalMACs    int64   `json:"total_macs"`
	Ratio        float64 `json:"macs_ratio"`
	UncachedMACs int64   `json:"uncached_macs"`
	BaseMACs     int64   `json:"base_macs"`
}

func scheduleMACs(c *cli.Context) error {
	if !c.IsSet(flagModel) { // parseOptions refuses an empty model
		if err := c.Set(flagModel, "released"); err != nil {
			return err
		}
	}
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	args, err := positional(c, 1, -1, "ecadx schedule macs FILE...")
	if err != nil {
		return err
	}
	counter := &macsCounter{o: o}
	defer counter.close()
	lines := []macsLine{}
	for _, ref := range args {
		t, err := counter.count(ref)
		if err != nil {
			return err
		}
		lines = append(lines, macsLine{ref, t.Total, t.Ratio, t.Uncached, t.Base})
	}
	out := environmentOf(c).stdout
	if o.output == asJSON {
		return writeJSON(out, lines)
	}
	for _, l := range lines {
		fmt.Fprintf(out, "%-40s %9sMACs  %6.3fx less\n", l.File, siPrefix(float64(l.TotalMACs)), l.Ratio)
	}
	return nil
}

// siPrefix writes a number with three or four digits and a prefix: 5.75 T.
func siPrefix(v float64) string {
	for _, p := range []struct {
		unit float64
		name string
	}{{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= p.unit {
			return fmt.Sprintf("%.4g %s", v/p.unit, p.name)
		}
	}
	return fmt.Sprintf("%.4g ", v)
}

// formats are the ways convert reads and writes a schedule, by name.
var formats = []struct{ name, doc string }{
	{"ecad", "ECAD's JSON, the one format of schedule references"},
	{"scm", "cache-dit's steps computation mask, YAML; write only"},
	{"smoothcache", "SmoothCache's JSON, one list per component"},
}

func formatNames() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

func scheduleConvertCommand() *cli.Command {
	text := "Formats:\n"
	for _, f := range formats {
		text += fmt.Sprintf("   %-12s %s\n", f.name, f.doc)
	}
	return &cli.Command{
		Name:      "convert",
		Usage:     "read a schedule and write it in another format",
		UsageText: "ecadx schedule convert IN OUT [flags]",
		CustomHelpTemplate: commandHelp(text+"IN is a reference; ECAD's and SmoothCache's files are told apart by what they hold. What the other format cannot say is printed.",
			"ecadx schedule convert schedule.json mask.yaml --format scm", "ecadx schedule convert smooth.json schedule.json --model mini-pixart --steps 20"),
		Flags: append(commonFlags(flagModel, flagSteps, flagJSON, flagQuiet, flagForce),
			&cli.StringFlag{Name: flagFormat, Usage: "write `FORMAT`: " + strings.Join(formatNames(), ", "), DefaultText: "ecad; scm for .yaml and .yml"},
			&cli.Float64Flag{Name: flagThreshold, Value: 0.5, Usage: "scm: a step computes if at least the share `T` of its cells does"}),
		Action: scheduleConvert,
	}
}

func scheduleConvert(c *cli.Context) error {
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	args, err := positional(c, 2, 2, "ecadx schedule convert IN OUT")
	if err != nil {
		return err
	}
	format := c.String(flagFormat)
	if format == "" {
		format = "ecad"
		if ext := strings.ToLower(filepath.Ext(args[1])); ext == ".yaml" || ext == ".yml" {
			format = "scm"
		}
	}
	in, err := convertInput(c, o, args[0])
	if err != nil {
		return err
	}
	env := environmentOf(c)
	switch format {
	case "ecad":
		f := in.file
		if f == nil {
			if f, err = in.made.File(schedule.Config{TransformerWeights: o.model}); err != nil {
				return err
			}
		}
		return o.deliverBytes(env, args[1], f.Bytes(), in.schedule, nil)
	case "scm":
		mask, lossy, err := schedule.ExportSCM(in.schedule, c.Float64(flagThreshold))
		if err != nil {
			return usageError("%s: --%s: %w", o.command, flagThreshold, err)
		}
		return o.deliverBytes(env, args[1], []byte(mask.YAML()), in.schedule, lossy)
	case "smoothcache":
		data, lossy := schedule.ExportSmoothCache(in.schedule)
		return o.deliverBytes(env, args[1], append(data, '\n'), in.schedule, lossy)
	}
	return usageError("%s: --%s: unknown format %q: %s", o.command, flagFormat, format, didYouMean(format, formatNames(), "use "+strings.Join(formatNames(), ", ")))
}

// convertInput reads a reference, or a SmoothCache file for --model and --steps.
func convertInput(c *cli.Context, o *options, ref string) (*resolved, error) {
	if schedule.IsHeuristic(ref) {
		shape, err := shapeFlags(c, o)
		if err != nil {
			return nil, err
		}
		return readSchedule(ref, shape)
	}
	r, ecadErr := readSchedule(ref, schedule.Shape{})
	if ecadErr == nil {
		return r, nil
	}
	data, err := readLimited(ref, schedule.MaxFileSize)
	if err != nil || !looksLikeSmoothCache(data) {
		return nil, ecadErr
	}
	shape, err := shapeFlags(c, o)
	if err != nil {
		return nil, err
	}
	s, err := schedule.ImportSmoothCache(data, shape)
	if err != nil {
		return nil, inputError("%s: %w", ref, err)
	}
	f, err := schedule.NewFile(s, schedule.FileOptions{Name: strings.TrimSuffix(filepath.Base(ref), filepath.Ext(ref)),
		Attributes: schedule.EvolvedAttributes(s), Origin: "smoothcache " + filepath.Base(ref)})
	if err != nil {
		return nil, err
	}
	return &resolved{ref: ref, schedule: s, file: f}, nil
}

// looksLikeSmoothCache tells a JSON object whose first member is a component's list from ECAD's.
func looksLikeSmoothCache(data []byte) bool {
	head := strings.Join(strings.Fields(string(data[:min(len(data), 64)])), "")
	for _, f := range []schedule.Family{schedule.PixArt, schedule.Flux} {
		for _, component := range f.Components() {
			if strings.HasPrefix(head, `{"`+component.String()+`":[`) {
				return true
			}
		}
	}
	return false
}
