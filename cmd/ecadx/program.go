package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"ecadx/dit"
	"ecadx/dit/program"
	"ecadx/dit/sampler"
	"ecadx/schedule"
)

func programCommand() *cli.Command {
	return &cli.Command{
		Name:  "program",
		Usage: "print the compiled program of one step",
		CustomHelpTemplate: commandHelp(`A program is what libecad runs: a prologue, then a list of ops per step. Each op is a line: whose it is, its name, what it does, its
operands with shape and type. A reused component has no ops: the chain that follows reads its slot. What nobody reads, ops or rows of them, is removed, and listed.`,
			"ecadx program --schedule fora:2 --step 1",
			"ecadx program --model random:pixart-alpha-256 --blocks 2 --schedule study/schedules/3f2a.json --step 7 --json"),
		Flags: append(commonFlags(flagModel, flagSchedule, flagDevice, flagDType, flagResolution, flagSteps, flagGuidance, flagJSON),
			batchFlag(), blocksFlag(), textTokensFlag(),
			&cli.IntFlag{Name: "step", Usage: "print step `K`, from 0", DefaultText: "the first that reuses something"},
			&cli.BoolFlag{Name: "prologue", Usage: "print the prologue instead: what is computed once"}),
		Action: printProgram,
	}
}

func printProgram(c *cli.Context) error {
	t, err := newTask(c)
	if err != nil {
		return err
	}
	defer t.close()
	step := c.Int("step")
	if step < 0 || step >= t.steps {
		return usageError("%s: --step: %d: there are %d steps, numbered from 0", t.command, step, t.steps)
	}
	r, err := resolveSchedule(t.schedule, t.model.Shape(t.steps))
	if err != nil {
		return err
	}
	if !c.IsSet("step") {
		step = firstReuse(r.schedule)
	}
	p, _, err := t.compile([]*resolved{r})
	if err != nil {
		return err
	}
	item := step + 1
	if c.Bool("prologue") {
		item, step = 0, -1
	}
	id := p.Schedules[0].Items[item].Section
	out := environmentOf(c).stdout
	if t.output == asJSON {
		return writeJSON(out, t.describeProgram(p, r, step, id))
	}
	return t.disassemble(out, p, id)
}

// firstReuse is the first step that reuses something, 0 if none does.
func firstReuse(s *schedule.Schedule) int {
	for cell, d := range s.Canonical().All() {
		if d == schedule.Reuse {
			return cell.Step
		}
	}
	return 0
}

// compile compiles the denoising loop of the schedules.
func (t *task) compile(list []*resolved) (*program.Program, *sampler.Sampler, error) {
	if _, err := t.model.SamplerConfig(); err != nil {
		return nil, nil, badModel(err)
	}
	s, err := t.model.Sampler(t.steps, t.size.LatentHeight, t.size.LatentWidth)
	if err != nil {
		return nil, nil, usageError("%s: --%s: %w", t.command, flagSteps, err)
	}
	opt := dit.DenoiseOptions{Sizes: t.sizes(), Guidance: t.guidance, Sampler: s}
	for _, r := range list {
		opt.Schedules, opt.Names = append(opt.Schedules, r.schedule), append(opt.Names, programName(r))
	}
	p, err := t.model.CompileDenoise(opt)
	return p, s, badInput(err)
}

// componentName names a component in listings.
func (t *task) componentName(block, component int) string {
	shape := t.model.Shape(t.steps)
	if block >= shape.TotalBlocks() || component >= schedule.ComponentsPerBlock {
		return fmt.Sprint(component)
	}
	return shape.Component(block, component).String()
}

func (t *task) disassemble(w io.Writer, p *program.Program, id program.SectionID) error {
	return p.Disassemble(w, program.DisassembleOptions{
		Section:   func(s program.SectionID) bool { return s == id },
		Component: t.componentName,
		Block:     t.model.Shape(t.steps).BlockName,
	})
}

// programReport is program --json.
type programReport struct {
	Model    string         `json:"model"`
	DType    string         `json:"dtype"`
	Schedule string         `json:"schedule"`
	Hash     schedule.Hash  `json:"schedule_hash"`
	Step     *int           `json:"step"`    // null: the prologue
	Section  string         `json:"section"` // steps with equal decisions share one
	Memory   programMemory  `json:"memory_bytes"`
	Flops    int64          `json:"flops"` // of the step on the batch
	Bytes    int64          `json:"bytes"`
	Ops      []programOp    `json:"ops"`
	Slots    []programSlot  `json:"slots"`
	Removed  []removedOp    `json:"removed"`
	Narrowed []narrowedOp   `json:"narrowed"`
	Demoted  []string       `json:"demoted"` // slots and other state that need not outlive a step
	Dropped  []string       `json:"dropped"` // state that nothing uses
	IOs      []programIO    `json:"ios"`
	Sections []programUsage `json:"sections"`
}

type programMemory struct {
	Arena      int64 `json:"arena"`
	ArenaLeast int64 `json:"arena_lower_bound"`
	Persistent int64 `json:"persistent"`
	Slots      int64 `json:"slots"` // part of persistent
	Constants  int64 `json:"constants"`
}

type programOp struct {
	Block     string            `json:"block,omitempty"`
	Component string            `json:"component,omitempty"`
	Name      string            `json:"name"`
	Op        string            `json:"op"`
	In        []*programOperand `json:"in"` // null: an optional operand that is absent
	Out       []*programOperand `json:"out"`
	Flops     int64             `json:"flops"`
	Bytes     int64             `json:"bytes"`
}

type programOperand struct {
	Buffer string  `json:"buffer"` // name, or number of a scratch buffer
	Kind   string  `json:"kind"`
	Slot   bool    `json:"slot,omitempty"`
	DType  string  `json:"dtype"`
	Shape  []int64 `json:"shape"`
}

type programSlot struct {
	Block     string `json:"block"`
	Component string `json:"component"`
	Bytes     int64  `json:"bytes"`
}

type removedOp struct {
	Block     string `json:"block,omitempty"`
	Component string `json:"component,omitempty"`
	Name      string `json:"name"`
	Op        string `json:"op"`
	Flops     int64  `json:"flops"`
}

// narrowedOp is an op that leaves out the rows that nobody reads.
type narrowedOp struct {
	Block     string `json:"block,omitempty"`
	Component string `json:"component,omitempty"`
	Name      string `json:"name"`
	Op        string `json:"op"`
	Rows      int64  `json:"rows"`
	Of        int64  `json:"of"`
	Flops     int64  `json:"flops"` // saved
}

type programIO struct {
	Name      string  `json:"name"`
	DType     string  `json:"dtype"`
	Shape     []int64 `json:"shape"`
	Direction string  `json:"direction"`
}

type programUsage struct {
	Section string `json:"section"`
	Kind    string `json:"kind"`
	Steps   []int  `json:"steps"`
	Ops     int    `json:"ops"`
	Flops   int64  `json:"flops"`
}

// describeProgram is the listing of a section as data.
func (t *task) describeProgram(p *program.Program, r *resolved, step int, id program.SectionID) *programReport {
	stats := p.Stats()
	d := &programReport{
		Model: t.options.model, DType: t.dtype.String(), Schedule: r.ref, Hash: r.schedule.Hash(), Section: p.Sections[id].Name,
		Memory: programMemory{stats.ArenaBytes, stats.ArenaLowerBound, stats.PersistentBytes, stats.SlotBytes, stats.ConstantBytes},
		Flops:  stats.Sections[id].Cost.Flops, Bytes: stats.Sections[id].Cost.Bytes,
		Ops: []programOp{}, Slots: []programSlot{}, Removed: []removedOp{}, Narrowed: []narrowedOp{}, Demoted: append([]string{}, stats.Demoted...),
		Dropped: append([]string{}, stats.Dropped...), IOs: programIOs(p),
	}
	if step >= 0 {
		d.Step = &step
	}
	for i := p.Sections[id].First; i < p.Sections[id].First+p.Sections[id].Count; i++ {
		op, cost := &p.Ops[i], p.Cost(i)
		block, component := t.labels(op.Block, op.Component)
		d.Ops = append(d.Ops, programOp{block, component, op.Name, op.Code.String(), operands(p, op.In), operands(p, op.Out), cost.Flops, cost.Bytes})
	}
	for _, s := range stats.Slots {
		block, component := t.labels(s.Block, s.Component)
		d.Slots = append(d.Slots, programSlot{block, component, s.Bytes})
	}
	for _, x := range stats.Removed {
		if x.Section == id {
			block, component := t.labels(x.Block, x.Component)
			d.Removed = append(d.Removed, removedOp{block, component, x.Name, x.Code.String(), x.Cost.Flops})
		}
	}
	for _, x := range stats.Narrowed {
		if x.Section == id {
			block, component := t.labels(x.Block, x.Component)
			d.Narrowed = append(d.Narrowed, narrowedOp{block, component, x.Name, x.Code.String(), x.Rows, x.Of, x.Saved.Flops})
		}
	}
	for i, s := range p.Sections {
		u := programUsage{Section: s.Name, Kind: s.Kind.String(), Steps: []int{}, Ops: s.Count, Flops: stats.Sections[i].Cost.Flops}
		for _, item := range p.Schedules[0].Items {
			if item.Section == program.SectionID(i) && s.Kind == program.Step {
				u.Steps = append(u.Steps, item.Step)
			}
		}
		d.Sections = append(d.Sections, u)
	}
	return d
}

// labels names a block and a component; ops of none have empty names.
func (t *task) labels(block, component int) (string, string) {
	if block < 0 {
		return "", ""
	}
	name := t.model.Shape(t.steps).BlockName(block)
	if component < 0 {
		return name, ""
	}
	return name, t.componentName(block, component)
}

func operands(p *program.Program, ids []uint32) []*programOperand {
	list := []*programOperand{}
	for _, id := range ids {
		if int64(id) >= int64(len(p.Tensors)) { // absent
			list = append(list, nil)
			continue
		}
		v := &p.Tensors[id]
		b := &p.Buffers[v.Buffer]
		name := b.Name
		if name == "" {
			name = fmt.Sprintf("%%%d", v.Buffer)
		}
		list = append(list, &programOperand{Buffer: name, Kind: b.Kind.String(), Slot: b.Slot, DType: v.DType.String(), Shape: v.Shape()})
	}
	return list
}

func programIOs(p *program.Program) []programIO {
	list := []programIO{}
	for _, io := range p.IOs {
		v := &p.Tensors[io.Tensor]
		list = append(list, programIO{io.Name, v.DType.String(), v.Shape(), io.Direction.String()})
	}
	return list
}
