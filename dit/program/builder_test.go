package program_test

import (
	"slices"
	"strings"
	"testing"

	"ecadx/dit/program"
)

const f32 = program.Float32

// TestMistakes: every mistake is told with the names and shapes that one needs to mend it, and nothing panics after it.
func TestMistakes(t *testing.T) {
	none := program.Tensor{}
	tests := []struct {
		name  string
		build func(b *program.Builder)
		want  []string
	}{
		{"weight shape", func(b *program.Builder) {
			b.At(3, 1)
			b.Linear("up", program.LinearSpec{X: []program.Tensor{b.Activation(f32, 2, 8)}, W: []program.Tensor{b.Weight("w", 16, 9)}}, none)
		}, []string{`section "s"`, "block 3 component 1", `linear "up"`, "w_1 is [16,9]any: wants [16,8]"}},
		{"bias shape", func(b *program.Builder) {
			b.Linear("up", program.LinearSpec{X: []program.Tensor{b.Activation(f32, 2, 8)}, W: []program.Tensor{b.Weight("w", 16, 8)}, B: []program.Tensor{b.Weight("b", 8)}}, none)
		}, []string{"b_1 is [8]any: wants [16]"}},
		{"two shapes of a weight", func(b *program.Builder) { b.Weight("k", 2, 3); b.Weight("k", 3, 2) }, []string{`weight "k"`, "[2 3]", "[3 2]"}},
		{"name taken", func(b *program.Builder) { b.Persistent("x", f32, 1); b.Persistent("x", f32, 1) }, []string{`"x"`, "not taken"}},
		{"slice outside", func(b *program.Builder) { b.Slice(b.Activation(f32, 4), 0, 2, 5) }, []string{"[4]f32", "from 2 to 5"}},
		{"partial write", func(b *program.Builder) {
			p := b.Persistent("p", f32, 4)
			b.Unary("act", program.SiLU, b.Persistent("q", f32, 2), b.Slice(p, 0, 0, 2))
		}, []string{`writes a part of "p"`}},
		{"constant written", func(b *program.Builder) {
			b.Unary("act", program.SiLU, b.Persistent("q", f32, 1), b.Float32s("c", []float32{1}, 1))
		}, []string{`writes the constant "c"`}},
		{"aliased output", func(b *program.Builder) {
			x := b.Persistent("x", f32, 8, 8)
			b.Linear("l", program.LinearSpec{X: []program.Tensor{x}, W: []program.Tensor{b.Weight("w", 8, 8)}}, x)
		}, []string{"output 0 shares bytes with input 0"}},
		{"op outside", func(b *program.Builder) { b.End(); b.Copy("c", b.Activation(f32, 1), none); b.Begin(program.Step, "s") }, []string{"outside of a section"}},
		{"causal", func(b *program.Builder) {
			b.Attention("a", program.AttentionSpec{Q: b.Activation(f32, 1, 2, 4), K: b.Activation(f32, 1, 3, 4), V: b.Activation(f32, 1, 3, 4), Heads: 1, HeadDim: 4, Causal: true}, none)
		}, []string{"as many queries as keys"}},
		{"missing operand", func(b *program.Builder) { b.Add("sum", b.Activation(f32, 1), none, none) }, []string{`add "sum"`, "operand b is missing"}},
		{"scale alone", func(b *program.Builder) {
			b.Norm("n", program.ChainSpec{X: b.Activation(f32, 1, 2, 4), Norm: program.LayerNorm, Scale: b.Persistent("sc", f32, 1, 4)}, none)
		}, []string{"scale and shift come together"}},
		{"reshape", func(b *program.Builder) { b.Reshape(b.Activation(f32, 2, 3), 7) }, []string{"[2,3]f32", "6 elements to 7"}},
		{"view of a weight", func(b *program.Builder) { b.Reshape(b.Weight("w", 4), 2, 2) }, []string{`reshape of weight "w"`}},
		{"io of an activation", func(b *program.Builder) { b.Output("out", b.Activation(f32, 2)) }, []string{`io "out"`, "whole persistent buffer"}},
		{"bad dims", func(b *program.Builder) { b.Activation(f32, 2, 0) }, []string{"dims [2 0]"}},
		{"rank 5", func(b *program.Builder) { b.Activation(f32, 1, 1, 1, 1, 1) }, []string{"rank 1 to 4"}},
		{"read before write", func(b *program.Builder) {
			p := b.Persistent("p", f32, 2)
			b.Output("out", p)
			b.Unary("act", program.SiLU, b.Activation(f32, 2), p)
		}, []string{"before anything writes it", `section "s"`}},
		{"schedule", func(b *program.Builder) { b.Schedule("r", []program.Item{{Section: 9}}) }, []string{`schedule "r"`, "section 9"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := program.NewBuilder(2)
			b.Begin(program.Step, "s")
			test.build(b)
			b.End()
			p, err := b.Finish()
			if err == nil {
				t.Fatalf("no error, %d ops", len(p.Ops))
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

// TestMistakeIsToldOnce: what follows from a mistake is not told again.
func TestMistakeIsToldOnce(t *testing.T) {
	b := program.NewBuilder(1)
	b.Begin(program.Step, "s")
	x := b.Slice(b.Activation(f32, 4, 4), 1, 2, 9)
	for range 5 {
		x = b.Unary("act", program.SiLU, b.Reshape(x, 4, 2), program.Tensor{})
	}
	b.End()
	_, err := b.Finish()
	if err == nil || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("want one line, got %q", err)
	}
}

// slots builds one component per letter of rows; 'c' computes slot from latents, 'r' only reads it.
func slots(rows ...string) *program.Builder {
	b := program.NewBuilder(len(rows))
	x := b.Persistent("latents", f32, 1, 2, 4)
	b.InOut("latents", x)
	slot := []program.Tensor{b.Slot(0, 0, "s0", f32, 1, 2, 4), b.Slot(1, 0, "s1", f32, 1, 2, 4)}
	var items []program.Item
	for s, row := range rows {
		b.Begin(program.Step, row)
		var terms []program.Term
		for i, letter := range row {
			b.At(i, 0)
			if letter == 'c' {
				b.Unary("compute", program.SiLU, x, slot[i])
			}
			if letter != '-' {
				terms = append(terms, program.Term{S: slot[i]})
			}
		}
		b.At(-1, -1)
		b.Chain("sum", program.ChainSpec{X: x, Terms: terms}, x, program.Tensor{})
		items = append(items, program.Item{Section: b.End(), Step: s})
	}
	b.Schedule("run", items)
	return b
}

func TestSlotsThatNobodyReusesAreNotKept(t *testing.T) {
	p, err := slots("cc", "rc", "rc").Finish()
	if err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	if !slices.Equal(s.Demoted, []string{"s1"}) || len(s.Slots) != 1 || s.Slots[0].Block != 0 || s.SlotBytes != 32 {
		t.Errorf("demoted %v, slots %+v", s.Demoted, s.Slots)
	}
}

func TestReuseBeforeComputeIsAMistake(t *testing.T) {
	_, err := slots("cr", "cc").Finish()
	if err == nil || !strings.Contains(err.Error(), `item 0 (section "cr" at step 0) reads "s1" before anything writes it`) {
		t.Errorf("got %v", err)
	}
}

// TestDeadOnEveryPath: s1 computed in step 1 and not read there is dead when every schedule computes it again, and alive when one reads it.
func TestDeadOnEveryPath(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		b := program.NewBuilder(3)
		x := b.Persistent("latents", f32, 1, 2, 4)
		b.InOut("latents", x)
		slot := b.Slot(0, 0, "slot", f32, 1, 2, 4)
		sum := func() { b.Chain("sum", program.ChainSpec{X: x, Terms: []program.Term{{S: slot}}}, x, program.Tensor{}) }
		b.Begin(program.Step, "computes, reads nothing")
		b.Unary("compute", program.SiLU, x, slot)
		write := b.End()
		b.Begin(program.Step, "computes and reads")
		b.Unary("compute", program.SiLU, x, slot)
		sum()
		both := b.End()
		b.Begin(program.Step, "reads")
		sum()
		read := b.End()
		b.Schedule("a", []program.Item{{Section: write}, {Section: both, Step: 1}, {Section: read, Step: 2}})
		if reuse {
			b.Schedule("b", []program.Item{{Section: write}, {Section: read, Step: 1}})
		}
		p, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		removed := p.Stats().Removed
		if !reuse && (len(removed) != 1 || removed[0].Section != write || removed[0].Name != "compute" || removed[0].Cost.Flops != 8) {
			t.Errorf("removed %+v, want the first compute", removed)
		}
		if reuse && len(removed) != 0 {
			t.Errorf("removed %+v, but schedule b reads the slot", removed)
		}
	}
}

// TestDeadInputsOfAReusedOutput is FLUX's single block: with proj_out reused, attention and mlp of that step are dead unless read later.
func TestDeadInputsOfAReusedOutput(t *testing.T) {
	b := program.NewBuilder(2)
	x := b.Persistent("latents", f32, 1, 2, 4)
	b.InOut("latents", x)
	attn, mlp, out := b.Slot(0, 0, "attn", f32, 1, 2, 4), b.Slot(0, 1, "mlp", f32, 1, 2, 4), b.Slot(0, 2, "out", f32, 1, 2, 4)
	step := func(name string, project bool) program.SectionID {
		b.Begin(program.Step, name)
		b.Unary("attn", program.SiLU, x, attn)
		b.Unary("mlp", program.GeluTanh, x, mlp)
		if project {
			b.Linear("out", program.LinearSpec{X: []program.Tensor{attn, mlp}, W: []program.Tensor{b.Weight("w", 4, 8)}}, out)
		}
		b.Chain("sum", program.ChainSpec{X: x, Terms: []program.Term{{S: out}}}, x, program.Tensor{})
		return b.End()
	}
	b.Schedule("run", []program.Item{{Section: step("all", true)}, {Section: step("out reused", false), Step: 1}})
	p, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	if len(s.Removed) != 2 || s.Removed[0].Section != 1 || s.Removed[1].Section != 1 || !slices.Equal(s.Demoted, []string{"attn", "mlp"}) {
		t.Errorf("removed %+v, demoted %v", s.Removed, s.Demoted)
	}
}

// TestUnreadHistory: the first step's coefficient for the history is 0, so that nothing need have written it.
func TestUnreadHistory(t *testing.T) {
	for _, first := range []float64{0, 0.5} {
		b := program.NewBuilder(2)
		x, h := b.Persistent("latents", f32, 2), b.Persistent("history", f32, 2)
		b.InOut("latents", x)
		coef := b.Float64s("coef", []float64{1, first, 1, -1}, 2, 2)
		b.Begin(program.Step, "step")
		y := b.Unary("model", program.SiLU, x, program.Tensor{})
		b.Lincomb("sampler", []program.Tensor{x, h}, b.Step(coef), nil, x)
		b.Copy("history", y, h)
		id := b.End()
		b.Schedule("run", []program.Item{{Section: id}, {Section: id, Step: 1}})
		p, err := b.Finish()
		if (err == nil) != (first == 0) {
			t.Errorf("coefficient %v: error %v", first, err)
		}
		if err == nil && len(p.Ops) != 3 {
			t.Errorf("%d ops, want 3", len(p.Ops))
		}
	}
}

func TestLayouts(t *testing.T) {
	finish := func(b *program.Builder, prepare ...func(*program.Builder)) *program.Program {
		t.Helper()
		for _, f := range prepare {
			f(b)
		}
		p, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := finish(slots("cc", "rr")), finish(slots("cc", "rc"))
	if a.LayoutHash == b.LayoutHash {
		t.Error("programs that keep different slots share a layout")
	}
	keep := func(b *program.Builder) { b.KeepAllSlots(); b.ReserveArena(1000) }
	c, d := finish(slots("cc", "rr"), keep), finish(slots("cc", "cc"), keep)
	if c.LayoutHash != d.LayoutHash || c.ArenaBytes != 1024 {
		t.Errorf("kept slots and a reserved arena (%d bytes) do not make one layout", c.ArenaBytes)
	}
	e := finish(slots("cc", "cc"), func(b *program.Builder) { b.MatchLayout(a) })
	if e.LayoutHash != a.LayoutHash {
		t.Error("MatchLayout gave another layout")
	}
	m := slots("cc", "rr")
	m.MatchLayout(b) // keeps s0 alone and has no room for s1 elsewhere
	if _, err := m.Finish(); err == nil || !strings.Contains(err.Error(), "s1") {
		t.Errorf("matching a layout without s1: %v", err)
	}
}
