package bench

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"ecadx/dit/program"
)

// madeUpReport is a report of round numbers.
func madeUpReport() *Report {
	peaks := &Peaks{DType: "bfloat16", Matmul: 2, MatmulFloat32: 1, Copy: 1.5}
	comp := func(block int, name string, ms, reuse float64) ComponentTime {
		return ComponentTime{Block: block, Component: name, ComputeMS: Spread{ms, 0.9 * ms, 1.1 * ms}, ReuseMS: Spread{reuse, 0.9 * reuse, 1.1 * reuse},
			Work: peaks.work(program.Cost{Flops: 4e6, Bytes: 1e6}, ms)}
	}
	r := &Report{Model: "m", Device: "cpu", DType: "bfloat16", Resolution: Resolution{64, 64}, Batch: 2, Steps: 3, Guidance: 2.5, Schedule: "fora:2", ScheduleHash: "x",
		StepMS: Spread{20, 19, 21}, RunMS: 50, RunSpread: Spread{50, 48, 52}, UncachedRunMS: 65, UncachedRunSpread: Spread{65, 64, 66}, PrologueMS: 4, Speedup: 1.3,
		FLOPsRatio: 1.5, MACsRatio: 1.6, Efficiency: 0.8667, OtherMS: 2, Family: "pixart", Blocks: []int{2}, TextTokens: 8, Rounds: 5, PredictedRunMS: 49,
		Hardware: Hardware{Name: "machine", Threads: 2}, Peaks: peaks, StepWork: peaks.work(program.Cost{Flops: 24e6, Bytes: 6e6}, 20),
		RunWork: peaks.work(program.Cost{Flops: 48e6, Bytes: 14e6}, 50), UncachedRunWork: peaks.work(program.Cost{Flops: 72e6, Bytes: 18e6}, 65),
		Reuse:  Reuse{Blocks: 1, SlotBytes: 3 << 20, StepMS: Spread{5, 5, 6}, FloorMS: Spread{4, 4, 5}, Ratio: 1.25},
		Memory: Memory{Weights: 8 << 20, Activations: 2 << 20, Slots: 6 << 20, Runtime: 4 << 20, Total: 20 << 20, ProcessPeak: 21 << 20}}
	for block := range 2 {
		r.Components = append(r.Components, comp(block, "attn1", 3, 0.5), comp(block, "attn2", 2, 0.5), comp(block, "ff", 4, 0.5))
	}
	r.StepTimes = []StepTime{{Step: 0, Computed: 6, Cells: 6, MS: 20}, {Step: 1, Cells: 6, MS: 5}, {Step: 2, Computed: 3, Cells: 6, MS: 12}}
	for i := range r.StepTimes {
		r.StepTimes[i].split(1.5, r.OtherMS)
	}
	return r
}

func TestCompare(t *testing.T) {
	before, after := madeUpReport(), madeUpReport()
	after.Schedule = "fora:3"
	after.StepMS = Spread{24, 23, 25}                                // beyond
	after.RunSpread, after.RunMS = Spread{40, 39, 41}, 40            // beyond
	after.UncachedRunSpread.Median, after.UncachedRunMS = 65.5, 65.5 // within
	once := Spread{1, 1, 1}
	before.DecodeSpread, after.DecodeSpread = &once, &Spread{9, 8, 10}
	c := CompareReports("old.json", before, after)
	if len(c.Settings) != 1 || c.Settings[0] != (Setting{"schedule", "fora:2", "fora:3"}) {
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
	for _, part := range []string{"schedule was fora:2, is fora:3", "1.200  ", "slower", "within the spread of both", "measured once"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("%q is not in\n%s", part, text.String())
		}
	}
}

func TestByKind(t *testing.T) {
	list := byKind(madeUpReport())
	if len(list) != 3 || list[2].name != "ff" || list[2].blocks != 2 || list[2].compute.Median != 8 || list[2].flops != 8e6 {
		t.Errorf("kinds %+v", list)
	}
}

// What people read, at the widths of a narrow and a wide terminal.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		file string
		o    TableOptions
	}{{"report-80.txt", TableOptions{ASCII: true, Width: 80}}, {"report-100.txt", TableOptions{Detail: true}}} {
		var text strings.Builder
		if err := madeUpReport().WriteText(&text, c.o); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", c.file)
		if *update {
			if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant (go test ./bench -run TestTable -update writes it)\n%s", c.file, text.String(), want)
		}
		for _, line := range strings.Split(text.String(), "\n") {
			if n := utf8.RuneCountInString(line); n > c.o.width() {
				t.Errorf("%s: a line of %d columns: %s", c.file, n, line)
			}
		}
	}
}

var update = flag.Bool("update", false, "write the golden files")

func TestColumns(t *testing.T) {
	for _, c := range []struct {
		ms   []float64
		want []int
	}{
		{[]float64{10, 0, 0, 0}, []int{10, 0, 0, 0}},
		{[]float64{2.4, 2.4, 2.4, 2.8}, []int{2, 3, 2, 3}},
		{[]float64{0.4, 0.2, 0, 0}, []int{0, 1, 0, 0}},
		{[]float64{9, 9, 0, 0}, []int{9, 1, 0, 0}}, // no more than the width
	} {
		var list []part
		for _, ms := range c.ms {
			list = append(list, part{ms: ms})
		}
		if got := columns(list, 10, 10); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.ms, got, c.want)
		}
	}
}

func TestStepParts(t *testing.T) {
	for _, c := range []struct {
		s                       StepTime
		reused                  float64
		computed, reusing, rest float64
	}{
		{StepTime{Computed: 6, Cells: 6, MS: 20}, 0, 18, 0, 2},
		{StepTime{Computed: 0, Cells: 6, MS: 5}, 9, 0, 3, 2},
		{StepTime{Computed: 3, Cells: 6, MS: 12}, 1.5, 8.5, 1.5, 2},
		{StepTime{Computed: 3, Cells: 6, MS: 3}, 4, 0, 1, 2},
		{StepTime{Computed: 3, Cells: 6, MS: 1}, 4, 0, 0, 1},
	} {
		s := c.s
		s.split(c.reused, 2)
		if s.ComputedMS != c.computed || s.ReusedMS != c.reusing || s.OtherMS != c.rest {
			t.Errorf("%+v, reused %v", s, c.reused)
		}
	}
}

func TestRates(t *testing.T) {
	p := &Peaks{Matmul: 100, Copy: 10}
	for _, c := range []struct {
		flops, bytes int64
		ms           float64
		want         Rate
	}{
		{50e6, 1e6, 1, Rate{50, 1, 0.5, ByArithmetic}},
		{10e6, 5e6, 1, Rate{10, 5, 0.5, ByMemory}},
		{0, 20e6, 1, Rate{0, 20, 2, ByMemory}}, // from a cache
		{10e6, 1e6, 0, Rate{0, 0, 0, ByArithmetic}},
	} {
		if got := p.rate(c.flops, c.bytes, c.ms); got != c.want {
			t.Errorf("%d FLOPs, %d bytes in %v ms: %+v, want %+v", c.flops, c.bytes, c.ms, got, c.want)
		}
	}
	if got := (*Peaks)(nil).rate(1e6, 1e6, 1); got != (Rate{GFLOPs: 1, GBs: 1}) {
		t.Errorf("without peaks: %+v", got)
	}
}

// The picture is well-formed XML, has a bar for every step, and stays inside its frame.
func TestSVG(t *testing.T) {
	r := madeUpReport()
	r.Model = `a<b>&"c"`
	data := r.SVG()
	d := xml.NewDecoder(bytes.NewReader(data))
	counts := map[string]int{}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			box := map[string]float64{}
			for _, a := range e.Attr {
				if a.Name.Local == "class" {
					counts[a.Value]++
				}
				box[a.Name.Local], _ = strconv.ParseFloat(a.Value, 64)
			}
			if right := box["x"] + box["width"]; right > barsWidth {
				t.Errorf("a bar ends at %v of %d", right, barsWidth)
			}
		}
	}
	// One of each in the legend; step 0 computes, step 1 only reuses, step 2 does both, all have the rest.
	if want := map[string]int{"page": 1, "computed": 3, "reused": 3, "other": 4, "saved": 3}; !maps.Equal(counts, want) {
		t.Errorf("rectangles %v, want %v", counts, want)
	}
	r.StepTimes, r.StepMS = nil, Spread{}
	if len(r.SVG()) == 0 {
		t.Error("no picture of no steps")
	}
}

func TestNiceTick(t *testing.T) {
	for least, want := range map[float64]float64{0.7: 1, 1: 1, 1.2: 2, 3: 5, 7: 10, 130: 200} {
		if got := niceTick(least); !(math.Abs(got-want) <= 1e-9*want) {
			t.Errorf("%v: %v, want %v", least, got, want)
		}
	}
}

func TestComparable(t *testing.T) {
	c := tiny(t, "none")
	r := Report{Model: "mini-pixart", Resolution: Resolution{64, 64}, Batch: 2, Blocks: []int{2}, TextTokens: 8, DType: "float32", Steps: 99}
	if err := c.Comparable(&r); err != nil {
		t.Errorf("another dtype and number of steps: %v", err)
	}
	for want, change := range map[string]func(*Report){
		"model other, now mini-pixart": func(r *Report) { r.Model = "other" },
		"resolution 128x64, now 64":    func(r *Report) { r.Resolution.Height = 128 },
		"batch 4, now 2":               func(r *Report) { r.Batch = 4 },
		"blocks [8], now [2]":          func(r *Report) { r.Blocks = []int{8} },
		"text tokens 120, now 8":       func(r *Report) { r.TextTokens = 120 },
	} {
		r := r
		change(&r)
		if err := c.Comparable(&r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
