package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"ecadx/ga"
	"ecadx/schedule"
)

// fewerSteps begins the name of a baseline that is a shorter run, uncached: steps:10, or steps:0.5 for half of the steps.
const fewerSteps = "steps"

// resolveBaselines resolves objectives.baselines: heuristics, and runs with fewer steps.
func (p *searchPlan) resolveBaselines(where string) ([]ga.Named, error) {
	const key = "objectives.baselines"
	var list []ga.Named
	for _, ref := range p.cfg.Objectives.Baselines {
		name, value, _ := strings.Cut(ref, ":")
		if name != fewerSteps {
			more, err := p.heuristics(key, []string{ref}, where)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
			continue
		}
		steps, err := shorterRun(value, p.shape.Steps)
		if err != nil {
			return nil, inputError("%s: key %q: %q: %w", where, key, ref, err)
		}
		s, err := p.uncachedRun(steps)
		if err != nil {
			return nil, inputError("%s: key %q: %q: %w", where, key, ref, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// uncachedRun is a run with so many steps that computes everything.
func (p *searchPlan) uncachedRun(steps int) (ga.Named, error) {
	s, err := schedule.New(p.model.Shape(steps))
	return ga.Named{Name: fmt.Sprintf("%s:%d", fewerSteps, steps), Schedule: s}, err
}

// shorterRun reads the value of a shorter run: a number of steps, or a share of all of them below 1, rounded.
func shorterRun(value string, all int) (int, error) {
	if n, err := strconv.Atoi(value); err == nil && n >= 1 && n < all {
		return n, nil
	}
	share, err := strconv.ParseFloat(value, 64)
	if err != nil || !(share > 0 && share < 1) {
		return 0, fmt.Errorf("use a number of steps below the %d of the search, or a share such as %s:0.5", all, fewerSteps)
	}
	return min(max(1, int(math.Round(share*float64(all)))), all-1), nil
}
