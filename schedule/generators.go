package schedule

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"strconv"
)

var (
	bothFamilies = []Family{PixArt, Flux}
	pixartOnly   = []Family{PixArt}
)

// period is the parameter of the every-n heuristics.
var period = Param{Name: "N", Kind: IntParam, Min: 1, Max: MaxSteps, Doc: "compute at every N-th step, from step 0 on"}

// periodParams are the parameters of periods.
var periodParams = []Param{
	{Name: "A", Kind: IntParam, Min: 1, Max: MaxSteps, Doc: "self-attention computes at every A-th step"},
	{Name: "C", Kind: IntParam, Min: 1, Max: MaxSteps, Doc: "cross-attention computes at every C-th step"},
	{Name: "F", Kind: IntParam, Min: 1, Max: MaxSteps, Doc: "the feed-forward computes at every F-th step"},
	{Name: "PHASE", Kind: IntParam, Min: 0, Max: MaxSteps, Default: "0", Doc: "a step at which all three compute; the last one keeps details sharp"},
}

// tgateParams are the parameters of both T-GATE heuristics. With a gate at step
// 0 cross-attention would be read before it was ever computed, so M starts at 1.
var tgateParams = []Param{
	{Name: "M", Kind: IntParam, Min: 1, Max: MaxSteps, Doc: "gate step: cross-attention is reused from here on"},
	{Name: "SP", Kind: IntParam, Min: 1, Max: MaxSteps, Default: "1", Doc: "before the gate self-attention computes every SP-th step"},
	{Name: "FI", Kind: IntParam, Min: 1, Max: MaxSteps, Default: "1", Doc: "from the gate on self-attention computes every FI-th step"},
	{Name: "W", Kind: IntParam, Min: 0, Max: MaxSteps, Default: "2", Doc: "warm-up: self-attention computes in the first W steps"},
}

// spacedParams are the parameters of the evenly and middle heuristics.
func spacedParams(choices ...string) []Param {
	return []Param{
		{Name: "COMPONENT", Kind: ComponentParam, Choices: choices, Doc: "which component is reused"},
		{Name: "M", Kind: IntParam, Min: 1, Max: 2 * MaxBlocks, Doc: "number of blocks in which it is reused"},
		{Name: "K", Kind: IntParam, Min: 1, Max: MaxSteps, Doc: "number of steps, evenly spread, at which it is reused"},
	}
}

// heuristics is the registry. The rules are those of ECAD's generators
// (ecad/schedulers/cache_scheduler/generators in AniAggarwal/ecad); random is
// ours.
var heuristics = []Heuristic{
	{Name: "none", Families: bothFamilies, Example: "none",
		Doc: "compute everything", build: buildNone},
	{Name: "fora", Families: bothFamilies, Params: []Param{period}, Example: "fora:3",
		Doc: "FORA: compute every component at every N-th step, reuse in between", build: buildFORA},
	{Name: "attn-every", Families: bothFamilies, Params: []Param{period}, Example: "attn-every:2",
		Doc: "compute the attentions at every N-th step, all else always", build: buildAttnEvery},
	{Name: "periods", Families: pixartOnly, Params: periodParams, Example: "periods:2:4:2",
		Doc: "FORA with a period of its own for each component: cross-attention changes least and can wait longest", build: buildPeriods},
	{Name: "evenly", Families: bothFamilies, Example: "evenly:ff:17:9",
		Params: spacedParams("attn1", "attn2", "ff", "attn"),
		Doc: "reuse one component in M evenly spread blocks at K evenly spread steps; PixArt: attn1, attn2 or ff; " +
			"FLUX: attn (both kinds of block) or ff (everything but the attentions)", build: buildEvenly},
	{Name: "middle", Families: pixartOnly, Example: "middle:attn1:14:7",
		Params: spacedParams("attn1", "attn2", "ff"),
		Doc:    "reuse one component in the M middle blocks at K evenly spread steps", build: buildMiddle},
	{Name: "tgate", Families: pixartOnly, Params: tgateParams, Example: "tgate:10:3",
		Doc:   "T-GATE without averaging: reuse cross-attention from step M on, self-attention in between",
		build: func(g *Generated, a []argument) error { return buildTGate(g, a, false) }},
	{Name: "tgate-avg", Families: pixartOnly, Params: tgateParams, Example: "tgate-avg:10:3",
		Doc: "T-GATE with its custom cross-attention function (mean of both guidance halves, no guidance after the gate): " +
			"to write and count files; runs only where that function is implemented",
		build: func(g *Generated, a []argument) error { return buildTGate(g, a, true) }},
	{Name: "random", Families: bothFamilies, Example: "random:0.5:7",
		Params: []Param{
			{Name: "P", Kind: FractionParam, Doc: "share of the cells after step 0 that are reused; the number is rounded, halves up"},
			{Name: "SEED", Kind: SeedParam, Default: "0", Doc: "seed; with one seed a larger P adds cells to those of a smaller"},
		},
		Doc: "reuse exactly round(P x cells after step 0), chosen at random", build: buildRandom},
}

func buildNone(g *Generated, _ []argument) error {
	g.Name = "default"
	return nil
}

// reuseWhere reuses every cell for which pick says so.
func (s *Schedule) reuseWhere(pick func(step, block int, c Component) bool) {
	for cell := range s.All() {
		if pick(cell.Step, cell.Block, s.shape.Component(cell.Block, cell.Comp)) {
			s.Set(cell.Step, cell.Block, cell.Comp, Reuse)
		}
	}
}

// everyAttributes are those of ECAD's every-n generators, which count the
// computed steps as affected.
func everyAttributes(s *Schedule, n int) []Attribute {
	attrs := affected(s)
	attrs[0].Value = (s.shape.Steps + n - 1) / n
	return attrs
}

func buildFORA(g *Generated, a []argument) error {
	n := a[0].num
	g.Schedule.reuseWhere(func(step, _ int, _ Component) bool { return step%n != 0 })
	g.Name = fmt.Sprintf("recompute_all_every_%03d", n)
	g.Attributes = everyAttributes(g.Schedule, n)
	return nil
}

// isAttention reports whether the component is an attention.
func isAttention(c Component) bool {
	return c == SelfAttn || c == CrossAttn || c == JointAttn || c == SingleAttn
}

func buildAttnEvery(g *Generated, a []argument) error {
	n := a[0].num
	g.Schedule.reuseWhere(func(step, _ int, c Component) bool { return step%n != 0 && isAttention(c) })
	g.Name = fmt.Sprintf("recompute_ca_sa_every_%03d", n)
	if g.Schedule.shape.Family == Flux {
		g.Name = fmt.Sprintf("recompute_attn_every_%03d", n)
	}
	g.Attributes = everyAttributes(g.Schedule, n)
	return nil
}

func buildPeriods(g *Generated, a []argument) error {
	shape, phase := g.Schedule.shape, a[3].num
	if phase >= shape.Steps {
		return fmt.Errorf("PHASE: step %d of %d: use 0 to %d", phase, shape.Steps, shape.Steps-1)
	}
	period := map[Component]int{SelfAttn: a[0].num, CrossAttn: a[1].num, FeedForward: a[2].num}
	g.Schedule.reuseWhere(func(step, _ int, c Component) bool { return step > 0 && (step-phase)%period[c] != 0 })
	g.Name = fmt.Sprintf("periods_sa_%03d_ca_%03d_ff_%03d_phase_%03d", a[0].num, a[1].num, a[2].num, phase)
	g.Attributes = affected(g.Schedule)
	return nil
}

// evenSteps marks k evenly spread steps of n: ceil(i*(n+1)/(k+1) - 1) for
// i = 1..k, in exact arithmetic.
func evenSteps(n, k int) []bool {
	marked := make([]bool, n)
	for i := 1; i <= k; i++ {
		marked[(i*(n+1)+k)/(k+1)-1] = true
	}
	return marked
}

// evenBlocks marks m evenly spread blocks of n: i*(n-1)/(m-1) for i = 0..m-1,
// rounded half to even as Python's round does. For n = 28 that differs from
// rounding halves up at m = 7, 13, 19 and 25.
func evenBlocks(n, m int) []bool {
	marked := make([]bool, n)
	marked[0] = true
	for i := 1; i < m; i++ {
		q, r := i*(n-1)/(m-1), i*(n-1)%(m-1)
		if 2*r > m-1 || 2*r == m-1 && q%2 == 1 {
			q++
		}
		marked[q] = true
	}
	return marked
}

// middleBlocks marks the m blocks around n/2.
func middleBlocks(n, m int) []bool {
	marked := make([]bool, n)
	last := n/2 + m/2
	if m%2 == 0 {
		last--
	}
	for i := n/2 - m/2; i <= last; i++ {
		marked[i] = true
	}
	return marked
}

func buildEvenly(g *Generated, a []argument) error { return buildSpaced(g, a, "evenly", evenBlocks) }
func buildMiddle(g *Generated, a []argument) error { return buildSpaced(g, a, "middle", middleBlocks) }

// buildSpaced reuses some components in chosen blocks at evenly spread steps.
// ECAD's files of the FLUX attention set carry the name prefix of the
// feed-forward set, by mistake; the name here says what it is.
func buildSpaced(g *Generated, a []argument, where string, choose func(n, m int) []bool) error {
	shape := g.Schedule.shape
	component, m, k := a[0].text, a[1].num, a[2].num
	kinds := map[string]struct {
		name string
		has  func(Component) bool
	}{
		"attn1": {"sa", func(c Component) bool { return c == SelfAttn }},
		"attn2": {"ca", func(c Component) bool { return c == CrossAttn }},
		"ff":    {"ff", func(c Component) bool { return c == FeedForward }},
	}
	choices := "attn1, attn2 or ff"
	if shape.Family == Flux {
		kinds = map[string]struct {
			name string
			has  func(Component) bool
		}{
			"attn": {"single_full_attn", isAttention},
			"ff":   {"mlp_ff", func(c Component) bool { return !isAttention(c) }},
		}
		choices = "attn or ff"
	}
	kind, ok := kinds[component]
	switch {
	case !ok:
		return fmt.Errorf("COMPONENT: %v has no %s: use %s", shape.Family, component, choices)
	case m > shape.TotalBlocks():
		return fmt.Errorf("M: %d blocks, the model has %d", m, shape.TotalBlocks())
	case k > shape.Steps:
		return fmt.Errorf("K: %d steps, the run has %d", k, shape.Steps)
	}
	steps, blocks := evenSteps(shape.Steps, k), choose(shape.TotalBlocks(), m)
	g.Schedule.reuseWhere(func(step, block int, c Component) bool { return steps[step] && blocks[block] && kind.has(c) })
	g.Name = fmt.Sprintf("%s_cache_%s_evenly_spaced_affected_%03d_affected_steps_%03d", where, kind.name, m, k)
	g.Attributes = affected(g.Schedule)
	return nil
}

// buildTGate follows T-GATE's bits: before the gate step m self-attention
// computes in the warm-up and at every sp-th step; from m on cross-attention is
// never computed and self-attention every fi-th step.
func buildTGate(g *Generated, a []argument, average bool) error {
	m, sp, fi, w := a[0].num, a[1].num, a[2].num, a[3].num
	g.Schedule.reuseWhere(func(step, _ int, c Component) bool {
		switch c {
		case SelfAttn:
			if step < m {
				return step >= w && step%sp != 0
			}
			return step%fi != 0
		case CrossAttn:
			return step >= m
		}
		return false
	})
	prefix := "tgate_without_ca_avg"
	if average {
		prefix = "tgate"
		g.TGateStep = m
	}
	g.Name = fmt.Sprintf("%s_m_%03d_sp_%03d_fi_%03d_warmup_%03d", prefix, m, sp, fi, w)
	g.Attributes = affected(g.Schedule)
	return nil
}

// buildRandom reuses cells chosen by the first steps of a Fisher-Yates shuffle
// of the cells after step 0. The draws come from math/rand/v2's PCG, its two
// seed words the first 16 bytes (little-endian) of the SHA-256 of
// "ecadx random schedule SEED"; a draw below n is the high word of Uint64 x n.
func buildRandom(g *Generated, a []argument) error {
	s := g.Schedule
	first := s.shape.RowLen()
	cells := make([]int32, s.shape.LiveCells())
	for i := range cells {
		cells[i] = int32(first + i)
	}
	key := sha256.Sum256([]byte("ecadx random schedule " + strconv.FormatUint(a[1].seed, 10)))
	pcg := rand.NewPCG(binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:16]))
	reused := int(math.Round(a[0].fraction * float64(len(cells))))
	for i := range reused {
		below, _ := bits.Mul64(pcg.Uint64(), uint64(len(cells)-i))
		j := i + int(below)
		cells[i], cells[j] = cells[j], cells[i]
		s.SetFlat(int(cells[i]), Reuse)
	}
	g.Name = fmt.Sprintf("random_p_%s_seed_%s", a[0].text, a[1].text)
	g.Attributes = affected(s)
	return nil
}
