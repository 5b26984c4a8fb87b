package bench

import (
	"context"
	"fmt"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

// What a reused component costs is one more term in a chain, the op that adds all waiting slots to the residual stream in one pass. It is
// measured as a slope: a probe program reuses everything but one component per step, here an early and there a late one, so that its chains
// have from one term to all of the model's; the line through (slot bytes read, time of the chain) gives milliseconds per byte.

// reuseTimes are the slopes found, one per run of the probe.
type reuseTimes struct {
	perByte []float64       // ms
	slots   map[int64]int64 // bytes of the slots of a cell, by its place in a row
}

// maxProbeBytes bounds the slots of the probe. Beyond it fewer blocks are probed: the slope is the same.
const maxProbeBytes = 1 << 30

// minProbeRuns is how often the probe runs when repeats are automatic.
const minProbeRuns = 5

// probeReuse measures what reuse costs.
func (b *bench) probeReuse(ctx context.Context) error {
	if err := b.slotSizes(); err != nil {
		return err
	}
	total := int64(0)
	for _, n := range b.reuse.slots {
		total += n
	}
	model, rows := b.cfg.Model, b.shape.TotalBlocks()
	if total > maxProbeBytes {
		rows = max(1, int(int64(rows)*maxProbeBytes/total))
		var err error
		if model, err = model.First(rows); err != nil {
			return err
		}
	}
	probe, err := probeSchedule(model)
	if err != nil {
		return err
	}
	config, err := model.SamplerConfig()
	if err != nil {
		return err
	}
	s, err := sampler.New(config, probe.Shape().Steps)
	if err != nil {
		return err
	}
	d := dit.NewDenoiser(model, b.dev)
	defer d.Close()
	l, err := d.Loop(dit.DenoiseOptions{Sizes: b.sizes(), Guidance: b.cfg.Guidance, Sampler: s, Schedules: []*schedule.Schedule{probe}})
	if err != nil {
		return err
	}
	defer l.Release()
	runs := b.cfg.Repeats
	if runs == 0 {
		runs = minProbeRuns
	}
	for i := range runs + 1 {
		if i >= 3 && b.cfg.Repeats == 0 && time.Since(b.started) > 2*b.cfg.MaxTime {
			break
		}
		_, _, times, err := b.run(ctx, l, ecad.RunOptions{Times: true})
		if err != nil {
			return err
		}
		x, y := chainPoints(l.Source, times)
		k, ok := slope(x, y)
		if !ok {
			return fmt.Errorf("reuse: the probe has %d chains that can be compared: at least two of different lengths are needed", len(x))
		}
		if i > 0 { // the first run warms up
			b.reuse.perByte = append(b.reuse.perByte, max(0, k))
		}
	}
	return nil
}

// slotSizes asks a program that reuses everything how large the slots of each component are.
func (b *bench) slotSizes() error {
	p, err := compileAllReused(b.cfg.Model, b.sizes(), b.cfg.Guidance)
	if err != nil {
		return err
	}
	b.reuse.slots = map[int64]int64{}
	for _, s := range p.Stats().Slots {
		b.reuse.slots[int64(s.Block*schedule.ComponentsPerBlock+s.Component)] += s.Bytes
	}
	return nil
}

// compileAllReused compiles one step that computes and one that reuses everything.
func compileAllReused(m *dit.Model, sizes dit.Sizes, guidance float64) (*program.Program, error) {
	config, err := m.SamplerConfig()
	if err != nil {
		return nil, err
	}
	s, err := sampler.New(config, 2)
	if err != nil {
		return nil, err
	}
	all, err := schedule.New(m.Shape(2))
	if err != nil {
		return nil, err
	}
	reuseRow(all, 1)
	return m.CompileDenoise(dit.DenoiseOptions{Sizes: sizes, Guidance: guidance, Sampler: s, Schedules: []*schedule.Schedule{all}})
}

func reuseRow(s *schedule.Schedule, step int) {
	for block := range s.Shape().TotalBlocks() {
		for k := range schedule.ComponentsPerBlock {
			s.Set(step, block, k, schedule.Reuse)
		}
	}
}

// probeSchedule computes all in step 0, nothing in step 1, then per step one component of a block near the start, the middle or the end.
func probeSchedule(m *dit.Model) (*schedule.Schedule, error) {
	n := m.Shape(1).TotalBlocks()
	var cells []schedule.Cell
	for i, block := range []int{0, n / 3, 2 * n / 3, n - 1} {
		if i > 0 && len(cells) > 0 && cells[len(cells)-1].Block == block {
			continue
		}
		for k := range schedule.ComponentsPerBlock {
			cells = append(cells, schedule.Cell{Step: 2 + len(cells), Block: block, Comp: k})
		}
	}
	s, err := schedule.New(m.Shape(2 + len(cells)))
	if err != nil {
		return nil, err
	}
	for step := 1; step < s.Shape().Steps; step++ {
		reuseRow(s, step)
	}
	for _, c := range cells {
		s.Set(c.Step, c.Block, c.Comp, schedule.Compute)
	}
	return s.Canonical(), nil
}

// chainPoints are the chains of a run that end in a norm: bytes of slots read, and milliseconds. A chain without terms does not write the
// stream and is no point of the line; chains of step 0, whose slots have just been written, are left out as well.
func chainPoints(p *program.Program, times []ecad.OpTime) (bytes, ms []float64) {
	for _, t := range times {
		if t.Item < 2 || int(t.Op) >= len(p.Ops) { // prologue and step 0
			continue
		}
		op := &p.Ops[t.Op]
		if op.Code != program.OpChain || op.Attr[0] == 0 || program.Norm(op.Attr[1]) == program.NoNorm {
			continue
		}
		n := int64(0)
		for _, id := range op.In {
			if int(id) >= len(p.Tensors) { // absent
				continue
			}
			if v := &p.Tensors[id]; p.Buffers[v.Buffer].Slot {
				n += v.Count() * v.DType.Size()
			}
		}
		if n > 0 {
			bytes, ms = append(bytes, float64(n)), append(ms, float64(t.DurNS)/1e6)
		}
	}
	return bytes, ms
}
