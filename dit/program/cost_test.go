package program_test

import (
	"testing"

	"ecadx/dit/program"
)

func TestCosts(t *testing.T) {
	p := compileTiny(t, "cccc")
	const B, N, C = 2, 4, 8
	want := map[string]program.Cost{
		"tokens": {0, 2 * B * N * C * 4},
		"qkv":    {2 * B * N * C * 3 * C, 4 * (B*N*C + 3*C*C + B*N*3*C)},
		"attn":   {4 * B * N * N * C, 4 * 4 * B * N * C},
		"out":    {2 * B * N * C * C, 4 * (B*N*C + C*C + C + B*N*C)},
		"up":     {2*B*N*C*4*C + B*N*4*C, 4 * (B*N*C + 4*C*C + B*N*4*C)},
	}
	seen := 0
	var total program.Cost
	for i, op := range p.Ops {
		cost := p.Cost(i)
		total = total.Plus(cost)
		if w, ok := want[op.Name]; ok {
			seen++
			if cost != w {
				t.Errorf("%s costs %+v, want %+v", op.Name, cost, w)
			}
		}
		if op.Code == program.OpChain && op.Component == 1 { // one gated term, layer norm, modulation
			if cost.Flops != B*N*C*(2+7+2) {
				t.Errorf("chain costs %d flops, want %d", cost.Flops, B*N*C*11)
			}
		}
	}
	if seen != 9 { // tokens and four ops in each of two blocks
		t.Errorf("checked %d ops", seen)
	}
	if got := p.ScheduleCost(0); got != total {
		t.Errorf("the schedule costs %+v, its ops %+v", got, total)
	}
	var sum program.Cost
	for _, c := range p.Stats().Components {
		sum = sum.Plus(c.Cost)
	}
	if sum != total {
		t.Errorf("components cost %+v, ops %+v", sum, total)
	}
}
