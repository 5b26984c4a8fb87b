package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
	"ecadx/ga"
	"ecadx/schedule"
)

// Drift runs the uncached schedule on some images and records, per component and pair of steps, how far its output moved, as the chains see it:
// the distance times the root mean square of the gate of the step that would read it. Steps do not weigh the same in the picture, so from
// every step on the loop is run once more with that step alone reused; how far the final latents land from the uncached ones, divided by the
// drift of the step before, is the step's weight. In all that is about half as many images again per step as the schedule has steps: the work of
// a few dozen images per batch. progress, if not nil, is told how much of it is done, from 0 to 1, by one goroutine at a time.
func (e *Evaluator) Drift(ctx context.Context, images []ga.ImageID, progress func(float64)) (ga.Drift, error) {
	shape := e.uncached.Shape()
	if shape.Steps < 2 || len(images) == 0 {
		return ga.Drift{}, errors.New("drift: at least two steps and one image are needed")
	}
	list := []*schedule.Schedule{e.uncached}
	for step := 1; step < shape.Steps; step++ {
		s := e.uncached.Clone()
		for i := range shape.RowLen() {
			s.SetFlat(step*shape.RowLen()+i, schedule.Reuse)
		}
		list = append(list, s)
	}
	loop, err := e.sampler(shape.Steps)
	if err != nil {
		return ga.Drift{}, err
	}
	options := dit.DenoiseOptions{Sizes: e.sizes(), Guidance: e.cfg.Guidance, Sampler: loop, Schedules: list, KeepSlots: true}
	batches := (len(images) + e.cfg.Batch - 1) / e.cfg.Batch
	passes := make([]*driftPass, batches)
	var told sync.Mutex // progress is called by one worker at a time
	steps, total := 0, float64(batches*shape.Steps*(shape.Steps+1)/2)
	did := func(n int) {
		told.Lock()
		defer told.Unlock()
		if steps += n; progress != nil {
			progress(float64(steps) / total)
		}
	}
	err = e.eachBatch(ctx, batches, func(ctx context.Context, w *dit.Worker, b int) error {
		l, err := w.Denoiser.Loop(options)
		if err != nil {
			return err
		}
		defer l.Release()
		passes[b] = &driftPass{e: e, loop: l, shape: shape, impact: make([]float64, shape.Steps), did: did}
		if err := passes[b].find(); err != nil {
			return err
		}
		return passes[b].run(ctx, images, b*e.cfg.Batch)
	})
	if err != nil {
		return ga.Drift{}, err
	}
	all := passes[0]
	for _, p := range passes[1:] { // in the order of the images, however many devices worked
		all.add(p)
	}
	return all.result()
}

// driftPass measures the drift of one batch.
type driftPass struct {
	e      *Evaluator
	loop   *dit.Loop
	shape  schedule.Shape
	slots  []keptSlot
	errors [][]float64 // per cell of a row, Steps x Steps
	impact []float64   // per step: squared distance of the final latents when it alone is reused
	did    func(steps int)
}

// add adds what another batch found.
func (d *driftPass) add(o *driftPass) {
	for cell, m := range o.errors {
		for i, v := range m {
			d.errors[cell][i] += v
		}
	}
	for i, v := range o.impact {
		d.impact[i] += v
	}
}

// keptSlot is a persistent buffer that a component fills, and the gate that the chains multiply it by.
type keptSlot struct {
	cell     int
	index    int // among persistent buffers
	bytes    int64
	dtype    program.DType
	gate     *program.View // nil: none
	gateAt   int           // among persistent buffers
	gateSize int64
	history  []sketch // by step
}

// find looks the slots and their gates up in the program.
func (d *driftPass) find() error {
	p := d.loop.Source
	d.errors = make([][]float64, d.shape.RowLen())
	for i := range d.errors {
		d.errors[i] = make([]float64, d.shape.Steps*d.shape.Steps)
	}
	persistent := map[uint32]int{} // buffer to place
	for i := range p.Buffers {
		if p.Buffers[i].Kind == program.Persistent {
			persistent[uint32(i)] = len(persistent)
		}
	}
	items := p.Schedules[0].Items
	seen := map[uint32]bool{}
	for _, op := range p.SectionOps(int(items[len(items)-1].Section)) {
		if op.Code != program.OpChain {
			continue
		}
		for k := range int(op.Attr[0]) {
			view, gate := p.Operand(op.In[1+2*k]), p.Operand(op.In[2+2*k])
			b := &p.Buffers[view.Buffer]
			if !b.Slot || seen[view.Buffer] {
				continue
			}
			seen[view.Buffer] = true
			s := keptSlot{cell: d.shape.Index(schedule.Cell{Block: b.Block, Comp: b.Component}), index: persistent[view.Buffer], bytes: b.Bytes, dtype: view.DType}
			if gate != nil {
				s.gate = gate
				at, ok := persistent[s.gate.Buffer]
				if !ok {
					return fmt.Errorf("drift: the gate of %s is not kept between steps, so it cannot be read", op.Name)
				}
				s.gateAt, s.gateSize = at, p.Buffers[s.gate.Buffer].Bytes
			}
			d.slots = append(d.slots, s)
		}
	}
	if len(d.slots) == 0 {
		return errors.New("drift: the program keeps no slots")
	}
	return nil
}

// run measures the batch of images that starts at one of them.
func (d *driftPass) run(ctx context.Context, images []ga.ImageID, from int) error {
	run, _, err := d.e.start(d.loop, images, from)
	if err != nil {
		return err
	}
	defer run.Close()
	main, err := d.loop.Program.Schedule(0)
	if err != nil {
		return err
	}
	first := len(main) - d.shape.Steps // the prologue comes before the steps
	var variants [][]float32
	for step := range d.shape.Steps {
		lo := first + step
		if step == 0 {
			lo = 0
		}
		if step > 0 {
			latents, err := d.variant(ctx, run, step, lo)
			if err != nil {
				return err
			}
			variants = append(variants, latents)
			d.did(d.shape.Steps - step)
		}
		if _, err := run.DoItems(ctx, d.loop, main[lo:first+step+1], ecad.RunOptions{}); err != nil {
			return err
		}
		if err := d.record(run, step); err != nil {
			return err
		}
		d.did(1)
	}
	latents, err := run.Latents()
	if err != nil {
		return err
	}
	for i, v := range variants {
		for k, x := range v {
			diff := float64(x) - float64(latents[k])
			d.impact[i+1] += diff * diff
		}
	}
	return nil
}

// variant runs to the end with one step reused, on a fork of a run that stands before that step.
func (d *driftPass) variant(ctx context.Context, run *dit.Run, step, at int) ([]float32, error) {
	items, err := d.loop.Program.Schedule(step)
	if err != nil {
		return nil, err
	}
	fork, err := run.Fork()
	if err != nil {
		return nil, err
	}
	defer fork.Close()
	if _, err := fork.DoItems(ctx, d.loop, items[at:], ecad.RunOptions{}); err != nil {
		return nil, err
	}
	return fork.Latents()
}

// record sketches every slot after a step and adds its distances to earlier steps.
func (d *driftPass) record(run *dit.Run, step int) error {
	gates := map[int][]byte{}
	for i := range d.slots {
		s := &d.slots[i]
		data := make([]byte, s.bytes)
		if err := run.ReadBuffer(s.index, data); err != nil {
			return err
		}
		values, err := floatsOf(data, s.dtype)
		if err != nil {
			return err
		}
		now := sketchOf(values)
		gain := 1.0
		if s.gate != nil {
			if gates[s.gateAt] == nil {
				gates[s.gateAt] = make([]byte, s.gateSize)
				if err := run.ReadBuffer(s.gateAt, gates[s.gateAt]); err != nil {
					return err
				}
			}
			if gain, err = meanSquare(gates[s.gateAt], s.gate, step); err != nil {
				return err
			}
		}
		for t0 := range s.history {
			d.errors[s.cell][t0*d.shape.Steps+step] += gain * now.distance(&s.history[t0])
		}
		s.history = append(s.history, now)
	}
	return nil
}

// result weighs the steps and turns squares into distances. Errors of components that are stale together point the same way: on the miniature
// schedules that minimise the sum of distances came out 1 to 4 dB better than those of the sum of squares at 1.4x to 2.1x less arithmetic.
func (d *driftPass) result() (ga.Drift, error) {
	n := d.shape.Steps
	for step := 1; step < n; step++ {
		moved := 0.0
		for _, m := range d.errors {
			moved += m[(step-1)*n+step]
		}
		weight := 0.0
		if moved > 0 {
			weight = d.impact[step] / moved
		}
		for _, m := range d.errors {
			for t0 := range step {
				m[t0*n+step] = math.Sqrt(m[t0*n+step] * weight)
			}
		}
	}
	d.shareSingle()
	out := ga.Drift{Shape: d.shape, Errors: d.errors}
	return out, out.Validate()
}

// shareSingle shares the errors of a single-stream block's proj_out with the two components that feed it and nothing else, in proportion to their linear work (3, 4
// and 5 parts in ECAD's count): what each of them saves is then worth as much error, so that they are reused together. Alone a stale input of a computed
// proj_out would look like no error at all.
func (d *driftPass) shareSingle() {
	parts := map[schedule.Component]float64{schedule.SingleAttn: 3, schedule.SingleProjMLP: 4, schedule.SingleProjOut: 5}
	for block := range d.shape.TotalBlocks() {
		if d.shape.Kind(block) != schedule.SingleBlock {
			continue
		}
		at := block * schedule.ComponentsPerBlock
		whole := d.errors[at+schedule.SingleProjOut.Index()]
		for _, comp := range []schedule.Component{schedule.SingleAttn, schedule.SingleProjMLP, schedule.SingleProjOut} { // the whole is read last
			share := d.errors[at+comp.Index()]
			for i, v := range whole {
				share[i] = v * parts[comp] / 12
			}
		}
	}
}

// sketchSize is the number of sums in a sketch: a squared distance is off by about sqrt(2/sketchSize), 4 %.
const sketchSize = 1 << 10

// sketch is a random projection of a tensor that keeps distances: every element goes, with a random sign, into one of the sums (count sketch:
// Charikar, Chen, Farach-Colton 2002; unbiased squared distances: Thorup and Zhang 2012). It takes the place of keeping all outputs of all steps.
type sketch [sketchSize]float64

func sketchOf(values []float32) sketch {
	var s sketch
	for i, v := range values {
		// SplitMix64 (Steele, Lea, Flood 2014) of the index: the same for every tensor, so that sketches can be compared.
		h := uint64(i+1) * 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
		if h>>63 != 0 {
			v = -v
		}
		s[h%sketchSize] += float64(v)
	}
	return s
}

// distance estimates the squared distance of what two sketches stand for.
func (s *sketch) distance(o *sketch) float64 {
	sum := 0.0
	for i, v := range s {
		d := v - o[i]
		sum += float64(d * d)
	}
	return sum
}

// floatsOf reads the elements of a buffer.
func floatsOf(data []byte, dtype program.DType) ([]float32, error) {
	switch dtype {
	case program.Float32:
		out := make([]float32, len(data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		return out, nil
	case program.BFloat16:
		out := make([]float32, len(data)/2)
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
		return out, nil
	}
	return nil, fmt.Errorf("drift: elements of %v are not read", dtype)
}

// meanSquare is the mean square of a view of a buffer at a step.
func meanSquare(data []byte, v *program.View, step int) (float64, error) {
	values, err := floatsOf(data, v.DType)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	base := v.Offset + v.StepStride*int64(step)
	for a := range v.Dims[0] {
		for b := range v.Dims[1] {
			for c := range v.Dims[2] {
				for e := range v.Dims[3] {
					x := float64(values[base+a*v.Strides[0]+b*v.Strides[1]+c*v.Strides[2]+e*v.Strides[3]])
					sum += x * x
				}
			}
		}
	}
	return sum / float64(v.Count()), nil
}
