package schedule

import (
	"strconv"
	"strings"
)

// walker reads the "schedule" member of a file whose shape is known and whose
// syntax has been checked.
type walker struct {
	scanner
	shape Shape
	// cell is called for each decision with its place in the genome and in the
	// file.
	cell func(index int, compute bool, at span)
	// function, if not nil, is called for each custom function.
	function func(CustomFunction) error
	seen     [(MaxSteps + 63) / 64]uint64 // steps; "7" and "007" are one
}

// walk reads the member; the path of errors starts at the top of the file.
func (w *walker) walk() error {
	err := w.object(func(key int) error {
		step, ok := w.stepKey(key)
		if !ok || step >= w.shape.Steps {
			return w.skip()
		}
		if w.seen[step/64]>>(step%64)&1 != 0 {
			return w.fail("step %d occurs twice, written in two ways: keep one", step)
		}
		w.seen[step/64] |= 1 << (step % 64)
		return w.step(step)
	})
	if e, ok := err.(*FormatError); ok {
		e.Path = strings.TrimSuffix("cache_schedule.schedule."+e.Path, ".")
	}
	return err
}

// stepKey reads a step's number; ECAD writes three digits and reads any number.
func (w *walker) stepKey(key int) (int, bool) {
	var scratch [32]byte
	n, err := strconv.ParseUint(string(w.text(key, scratch[:0])), 10, 31)
	return int(n), err == nil
}

// blockKey reads a block's key. Blocks are written in one way only.
func (w *walker) blockKey(key int) (int, bool) {
	var scratch [32]byte
	name := string(w.text(key, scratch[:0]))
	number, single := strings.CutPrefix(name, "single_")
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || len(number) > 1 && number[0] == '0' {
		return 0, false
	}
	if single {
		return w.shape.Blocks + int(n), int(n) < w.shape.SingleBlocks
	}
	return int(n), int(n) < w.shape.Blocks
}

func (w *walker) step(step int) error {
	return w.object(func(key int) error {
		block, ok := w.blockKey(key)
		if !ok {
			return w.skip()
		}
		return w.block(step, block)
	})
}

func (w *walker) block(step, block int) error {
	components := w.shape.Kind(block).Components()
	return w.object(func(key int) error {
		var scratch [32]byte
		name := w.text(key, scratch[:0])
		for comp, component := range components {
			if string(name) == component.String() {
				start := w.pos
				compute, err := w.boolean()
				if err != nil {
					return w.fail("want true (compute) or false (reuse), found %s", w.found())
				}
				w.cell(w.shape.Index(Cell{step, block, comp}), compute, span{start, w.pos})
				return nil
			}
		}
		if w.function != nil && (string(name) == "custom_compute_attn" || string(name) == "custom_compute_ff") {
			return w.custom(string(name))
		}
		return w.skip()
	})
}

// custom reads {"name": ..., "kwargs": {...}}; null is no function.
func (w *walker) custom(member string) error {
	if w.word() == "null" {
		return w.skip()
	}
	c := CustomFunction{Member: member}
	named := false
	err := w.object(func(key int) error {
		var scratch [32]byte
		switch string(w.text(key, scratch[:0])) {
		case "name":
			start := w.pos
			if err := w.str(); err != nil {
				return err
			}
			var long [128]byte
			c.Name, named = string(w.text(start, long[:0])), true
			return nil
		case "kwargs":
			if w.word() == "null" {
				return w.skip()
			}
			return w.object(func(key int) error {
				var err error
				if string(w.text(key, scratch[:0])) == "gate_step" {
					c.GateStep, err = w.whole(MaxSteps)
				} else {
					err = w.skip()
				}
				return err
			})
		}
		return w.skip()
	})
	if err != nil {
		return err
	}
	if !named {
		return w.fail("%s has no name: add it or leave the function out", member)
	}
	if w.function(c) != nil {
		return w.fail("more than %d different custom functions", maxCustom)
	}
	return nil
}
