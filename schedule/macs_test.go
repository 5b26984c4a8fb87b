package schedule_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"ecadx/schedule"
)

func ecadDims(t testing.TB, f schedule.Family, px int) schedule.Dims {
	t.Helper()
	d, err := schedule.ECADDims(f, px, px)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestClosedForms: the numbers in ECAD's files, to the last digit.
func TestClosedForms(t *testing.T) {
	one := ecadDims(t, schedule.PixArt, 256)
	one.BatchRows = 1
	for _, c := range []struct {
		name             string
		dims             schedule.Dims
		shape            schedule.Shape
		base, step, run  int64
		components, core [3]int64
		single           [3]int64
	}{
		{"pixart 256", ecadDims(t, schedule.PixArt, 256), pixart20, 1_498_447_872, 285_689_806_848, 5_713_796_136_960,
			[3]int64{2_717_908_992, 1_995_964_416, 5_435_817_984}, [3]int64{301_989_888, 141_557_760, 0}, [3]int64{}},
		{"pixart 256, no guidance", one, pixart20, 749_223_936, 142_844_903_424, 2_856_898_068_480,
			[3]int64{1_358_954_496, 997_982_208, 2_717_908_992}, [3]int64{150_994_944, 70_778_880, 0}, [3]int64{}},
		{"pixart 1024-MS", ecadDims(t, schedule.PixArt, 1024), pixart20, 1_924_595_712, 4_281_442_172_928, 85_628_843_458_560,
			[3]int64{43_486_543_872, 22_380_281_856, 86_973_087_744}, [3]int64{77_309_411_328, 2_264_924_160, 0}, [3]int64{}},
		{"flux 256", ecadDims(t, schedule.Flux, 256), flux20, 19_643_498_496, 9_934_575_501_312, 198_691_510_026_240,
			[3]int64{57_982_058_496, 38_654_705_664, 77_309_411_328}, [3]int64{7_247_757_312, 0, 0},
			[3]int64{43_486_543_872, 57_982_058_496, 72_477_573_120}},
		{"flux 1024", ecadDims(t, schedule.Flux, 1024), flux20, 22_663_397_376, 59_512_255_414_272, 1_190_245_108_285_440,
			[3]int64{347_892_350_976, 618_475_290_624, 77_309_411_328}, [3]int64{260_919_263_232, 0, 0},
			[3]int64{260_919_263_232, 347_892_350_976, 434_865_438_720}},
	} {
		cost, err := c.dims.MACs(c.shape)
		if err != nil {
			t.Fatal(err)
		}
		core, err := c.dims.AttentionMACs(c.shape)
		if err != nil {
			t.Fatal(err)
		}
		s, err := schedule.New(c.shape)
		if err != nil {
			t.Fatal(err)
		}
		tally, err := s.MACs(c.dims)
		if err != nil {
			t.Fatal(err)
		}
		if cost.Base != c.base || cost.Step(c.shape) != c.step || tally.Total != c.run || tally.Uncached != c.run || tally.Ratio != 1 {
			t.Errorf("%s: base %d, step %d, run %+v", c.name, cost.Base, cost.Step(c.shape), tally)
		}
		for i, component := range c.shape.Kind(0).Components() {
			if got := cost.Component(component); got != c.components[i] {
				t.Errorf("%s: %v %d, want %d", c.name, component, got, c.components[i])
			}
			if got := core.Component(component); got != c.core[i] {
				t.Errorf("%s: core of %v %d, want %d", c.name, component, got, c.core[i])
			}
		}
		if c.shape.Family == schedule.Flux {
			for i, component := range schedule.SingleBlock.Components() {
				if got := cost.Component(component); got != c.single[i] {
					t.Errorf("%s: %v %d, want %d", c.name, component, got, c.single[i])
				}
			}
			if core.Component(schedule.SingleAttn) != core.Component(schedule.JointAttn) {
				t.Errorf("%s: cores differ", c.name)
			}
		}
	}
}

// TestBaseParts: the parts of the base that ECAD's files allow to tell apart.
func TestBaseParts(t *testing.T) {
	d := ecadDims(t, schedule.PixArt, 256)
	base := func(d schedule.Dims) int64 {
		c, err := d.MACs(pixart20)
		if err != nil {
			t.Fatal(err)
		}
		return c.Base
	}
	whole := base(d)
	noCaption, micro, noOut := d, d, d
	noCaption.TextWidth = 0
	micro.MicroConditions = true
	noOut.OutChannels = 1
	if got := whole - base(noCaption); got != 1_450_967_040 {
		t.Errorf("caption projection %d", got)
	}
	if got := base(micro) - whole; got != 2*3*(256*384+384*384) {
		t.Errorf("micro-conditions %d", got)
	}
	if got := (whole - base(noOut)) / 7 * 8; got != 18_874_368 {
		t.Errorf("output %d", got)
	}
}

// withComputes makes a schedule that computes each component in exactly as many
// cells as asked; for some, one of those is a reuse in step 0.
func withComputes(t *testing.T, shape schedule.Shape, computes map[schedule.Component]int) *schedule.Schedule {
	s, err := schedule.New(shape)
	if err != nil {
		t.Fatal(err)
	}
	for cell := range s.All() {
		component := shape.Component(cell.Block, cell.Comp)
		computes[component]--
		if computes[component] < 0 || cell == (schedule.Cell{}) {
			s.Set(cell.Step, cell.Block, cell.Comp, schedule.Reuse)
		}
	}
	return s
}

// TestPublishedSchedules: totals of the schedules that ECAD's authors evolved,
// from how often each component computes.
func TestPublishedSchedules(t *testing.T) {
	for _, c := range []struct {
		name     string
		shape    schedule.Shape
		computes map[schedule.Component]int
		want     int64
	}{
		{"alpha ours_fast", pixart20, map[schedule.Component]int{
			schedule.SelfAttn: 221, schedule.CrossAttn: 160, schedule.FeedForward: 218}, 2_134_989_471_744},
		{"flux ours_fast", flux20, map[schedule.Component]int{
			schedule.JointAttn: 111, schedule.ImageFF: 107, schedule.ContextFF: 106,
			schedule.SingleAttn: 251, schedule.SingleProjMLP: 252, schedule.SingleProjOut: 253}, 63_023_156_822_016},
	} {
		tally, err := withComputes(t, c.shape, c.computes).MACs(ecadDims(t, c.shape.Family, 256))
		if err != nil || tally.Total != c.want {
			t.Errorf("%s: %d MACs (%v), want %d", c.name, tally.Total, err, c.want)
		}
	}
}

// TestPublishedHeuristics: TMACs of ECAD's baseline files, as printed.
func TestPublishedHeuristics(t *testing.T) {
	for _, c := range []struct {
		ref   string
		shape schedule.Shape
		want  string
	}{
		{"none", pixart20, "5.7138"}, {"fora:2", pixart20, "2.8719"}, {"fora:3", pixart20, "2.0193"},
		{"fora:4", pixart20, "1.4509"}, {"fora:5", pixart20, "1.1667"},
		{"tgate-avg:10:1", pixart20, "4.0059"}, {"tgate-avg:10:3", pixart20, "3.6254"}, {"tgate-avg:10:5", pixart20, "3.4732"},
		{"tgate-avg:15:1", pixart20, "4.8599"}, {"tgate-avg:15:3", pixart20, "4.1749"}, {"tgate-avg:15:5", pixart20, "4.0227"},
		{"none", flux20, "198.6915"}, {"fora:2", flux20, "99.5422"}, {"fora:3", flux20, "69.7974"},
		{"fora:4", flux20, "49.9675"}, {"fora:5", flux20, "40.0526"},
	} {
		g := resolve(t, c.ref, c.shape)
		d := ecadDims(t, c.shape.Family, 256)
		tally, err := g.Schedule.MACs(d)
		if g.TGateStep > 0 {
			tally, err = g.Schedule.TGateMACs(d, g.TGateStep)
			if last := tally.Steps[19]; last != 114_901_401_600 {
				t.Errorf("%s: a step after the gate costs %d", c.ref, last)
			}
		}
		if got := fmt.Sprintf("%.4f", float64(tally.Total)/1e12); err != nil || got != c.want {
			t.Errorf("%s: %s TMACs (%v), want %s", c.ref, got, err, c.want)
		}
		sum := tally.Base
		for _, component := range tally.Components {
			sum += component.MACs
		}
		if sum != tally.Total {
			t.Errorf("%s: parts add up to %d, total is %d", c.ref, sum, tally.Total)
		}
	}
}

func TestDimsRefused(t *testing.T) {
	good := ecadDims(t, schedule.PixArt, 256)
	for name, change := range map[string]func(*schedule.Dims){
		"no width":  func(d *schedule.Dims) { d.Width = 0 },
		"negative":  func(d *schedule.Dims) { d.TextTokens = -1 },
		"overflow":  func(d *schedule.Dims) { d.Width = 1 << 30; d.ImageTokens = 1 << 30 },
		"too large": func(d *schedule.Dims) { d.ImageTokens = math.MaxInt },
		"family":    func(d *schedule.Dims) { d.Family = schedule.Flux },
		"unknown":   func(d *schedule.Dims) { d.Family = 9 },
	} {
		d := good
		change(&d)
		if _, err := d.MACs(pixart20); !errors.Is(err, schedule.ErrDims) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, px := range []int{0, -16, 100, 1 << 20} {
		if _, err := schedule.ECADDims(schedule.PixArt, px, 256); !errors.Is(err, schedule.ErrDims) {
			t.Errorf("resolution %d: error %v", px, err)
		}
	}
	if _, err := resolve(t, "none", pixart20).Schedule.TGateMACs(good, 0); err == nil {
		t.Error("gate at step 0: no error")
	}
}
