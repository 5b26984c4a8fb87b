package main

import (
	"errors"
	"io/fs"
	"strings"

	"ecadx/schedule"
)

// resolved is a schedule reference turned into decisions.
type resolved struct {
	ref      string // as written, heuristics with every value
	schedule *schedule.Schedule
	file     *schedule.File      // nil for heuristics
	made     *schedule.Generated // nil for files
}

// resolveSchedule turns a reference into a schedule of a shape that can run. Errors are about bad input.
func resolveSchedule(ref string, shape schedule.Shape) (*resolved, error) {
	r, err := readSchedule(ref, shape)
	if err != nil {
		return nil, err
	}
	if err := r.runnable(); err != nil {
		return nil, err
	}
	if err := r.schedule.Shape().Fits(shape); err != nil {
		return nil, inputError("%s: %w", ref, shapeProblem(err))
	}
	return r, nil
}

// stepsOfFiles is the number of steps that the first schedule file among the references is for; without one, or with one that cannot be read, which
// is reported when it is resolved, the default.
func stepsOfFiles(refs []string, otherwise int) int {
	for _, ref := range refs {
		if schedule.IsHeuristic(ref) {
			continue
		}
		if f, err := schedule.ReadFile(ref); err == nil {
			return f.Schedule().Shape().Steps
		}
	}
	return otherwise
}

// shapeProblem takes the package's prefix off an error about shapes.
func shapeProblem(err error) error {
	return &commandError{code: exitBadInput, text: strings.TrimPrefix(err.Error(), schedule.ErrShape.Error()+": "), cause: err}
}

// readSchedule reads a file or makes a heuristic's schedule; shape is used for heuristics only.
func readSchedule(ref string, shape schedule.Shape) (*resolved, error) {
	if schedule.IsHeuristic(ref) {
		g, err := schedule.Resolve(ref, shape)
		if err != nil {
			return nil, inputError("%w", err)
		}
		return &resolved{ref: g.Ref, schedule: g.Schedule, made: g}, nil
	}
	f, err := schedule.ReadFile(ref)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, inputError("schedule %.80q: no file and no heuristic of that name: %s", ref, didYouMean(strings.SplitN(ref, ":", 2)[0], heuristicNames(), "see ecadx schedule list"))
	case err != nil:
		return nil, badInput(err)
	}
	return &resolved{ref: ref, schedule: f.Schedule(), file: f}, nil
}

func heuristicNames() []string {
	var names []string
	for _, h := range schedule.Heuristics() {
		names = append(names, h.Name)
	}
	return names
}

// runnable refuses schedules that ask for more than their decisions.
func (r *resolved) runnable() error {
	switch {
	case r.file != nil && len(r.file.Unsupported()) > 0:
		return inputError("%s: it asks for what is not implemented (%s): convert or count it, or run another schedule", r.ref, strings.Join(r.file.Unsupported(), ", "))
	case r.made != nil && r.made.TGateStep > 0:
		return inputError("%s: it needs the custom function compute_attn_tgate, which is not implemented: count it, write its file, or run %s instead",
			r.ref, strings.Replace(r.ref, "tgate-avg", "tgate", 1))
	}
	return nil
}

// macs counts a run of the schedule as ECAD does, T-GATE's function included.
func (r *resolved) macs(d schedule.Dims) (schedule.Tally, error) {
	switch {
	case r.file != nil:
		return r.file.MACs(d)
	case r.made.TGateStep > 0:
		return r.schedule.TGateMACs(d, r.made.TGateStep)
	}
	return r.schedule.MACs(d)
}
