package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"ecadx/ga"
	"ecadx/ga/study"
)

func studyShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "say how far a study is, what it was begun with, who wrote it",
		UsageText: "ecadx study show [DIR] [flags]",
		CustomHelpTemplate: commandHelp("An operator's share is that of its children that are on the front of all time.",
			"ecadx study show study", "ecadx study show runs/psnr --json"),
		Flags: commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, s, err := openStudy(c, "ecadx study show DIR")
			if err != nil {
				return err
			}
			d := detail(s)
			if o.output == asJSON {
				return writeJSON(environmentOf(c).stdout, d)
			}
			return d.writeText(environmentOf(c).stdout)
		},
	}
}

// studyDetail is show --json.
type studyDetail struct {
	studySummary
	Scores      int                  `json:"scores"`
	Statuses    map[string]int       `json:"statuses"` // schedules by how their evaluation ended
	Operators   []operatorShare      `json:"operators"`
	Fingerprint string               `json:"fingerprint"`
	Origin      map[string]string    `json:"origin"`
	Sessions    []studySession       `json:"sessions"`
	History     []study.HistoryEntry `json:"history"`
	TornBytes   int64                `json:"torn_bytes"`
	Closed      bool                 `json:"closed"`
}

type operatorShare struct {
	Name     string `json:"name"`
	Children int    `json:"children"`
	Front    int    `json:"front"`
}

type studySession struct {
	Generations int               `json:"generations"` // finished when it began
	Scores      int               `json:"scores"`
	About       map[string]string `json:"about"`
}

func detail(s *study.Contents) studyDetail {
	d := studyDetail{studySummary: summarize(s), Scores: s.Scores, Statuses: map[string]int{}, Operators: []operatorShare{}, Fingerprint: fmt.Sprintf("%x", s.Fingerprint),
		Origin: partMap(s.Origin), Sessions: []studySession{}, History: s.History(), TornBytes: s.Torn, Closed: s.Closed}
	onFront := map[string]bool{}
	if d.State == stateFinished {
		for _, e := range s.Front.Front {
			onFront[e.Hash] = true
		}
	} else {
		for _, e := range s.FrontSoFar() {
			onFront[e.Hash.String()] = true
		}
	}
	shares := map[string]*operatorShare{}
	for _, e := range s.Evaluations() {
		d.Statuses[e.Status.String()]++
		for _, name := range e.Birth.Operators {
			if shares[name] == nil {
				shares[name] = &operatorShare{Name: name}
			}
			shares[name].Children++
			if onFront[e.Hash.String()] {
				shares[name].Front++
			}
		}
	}
	for _, o := range shares {
		d.Operators = append(d.Operators, *o)
	}
	slices.SortFunc(d.Operators, func(a, b operatorShare) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range s.Sessions {
		d.Sessions = append(d.Sessions, studySession{n.Generations, n.Scores, partMap(n.Parts)})
	}
	return d
}

func partMap(parts []study.Part) map[string]string {
	m := map[string]string{}
	for _, p := range parts {
		m[p.Name] = p.Value
	}
	return m
}

func (d *studyDetail) writeText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("study", "%s, %s", d.Dir, d.State)
	if d.Problem != "" {
		line("problem", "%s", d.Problem)
	}
	line("search", "%s on %s: %s by %s", d.Mode, d.Model, d.Quality, d.Cost)
	line("generations", "%s", d.ofPlanned())
	line("schedules", "%d, on %d images: %s", d.Evaluations, d.Images, counts(d.Statuses))
	line("front", "%d schedules", d.Front)
	if n := len(d.Hypervolumes); n > 0 {
		line("hypervolume", "%.4f %s %.4f", d.Hypervolumes[0], sparkline(d.Hypervolumes, 60), d.Hypervolumes[n-1])
	}
	if d.State == stateFinished {
		line("final front", "hypervolume %.4f", d.Hypervolume)
	}
	var shares []string
	for _, o := range d.Operators {
		shares = append(shares, fmt.Sprintf("%s %d of %d", o.Name, o.Front, o.Children))
	}
	if len(shares) > 0 {
		line("operators", "%s", strings.Join(shares, ", "))
	}
	for i, s := range d.Sessions {
		name := ""
		if i == 0 {
			name = "written by"
		}
		line(name, "commit %s, %s on %s from generation %d and %d scores on", s.About["commit"], s.About["began"], s.About["host"], s.Generations, s.Scores)
	}
	line("fingerprint", "%s", d.Fingerprint)
	names := make([]string, 0, len(d.Origin))
	for name := range d.Origin {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		line("  "+name, "%s", clip(d.Origin[name]))
	}
	if d.TornBytes > 0 {
		line("log", "its last %d bytes are of an append that was never finished", d.TornBytes)
	}
	return w.Flush()
}

// counts lists statuses with their numbers.
func counts(m map[string]int) string {
	var list []string
	for _, s := range []ga.Status{ga.StatusScored, ga.StatusDropped, ga.StatusInvalid, ga.StatusInfeasible} {
		if n := m[s.String()]; n > 0 {
			list = append(list, fmt.Sprintf("%d %v", n, s))
		}
	}
	return strings.Join(list, ", ")
}

func studyFrontCommand() *cli.Command {
	return &cli.Command{
		Name:      "front",
		Usage:     "print the front, of an unfinished study that so far",
		UsageText: "ecadx study front [DIR] [flags]",
		CustomHelpTemplate: commandHelp("A finished study's front is that of front.json, with held-out qualities; an unfinished one's is that of its last generation, on the\nprompts it searches on.",
			"ecadx study front study", "ecadx study front study --json"),
		Flags: commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, s, err := openStudy(c, "ecadx study front DIR")
			if err != nil {
				return err
			}
			uncached, front, err := frontEntries(s)
			if err != nil {
				return err
			}
			sum := summarize(s)
			if o.output == asJSON {
				return writeJSON(environmentOf(c).stdout, struct {
					studySummary
					Uncached study.FrontEntry   `json:"uncached"`
					Entries  []study.FrontEntry `json:"entries"`
				}{sum, uncached, front})
			}
			return writeFront(environmentOf(c).stdout, sum, append([]study.FrontEntry{uncached}, front...))
		},
	}
}

// frontEntries are the uncached schedule and the front of a study as it stands.
func frontEntries(s *study.Contents) (uncached study.FrontEntry, front []study.FrontEntry, err error) {
	if stateOf(s) == stateFinished {
		uncached, front = s.Front.Uncached, s.Front.Front
		uncached.Name = "uncached"
		return uncached, front, nil
	}
	u, ok := s.Uncached()
	if !ok {
		return uncached, nil, inputError("%s: no generation is finished yet: wait, or go on with ecadx evolve --resume --out %s", s.Dir, s.Dir)
	}
	entry := func(e ga.Evaluation) study.FrontEntry {
		f := study.FrontEntry{Name: e.Name, Hash: e.Hash.String(), Quality: &e.Quality, Cost: e.Cost}
		if e.MACs > 0 {
			f.MACsRatio = u.MACs / e.MACs
		}
		return f
	}
	uncached = entry(u)
	uncached.Name = "uncached"
	for _, e := range s.FrontSoFar() {
		front = append(front, entry(e))
	}
	return uncached, front, nil
}

func writeFront(out io.Writer, sum studySummary, entries []study.FrontEntry) error {
	fmt.Fprintf(out, "%s, %s: %d schedules, hypervolume %.4f after %s generations\n\n", sum.Dir, sum.State, len(entries)-1, sum.Hypervolume, sum.ofPlanned())
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "schedule\t%s\t95 %% interval\t%s\t\n", sum.Quality, sum.Cost)
	for _, e := range entries {
		quality, ci := judged(e)
		q, interval := "-", ""
		if quality != nil {
			q = fmt.Sprintf("%.4f", *quality)
		}
		if ci != nil {
			interval = fmt.Sprintf("%.4f to %.4f", ci[0], ci[1])
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2fx less\n", shortName(e), q, interval, siPrefix(e.Cost), e.MACsRatio)
	}
	return w.Flush()
}
