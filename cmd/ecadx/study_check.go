package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"ecadx/ga/study"
)

func studyVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read every byte of a study and compare it with its checksums",
		UsageText: "ecadx study verify [DIR] [flags]",
		CustomHelpTemplate: commandHelp("It exits with 3 if anything is damaged. Notes are about what the next run cleans up by itself.",
			"ecadx study verify study", "ecadx study verify study --json"),
		Flags: commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, dir, err := oneStudy(c, "ecadx study verify DIR")
			if err != nil {
				return err
			}
			v, err := study.Verify(dir)
			if err != nil {
				return badInput(err)
			}
			out := environmentOf(c).stdout
			if o.output == asJSON {
				err = writeJSON(out, struct {
					Dir     string `json:"dir"`
					Damaged bool   `json:"damaged"`
					*study.Verification
				}{dir, v.Damaged(), v})
			} else {
				for _, f := range v.Findings {
					fmt.Fprintf(out, "%v  %s, byte %d: %s\n", f.Severity, f.File, f.Offset, f.What)
				}
				_, err = fmt.Fprintf(out, "%s: %d files, %d bytes, %d generations, %d scores\n", dir, v.Files, v.Bytes, v.Generations, v.Scores)
			}
			if err == nil && v.Damaged() {
				return inputError("%s: it is damaged: ecadx study repair %s saves what is good", dir, dir)
			}
			return err
		},
	}
}

func studyRepairCommand() *cli.Command {
	return &cli.Command{
		Name:      "repair",
		Usage:     "save what is good of a damaged study, so that the search can go on",
		UsageText: "ecadx study repair [DIR] [flags]",
		CustomHelpTemplate: commandHelp(`It keeps every log record whose checksum holds, restores config.toml from the log and takes damaged results away; the search writes them
again, and evaluates what was lost. Everything replaced goes to DIR/damaged first.`,
			"ecadx study repair study", "ecadx study repair study --json"),
		Flags: commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, dir, err := oneStudy(c, "ecadx study repair DIR")
			if err != nil {
				return err
			}
			r, err := study.Repair(dir)
			switch {
			case errors.Is(err, study.ErrLocked):
				return newError(exitFailed, "%w", err)
			case err != nil:
				return badInput(err)
			}
			out := environmentOf(c).stdout
			if o.output == asJSON {
				return writeJSON(out, struct {
					Dir string `json:"dir"`
					*study.Repaired
				}{dir, r})
			}
			for _, a := range r.Actions {
				fmt.Fprintf(out, "%s: %s\n", a.File, a.What)
			}
			if len(r.Actions) == 0 {
				_, err = fmt.Fprintf(out, "%s: nothing to repair\n", dir)
				return err
			}
			_, err = fmt.Fprintf(out, "%s: %d generations and %d scores are good. Go on with ecadx evolve --resume --out %s\n", dir, r.Generations, r.Scores, dir)
			return err
		},
	}
}

func studyDiffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "compare two studies: what they were begun with, and how their fronts stand to each other",
		UsageText: "ecadx study diff A B [flags]",
		CustomHelpTemplate: commandHelp("Fronts are compared on each study's own prompts: differences mean something if prompts, quality and cost are the same.",
			"ecadx study diff ecad ecadx", "ecadx study diff monday friday --json"),
		Flags: commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			args, err := positional(c, 2, 2, "ecadx study diff A B")
			if err != nil {
				return err
			}
			var pair [2]*study.Contents
			for i, dir := range args {
				if pair[i], err = study.Read(dir); err != nil {
					return badInput(err)
				}
			}
			d, err := diffStudies(pair)
			if err != nil {
				return err
			}
			if o.output == asJSON {
				return writeJSON(environmentOf(c).stdout, d)
			}
			return d.writeText(environmentOf(c).stdout)
		},
	}
}

// studyDiff is diff --json.
type studyDiff struct {
	Studies     [2]studySummary    `json:"studies"`
	Differences []study.Difference `json:"differences"` // of configuration and origin; the study is A, now is B
	Shared      int                `json:"shared"`      // schedules on both fronts
	// Covered is the share of each front that a schedule of the other is at least as good as, in both objectives; null if the studies do not
	// measure the same.
	Covered *[2]float64 `json:"covered"`
}

func diffStudies(pair [2]*study.Contents) (*studyDiff, error) {
	d := &studyDiff{Differences: study.Compare(pair[0], pair[1])}
	var fronts [2][]study.FrontEntry
	for i, s := range pair {
		var err error
		d.Studies[i] = summarize(s)
		if _, fronts[i], err = frontEntries(s); err != nil {
			return nil, err
		}
	}
	known := map[string]bool{}
	for _, e := range fronts[0] {
		known[e.Hash] = true
	}
	for _, e := range fronts[1] {
		if known[e.Hash] {
			d.Shared++
		}
	}
	if a, b := d.Studies[0], d.Studies[1]; a.Quality == b.Quality && a.Cost == b.Cost && a.Model == b.Model {
		d.Covered = &[2]float64{covered(fronts[0], fronts[1]), covered(fronts[1], fronts[0])}
	}
	return d, nil
}

// covered is the share of a front that some schedule of another front is at least as good as (the C metric of Zitzler and Thiele 1999).
func covered(front, by []study.FrontEntry) float64 {
	if len(front) == 0 {
		return 0
	}
	n := 0
	for _, e := range front {
		q, _ := judged(e)
		for _, o := range by {
			if p, _ := judged(o); q != nil && p != nil && *p >= *q && o.Cost <= e.Cost {
				n++
				break
			}
		}
	}
	return float64(n) / float64(len(front))
}

func (d *studyDiff) writeText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	a, b := d.Studies[0], d.Studies[1]
	fmt.Fprintf(w, "\t%s\t%s\n", a.Dir, b.Dir)
	for _, f := range d.Differences {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Key, clip(f.Study), clip(f.Now))
	}
	if len(d.Differences) == 0 {
		fmt.Fprintf(w, "begun with\tthe same\t\n")
	}
	fmt.Fprintf(w, "generations\t%s\t%s\nschedules\t%d\t%d\nimages\t%d\t%d\nfront\t%d\t%d\nhypervolume\t%.4f\t%.4f\n", a.ofPlanned(), b.ofPlanned(), a.Evaluations, b.Evaluations,
		a.Images, b.Images, a.Front, b.Front, a.Hypervolume, b.Hypervolume)
	fmt.Fprintf(w, "over generations\t%s\t%s\n", sparkline(a.Hypervolumes, 20), sparkline(b.Hypervolumes, 20))
	fmt.Fprintf(w, "on both fronts\t%d\t\n", d.Shared)
	if d.Covered != nil {
		fmt.Fprintf(w, "of it the other is at least as good as\t%.0f %%\t%.0f %%\n", 100*d.Covered[0], 100*d.Covered[1])
	} else {
		fmt.Fprintf(w, "fronts\t%s\t\n", "not compared: model, quality or cost differ")
	}
	return w.Flush()
}
