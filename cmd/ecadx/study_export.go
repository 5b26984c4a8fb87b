package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

func studyExportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write tables and schedules of a study, finished or not",
		UsageText: "ecadx study export [DIR] --out OUT [flags]",
		CustomHelpTemplate: commandHelp(`OUT gets evaluations.csv (every schedule that was tried), history.csv (every generation), front.csv, and schedules/HASH.json of the front
as ECAD's JSON; with --all those of every schedule.`,
			"ecadx study export study --out tables", "ecadx study export study --all --out everything"),
		Flags: append(commonFlags(flagJSON, flagForce), &cli.StringFlag{Name: flagOut, Usage: "write to the folder `OUT`"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "all", Usage: "schedules of all evaluations, not of the front alone"}),
		Action: studyExport,
	}
}

func studyExport(c *cli.Context) error {
	o, s, err := openStudy(c, "ecadx study export DIR --out OUT")
	if err != nil {
		return err
	}
	out := c.String(flagOut)
	if out == "" {
		return usageError("%s: --out is missing: name the folder to write to", o.command)
	}
	if filepath.Clean(out) == filepath.Clean(s.Dir) {
		return usageError("%s: --out is the study itself: name another folder", o.command)
	}
	uncached, front, err := frontEntries(s)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"evaluations.csv": study.EvaluationsCSV(s.Snapshots), "history.csv": study.HistoryCSV(s.Snapshots), "front.csv": (&study.Front{Uncached: uncached, Front: front}).CSV(),
	}
	wanted := map[string]bool{}
	for _, e := range front {
		wanted[e.Hash] = true
	}
	for _, e := range s.Evaluations() {
		if !c.Bool("all") && !wanted[e.Hash.String()] {
			continue
		}
		data, err := exportSchedule(s, e)
		if err != nil {
			return err
		}
		files["schedules/"+e.Hash.String()+".json"] = data
	}
	if err := o.checkAbsent(filepath.Join(out, "evaluations.csv"), filepath.Join(out, "history.csv"), filepath.Join(out, "front.csv")); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(out, filepath.FromSlash(name)), data); err != nil {
			return err
		}
	}
	if o.output == asJSON {
		return writeJSON(environmentOf(c).stdout, struct {
			Out         string `json:"out"`
			Evaluations int    `json:"evaluations"`
			Generations int    `json:"generations"`
			Front       int    `json:"front"`
			Schedules   int    `json:"schedules"`
		}{out, len(s.Evaluations()), s.Generations(), len(front), len(files) - 3})
	}
	_, err = fmt.Fprintf(environmentOf(c).stdout, "%s: %d evaluations, %d generations, a front of %d, %d schedules\n", out, len(s.Evaluations()), s.Generations(), len(front), len(files)-3)
	return err
}

// exportSchedule is the file of a candidate: the study's own where there is one.
func exportSchedule(s *study.Contents, e ga.Evaluation) ([]byte, error) {
	if data, err := os.ReadFile(filepath.Join(s.Dir, "schedules", e.Hash.String()+".json")); err == nil {
		return data, nil
	}
	known, err := s.ScheduleOf(e)
	if err != nil {
		return nil, inputError("%s: candidate %v: %w", s.Dir, e.Hash, err)
	}
	origin, name := e.Name, e.Name
	if name == "" {
		origin, name = "ecadx evolve", "evolved_"+e.Hash.String()[:12]
	}
	f, err := schedule.NewFile(known.Canonical(), schedule.FileOptions{Name: name, Attributes: schedule.EvolvedAttributes(known), Origin: origin})
	if err != nil {
		return nil, err
	}
	return f.Bytes(), nil
}
