package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"ecadx/bench"
	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// driftImages is how many search images the drift of the outputs is taken from.
const driftImages = 8

// keptDrift is the file of a study with its drift.
const keptDrift = inputsFolder + "/drift.json"

// dynamicSeeds measures how far outputs drift and returns the schedules that follow from it. A study keeps the drift, so that it goes on with the
// very same one; the surrogate learns from it too.
func (e *evolution) dynamicSeeds(ctx context.Context, st *study.Study, evaluator *bench.Evaluator, search ga.Config, cost ga.CostModel) ([]ga.Named, error) {
	drift, err := e.drift(ctx, st, evaluator, search)
	if err != nil {
		return nil, err
	}
	if err := e.plan.structured.UseDrift(drift); err != nil {
		return nil, err
	}
	return drift.Seeds(cost, e.plan.fewerSteps(), e.plan.cfg.Seeds.Dynamic)
}

// drift reads the study's drift, or measures and keeps it.
func (e *evolution) drift(ctx context.Context, st *study.Study, evaluator *bench.Evaluator, search ga.Config) (drift ga.Drift, err error) {
	data, err := st.ReadFile(keptDrift)
	if err == nil {
		if err = json.Unmarshal(data, &drift); err == nil {
			err = drift.Validate()
		}
		if err == nil {
			err = drift.Shape.Fits(e.plan.shape)
		}
		if err != nil {
			return drift, inputError("%s: %v: it is damaged: begin a new study", filepath.Join(st.Dir(), filepath.FromSlash(keptDrift)), err)
		}
		return drift, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return drift, err
	}
	show := e.newProgress(e.env, "evolve", "", 0)
	defer show.end()
	var images []ga.ImageID
	for _, im := range search.Images[:min(driftImages, len(search.Images))] {
		images = append(images, im.ID)
	}
	drift, err = evaluator.Drift(ctx, images, func(share float64) { show.status(fmt.Sprintf("seeds: how far outputs drift, %.0f %%", 100*share)) })
	if err != nil {
		if ctx.Err() != nil {
			return drift, newError(exitInterrupted, "evolve: interrupted before the search began: run the same command again")
		}
		return drift, badModel(err)
	}
	if data, err = json.Marshal(drift); err != nil {
		return drift, err
	}
	return drift, st.WriteFile(keptDrift, data)
}

// seedEntry is a seed in seeds.json.
type seedEntry struct {
	Name      string  `json:"name"`
	Hash      string  `json:"hash"`
	File      string  `json:"file"`
	Cost      float64 `json:"cost"`
	MACsRatio float64 `json:"macs_ratio"`
}

// writeSeeds ends `evolve --seeds-only`: the seeds as schedule files, and a list of them.
func (e *evolution) writeSeeds(seeds []ga.Named, cost, macs ga.CostModel) error {
	none, err := schedule.New(e.plan.shape)
	if err != nil {
		return err
	}
	base, err := macs.Cost(none)
	if err != nil {
		return err
	}
	config := schedule.Config{Height: e.plan.size.height, Width: e.plan.size.width, Guidance: e.plan.cfg.Model.Guidance, TransformerWeights: e.plan.cfg.Model.Path}
	out := struct {
		Cost  string      `json:"cost"`
		Seeds []seedEntry `json:"seeds"`
	}{Cost: e.plan.cfg.Objectives.Cost}
	for _, s := range seeds {
		k := seedEntry{Name: s.Name, Hash: s.Schedule.Hash().String()}
		k.File = "schedules/" + k.Hash + ".json"
		if k.Cost, err = cost.Cost(s.Schedule); err != nil {
			return err
		}
		m, err := macs.Cost(s.Schedule)
		if err != nil {
			return err
		}
		k.MACsRatio = base / m
		f, err := schedule.NewFile(s.Schedule, schedule.FileOptions{Name: s.Name, Attributes: schedule.EvolvedAttributes(s.Schedule), Config: config, Origin: s.Name})
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(e.dir, filepath.FromSlash(k.File)), f.Bytes()); err != nil {
			return err
		}
		out.Seeds = append(out.Seeds, k)
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(e.dir, "seeds.json"), append(data, '\n')); err != nil {
		return err
	}
	if e.output == asJSON {
		return writeJSON(e.env.stdout, out)
	}
	for _, k := range out.Seeds {
		if _, err := fmt.Fprintf(e.env.stdout, "%6.2fx less  %-22s %s\n", k.MACsRatio, k.Name, filepath.Join(e.dir, filepath.FromSlash(k.File))); err != nil {
			return err
		}
	}
	return nil
}
