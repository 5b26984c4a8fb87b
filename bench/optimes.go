package bench

import (
	"fmt"

	ecad "ecadx/cgo"
	"ecadx/dit/program"
	"ecadx/schedule"
)

// passes are runs taken apart by the times of their ops, in milliseconds. An op lasts until the next one begins, so what the executor does
// between ops counts with the op before.
type passes struct {
	prologues []float64
	steps     [][]float64 // per step: one sample per run
	others    []float64   // per step and run: ops of no component
	cells     [][]float64 // per block and component in genome order: one sample per step and run in which it has ops
}

// add takes one run apart. ops are the program's; items are what ran.
func (p *passes) add(items []ecad.Item, times []ecad.OpTime, ops []program.Op, shape schedule.Shape) error {
	if p.cells == nil {
		p.cells = make([][]float64, shape.RowLen())
		p.steps = make([][]float64, shape.Steps)
	}
	itemMS := make([]float64, len(items))
	other := make([]float64, len(items))
	row := make([][]float64, len(items))
	for k, t := range times {
		ns := t.DurNS
		if k+1 < len(times) {
			if times[k+1].StartNS < t.StartNS {
				return fmt.Errorf("times of ops are out of order at %d", k)
			}
			ns = times[k+1].StartNS - t.StartNS
		}
		if int(t.Item) >= len(items) || int(t.Op) >= len(ops) {
			return fmt.Errorf("time of op %d in item %d: the program has %d ops, the run %d items", t.Op, t.Item, len(ops), len(items))
		}
		ms := float64(ns) / 1e6
		itemMS[t.Item] += ms
		if op := &ops[t.Op]; op.Block < 0 || op.Component < 0 {
			other[t.Item] += ms
		} else {
			if row[t.Item] == nil {
				row[t.Item] = make([]float64, shape.RowLen())
			}
			cell := op.Block*schedule.ComponentsPerBlock + op.Component
			if cell >= shape.RowLen() {
				return fmt.Errorf("op %d belongs to block %d, component %d: the model has %d blocks", t.Op, op.Block, op.Component, shape.TotalBlocks())
			}
			row[t.Item][cell] += ms
		}
	}
	for i := range items {
		if i == 0 { // the prologue: what it does for components is done once
			p.prologues = append(p.prologues, itemMS[0])
			continue
		}
		step := int(items[i].Step)
		if step >= len(p.steps) {
			return fmt.Errorf("item %d runs step %d of %d", i, step, len(p.steps))
		}
		p.steps[step] = append(p.steps[step], itemMS[i])
		p.others = append(p.others, other[i])
		for cell := range row[i] {
			if row[i][cell] > 0 {
				p.cells[cell] = append(p.cells[cell], row[i][cell])
			}
		}
	}
	return nil
}

// allSteps are the samples of every step.
func (p *passes) allSteps() []float64 {
	var all []float64
	for _, s := range p.steps {
		all = append(all, s...)
	}
	return all
}
