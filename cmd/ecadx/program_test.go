package main

import (
	"strings"
	"testing"
)

func TestProgramCommand(t *testing.T) {
	at := func(args ...string) programReport {
		t.Helper()
		text, _ := command(t, exitDone, append([]string{"program", "--blocks", "2", "--steps", "4", "--dtype", "float32", "--text-tokens", "10", "--json"}, args...)...)
		return decode[programReport](t, text)
	}
	full, idle := at("--schedule", "fora:2", "--step", "0"), at("--schedule", "fora:2")
	if full.Step == nil || *full.Step != 0 || idle.Step == nil || *idle.Step != 1 {
		t.Fatalf("steps %v and %v, want 0 and the first that reuses", full.Step, idle.Step)
	}
	owned := func(r programReport) (n int) {
		for _, op := range r.Ops {
			if op.Component != "" {
				n++
			}
		}
		return n
	}
	if owned(full) < 12 || owned(idle) != 0 || idle.Flops >= full.Flops {
		t.Errorf("%d and %d ops of components, %d and %d flops", owned(full), owned(idle), full.Flops, idle.Flops)
	}
	// A reused step is one chain over all six slots.
	slots := 0
	for _, op := range idle.Ops {
		for _, in := range op.In {
			if in != nil && in.Slot {
				slots++
				if op.Op != "chain" {
					t.Errorf("%s reads a slot", op.Op)
				}
			}
		}
	}
	if slots != 6 || len(idle.Slots) != 6 || idle.Memory.Slots != 6*2*64*144*4 {
		t.Errorf("%d slots read, %d kept in %d bytes", slots, len(idle.Slots), idle.Memory.Slots)
	}
	if none := at(); none.Memory.Slots != 0 || len(none.Slots) != 0 || len(none.Demoted) < 6 {
		t.Errorf("without reuse: slots %v, demoted %v", none.Slots, none.Demoted)
	}
	// Nobody reads what the last step keeps for the next one; rows that differ have code of their own.
	if last := at("--schedule", "random:0.5:1", "--step", "3"); len(last.Removed) == 0 || last.Removed[0].Op != "copy" {
		t.Errorf("removed from the last step: %v", last.Removed)
	}
	if p := at("--prologue"); p.Step != nil || p.Sections[0].Kind != "prologue" || len(p.Sections[0].Steps) != 0 {
		t.Errorf("prologue: step %v, sections %v", p.Step, p.Sections)
	}
	people, _ := command(t, exitDone, "program", "--blocks", "1", "--steps", "3", "--schedule", "random:0.5:1", "--step", "2")
	for _, part := range []string{"program: 3 steps", "step 2", "chain", "proj_out", "removed: "} {
		if !strings.Contains(people, part) {
			t.Errorf("%q is not in\n%s", part, people)
		}
	}
	command(t, exitUsage, "program", "--step", "20")
	command(t, exitUsage, "program", "--step", "-1")
	command(t, exitBadInput, "program", "--schedule", "tgate-avg:5:2")
}
