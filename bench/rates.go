package bench

import "ecadx/dit/program"

// Bound says what the machine's peaks limit a piece of work by.
type Bound string

// The bounds: by its arithmetic at the peak of matrix products, or by its bytes at the peak of copies, whichever takes longer.
const (
	ByArithmetic Bound = "arithmetic"
	ByMemory     Bound = "memory"
)

// Rate is how fast a piece of work was. Bytes count every operand once, wherever it lies, so the GB/s of an op whose operands are in a cache can exceed
// what memory gives.
type Rate struct {
	GFLOPs float64 `json:"gflops"`   // 1e9 operations a second
	GBs    float64 `json:"gb_per_s"` // 1e9 bytes a second
	// PeakShare is the least time that the machine's peaks allow, divided by the time it took: the roofline of Williams, Waterman and
	// Patterson 2009. 0 when the peaks were not measured.
	PeakShare float64 `json:"peak_share,omitempty"`
	Bound     Bound   `json:"bound,omitempty"` // the peak that PeakShare refers to
}

// Work is a piece of work and how fast it was.
type Work struct {
	FLOPs int64 `json:"flops"`
	Bytes int64 `json:"bytes"`
	Rate
}

// rate is that of some work in so many milliseconds; peaks may be nil.
func (p *Peaks) rate(flops, bytes int64, ms float64) Rate {
	r := Rate{GFLOPs: perSecond(flops, ms), GBs: perSecond(bytes, ms)}
	if p == nil || p.Matmul <= 0 || p.Copy <= 0 {
		return r
	}
	arithmetic, memory := float64(flops)/(p.Matmul*1e6), float64(bytes)/(p.Copy*1e6) // ms
	r.PeakShare, r.Bound = ratio(arithmetic, ms), ByArithmetic
	if memory > arithmetic {
		r.PeakShare, r.Bound = ratio(memory, ms), ByMemory
	}
	return r
}

func (p *Peaks) work(c program.Cost, ms float64) Work {
	return Work{c.Flops, c.Bytes, p.rate(c.Flops, c.Bytes, ms)}
}

// Reuse is the cost model's side of a step that reuses everything.
type Reuse struct {
	Blocks    int     `json:"blocks"`     // measured with the first so many blocks, where all would not fit
	SlotBytes int64   `json:"slot_bytes"` // of their slots together
	StepMS    Spread  `json:"step_ms"`    // a step of these blocks that computes no component
	FloorMS   Spread  `json:"floor_ms"`   // reading as many slots of the same size once, to add them up
	Ratio     float64 `json:"ratio"`      // of the medians, step / floor
}
