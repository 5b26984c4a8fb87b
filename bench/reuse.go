package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
	"ecadx/schedule"
)

// What a reused component costs is one more term in a chain, the op that adds all waiting slots to the residual stream in one pass. It is
// measured as a slope: a probe program reuses everything but one component per step, here an early and there a late one, so that its chains
// have from one term to all of the model's; the line through (slot bytes read, time of the chain) gives milliseconds per byte.

// reuseTimes are the slopes found, one per run of the probe.
type reuseTimes struct {
	perByte []float64       // ms
	slots   map[int64]int64 // bytes of the slots of a cell, by its place in a row
	steps   []float64       // ms of a step that reuses everything, one per run
	floor   []float64       // ms of reading as many bytes of slots once
	blocks  int             // that the two above are for
	bytes   int64           // of their slots
}

// maxProbeBytes bounds the slots of the probe. Beyond it fewer blocks are probed: the slope is the same.
const maxProbeBytes = 1 << 30

// probeBytes is what the probe may hold: what a run holds anyway, or a twentieth of all.
func (b *bench) probeBytes() int64 { return min(maxProbeBytes, max(b.memory.Slots, b.memory.Total/20)) }

// minProbeRuns is how often the probe runs when repeats are automatic.
const minProbeRuns = 5

// probeReuse measures what reuse costs.
func (b *bench) probeReuse(ctx context.Context) error {
	model := b.cfg.Model
	var err error
	if b.reuse.slots, b.reuse.bytes, err = b.slotSizes(model); err != nil {
		return err
	}
	if most := b.probeBytes(); b.reuse.bytes > most {
		each := max(b.shape.Blocks, b.shape.SingleBlocks) // blocks of the kind that has most
		if model, err = model.First(max(1, int(int64(each)*most/b.reuse.bytes))); err != nil {
			return err
		}
		if _, b.reuse.bytes, err = b.slotSizes(model); err != nil {
			return err
		}
	}
	b.reuse.blocks = model.Shape(1).TotalBlocks()
	d := dit.NewDenoiser(model, b.dev)
	defer d.Close()
	l, err := b.openProbe(d)
	if err != nil {
		return err
	}
	defer l.Release()
	for i := 0; i < b.probeRuns()+1 && !(i >= 3 && b.late()); i++ {
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
			b.reuse.steps = append(b.reuse.steps, itemTime(times, reusedItem))
		}
	}
	return b.probeFloor(ctx, l.Source)
}

func (b *bench) probeRuns() int {
	if b.cfg.Repeats > 0 {
		return b.cfg.Repeats
	}
	return minProbeRuns
}

// late tells whether the measurement has taken long enough.
func (b *bench) late() bool {
	return b.cfg.Repeats == 0 && time.Since(b.roundsFrom) > 2*b.cfg.MaxTime
}

// openProbe compiles and binds the probe of a denoiser's model.
func (b *bench) openProbe(d *dit.Denoiser) (*dit.Loop, error) {
	probe, err := probeSchedule(d.Model())
	if err != nil {
		return nil, err
	}
	s, err := d.Model().Sampler(probe.Shape().Steps, b.size.LatentHeight, b.size.LatentWidth)
	if err != nil {
		return nil, err
	}
	return d.Loop(dit.DenoiseOptions{Sizes: b.sizes(), Guidance: b.cfg.Guidance, Sampler: s, Schedules: []*schedule.Schedule{probe}})
}

// reusedItem is the item of the probe's run that reuses everything: after the prologue and the step that computes everything.
const reusedItem = 2

// probeFloor measures the least that a step which reuses everything can take: reading what it reads of slots once. Reading is measured by plain sums,
// without gates, norm or any other op; no op reads faster.
func (b *bench) probeFloor(ctx context.Context, probe *program.Program) error {
	p, err := floorProgram(probe)
	if err != nil {
		return err
	}
	b.reuse.floor, err = lastItemTimes(ctx, b.dev, nil, p, func(*ecad.State) error { return nil }, func(ms []float64) bool {
		return len(ms) > b.probeRuns()
	})
	if err == nil {
		b.reuse.floor = b.reuse.floor[1:] // the first warms up
	}
	return err
}

// floorProgram fills as many buffers as the probe's step that reuses everything reads of slots, then adds up those of one size in another section.
func floorProgram(probe *program.Program) (*program.Program, error) {
	b := program.NewBuilder(1)
	groups := map[string][]program.Tensor{} // by shape
	var order []string
	b.Begin(program.Prologue, "fill")
	count := 0
	for _, op := range probe.SectionOps(int(probe.Schedules[0].Items[reusedItem].Section)) {
		for _, id := range op.In {
			v := probe.Operand(id)
			if v == nil || !probe.Buffers[v.Buffer].Slot {
				continue
			}
			width, rows := int(v.Dims[2]), int(v.Dims[0]*v.Dims[1])
			name := fmt.Sprintf("slot %d", count)
			slot := b.Persistent(name, v.DType, 1, rows, width)
			b.Output(name, slot)
			row := b.Float32s("row", slices.Repeat([]float32{1. / 64}, width), 1, 1, width)
			key := fmt.Sprintf("%v %d %d", v.DType, rows, width)
			if groups[key] == nil {
				order = append(order, key)
			}
			groups[key] = append(groups[key], b.Copy("fill", b.Expand(row, 1, rows, width), slot))
			count++
		}
	}
	prologue := b.End()
	if count == 0 {
		return nil, errors.New("reuse: the probe has no slots")
	}
	b.Begin(program.Step, "read")
	for i, key := range order {
		slots := groups[key]
		var terms []program.Term
		for _, s := range slots[1:] {
			terms = append(terms, program.Term{S: s})
		}
		name := fmt.Sprintf("sum %d", i)
		sum := b.Persistent(name, program.Float32, slots[0].Dims()...)
		b.Output(name, sum)
		b.Chain("read", program.ChainSpec{X: slots[0], Terms: terms}, sum, program.Tensor{})
	}
	b.Schedule("floor", []program.Item{{Section: prologue}, {Section: b.End()}})
	return b.Finish()
}

// slotSizes asks a program that reuses everything how large the slots of each component of a model are, by its place in a row, and all together.
func (b *bench) slotSizes(m *dit.Model) (slots map[int64]int64, total int64, err error) {
	p, err := compileAllReused(m, b.sizes(), b.cfg.Guidance)
	if err != nil {
		return nil, 0, err
	}
	slots = map[int64]int64{}
	for _, s := range p.Stats().Slots {
		slots[int64(s.Block*schedule.ComponentsPerBlock+s.Component)] += s.Bytes
		total += s.Bytes
	}
	return slots, total, nil
}

// compileAllReused compiles one step that computes and one that reuses everything.
func compileAllReused(m *dit.Model, sizes dit.Sizes, guidance float64) (*program.Program, error) {
	s, err := m.Sampler(2, sizes.Height, sizes.Width)
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

// probeSchedule computes all in step 0, nothing in step 1, then per step one component of a block near the start, the middle or the end; all of a
// single-stream block, whose components alone change nothing.
func probeSchedule(m *dit.Model) (*schedule.Schedule, error) {
	n := m.Shape(1).TotalBlocks()
	var cells []schedule.Cell
	for i, block := range []int{0, n / 3, 2 * n / 3, n - 1} {
		if i > 0 && len(cells) > 0 && cells[len(cells)-1].Block == block {
			continue
		}
		if m.Shape(1).Kind(block) == schedule.SingleBlock {
			cells = append(cells, schedule.Cell{Step: 2 + len(cells), Block: block, Comp: -1})
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
		for k := range schedule.ComponentsPerBlock {
			if c.Comp < 0 || c.Comp == k {
				s.Set(c.Step, c.Block, k, schedule.Compute)
			}
		}
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
