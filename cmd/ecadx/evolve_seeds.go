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

// keptSeed is a seed in the file.
type keptSeed struct {
	Name     string          `json:"name"`
	Schedule json.RawMessage `json:"schedule"`
}

// dynamicSeeds measures how far outputs drift and returns the schedules that follow from it. A study keeps them, so that it goes on with the
// very same ones.
func (e *evolution) dynamicSeeds(ctx context.Context, st *study.Study, evaluator *bench.Evaluator, search ga.Config, cost ga.CostModel) ([]ga.Named, error) {
	kept, err := keptSeeds(st)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	show := e.newProgress(e.env, "evolve", "", 0)
	defer show.end()
	var images []ga.ImageID
	for _, im := range search.Images[:min(driftImages, len(search.Images))] {
		images = append(images, im.ID)
	}
	drift, err := evaluator.Drift(ctx, images, func(share float64) { show.status(fmt.Sprintf("seeds: how far outputs drift, %.0f %%", 100*share)) })
	if err != nil {
		if ctx.Err() != nil {
			return nil, newError(exitInterrupted, "evolve: interrupted before the search began: run the same command again")
		}
		return nil, badModel(err)
	}
	seeds, err := drift.Seeds(cost, e.plan.cfg.Seeds.Dynamic)
	if err != nil {
		return nil, err
	}
	return seeds, keepSeeds(st, seeds)
}

// keptDynamic is the file of a study with its dynamic seeds.
const keptDynamic = inputsFolder + "/dynamic.json"

// keptSeeds reads what keepSeeds wrote.
func keptSeeds(st *study.Study) ([]ga.Named, error) {
	path := filepath.Join(st.Dir(), filepath.FromSlash(keptDynamic))
	data, err := st.ReadFile(keptDynamic)
	if err != nil {
		return nil, err
	}
	var list []keptSeed
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, inputError("%s: %v: it is damaged: begin a new study", path, err)
	}
	seeds := make([]ga.Named, len(list))
	for i, k := range list {
		s, err := schedule.DecodeSchedule(k.Schedule)
		if err != nil {
			return nil, inputError("%s: %q: %w: it is damaged: begin a new study", path, k.Name, err)
		}
		seeds[i] = ga.Named{Name: k.Name, Schedule: s}
	}
	return seeds, nil
}

func keepSeeds(st *study.Study, seeds []ga.Named) error {
	list := make([]keptSeed, len(seeds))
	for i, s := range seeds {
		f, err := schedule.NewFile(s.Schedule, schedule.FileOptions{Name: s.Name})
		if err != nil {
			return err
		}
		list[i] = keptSeed{s.Name, f.Bytes()}
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return st.WriteFile(keptDynamic, data)
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
