package bench

import (
	"slices"
	"strings"
	"testing"

	ecad "ecadx/cgo"
	"ecadx/dit/program"
	"ecadx/schedule"
)

// madeUp is a program of a prologue and two kinds of step, and a run of it: times in microseconds.
func madeUp() (items []ecad.Item, times []ecad.OpTime, ops []program.Op, shape schedule.Shape) {
	shape = schedule.Shape{Family: schedule.PixArt, Steps: 2, Blocks: 1}
	ops = []program.Op{
		{Block: 0, Component: 1}, {Block: -1, Component: -1}, // prologue: keys and values of attn2, a table
		{Block: -1, Component: -1}, {Block: 0, Component: 0}, {Block: 0, Component: 0}, {Block: 0, Component: 2}, {Block: -1, Component: -1}, // step that computes attn1 and ff
		{Block: -1, Component: -1}, // step that reuses everything
	}
	items = []ecad.Item{{Section: 0}, {Section: 1, Step: 0}, {Section: 2, Step: 1}}
	for _, x := range []struct {
		item, op    uint32
		start, last uint64
	}{{0, 0, 0, 90}, {0, 1, 100, 50}, {1, 2, 150, 10}, {1, 3, 160, 20}, {1, 4, 200, 35}, {1, 5, 240, 60}, {1, 6, 300, 4}, {2, 7, 310, 40}} {
		times = append(times, ecad.OpTime{Item: x.item, Op: x.op, StartNS: x.start * 1000, DurNS: x.last * 1000})
	}
	return items, times, ops, shape
}

func TestPasses(t *testing.T) {
	items, times, ops, shape := madeUp()
	var p passes
	for range 2 {
		if err := p.add(items, times, ops, shape); err != nil {
			t.Fatal(err)
		}
	}
	twice := func(ms float64) []float64 { return []float64{ms, ms} }
	for _, c := range []struct {
		name      string
		got, want []float64
	}{
		{"prologue", p.prologues, twice(0.15)},
		{"step 0", p.steps[0], twice(0.16)},       // up to the start of step 1
		{"step 1", p.steps[1], twice(0.04)},       // its only op's own time
		{"attn1", p.cells[0], twice(0.08)},        // 160 to 240: the gap between ops belongs to the op before
		{"attn2", p.cells[1], nil},                // the prologue's work is not a step's
		{"ff", p.cells[2], twice(0.06)},           // 240 to 300
		{"others", p.others[:1], []float64{0.02}}, // 150 to 160, 300 to 310
	} {
		if !near(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if total := p.allSteps(); len(total) != 4 {
		t.Errorf("%d samples of steps, want 4", len(total))
	}
}

func near(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return x-y <= 1e-9 && y-x <= 1e-9 })
}

func TestPassesRefuse(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(items []ecad.Item, times []ecad.OpTime, ops []program.Op)
	}{
		{"out of order", func(_ []ecad.Item, times []ecad.OpTime, _ []program.Op) { times[2].StartNS = 1 }},
		{"the program has", func(_ []ecad.Item, times []ecad.OpTime, _ []program.Op) { times[1].Op = 99 }},
		{"runs step 7", func(items []ecad.Item, _ []ecad.OpTime, _ []program.Op) { items[2].Step = 7 }},
		{"belongs to block", func(_ []ecad.Item, _ []ecad.OpTime, ops []program.Op) { ops[3].Block = 5 }},
	} {
		items, times, ops, shape := madeUp()
		c.change(items, times, ops)
		var p passes
		if err := p.add(items, times, ops, shape); err == nil || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}
