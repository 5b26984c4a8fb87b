package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	ecad "ecadx/cgo"
	"ecadx/dit/program"
	"ecadx/schedule"
)

// Report is what Measure found: the JSON of ecadx bench. Times are milliseconds of the whole batch, MACs and FLOPs those of one image over
// the whole run, ratios uncached / cached.
type Report struct {
	Model      string     `json:"model"`
	Device     string     `json:"device"` // reference, cpu or cuda:N
	DType      string     `json:"dtype"`
	Resolution Resolution `json:"resolution"`
	Batch      int        `json:"batch"`
	Steps      int        `json:"steps"`
	Guidance   float64    `json:"guidance"`
	Schedule   string     `json:"schedule"`

	StepMS        Spread  `json:"step_ms"` // one fully computed guided step
	RunMS         float64 `json:"run_ms"`  // denoising loop under the schedule, prologue included; median
	UncachedRunMS float64 `json:"uncached_run_ms"`
	Speedup       float64 `json:"speedup"`

	MACs          int64   `json:"macs"` // ECAD's rule
	UncachedMACs  int64   `json:"uncached_macs"`
	MACsRatio     float64 `json:"macs_ratio"`
	FLOPs         int64   `json:"flops"` // everything counted, from the program
	UncachedFLOPs int64   `json:"uncached_flops"`
	FLOPsRatio    float64 `json:"flops_ratio"`

	Memory     Memory          `json:"memory_bytes"`
	Components []ComponentTime `json:"components"`

	TextMS   *float64 `json:"text_ms,omitempty"`   // the batch's prompts through the text encoder; absent without one
	DecodeMS *float64 `json:"decode_ms,omitempty"` // latents to pictures; absent without a decoder

	TextSpread        *Spread     `json:"text_spread_ms,omitempty"`
	DecodeSpread      *Spread     `json:"decode_spread_ms,omitempty"`
	RunSpread         Spread      `json:"run_spread_ms"`
	UncachedRunSpread Spread      `json:"uncached_run_spread_ms"`
	PrologueMS        float64     `json:"prologue_ms"`
	OtherMS           float64     `json:"other_ms"`         // of a step: what belongs to no component
	PredictedRunMS    float64     `json:"predicted_run_ms"` // run_ms as the component times add up, see LatencyTable
	StepTimes         []StepTime  `json:"steps_ms"`         // under the schedule
	Family            string      `json:"family"`
	Blocks            []int       `json:"blocks"` // of each kind
	ScheduleHash      string      `json:"schedule_hash"`
	TextTokens        int         `json:"text_tokens"`
	Rounds            int         `json:"rounds"`
	Efficiency        float64     `json:"efficiency"` // speedup / flops_ratio: how much of the saved arithmetic was saved time
	StepWork          Work        `json:"step_work"`  // of the batch, as is all work here
	RunWork           Work        `json:"run_work"`
	UncachedRunWork   Work        `json:"uncached_run_work"`
	Reuse             Reuse       `json:"reuse"`
	Hardware          Hardware    `json:"hardware"`
	Library           string      `json:"library"` // version of libecad
	Peaks             *Peaks      `json:"peaks,omitempty"`
	Compare           *Comparison `json:"compare,omitempty"`
}

// ComponentTime is one component of one block. Its work is that of the batch: bytes read and written once per operand, weights included.
type ComponentTime struct {
	Block     int    `json:"block"`
	Component string `json:"component"`
	ComputeMS Spread `json:"compute_ms"` // its ops in a fully computed step, the chain before it included
	ReuseMS   Spread `json:"reuse_ms"`   // what one more reused slot adds to a chain
	Work             // of one execution
}

// StepTime is a step of the run under the schedule. ReusedMS is what the slots of its reused components add to its chains by the component
// table, OtherMS what belongs to no component, ComputedMS the rest of MS; they add up to MS.
type StepTime struct {
	Step       int     `json:"step"`
	Computed   int     `json:"computed"` // components
	Cells      int     `json:"cells"`    // of so many
	MS         float64 `json:"ms"`       // median
	ComputedMS float64 `json:"computed_ms"`
	ReusedMS   float64 `json:"reused_ms"`
	OtherMS    float64 `json:"other_ms"`
	Work
}

// Hardware is what the device says of itself.
type Hardware struct {
	Name         string `json:"name"`
	Features     string `json:"features"`
	Threads      int    `json:"threads"`
	FastBFloat16 bool   `json:"fast_bfloat16"`
	MemoryTotal  uint64 `json:"memory_total"`
}

func hardwareOf(info ecad.DeviceInfo) Hardware {
	return Hardware{info.Name, info.Features, info.Threads, info.FastBFloat16, info.MemoryTotal}
}

// deviceName is what --device takes.
func deviceName(info ecad.DeviceInfo, ordinal int) string {
	if info.Backend == ecad.CUDA {
		return fmt.Sprintf("%v:%d", info.Backend, ordinal)
	}
	return info.Backend.String()
}

// report adds everything up.
func (b *bench) report() (*Report, error) {
	c := &b.cfg
	info, err := b.dev.Info()
	if err != nil {
		return nil, err
	}
	r := &Report{
		Model: c.Model.Ref(), Device: deviceName(info, c.Device.Ordinal), DType: c.DType.String(), Resolution: Resolution{b.size.Height, b.size.Width},
		Batch: c.Batch, Steps: c.Steps, Guidance: c.Guidance, Schedule: c.ScheduleName,
		StepMS: NewSpread(b.full.allSteps()), UncachedRunSpread: NewSpread(b.uncachedRuns), PrologueMS: NewSpread(b.full.prologues).Median,
		OtherMS: NewSpread(b.full.others).Median, Family: b.shape.Family.String(), TextTokens: c.TextTokens, Rounds: len(b.uncachedRuns),
		Hardware: hardwareOf(info), Library: ecad.Version(),
	}
	if r.Schedule == "" {
		r.Schedule = "none"
	}
	r.Blocks = blocksOf(b.shape)
	b.components(r)
	b.runs(r)
	if err := b.count(r); err != nil {
		return nil, err
	}
	b.work(r)
	r.Memory, r.Peaks = b.memory, b.peaks
	stage := func(samples []float64) (*float64, *Spread) {
		if len(samples) == 0 {
			return nil, nil
		}
		s := NewSpread(samples)
		return &s.Median, &s
	}
	r.TextMS, r.TextSpread = stage(b.text)
	r.DecodeMS, r.DecodeSpread = stage(b.decode)
	table, err := NewLatencyTable(r)
	if err != nil {
		return nil, err
	}
	perImage, err := table.Cost(b.ran())
	if err != nil {
		return nil, err
	}
	r.PredictedRunMS = perImage * float64(c.Batch)
	return r, nil
}

// blocksOf is the number of blocks of each kind.
func blocksOf(s schedule.Shape) []int {
	if s.Family == schedule.Flux {
		return []int{s.Blocks, s.SingleBlocks}
	}
	return []int{s.Blocks}
}

// ran is the schedule that was measured, canonical.
func (b *bench) ran() *schedule.Schedule {
	if b.schedule != nil {
		return b.schedule
	}
	s, err := schedule.New(b.shape)
	if err != nil {
		return nil // the shape is a model's: it is valid
	}
	return s
}

// runs fills in the times of runs and of their steps.
func (b *bench) runs(r *Report) {
	s, mixed := b.ran(), &b.mixed
	r.ScheduleHash = s.Hash().String()
	r.RunSpread = r.UncachedRunSpread
	if b.schedule != nil {
		r.RunSpread = NewSpread(b.cachedRuns)
	} else {
		mixed = &b.full
	}
	r.RunMS, r.UncachedRunMS = r.RunSpread.Median, r.UncachedRunSpread.Median
	r.Speedup = ratio(r.UncachedRunMS, r.RunMS)
	sections := b.cached.Source.Stats().Sections
	items := b.cached.Source.Schedules[0].Items // the prologue, then one per step
	for step, samples := range mixed.steps {
		t := StepTime{Step: step, Cells: b.shape.RowLen(), MS: NewSpread(samples).Median}
		reused := 0.0
		for cell, d := range s.Row(step) {
			if d == schedule.Compute {
				t.Computed++
			} else {
				reused += r.Components[cell].ReuseMS.Median
			}
		}
		t.split(reused, r.OtherMS)
		t.Work = b.peaks.work(sections[items[step+1].Section].Cost, t.MS)
		r.StepTimes = append(r.StepTimes, t)
	}
}

// split takes the step's time apart. What one part takes by the table can be more than there was.
func (t *StepTime) split(reused, other float64) {
	t.OtherMS = min(other, t.MS)
	rest := t.MS - t.OtherMS
	switch t.Computed {
	case 0:
		t.ReusedMS = rest
	case t.Cells:
		t.ComputedMS = rest
	default:
		t.ReusedMS = min(reused, rest)
		t.ComputedMS = rest - t.ReusedMS
	}
}

// work fills in how fast the work was, and how the reuse compares to what it saves.
func (b *bench) work(r *Report) {
	p := b.uncached.Source
	r.StepWork = b.peaks.work(p.Stats().Sections[p.Schedules[0].Items[1].Section].Cost, r.StepMS.Median)
	r.UncachedRunWork = b.peaks.work(p.ScheduleCost(0), r.UncachedRunMS)
	r.RunWork = b.peaks.work(b.cached.Source.ScheduleCost(0), r.RunMS)
	r.Efficiency = ratio(r.Speedup, r.FLOPsRatio)
	r.Reuse = Reuse{Blocks: b.reuse.blocks, SlotBytes: b.reuse.bytes, StepMS: NewSpread(b.reuse.steps), FloorMS: NewSpread(b.reuse.floor)}
	r.Reuse.Ratio = ratio(r.Reuse.StepMS.Median, r.Reuse.FloorMS.Median)
}

// count fills in MACs and FLOPs.
func (b *bench) count(r *Report) error {
	d, err := ModelDims(b.cfg.Model, b.size, b.cfg.Guidance)
	if err != nil {
		return err
	}
	t, err := b.ran().MACs(d)
	if err != nil {
		return err
	}
	r.MACs, r.UncachedMACs, r.MACsRatio = t.Total, t.Uncached, t.Ratio
	images := int64(b.cfg.Batch)
	r.FLOPs = b.cached.Source.ScheduleCost(0).Flops / images
	r.UncachedFLOPs = b.uncached.Source.ScheduleCost(0).Flops / images
	r.FLOPsRatio = ratio(float64(r.UncachedFLOPs), float64(r.FLOPs))
	return nil
}

// components fills in the table.
func (b *bench) components(r *Report) {
	costs := stepCosts(b.uncached.Source)
	perByte := NewSpread(b.reuse.perByte)
	for cell := range b.shape.RowLen() {
		block, k := cell/schedule.ComponentsPerBlock, cell%schedule.ComponentsPerBlock
		cost := costs[[2]int{block, k}]
		t := ComponentTime{Block: block, Component: b.shape.Component(block, k).String(),
			ReuseMS: perByte.scaled(float64(b.reuse.slots[int64(cell)]))}
		if cell < len(b.full.cells) {
			t.ComputeMS = NewSpread(b.full.cells[cell])
		}
		t.Work = b.peaks.work(cost, t.ComputeMS.Median)
		r.Components = append(r.Components, t)
	}
}

// stepCosts is the work of each component in the last step of a program's first schedule.
func stepCosts(p *program.Program) map[[2]int]program.Cost {
	items := p.Schedules[0].Items
	last := items[len(items)-1].Section
	costs := map[[2]int]program.Cost{}
	for _, c := range p.Stats().Components {
		if c.Section == last && c.Block >= 0 && c.Component >= 0 {
			costs[[2]int{c.Block, c.Component}] = c.Cost
		}
	}
	return costs
}

// ratio is a/b, 0 when b is.
func ratio(a, b float64) float64 {
	if b == 0 || math.IsNaN(a) || math.IsNaN(b) {
		return 0
	}
	return a / b
}

// Encode is the report as an indented JSON document, members in a fixed order.
func (r *Report) Encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(r)
	return out.Bytes(), err
}

// maxReport bounds a report that is read; the largest model has 57 x 3 components.
const maxReport = 16 << 20

// DecodeReport reads the JSON of ecadx bench. Members that it does not know are ignored.
func DecodeReport(data []byte) (*Report, error) {
	if len(data) > maxReport {
		return nil, fmt.Errorf("a report of %d bytes: at most %d", len(data), maxReport)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("no report of ecadx bench: %w", err)
	}
	if r.Model == "" || r.StepMS.Median <= 0 || r.Steps < 1 {
		return nil, errors.New("no report of ecadx bench: model, steps or step_ms is missing")
	}
	return &r, nil
}

// shapeOf is what a report's or a table's components range over.
func shapeOf(family string, blocks []int, steps, components int) (schedule.Shape, error) {
	f, err := schedule.ParseFamily(family)
	if err != nil {
		return schedule.Shape{}, err
	}
	s := schedule.Shape{Family: f, Steps: steps}
	switch {
	case len(blocks) == 1 && f == schedule.PixArt:
		s.Blocks = blocks[0]
	case len(blocks) == 2 && f == schedule.Flux:
		s.Blocks, s.SingleBlocks = blocks[0], blocks[1]
	default:
		return s, fmt.Errorf("blocks %v of a %v model", blocks, f)
	}
	if err := s.Validate(); err != nil {
		return s, err
	}
	if components != s.RowLen() {
		return s, fmt.Errorf("%d components, %v has %d", components, s, s.RowLen())
	}
	return s, nil
}
