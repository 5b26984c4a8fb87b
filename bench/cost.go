package bench

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"ecadx/dit"
	"ecadx/dit/program"
	"ecadx/ga"
	"ecadx/schedule"
)

// CostTable is a cost that adds up over a run: once, per step, and per component that is computed or reused. All is per image. It
// implements ga.CostModel; schedules must have its blocks. One of another number of steps is a run with so many steps: it pays for those,
// and for the prologue of the table's.
type CostTable struct {
	Family string     `json:"family"`
	Blocks []int      `json:"blocks"` // of each kind
	Steps  int        `json:"steps"`
	Once   float64    `json:"once"`  // the prologue
	Step   float64    `json:"step"`  // what no schedule saves
	Cells  []CellCost `json:"cells"` // per block and component in genome order
}

// CellCost is a component of a block in one step.
type CellCost struct {
	Compute float64 `json:"compute"`
	Reuse   float64 `json:"reuse"`
}

var _ ga.CostModel = (*CostTable)(nil)

// Shape is what schedules must range over; an error says what the table lacks.
func (t *CostTable) Shape() (schedule.Shape, error) {
	s, err := shapeOf(t.Family, t.Blocks, t.Steps, len(t.Cells))
	if err != nil {
		return s, fmt.Errorf("cost table: %w", err)
	}
	return s, nil
}

// Validate checks a table that was read: its shape, and that every cost is finite and not negative.
func (t *CostTable) Validate() error {
	if _, err := t.Shape(); err != nil {
		return err
	}
	all := []float64{t.Once, t.Step}
	for _, c := range t.Cells {
		all = append(all, c.Compute, c.Reuse)
	}
	for _, v := range all {
		if !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("cost table: a cost of %v: costs are finite and not negative", v)
		}
	}
	return nil
}

// Cost is the cost of one image under a schedule, of its canonical form: dead genes cost nothing.
func (t *CostTable) Cost(s *schedule.Schedule) (float64, error) {
	shape, err := t.Shape()
	if err != nil {
		return 0, err
	}
	shape.Steps = s.Shape().Steps
	if err := s.Shape().Fits(shape); err != nil {
		return 0, err
	}
	total, c := t.Once, s.Canonical()
	for cell, d := range c.All() {
		if cell.Block == 0 && cell.Comp == 0 {
			total += t.Step
		}
		cost := &t.Cells[cell.Block*schedule.ComponentsPerBlock+cell.Comp]
		if d == schedule.Compute {
			total += cost.Compute
		} else {
			total += cost.Reuse
		}
	}
	return total, nil
}

// Shared is the cost of running schedules for one image each, in turn and as a prefix tree, where schedules of one number of steps whose canonical
// rows agree in steps 0 to k do those steps once.
func (t *CostTable) Shared(schedules []*schedule.Schedule) (tree, alone float64, err error) {
	shape, err := t.Shape()
	if err != nil {
		return 0, 0, err
	}
	done := map[string]bool{}
	for _, s := range schedules {
		shape.Steps = s.Shape().Steps
		if err := s.Shape().Fits(shape); err != nil {
			return 0, 0, err
		}
		alone += t.Once
		prefix := binary.LittleEndian.AppendUint32(nil, uint32(shape.Steps))
		if root := string(prefix); !done[root] {
			done[root] = true
			tree += t.Once
		}
		row := t.Step
		rest := shape.RowLen()
		for cell, d := range s.Canonical().All() {
			cost := &t.Cells[cell.Block*schedule.ComponentsPerBlock+cell.Comp]
			if d == schedule.Compute {
				prefix, row = append(prefix, 1), row+cost.Compute
			} else {
				prefix, row = append(prefix, 0), row+cost.Reuse
			}
			if rest--; rest > 0 {
				continue
			}
			alone += row
			if !done[string(prefix)] {
				done[string(prefix)] = true
				tree += row
			}
			row, rest = t.Step, shape.RowLen()
		}
	}
	return tree, alone, nil
}

// LatencyTable is the measured cost of a model on a device in milliseconds per image, for the search. What it predicts for the
// schedule that was measured is in the report (predicted_run_ms).
type LatencyTable struct {
	Model      string     `json:"model"`
	Device     string     `json:"device"`
	Hardware   string     `json:"hardware"`
	Threads    int        `json:"threads"`
	DType      string     `json:"dtype"`
	Resolution Resolution `json:"resolution"`
	Batch      int        `json:"batch"`
	Guidance   float64    `json:"guidance"`
	TextTokens int        `json:"text_tokens"`
	CostTable
}

// NewLatencyTable takes the medians out of a report:
//
//	cost = (prologue + steps x other + sum over computed cells of compute + sum over reused cells of reuse) / batch
//
// A chain reads every slot once per step, computed or reused, so reuse takes the place of compute and the rest of the step stays. Nothing
// of a step is left out: the time between ops counts with the op before.
func NewLatencyTable(r *Report) (*LatencyTable, error) {
	if r.Batch < 1 {
		return nil, fmt.Errorf("report: a batch of %d", r.Batch)
	}
	t := &LatencyTable{Model: r.Model, Device: r.Device, Hardware: r.Hardware.Name, Threads: r.Hardware.Threads, DType: r.DType, Resolution: r.Resolution,
		Batch: r.Batch, Guidance: r.Guidance, TextTokens: r.TextTokens}
	images := float64(r.Batch)
	t.CostTable = CostTable{Family: r.Family, Blocks: r.Blocks, Steps: r.Steps, Once: r.PrologueMS / images}
	t.Step = r.OtherMS / images
	for _, c := range r.Components {
		t.Cells = append(t.Cells, CellCost{Compute: c.ComputeMS.Median / images, Reuse: c.ReuseMS.Median / images})
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// NewLatencyCost is NewLatencyTable as a cost model.
func NewLatencyCost(r *Report) (ga.CostModel, error) {
	t, err := NewLatencyTable(r)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Encode is the table as JSON, to be kept with a study: a search that goes on must not measure again.
func (t *LatencyTable) Encode() ([]byte, error) { return json.MarshalIndent(t, "", "  ") }

// DecodeLatencyTable reads what Encode writes.
func DecodeLatencyTable(data []byte) (*LatencyTable, error) {
	if len(data) > maxReport {
		return nil, fmt.Errorf("a latency table of %d bytes: at most %d", len(data), maxReport)
	}
	t := &LatencyTable{}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("no latency table: %w", err)
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// ReadLatencyTable reads a latency table for schedules of so many steps of a model, from what Encode writes or from a report of ecadx bench, whichever
// machine that was made on. Times are per step, so the number of steps of the measurement does not matter.
func ReadLatencyTable(data []byte, shape schedule.Shape) (*LatencyTable, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("no latency table: %w", err)
	}
	var t *LatencyTable
	var err error
	if _, report := members["components"]; report {
		var r *Report
		if r, err = DecodeReport(data); err == nil {
			t, err = NewLatencyTable(r)
		}
	} else {
		t, err = DecodeLatencyTable(data)
	}
	if err != nil {
		return nil, err
	}
	t.Steps = shape.Steps
	own, err := t.Shape()
	if err != nil {
		return nil, err
	}
	return t, own.Fits(shape)
}

// SlotBytes is the memory that the slots of a schedule take per image: a slot is kept when its component is reused at some step. It implements
// ga.CostModel.
type SlotBytes struct {
	shape schedule.Shape
	cells []float64 // of a row
}

// NewSlotBytes takes the sizes from the program that keeps all slots. Sizes are those the search runs with.
func NewSlotBytes(m *dit.Model, sizes dit.Sizes, steps int, guidance float64) (*SlotBytes, error) {
	s, err := m.Sampler(steps, sizes.Height, sizes.Width)
	if err != nil {
		return nil, err
	}
	p, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: sizes, Guidance: guidance, Sampler: s, KeepSlots: true})
	if err != nil {
		return nil, err
	}
	shape := m.Shape(steps)
	t := &SlotBytes{shape: shape, cells: make([]float64, shape.RowLen())}
	for i := range p.Buffers {
		if b := &p.Buffers[i]; b.Slot {
			t.cells[shape.Index(schedule.Cell{Block: b.Block, Comp: b.Component})] += float64(b.Bytes) / float64(sizes.Batch)
		}
	}
	return t, nil
}

// Cost is the bytes of the slots that a schedule keeps, per image.
func (t *SlotBytes) Cost(s *schedule.Schedule) (float64, error) {
	want := t.shape
	want.Steps = s.Shape().Steps // the sizes are the same for all
	if err := s.Shape().Fits(want); err != nil {
		return 0, err
	}
	kept := make([]bool, len(t.cells))
	for cell, d := range s.Canonical().All() {
		if d == schedule.Reuse {
			kept[cell.Block*schedule.ComponentsPerBlock+cell.Comp] = true
		}
	}
	total := 0.0
	for i, k := range kept {
		if k {
			total += t.cells[i]
		}
	}
	return total, nil
}

// FLOPsCost counts all floating-point operations per image, as libecad counts them (program.Program.Cost). It equals the cost of the program
// compiled for the schedule. Sizes are those the search runs with.
func FLOPsCost(m *dit.Model, sizes dit.Sizes, steps int, guidance float64) (*CostTable, error) {
	s, err := m.Sampler(steps, sizes.Height, sizes.Width)
	if err != nil {
		return nil, err
	}
	full, err := m.CompileDenoise(dit.DenoiseOptions{Sizes: sizes, Guidance: guidance, Sampler: s})
	if err != nil {
		return nil, err
	}
	shape, images := m.Shape(steps), float64(sizes.Batch)
	t := &CostTable{Family: shape.Family.String(), Blocks: []int{shape.Blocks}, Steps: steps}
	if shape.Family == schedule.Flux {
		t.Blocks = append(t.Blocks, shape.SingleBlocks)
	}
	t.Once = float64(sectionCost(full, 0).Flops) / images
	cells, err := aloneCosts(m, sizes, guidance)
	if err != nil {
		return nil, err
	}
	rest := sectionCost(full, 1).Flops
	for _, f := range cells {
		rest -= f
		t.Cells = append(t.Cells, CellCost{Compute: float64(f) / images})
	}
	t.Step = float64(rest) / images
	return t, t.Validate()
}

// aloneCosts are the floating-point operations of each component of a row: what a step that computes it alone has more than a step that reuses everything, its
// ops and the norm before it, but none of the chains' terms, which a step always has. In a single-stream block proj_out alone has nothing new to read, and
// the others alone nobody to read them: attn and proj_mlp cost what a step lacks that computes only the other two, the rest of the block, its norm included, is proj_out's.
func aloneCosts(m *dit.Model, sizes dit.Sizes, guidance float64) ([]int64, error) {
	p, err := compileAlone(m, sizes, guidance)
	if err != nil {
		return nil, err
	}
	shape := m.Shape(1)
	step := func(cell int) int64 { return sectionCost(p, 3+cell).Flops }
	idle := step(-1)
	costs := make([]int64, shape.RowLen())
	for block := range shape.TotalBlocks() {
		at := block * schedule.ComponentsPerBlock
		if shape.Kind(block) != schedule.SingleBlock {
			for cell := at; cell < at+schedule.ComponentsPerBlock; cell++ {
				costs[cell] = step(cell) - idle
			}
			continue
		}
		attn, mlp, out := at+schedule.SingleAttn.Index(), at+schedule.SingleProjMLP.Index(), at+schedule.SingleProjOut.Index()
		costs[attn], costs[mlp] = step(out)-step(attn), step(out)-step(mlp)
		costs[out] = step(out) - idle - costs[attn] - costs[mlp]
	}
	return costs, nil
}

// compileAlone compiles a step that computes everything, one that reuses everything, then one step per component that computes it alone. Of a single-stream block
// they compute all but attn, all but proj_mlp, and all.
func compileAlone(m *dit.Model, sizes dit.Sizes, guidance float64) (*program.Program, error) {
	n := m.Shape(1).RowLen()
	s, err := m.Sampler(n+2, sizes.Height, sizes.Width)
	if err != nil {
		return nil, err
	}
	all, err := schedule.New(m.Shape(n + 2))
	if err != nil {
		return nil, err
	}
	reuseRow(all, 1)
	for cell := range n {
		reuseRow(all, cell+2)
		block, comp := cell/schedule.ComponentsPerBlock, cell%schedule.ComponentsPerBlock
		all.Set(cell+2, block, comp, schedule.Compute)
		if all.Shape().Kind(block) != schedule.SingleBlock {
			continue
		}
		for k := range schedule.ComponentsPerBlock {
			all.Set(cell+2, block, k, schedule.Compute)
		}
		if comp != schedule.SingleProjOut.Index() {
			all.Set(cell+2, block, comp, schedule.Reuse)
		}
	}
	return m.CompileDenoise(dit.DenoiseOptions{Sizes: sizes, Guidance: guidance, Sampler: s, Schedules: []*schedule.Schedule{all}})
}

// sectionCost is the work of item i of a program's first schedule.
func sectionCost(p *program.Program, i int) program.Cost {
	sec := p.Sections[p.Schedules[0].Items[i].Section]
	var total program.Cost
	for op := sec.First; op < sec.First+sec.Count; op++ {
		total = total.Plus(p.Cost(op))
	}
	return total
}

// MACsCost counts multiply-accumulates of one image by ECAD's rule; see ModelDims.
func MACsCost(m *dit.Model, size Size, guidance float64) (ga.CostModel, error) {
	d, err := ModelDims(m, size, guidance)
	if err != nil {
		return nil, err
	}
	return ga.CostFunc(func(s *schedule.Schedule) (float64, error) {
		t, err := s.Canonical().MACs(d)
		return float64(t.Total), err
	}), nil
}
