package schedule_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ecadx/schedule"
)

func show(t *testing.T, s *schedule.Schedule, o schedule.ShowOptions) string {
	t.Helper()
	var b strings.Builder
	if err := schedule.Show(&b, s, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestShowDrawsEveryCell reads the ASCII picture back.
func TestShowDrawsEveryCell(t *testing.T) {
	for _, shape := range []schedule.Shape{pixart20, flux20} {
		s := resolve(t, "random:0.5:3", shape).Schedule
		text := show(t, s, schedule.ShowOptions{Charset: schedule.ASCII, Width: 1}) // one panel below the other
		block, comp, cells := -1, 0, 0
		kind := 0
		for _, line := range strings.Split(text, "\n") {
			field := strings.Fields(line)
			if len(field) == 1 {
				if c, err := schedule.ParseComponent(field[0]); err == nil {
					comp, kind = c.Index(), map[schedule.BlockKind]int{schedule.SingleBlock: shape.Blocks}[c.Kind()]
				}
			}
			if len(field) != 2 || strings.Trim(field[1], "#.") != "" {
				continue
			}
			if _, err := fmt.Sscan(field[0], &block); err != nil {
				t.Fatal(err)
			}
			for step, glyph := range field[1] {
				if (glyph == '#') != (s.At(step, kind+block, comp) == schedule.Compute) {
					t.Fatalf("%v: step %d, block %d, component %d is drawn %c", shape, step, kind+block, comp, glyph)
				}
				cells++
			}
		}
		if cells != shape.Cells() {
			t.Errorf("%v: %d cells drawn, want %d", shape, cells, shape.Cells())
		}
	}
}

func TestShowFits(t *testing.T) {
	for _, width := range []int{40, 80, 120} {
		for _, colour := range []schedule.Colour{schedule.Plain, schedule.ANSI} {
			text := show(t, resolve(t, "fora:3", flux20).Schedule, schedule.ShowOptions{Width: width, Colour: colour})
			for _, line := range strings.Split(text, "\n")[1:] {
				plain := strings.NewReplacer("\x1b[90m", "", "\x1b[36m", "", "\x1b[0m", "").Replace(line)
				if n := len([]rune(plain)); n > width {
					t.Errorf("width %d: line of %d: %s", width, n, plain)
				}
			}
			if (colour == schedule.ANSI) != strings.Contains(text, "\x1b[") {
				t.Errorf("colour codes where %v", colour)
			}
		}
	}
}

func TestDiff(t *testing.T) {
	a, b := resolve(t, "fora:2", flux20).Schedule, resolve(t, "fora:3", flux20).Schedule
	c, err := schedule.Diff(a, b)
	if err != nil {
		t.Fatal(err)
	}
	distance, err := a.Distance(b)
	if err != nil || distance != len(c.Cells) || c.OnlyA+c.OnlyB != distance || c.Equivalent {
		t.Errorf("%d cells, distance %d, %v", len(c.Cells), distance, err)
	}
	var text strings.Builder
	if err := c.WriteText(&text); err != nil || !strings.Contains(text.String(), "step   2 single_attn      - 0-37\n") ||
		!strings.Contains(text.String(), "step   3 full_ff          + 0-18\n") {
		t.Errorf("%v\n%s", err, text.String())
	}
	out, err := json.Marshal(c.Cells[0])
	if err != nil || string(out) != `{"step":2,"block":"0","component":"full_attn","a":"compute","b":"reuse"}` {
		t.Errorf("%s, %v", out, err)
	}
	same := a.Clone()
	same.Set(0, 4, 1, schedule.Reuse)
	if c, err := schedule.Diff(a, same); err != nil || len(c.Cells) != 1 || !c.Equivalent {
		t.Errorf("reuse in step 0: %+v, %v", c, err)
	}
	if _, err := schedule.Diff(a, resolve(t, "none", pixart20).Schedule); !errors.Is(err, schedule.ErrShape) {
		t.Errorf("shapes: %v", err)
	}
}

func TestSummary(t *testing.T) {
	sum := schedule.Summarize(resolve(t, "tgate:10:3", pixart20).Schedule)
	if sum.Reused != 28*15 || sum.LongestRun != 10 || sum.FullSteps != 5 || sum.IdleSteps != 0 || sum.Dead != 0 ||
		sum.Components[0].Reused != 28*5 || sum.Components[1].ReuseShare != 0.5 || sum.StepShares[19] != 1.0/3 {
		t.Errorf("%+v", sum)
	}
	all := resolve(t, "evenly:ff:28:20", pixart20).Schedule // reuse in step 0 too
	if sum := schedule.Summarize(all); sum.Reused != 28*19 || sum.Dead != 28 || sum.LongestRun != 19 {
		t.Errorf("%+v", sum)
	}
	var text strings.Builder
	if err := sum.WriteText(&text); err != nil || !strings.Contains(text.String(), "reused 420 of 1680 cells (25.0 %)") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

func TestSCM(t *testing.T) {
	s := resolve(t, "fora:4", pixart20).Schedule
	mask, lossy, err := schedule.ExportSCM(s, 0.5)
	if err != nil || len(lossy) != 1 || !strings.Contains(mask.YAML(), "steps_computation_mask: [1, 0, 0, 0, 1, 0,") {
		t.Errorf("%v %v\n%s", err, lossy, mask.YAML())
	}
	if back, err := schedule.ImportSCM(mask.Mask, pixart20); err != nil || !back.Equal(s) {
		t.Errorf("a whole-step schedule does not survive: %v", err)
	}
	mask, lossy, err = schedule.ExportSCM(resolve(t, "tgate:10", pixart20).Schedule, 0.8)
	if err != nil || len(lossy) != 2 || !strings.Contains(lossy[1], "10-19") || !strings.Contains(lossy[1], "560 of 1680") || mask.Mask[9] != 1 || mask.Mask[10] != 0 {
		t.Errorf("%v %q %v", err, lossy, mask.Mask)
	}
	for _, bad := range [][]int{nil, {1}, make([]int, 21), append(make([]int, 19), 2)} {
		if _, err := schedule.ImportSCM(bad, pixart20); err == nil {
			t.Errorf("mask %v was taken", bad)
		}
	}
	if _, _, err := schedule.ExportSCM(s, 0); err == nil {
		t.Error("threshold 0 was taken")
	}
}

func TestSmoothCache(t *testing.T) {
	for _, shape := range []schedule.Shape{pixart20, flux20} {
		s := resolve(t, "attn-every:3", shape).Schedule
		data, lossy := schedule.ExportSmoothCache(s)
		if len(lossy) != 0 || !json.Valid(data) {
			t.Errorf("%v: %v\n%s", shape, lossy, data)
		}
		if back, err := schedule.ImportSmoothCache(data, shape); err != nil || !back.Equal(s) {
			t.Errorf("%v: does not survive: %v", shape, err)
		}
	}
	data, lossy := schedule.ExportSmoothCache(resolve(t, "evenly:ff:20:3", pixart20).Schedule)
	if len(lossy) != 1 || !strings.HasPrefix(lossy[0], "ff: at steps 5,10,15 ") || !bytes.Contains(data, []byte(`"ff": [1,1,1,1,1,0,1,1,1,1,0,`)) {
		t.Errorf("%q\n%s", lossy, data)
	}
	one := schedule.Shape{Family: schedule.PixArt, Steps: 2, Blocks: 1}
	for text, want := range map[string]string{
		`{"attn1": [1]}`:          "1 entries for the 2 steps",
		`{"attn1": [1,0,0]}`:      "more entries",
		`{"attn1": [1,2]}`:        "use at most 1",
		`{"attn1": [1,true]}`:     "want a number",
		`{"full_attn": [1,1]}`:    "no component of pixart",
		`{"x": []}`:               "no component",
		`[]`:                      "want an object",
		`{"ff":[1,0],"ff":[1,0]}`: "twice",
		`{"ff":[1,0]} 1`:          "nothing after",
	} {
		if _, err := schedule.ImportSmoothCache([]byte(text), one); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestTensor(t *testing.T) {
	for _, shape := range []schedule.Shape{pixart20, flux20, {Family: schedule.Flux, Steps: 3, SingleBlocks: 7}} {
		s := resolve(t, "random:0.4:9", shape).Schedule
		if w, err := schedule.FromWords(shape, s.Words()); err != nil || !w.Equal(s) {
			t.Errorf("%v: words: %v", shape, err)
		}
		if b, err := schedule.FromBools(shape, s.Bools()); err != nil || !b.Equal(s) {
			t.Errorf("%v: bools: %v", shape, err)
		}
		i := 0
		for cell, d := range s.All() {
			if shape.Index(cell) != i || shape.Cell(i) != cell || s.AtFlat(i) != d || !shape.Contains(cell) ||
				s.Row(cell.Step)[cell.Block*3+cell.Comp] != d {
				t.Fatalf("%v: cell %v", shape, cell)
			}
			i++
		}
		other := s.Clone()
		other.SetFlat(shape.Cells()-1, 1-s.AtFlat(shape.Cells()-1))
		if s.CommonSteps(other) != shape.Steps-1 || s.CommonSteps(s) != shape.Steps || s.Equal(other) {
			t.Errorf("%v: %d steps in common", shape, s.CommonSteps(other))
		}
		tail := s.Words()
		tail[len(tail)-1] |= 1 << 63
		if w, err := schedule.FromWords(shape, tail); shape.Cells()%64 != 0 && (err != nil || !w.Equal(s)) {
			t.Errorf("%v: unused bits count", shape)
		}
	}
	// ECAD's genome: (step*28 + block)*3 + component; FLUX 171 genes per step, singles after 57.
	if i := pixart20.Index(schedule.Cell{Step: 2, Block: 5, Comp: 1}); i != (2*28+5)*3+1 {
		t.Errorf("pixart index %d", i)
	}
	if i := flux20.Index(schedule.Cell{Step: 1, Block: 19, Comp: 2}); i != 171+57+2 || flux20.BlockName(19) != "single_0" {
		t.Errorf("flux index %d, name %s", i, flux20.BlockName(19))
	}
	if pixart20.Cells() != 1680 || flux20.Cells() != 3420 {
		t.Errorf("%d, %d cells", pixart20.Cells(), flux20.Cells())
	}
	for _, bad := range []schedule.Shape{{}, {Family: schedule.PixArt, Steps: 20}, {Family: schedule.PixArt, Blocks: 1},
		{Family: schedule.PixArt, Steps: 1, Blocks: 1, SingleBlocks: 1}, {Family: schedule.Flux, Steps: 1001, Blocks: 1},
		{Family: schedule.Flux, Steps: 1, Blocks: -1, SingleBlocks: 5}, {Family: schedule.Flux, Steps: 1, SingleBlocks: 1025}} {
		if _, err := schedule.New(bad); !errors.Is(err, schedule.ErrShape) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	h := resolve(t, "none", pixart20).Schedule.Hash()
	if parsed, err := schedule.ParseHash(h.String()); err != nil || parsed != h {
		t.Errorf("hash: %v", err)
	}
	for _, bad := range []string{"", "00", strings.Repeat("g", 64), strings.ToUpper(strings.Repeat("ab", 32))} {
		if _, err := schedule.ParseHash(bad); err == nil {
			t.Errorf("hash %q was taken", bad)
		}
	}
	if !slices.Equal(schedule.Flux.Components(), []schedule.Component{schedule.JointAttn, schedule.ImageFF, schedule.ContextFF,
		schedule.SingleAttn, schedule.SingleProjMLP, schedule.SingleProjOut}) {
		t.Error("components of flux")
	}
}
