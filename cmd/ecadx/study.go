package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"ecadx/ga/study"
)

// defaultStudy is where evolve keeps a study that nobody named.
const defaultStudy = "study"

func studyCommand() *cli.Command {
	return &cli.Command{
		Name:      "study",
		Usage:     "look at studies, check them, mend them, take results out",
		UsageText: "ecadx study COMMAND [flags] [DIR]",
		CustomHelpTemplate: commandHelp(`A study is the directory of a search. All commands but repair only read, also while the search runs. Without DIR they take ./study.`,
			"ecadx study list", "ecadx study show study", "ecadx study verify study"),
		Subcommands: []*cli.Command{
			studyListCommand(), studyShowCommand(), studyFrontCommand(), studyExportCommand(), studyDiffCommand(), studyVerifyCommand(), studyRepairCommand(),
		},
		Action: func(c *cli.Context) error {
			return usageError("ecadx study: a command is missing: use one of %s", strings.Join(commandNames(c.Command.Subcommands), ", "))
		},
	}
}

// oneStudy parses options and the directory of a command about one study.
func oneStudy(c *cli.Context, what string) (*options, string, error) {
	o, err := parseOptions(c)
	if err != nil {
		return nil, "", err
	}
	args, err := positional(c, 0, 1, what)
	if err != nil {
		return nil, "", err
	}
	return o, append(args, defaultStudy)[0], nil
}

// openStudy reads the study of a command.
func openStudy(c *cli.Context, what string) (*options, *study.Contents, error) {
	o, dir, err := oneStudy(c, what)
	if err != nil {
		return nil, nil, err
	}
	s, err := study.Read(dir)
	if err != nil {
		return nil, nil, badInput(err)
	}
	return o, s, nil
}

// studyState is how far a study is, in a word.
type studyState string

// The states.
const (
	stateRunning     studyState = "running"
	stateFinished    studyState = "finished"
	stateInterrupted studyState = "interrupted"
	stateDamaged     studyState = "damaged"
)

func stateOf(s *study.Contents) studyState {
	switch {
	case s.Running:
		return stateRunning
	case s.Front != nil && s.Front.Generations == s.Generations():
		return stateFinished
	}
	return stateInterrupted
}

// studySummary is an entry of list --json, and the beginning of show --json.
type studySummary struct {
	Dir         string     `json:"dir"`
	State       studyState `json:"state"`
	Problem     string     `json:"problem,omitempty"` // of a damaged one
	Model       string     `json:"model"`
	Mode        string     `json:"mode"`
	Quality     string     `json:"quality"`
	Cost        string     `json:"cost"`
	Generations int        `json:"generations"` // finished
	Planned     int        `json:"planned"`     // 0: until a budget is used
	Evaluations int64      `json:"evaluations"`
	Images      int64      `json:"images"`
	Front       int        `json:"front"`
	Hypervolume float64    `json:"hypervolume"`
	// Hypervolumes are those after each generation. That of a finished study is of the front after it was confirmed.
	Hypervolumes []float64 `json:"hypervolumes"`
}

func summarize(s *study.Contents) studySummary {
	sum := studySummary{Dir: s.Dir, State: stateOf(s), Generations: s.Generations(), Hypervolumes: []float64{}}
	if cfg, err := parseEvolveConfig(filepath.Join(s.Dir, "config.toml"), s.Config); err != nil {
		sum.Problem = oneLine(err.Error())
	} else {
		sum.Model, sum.Mode, sum.Quality, sum.Cost, sum.Planned = cfg.Model.Path, cfg.Search.Mode, cfg.Objectives.Quality, cfg.Objectives.Cost, cfg.Search.Generations
	}
	for _, h := range s.History() {
		sum.Hypervolumes = append(sum.Hypervolumes, h.Hypervolume)
		sum.Evaluations, sum.Images, sum.Front, sum.Hypervolume = h.Evaluations, h.Images, h.Front, h.Hypervolume
	}
	if f := s.Front; sum.State == stateFinished { // with what confirmed the front
		sum.Images, sum.Front, sum.Hypervolume = f.Images, len(f.Front), f.Hypervolume
	}
	return sum
}

// ofPlanned is the number of generations, and of how many.
func (s studySummary) ofPlanned() string {
	if s.Planned == 0 {
		return fmt.Sprint(s.Generations)
	}
	return fmt.Sprintf("%d/%d", s.Generations, s.Planned)
}

// sparkline draws values from the lowest to the highest in at most width characters.
func sparkline(values []float64, width int) string {
	const bars = "▁▂▃▄▅▆▇█"
	steps := []rune(bars)
	if len(values) == 0 {
		return ""
	}
	lo, hi := values[0], values[0]
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	var b strings.Builder
	n := min(width, len(values))
	for i := range n {
		v := values[(i+1)*len(values)/n-1] // the last of those that share a place
		k := 0
		if hi > lo {
			k = int((v - lo) / (hi - lo) * float64(len(steps)-1))
		}
		b.WriteRune(steps[k])
	}
	return b.String()
}

// listDepth is how many folders deep list looks.
const listDepth = 3

func studyListCommand() *cli.Command {
	return &cli.Command{
		Name:               "list",
		Usage:              "list the studies in folders",
		UsageText:          "ecadx study list [DIR...]",
		CustomHelpTemplate: commandHelp("It looks three folders deep. The curve is the hypervolume over the generations.", "ecadx study list", "ecadx study list runs --json"),
		Flags:              commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			roots := c.Args().Slice()
			if len(roots) == 0 {
				roots = []string{"."}
			}
			list := []studySummary{}
			for _, root := range roots {
				dirs, err := findStudies(root)
				if err != nil {
					return badInput(err)
				}
				for _, dir := range dirs {
					s, err := study.Read(dir)
					if err != nil {
						list = append(list, studySummary{Dir: dir, State: stateDamaged, Problem: oneLine(err.Error()), Hypervolumes: []float64{}})
						continue
					}
					list = append(list, summarize(s))
				}
			}
			if o.output == asJSON {
				return writeJSON(environmentOf(c).stdout, list)
			}
			return writeStudies(environmentOf(c).stdout, roots, list)
		},
	}
}

func writeStudies(out io.Writer, roots []string, list []studySummary) error {
	if len(list) == 0 {
		_, err := fmt.Fprintf(out, "no studies in %s: begin one with ecadx evolve\n", strings.Join(roots, ", "))
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "study\tstate\tmodel\tmode\tgenerations\tschedules\tfront\thypervolume\t")
	for _, s := range list {
		if s.State == stateDamaged {
			fmt.Fprintf(w, "%s\t%s\t\t\t\t\t\t\t\n", s.Dir, s.State)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%.4f\t%s\n", s.Dir, s.State, s.Model, s.Mode, s.ofPlanned(), s.Evaluations, s.Front, s.Hypervolume, sparkline(s.Hypervolumes, 20))
	}
	return w.Flush()
}

// findStudies returns the folders below root that hold a study, in order.
func findStudies(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if path != root && errors.Is(err, fs.ErrPermission) {
				return fs.SkipDir
			}
			return err
		}
		if !e.IsDir() {
			return nil
		}
		rel, _ := filepath.Rel(root, path)
		if study.Is(path) {
			dirs = append(dirs, path)
			return fs.SkipDir
		}
		if rel != "." && (strings.HasPrefix(e.Name(), ".") || strings.Count(rel, string(filepath.Separator)) >= listDepth-1) {
			return fs.SkipDir
		}
		return nil
	})
	return dirs, err
}
