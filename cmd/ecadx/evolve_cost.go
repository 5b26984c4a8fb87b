package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/ga"
	"ecadx/schedule"
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
		cost, err = bench.FLOPsCost(p.model, p.sizes(size), c.Steps, c.Guidance)
		return cost, macs, badInput(err)
	case costLatency:
		cost, err = e.latency(ctx)
		return cost, macs, err
	}
	return macs, macs, nil
}

// sizes is what the search compiles its programs for.
func (p *searchPlan) sizes(size bench.Size) dit.Sizes {
	return dit.Sizes{Batch: p.cfg.Model.Batch, Height: size.LatentHeight, Width: size.LatentWidth, TextTokens: p.model.Defaults().TextTokens, DType: p.session.DType}
}

// slotBytes counts the memory of slots per image.
func (p *searchPlan) slotBytes() (ga.CostModel, error) {
	size, err := bench.SizeOf(p.model, p.size.height, p.size.width)
	if err != nil {
		return nil, err
	}
	return bench.NewSlotBytes(p.model, p.sizes(size), p.cfg.Model.Steps, p.cfg.Model.Guidance)
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
	table, err := e.foreignLatency()
	if err == nil && table == nil {
		table, err = e.measureLatency(ctx)
	}
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

// foreignLatency reads the table that the configuration names; nil: it names none.
func (e *evolution) foreignLatency() (*bench.LatencyTable, error) {
	name := e.plan.cfg.Objectives.Latency
	if name == "" {
		return nil, nil
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(e.in.dir, path)
	}
	data, err := readLimited(path, maxReportFile)
	if err == nil {
		table, err := bench.ReadLatencyTable(data, e.plan.shape)
		if err != nil {
			return nil, inputError("%s: key \"objectives.latency_table\": %s: %w: name the JSON of ecadx bench of this model", e.path, name, err)
		}
		return table, nil
	}
	return nil, inputError("%s: key \"objectives.latency_table\": %w: name the JSON of ecadx bench", e.path, err)
}

// latencyCheck says how well the table predicts what runs take, for the front of a search by latency. Times are milliseconds per image.
type latencyCheck struct {
	Schedules   []latencyPair `json:"schedules"`
	MedianError float64       `json:"median_error"` // relative, without its sign
	MaxError    float64       `json:"max_error"`
}

// latencyPair is a schedule of the front.
type latencyPair struct {
	Hash      string       `json:"hash"`
	Predicted float64      `json:"predicted_ms"`
	Measured  bench.Spread `json:"measured_ms"`
	Error     float64      `json:"error"` // predicted / measured - 1
}

// Schedules of the front that are measured, and how often.
const (
	checkedSchedules = 8
	checkedRuns      = 7
)

// checkLatency runs schedules from all of the front and compares; nil when the cost is another or the table was made elsewhere.
func (e *evolution) checkLatency(ctx context.Context, front []ga.Candidate) (*latencyCheck, error) {
	p := e.plan
	if p.cfg.Objectives.Cost != string(costLatency) || p.cfg.Objectives.Latency != "" || len(front) == 0 {
		return nil, nil
	}
	n := min(checkedSchedules, len(front))
	var list []*schedule.Schedule
	c := &latencyCheck{}
	for i := range n {
		k := front[i*(len(front)-1)/max(1, n-1)]
		list = append(list, k.Schedule)
		c.Schedules = append(c.Schedules, latencyPair{Hash: k.Hash.String(), Predicted: k.Cost})
	}
	runs, err := bench.MeasureRuns(ctx, p.benchConfig(), list, checkedRuns)
	if err != nil {
		return nil, err
	}
	var errs []float64
	for i, r := range runs {
		s := &c.Schedules[i]
		s.Measured = r
		if r.Median > 0 {
			s.Error = s.Predicted/r.Median - 1
		}
		errs = append(errs, math.Abs(s.Error))
		c.MaxError = max(c.MaxError, errs[i])
	}
	c.MedianError = bench.NewSpread(errs).Median
	return c, nil
}

// benchConfig measures on a device like those of the search.
func (p *searchPlan) benchConfig() bench.Config {
	device := ecad.DeviceConfig{Backend: p.session.backend, Ordinal: p.session.ordinal, Threads: p.options.threads}
	if len(p.session.Workers) > 1 || p.small() {
		device.Threads = 1
	}
	return bench.Config{Model: p.model, Device: device, DType: p.session.DType, Height: p.size.height, Width: p.size.width, Batch: p.cfg.Model.Batch,
		Steps: p.cfg.Model.Steps, Guidance: p.cfg.Model.Guidance, TransformerOnly: true, NoPeaks: true}
}

// measureLatency measures every component on a device like the search's, with nothing else at work.
func (e *evolution) measureLatency(ctx context.Context) (*bench.LatencyTable, error) {
	e.remark(e.env, "ecadx: measuring the latency of every component (once, at most %s)", shortDuration(bench.DefaultMaxTime))
	show := e.newProgress(e.env, "measure", "", 0)
	defer show.end()
	cfg := e.plan.benchConfig()
	cfg.Progress = func(what string) { show.status("measure: " + what) }
	report, err := bench.Measure(ctx, cfg)
	if err != nil {
		return nil, badModel(err)
	}
	return bench.NewLatencyTable(report)
}
