package dit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"ecadx/cgo"
	"ecadx/schedule"
)

// rig is a small model on one device with a batch to run.
type rig struct {
	d     *Denoiser
	in    Inputs
	opt   DenoiseOptions
	shape schedule.Shape
}

const rigSteps = 6

func newRig(t *testing.T, dev *ecad.Device, dtype DType, images int) *rig {
	t.Helper()
	c := goldenCase{Name: "rig", Seed: 31, Latents: [2]int{4, 6}, Guidance: 3, Config: []byte(`{"_class_name":"PixArtTransformer2DModel","num_attention_heads":2,
		"attention_head_dim":36,"num_layers":2,"sample_size":16,"cross_attention_dim":72,"caption_channels":20,"use_additional_conditions":true}`)}
	for i := range 2 * images {
		c.Masks = append(c.Masks, []string{"10000", "11111", "01100", "11010"}[i%4])
	}
	return c.rig(t, dev, dtype)
}

// newFluxRig is the same for a FLUX of two blocks of each kind.
func newFluxRig(t *testing.T, dev *ecad.Device, dtype DType, images int) *rig {
	t.Helper()
	c := goldenCase{Name: "rig", Seed: 37, Latents: [2]int{4, 6}, Guidance: 3, Batch: images, Text: 5, Config: []byte(`{"_class_name":"FluxTransformer2DModel",
		"num_attention_heads":2,"attention_head_dim":32,"num_layers":2,"num_single_layers":2,"in_channels":16,"joint_attention_dim":20,"pooled_projection_dim":12,
		"guidance_embeds":true,"axes_dims_rope":[8,12,12]}`)}
	return c.rig(t, dev, dtype)
}

func (c *goldenCase) rig(t *testing.T, dev *ecad.Device, dtype DType) *rig {
	t.Helper()
	d := c.denoiser(t, dev)
	m := d.Model()
	s, err := m.Sampler(rigSteps, c.Latents[0], c.Latents[1])
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{d: d, in: c.inputs(t, m.Defaults()), shape: m.Shape(rigSteps)}
	r.opt = DenoiseOptions{Guidance: c.Guidance, Sampler: s}
	if r.opt.Sizes, err = m.SizesFor(r.in, m.Guided(c.Guidance), dtype); err != nil {
		t.Fatal(err)
	}
	return r
}

type rigMaker func(t *testing.T, dev *ecad.Device, dtype DType, images int) *rig

// rigs runs a test on every backend with a model of each family.
func rigs(t *testing.T, f func(t *testing.T, dev *ecad.Device, dtype DType, newRig rigMaker)) {
	devices(t, func(t *testing.T, dev *ecad.Device, dtype DType) {
		t.Run("pixart", func(t *testing.T) { f(t, dev, dtype, newRig) })
		t.Run("flux", func(t *testing.T) { f(t, dev, dtype, newFluxRig) })
	})
}

// loop compiles schedules together.
func (r *rig) loop(t *testing.T, change func(*DenoiseOptions), schedules ...*schedule.Schedule) *Loop {
	t.Helper()
	opt := r.opt
	opt.Schedules = schedules
	if change != nil {
		change(&opt)
	}
	l, err := r.d.Loop(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return l
}

// random schedules of all densities; those after the first share a number of rows with the one before.
func (r *rig) random(n int, seed uint64) []*schedule.Schedule {
	rng := rand.New(rand.NewPCG(seed, 1))
	var list []*schedule.Schedule
	for k := range n {
		s, _ := schedule.New(r.shape)
		from := 0
		if k > 0 {
			s = list[k-1].Clone()
			from = rng.IntN(rigSteps)
		}
		p := rng.Float64()
		for i := from * r.shape.RowLen(); i < r.shape.Cells(); i++ {
			s.SetFlat(i, schedule.Compute)
			if rng.Float64() < p {
				s.SetFlat(i, schedule.Reuse)
			}
		}
		list = append(list, s)
	}
	return list
}

// devices runs a test on every backend that is there: in builds with the emulator or on a machine with a GPU, CUDA is one of them.
func devices(t *testing.T, f func(t *testing.T, dev *ecad.Device, dtype DType)) {
	type device struct {
		backend ecad.Backend
		dtype   DType
	}
	list := []device{{ecad.Reference, Float32}, {ecad.CPU, Float32}, {ecad.CPU, BFloat16}}
	if n, _ := ecad.DeviceCount(ecad.CUDA); n > 0 {
		list = append(list, device{ecad.CUDA, Float32}, device{ecad.CUDA, BFloat16})
	}
	for _, b := range list {
		t.Run(fmt.Sprintf("%v/%v", b.backend, b.dtype), func(t *testing.T) { f(t, openDevice(t, b.backend), b.dtype) })
	}
}

// mustEqual compares bit for bit (the goldens tell whether the values are right).
func mustEqual(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: not bit-equal, relative error %.3g", what, relativeError(got, want))
	}
}

func TestAllComputeEqualsNoSchedule(t *testing.T) {
	rigs(t, func(t *testing.T, dev *ecad.Device, dtype DType, newRig rigMaker) {
		r := newRig(t, dev, dtype, 1)
		all, _ := schedule.New(r.shape)
		plain := runSchedule(t, r.loop(t, nil), r.in, 0)
		mustEqual(t, "all compute", runSchedule(t, r.loop(t, nil, all), r.in, 0), plain)
		forced := all.Clone() // reuse in step 0 has nothing to reuse
		for i := range r.shape.RowLen() {
			forced.SetFlat(i, schedule.Reuse)
		}
		mustEqual(t, "reuse at step 0", runSchedule(t, r.loop(t, nil, forced), r.in, 0), plain)
		kept := runSchedule(t, r.loop(t, func(o *DenoiseOptions) { o.KeepSlots = true }), r.in, 0)
		mustEqual(t, "all slots kept", kept, plain)
	})
}

// Whatever else is compiled into the program, and whether slots that nobody reuses are kept, a schedule's result has the same bits.
func TestSetsOfSchedulesChangeNothing(t *testing.T) {
	rigs(t, func(t *testing.T, dev *ecad.Device, dtype DType, newRig rigMaker) {
		r := newRig(t, dev, dtype, 1)
		list := r.random(8, 2)
		together := r.loop(t, nil, list...)
		var differ bool
		var first []float32
		for k, s := range list {
			want := runSchedule(t, r.loop(t, nil, s), r.in, 0)
			mustEqual(t, fmt.Sprintf("schedule %d in a set", k), runSchedule(t, together, r.in, k), want)
			kept := r.loop(t, func(o *DenoiseOptions) { o.KeepSlots = true }, s)
			mustEqual(t, fmt.Sprintf("schedule %d with all slots", k), runSchedule(t, kept, r.in, 0), want)
			differ = differ || first != nil && !slices.Equal(want, first)
			first = want
		}
		if !differ {
			t.Error("all schedules give the same result: the test sees nothing")
		}
	})
}

// A population shares the work of common first steps by forking: the result has the bits of separate runs, in either order.
func TestForksChangeNothing(t *testing.T) {
	rigs(t, func(t *testing.T, dev *ecad.Device, dtype DType, newRig rigMaker) {
		r := newRig(t, dev, dtype, 1)
		n := 6
		if info, err := dev.Info(); err != nil || info.Backend == ecad.CUDA {
			n = 2 // an emulated device takes seconds for a run
		}
		list := r.random(n, 3)
		l := r.loop(t, nil, list...)
		for k := 1; k < len(list); k++ {
			shared := 1 + list[k].Canonical().CommonSteps(list[k-1].Canonical())
			trunk, err := l.Start(r.in)
			if err != nil {
				t.Fatal(err)
			}
			do := func(run *Run, schedule, from, to int) {
				items, err := l.Program.Schedule(schedule)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := run.DoItems(context.Background(), l, items[from:min(to, len(items))], ecad.RunOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			do(trunk, k, 0, shared)
			branch, err := trunk.Fork()
			if err != nil {
				t.Fatal(err)
			}
			do(branch, k-1, shared, 1+rigSteps)
			do(trunk, k, shared, 1+rigSteps)
			for _, b := range []struct {
				run      *Run
				schedule int
			}{{branch, k - 1}, {trunk, k}} {
				got, err := b.run.Latents()
				if err != nil {
					t.Fatal(err)
				}
				mustEqual(t, fmt.Sprintf("schedules %d and %d share %d items, schedule %d", k-1, k, shared, b.schedule), got, runSchedule(t, l, r.in, b.schedule))
				b.run.Close()
			}
		}
	})
}

// Programs compiled apart with the same layout work on one state.
func TestProgramsOfOneLayout(t *testing.T) {
	rigs(t, func(t *testing.T, dev *ecad.Device, dtype DType, newRig rigMaker) {
		r := newRig(t, dev, dtype, 1)
		list := r.random(2, 4)
		keep := func(o *DenoiseOptions) { o.KeepSlots = true }
		a := r.loop(t, keep, list[0])
		b := r.loop(t, func(o *DenoiseOptions) { o.KeepSlots, o.Layout = true, a.Source }, list[1])
		shared := 1 + list[1].Canonical().CommonSteps(list[0].Canonical())
		run, err := a.Start(r.in)
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		for i, l := range []*Loop{a, b} {
			items, err := l.Program.Schedule(0)
			if err != nil {
				t.Fatal(err)
			}
			part := [][]ecad.Item{items[:shared], items[shared:]}[i]
			if _, err := run.DoItems(context.Background(), l, part, ecad.RunOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := run.Latents()
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "the second half from another program", got, runSchedule(t, b, r.in, 0))
	})
}

// The images of a batch do not see each other: permuting them permutes the result bit for bit, and on the reference backend an image of
// a batch has the bits of the image alone.
func TestBatchIsSingles(t *testing.T) {
	rigs(t, func(t *testing.T, dev *ecad.Device, dtype DType, newRig rigMaker) {
		r := newRig(t, dev, dtype, 3)
		whole := runSchedule(t, r.loop(t, nil), r.in, 0)
		n := len(r.in.Latents) / 3
		turned := r.in
		turned.Latents = append(slices.Clone(r.in.Latents[n:]), r.in.Latents[:n]...)
		turn := func(list []Prompt) []Prompt {
			if len(list) == 0 { // the model has no negative prompts
				return nil
			}
			return append(slices.Clone(list[1:]), list[0])
		}
		turned.Prompts, turned.Negative = turn(r.in.Prompts), turn(r.in.Negative)
		got := runSchedule(t, r.loop(t, nil), turned, 0)
		mustEqual(t, "images in another order", append(slices.Clone(got[2*n:]), got[:2*n]...), whole)
		single := newRig(t, dev, dtype, 1)
		for i := range 3 {
			single.in.Latents = r.in.Latents[i*n : (i+1)*n]
			single.in.Prompts = r.in.Prompts[i : i+1]
			if r.in.Negative != nil {
				single.in.Negative = r.in.Negative[i : i+1]
			}
			alone := runSchedule(t, single.loop(t, nil), single.in, 0)
			if info, err := dev.Info(); err != nil || info.Backend == ecad.Reference {
				mustEqual(t, fmt.Sprintf("image %d alone", i), alone, whole[i*n:(i+1)*n])
			} else if e := relativeError(alone, whole[i*n:(i+1)*n]); !(e <= 1e-2) {
				t.Errorf("image %d alone: relative error %.3g", i, e)
			}
		}
	})
}

// Padding of the text and a modulation table per row change nothing.
func TestPaddingAndRowConditions(t *testing.T) {
	devices(t, func(t *testing.T, dev *ecad.Device, dtype DType) {
		r := newRig(t, dev, dtype, 2)
		want := runSchedule(t, r.loop(t, nil), r.in, 0)
		info, err := dev.Info()
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*DenoiseOptions){
			"longer text":    func(o *DenoiseOptions) { o.TextTokens = 48 },
			"row conditions": func(o *DenoiseOptions) { o.RowConditions = true },
		} {
			got := runSchedule(t, r.loop(t, change), r.in, 0)
			if info.Backend == ecad.Reference {
				mustEqual(t, name, got, want)
			} else if e := relativeError(got, want); !(e <= 1e-2) {
				t.Errorf("%s: relative error %.3g", name, e)
			}
		}
	})
}

func TestCancel(t *testing.T) {
	r := newRig(t, openDevice(t, ecad.Reference), Float32, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := 0
	_, err := r.d.Denoise(ctx, r.in, r.opt, ecad.RunOptions{OnItem: func(n, of int) {
		if done = n; n == 2 {
			cancel()
		}
		if of != 1+rigSteps {
			t.Errorf("%d items, want %d", of, 1+rigSteps)
		}
	}})
	if !errors.Is(err, context.Canceled) || done >= 1+rigSteps {
		t.Errorf("error %v after %d items, want context.Canceled before the end", err, done)
	}
	if _, err := r.d.Denoise(context.Background(), r.in, r.opt, ecad.RunOptions{}); err != nil {
		t.Errorf("the next run: %v", err)
	}
}

func TestBadInputs(t *testing.T) {
	r := newRig(t, openDevice(t, ecad.Reference), Float32, 2)
	for name, change := range map[string]func(*Inputs){
		"no prompts":          func(in *Inputs) { in.Prompts = nil },
		"short latents":       func(in *Inputs) { in.Latents = in.Latents[1:] },
		"negative size":       func(in *Inputs) { in.Height = -4 },
		"odd size":            func(in *Inputs) { in.Height, in.Width = 3, 8 },
		"no negative prompts": func(in *Inputs) { in.Negative = nil },
		"three negatives":     func(in *Inputs) { in.Negative = append(slices.Clone(in.Negative), in.Negative[0]) },
		"empty prompt":        func(in *Inputs) { in.Prompts = []Prompt{{}, {}} },
		"wrong width":         func(in *Inputs) { in.Prompts = []Prompt{{Embeds: make([]float32, 7), Tokens: 1}, in.Prompts[1]} },
		"three conditions":    func(in *Inputs) { in.Conditions = make([]MicroCondition, 3) },
	} {
		in := r.in
		change(&in)
		if _, err := r.d.Denoise(context.Background(), in, r.opt, ecad.RunOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, mask := range [][]int{{0, 0}, {1, 2}, {1}} {
		if _, err := PackPrompt(make([]float32, 6), 3, mask); err == nil {
			t.Errorf("mask %v: no error", mask)
		}
	}
}
