package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/ga"
)

// costs returns the objective and the MACs of a plan. A search by latency measures first, unless the study in dir has done so; the table
// becomes a part of the configuration, so that a search that goes on does not measure again.
func (e *evolution) costs(ctx context.Context) (cost, macs ga.CostModel, err error) {
	p := e.plan
	c := &p.cfg.Model
	size, err := bench.SizeOf(p.model, p.size.height, p.size.width)
	if err != nil {
		return nil, nil, badInput(err)
	}
	if macs, err = bench.MACsCost(p.model, size, c.Guidance); err != nil {
		return nil, nil, badInput(err)
	}
	switch costName(p.cfg.Objectives.Cost) {
	case costFLOPs:
		sizes := dit.Sizes{Batch: c.Batch, Height: size.LatentHeight, Width: size.LatentWidth, TextTokens: p.model.Defaults().TextTokens, DType: p.session.DType}
		cost, err = bench.FLOPsCost(p.model, sizes, c.Steps, c.Guidance)
		return cost, macs, badInput(err)
	case costLatency:
		cost, err = e.latency(ctx)
		return cost, macs, err
	}
	return macs, macs, nil
}

// latency is the cost in milliseconds per image.
func (e *evolution) latency(ctx context.Context) (ga.CostModel, error) {
	p := e.plan
	if p.cfg.Latency == nil {
		begun, err := os.ReadFile(filepath.Join(e.dir, "config.toml"))
		if err == nil {
			old, err := parseEvolveConfig(filepath.Join(e.dir, "config.toml"), begun)
			if err != nil {
				return nil, err
			}
			p.cfg.Latency = old.Latency
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if p.cfg.Latency != nil {
		t, err := bench.DecodeLatencyTable([]byte(p.cfg.Latency.Table))
		if err != nil {
			return nil, inputError("%s: key \"latency.table\": %w: take the table away to measure again", e.path, err)
		}
		return t, nil
	}
	table, err := e.measureLatency(ctx)
	if err != nil {
		return nil, err
	}
	data, err := table.Encode()
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return nil, err
	}
	p.cfg.Latency = &latencySection{Table: line.String()}
	// The table as it will be read again, so that an interrupted search goes on with the same bits.
	return bench.DecodeLatencyTable(line.Bytes())
}

// measureLatency measures every component on a device like the search's, with nothing else at work.
func (e *evolution) measureLatency(ctx context.Context) (*bench.LatencyTable, error) {
	p := e.plan
	device := ecad.DeviceConfig{Backend: p.session.backend, Ordinal: p.session.ordinal, Threads: p.options.threads}
	if len(p.session.Workers) > 1 || p.small() {
		device.Threads = 1
	}
	e.remark(e.env, "ecadx: measuring the latency of every component (once, at most %s)", shortDuration(bench.DefaultMaxTime))
	show := e.newProgress(e.env, "measure", "", 0)
	defer show.end()
	report, err := bench.Measure(ctx, bench.Config{
		Model: p.model, Device: device, DType: p.session.DType, Height: p.size.height, Width: p.size.width, Batch: p.cfg.Model.Batch, Steps: p.cfg.Model.Steps,
		Guidance: p.cfg.Model.Guidance, TransformerOnly: true, NoPeaks: true, Progress: func(what string) { show.status("measure: " + what) },
	})
	if err != nil {
		return nil, badModel(err)
	}
	return bench.NewLatencyTable(report)
}
