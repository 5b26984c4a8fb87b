package bench

import (
	"strings"
	"testing"
)

func madeUpReport() *Report {
	comp := func(block int, name string, ms, reuse float64) ComponentTime {
		return ComponentTime{Block: block, Component: name, ComputeMS: Spread{ms, 0.9 * ms, 1.1 * ms}, ReuseMS: Spread{reuse, 0.9 * reuse, 1.1 * reuse}, FLOPs: 1e6, Bytes: 1e3}
	}
	r := &Report{Model: "m", Device: "cpu", DType: "float32", Resolution: Resolution{64, 64}, Batch: 2, Steps: 3, Guidance: 2.5, Schedule: "fora:2",
		StepMS: Spread{20, 19, 21}, RunMS: 50, RunSpread: Spread{50, 48, 52}, UncachedRunMS: 65, UncachedRunSpread: Spread{65, 64, 66}, PrologueMS: 4,
		OtherMS: 2, Family: "pixart", Blocks: []int{2}, Hardware: Hardware{Name: "machine", Threads: 2}}
	for block := range 2 {
		r.Components = append(r.Components, comp(block, "attn1", 3, 0.5), comp(block, "attn2", 2, 0.5), comp(block, "ff", 4, 0.5))
	}
	return r
}

func TestCompare(t *testing.T) {
	before, after := madeUpReport(), madeUpReport()
	after.Batch = 4
	after.StepMS = Spread{24, 23, 25}                                // beyond
	after.RunSpread, after.RunMS = Spread{40, 39, 41}, 40            // beyond
	after.UncachedRunSpread.Median, after.UncachedRunMS = 65.5, 65.5 // within
	once := Spread{1, 1, 1}
	before.DecodeSpread, after.DecodeSpread = &once, &Spread{9, 8, 10}
	c := CompareReports("old.json", before, after)
	if len(c.Settings) != 1 || c.Settings[0] != (Setting{"batch", "2", "4"}) {
		t.Errorf("settings %v", c.Settings)
	}
	want := map[string]Verdict{"step": Slower, "run": Faster, "uncached run": Same, "decoder": Unknown, "ff computed": Same, "attn1 reused": Same}
	for _, x := range c.Changes {
		if v, ok := want[x.Name]; ok {
			if x.Verdict != v || x.Ratio != x.After.Median/x.Before.Median {
				t.Errorf("%s: %v, ratio %v, want %v", x.Name, x.Verdict, x.Ratio, v)
			}
			delete(want, x.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not compared: %v", want)
	}
	var text strings.Builder
	if err := c.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"batch was 2, is 4", "1.200  ", "slower", "within the spread", "measured once"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("%q is not in\n%s", part, text.String())
		}
	}
}

func TestByKind(t *testing.T) {
	list := byKind(madeUpReport())
	if len(list) != 3 || list[2].name != "ff" || list[2].blocks != 2 || list[2].compute.Median != 8 || list[2].flops != 2e6 {
		t.Errorf("kinds %+v", list)
	}
}

func TestTable(t *testing.T) {
	r := madeUpReport()
	r.StepTimes = []StepTime{{0, 6, 6, 20}, {1, 0, 6, 5}}
	var text strings.Builder
	if err := r.WriteText(&text, TableOptions{Detail: true, ASCII: true, Width: 80}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"m, float32 on cpu (machine, 2 threads)", "step 20.00 ms", "40.0 %", "#1", strings.Repeat("#", 40) + "\n", " " + strings.Repeat("#", 10) + "\n", "3 steps"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("%q is not in\n%s", part, text.String())
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		share float64
		want  string
	}{{1, "████"}, {0.5, "██"}, {0.53125, "██▏"}, {0, "▏"}, {2, "████"}} {
		if got := bar(c.share, 4, false); got != c.want {
			t.Errorf("bar of %v is %q, want %q", c.share, got, c.want)
		}
	}
}
