package dit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"ecadx/cgo"
	"ecadx/dit/program"
)

// Denoiser runs one model on one device. It keeps the programs it has compiled, so that the next batch of the same sizes starts at once.
// Safe for concurrent use; the device serialises runs. It does not own model and device, which must outlive it.
type Denoiser struct {
	CheckFinite bool // see PipelineConfig; set before use

	model *Model
	dev   *ecad.Device

	mu    sync.Mutex
	loops []*Loop // latest used last
}

// maxLoops is how many programs a Denoiser keeps.
const maxLoops = 8

// NewDenoiser opens nothing yet.
func NewDenoiser(m *Model, dev *ecad.Device) *Denoiser { return &Denoiser{model: m, dev: dev} }

// Model returns the model.
func (d *Denoiser) Model() *Model { return d.model }

// Device returns the device.
func (d *Denoiser) Device() *ecad.Device { return d.dev }

// Loop is a compiled program loaded on a device: a denoising loop or a forward call. Start runs of it; Release it when done. Safe for
// concurrent use.
type Loop struct {
	*Loaded
	model *Model
	key   string
	sizes Sizes
	rows  int // R
	users int // guarded by the Denoiser's mutex
	owner *Denoiser
}

// Loop compiles a denoising program and binds it, or finds the one of equal options made before.
func (d *Denoiser) Loop(opt DenoiseOptions) (*Loop, error) {
	rows := d.model.rows(opt.Batch, opt.Guidance)
	var key strings.Builder
	fmt.Fprintf(&key, "%+v %v %v %p", opt.Sizes, opt.Guidance, opt.KeepSlots, opt.Layout)
	if opt.Sampler != nil {
		fmt.Fprintf(&key, " %+v", opt.Sampler.Steps)
	}
	for i, s := range opt.Schedules {
		fmt.Fprintf(&key, " %v %v %q", s.Shape(), s.Hash(), slices.Concat(opt.Names, make([]string, len(opt.Schedules)))[i])
	}
	return d.loop(key.String(), opt.Sizes, rows, func() (*compiled, error) {
		return d.model.compileOnce(key.String(), func() (*program.Program, error) { return d.model.CompileDenoise(opt) })
	})
}

// Forward does the same for a forward program.
func (d *Denoiser) Forward(opt ForwardOptions) (*Loop, error) {
	key := fmt.Sprintf("forward %+v", opt)
	return d.loop(key, opt.Sizes, opt.Batch, func() (*compiled, error) {
		return d.model.compileOnce(key, func() (*program.Program, error) { return d.model.CompileForward(opt) })
	})
}

func (d *Denoiser) loop(key string, sizes Sizes, rows int, compile func() (*compiled, error)) (*Loop, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(d.loops, func(l *Loop) bool { return l.key == key }); i >= 0 {
		l := d.loops[i]
		d.loops = append(slices.Delete(d.loops, i, i+1), l)
		l.users++
		return l, nil
	}
	p, err := compile()
	if err != nil {
		return nil, err
	}
	w, err := d.model.Weights()
	if err != nil {
		return nil, err
	}
	loaded, err := w.load(d.dev, p)
	if err != nil {
		return nil, err
	}
	l := &Loop{Loaded: loaded, model: d.model, key: key, sizes: sizes, rows: rows, users: 1, owner: d}
	d.loops = append(d.loops, l)
	return l, d.evict()
}

// evict closes the loops longest unused while there are too many.
func (d *Denoiser) evict() error {
	var errs []error
	for i := 0; i < len(d.loops) && len(d.loops) > maxLoops; {
		if d.loops[i].users > 0 {
			i++
			continue
		}
		errs = append(errs, d.loops[i].Loaded.Close())
		d.loops = slices.Delete(d.loops, i, i+1)
	}
	return errors.Join(errs...)
}

// Release says that the caller starts no more runs of the loop. The Denoiser may keep it for later.
func (l *Loop) Release() {
	l.owner.mu.Lock()
	defer l.owner.mu.Unlock()
	l.users = max(l.users-1, 0)
}

// Close closes all programs; no run may be going on.
func (d *Denoiser) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, l := range d.loops {
		errs = append(errs, l.Loaded.Close())
	}
	d.loops = nil
	return errors.Join(errs...)
}

// Run is one batch on its way: a state of the device with the batch's inputs in it. One goroutine at a time.
type Run struct {
	loop  *Loop
	state *ecad.State
}

// Start makes a run of the loop with the batch's inputs.
func (l *Loop) Start(in Inputs) (*Run, error) {
	state, err := l.Program.NewState()
	if err != nil {
		return nil, err
	}
	r := &Run{loop: l, state: state}
	if err := r.write(in); err != nil {
		return nil, errors.Join(err, state.Close())
	}
	return r, nil
}

// write fills the ios.
func (r *Run) write(in Inputs) error {
	list, err := r.loop.model.IOTensors(in, r.loop.sizes, r.loop.rows > r.loop.sizes.Batch)
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.Ints != nil {
			err = ecad.Write(r.state, t.Name, t.Ints)
		} else {
			err = r.writeFloats(t.Name, t.Floats)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeFloats writes values to an io in the io's own dtype.
func (r *Run) writeFloats(name string, v []float32) error {
	return writeFloats(r.state, r.loop.Program, name, v)
}

// readFloats reads a whole io, rounding float64 to float32.
func (r *Run) readFloats(name string) ([]float32, error) {
	return readFloats(r.state, r.loop.Program, name)
}

// Do runs schedule number i of the program from prologue to last step. After a done context the run is only good for Close.
func (r *Run) Do(ctx context.Context, i int, opt ecad.RunOptions) ([]ecad.OpTime, error) {
	items, err := r.loop.Program.Schedule(i)
	if err != nil {
		return nil, err
	}
	return r.DoItems(ctx, r.loop, items, opt)
}

// DoItems runs some items of a loop whose layout is that of the run's own, such as a range of steps.
func (r *Run) DoItems(ctx context.Context, l *Loop, items []ecad.Item, opt ecad.RunOptions) ([]ecad.OpTime, error) {
	opt.CheckFinite = opt.CheckFinite || l.owner.CheckFinite
	times, err := r.state.Run(ctx, l.Program, items, opt)
	return times, explainFinite(err, opt.CheckFinite)
}

// explainFinite adds what to do to the error of a run that was checked for NaN and infinity.
func explainFinite(err error, checked bool) error {
	var lib *ecad.Error
	if checked && errors.As(err, &lib) && lib.Code == ecad.StatusDeviceError && lib.Op >= 0 {
		return fmt.Errorf("%w: look at the weights and inputs of this op; if they are finite, its dtype is too narrow: compute in float32", err)
	}
	return err
}

// Fork is a second run that goes on from where this one stands; they share memory until one writes.
func (r *Run) Fork() (*Run, error) {
	s, err := r.state.Fork()
	if err != nil {
		return nil, err
	}
	return &Run{loop: r.loop, state: s}, nil
}

// Latents reads the latents [B, Cz, Hz, Wz] as they stand.
func (r *Run) Latents() ([]float32, error) { return r.readFloats(IOLatents) }

// ReadBuffer copies a persistent buffer, by its place among those of the program, into data, which is as long: slots and modulations, for those
// who study a model.
func (r *Run) ReadBuffer(index int, data []byte) error { return r.state.ReadBuffer(index, data) }

// Output reads what a forward program predicted, [B, channels, Hz, Wz].
func (r *Run) Output() ([]float32, error) { return r.readFloats(IOOutput) }

// Close drops the run's memory.
func (r *Run) Close() error { return r.state.Close() }

// Denoise runs one batch under the first schedule of opt, whose Sizes but for DType are taken from the inputs, and returns the final
// latents [B, Cz, Hz, Wz].
func (d *Denoiser) Denoise(ctx context.Context, in Inputs, opt DenoiseOptions, run ecad.RunOptions) ([]float32, error) {
	sizes, err := in.sizes(d.model.Defaults(), d.model.Guided(opt.Guidance))
	if err != nil {
		return nil, err
	}
	sizes.DType = opt.DType
	opt.Sizes = sizes
	l, err := d.Loop(opt)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	return l.once(ctx, in, run, IOLatents)
}

// Predict runs one call of the transformer and returns all channels, [B, channels, Hz, Wz]. The Sizes of opt but for DType are taken from the inputs.
func (d *Denoiser) Predict(ctx context.Context, in Inputs, opt ForwardOptions, run ecad.RunOptions) ([]float32, error) {
	sizes, err := in.sizes(d.model.Defaults(), false)
	if err != nil {
		return nil, err
	}
	sizes.DType = opt.DType
	opt.Sizes = sizes
	l, err := d.Forward(opt)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	return l.once(ctx, in, run, IOOutput)
}

func (l *Loop) once(ctx context.Context, in Inputs, opt ecad.RunOptions, result string) ([]float32, error) {
	r, err := l.Start(in)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := r.Do(ctx, 0, opt); err != nil {
		return nil, err
	}
	return r.readFloats(result)
}

// SizesFor is what a batch needs compiled; guided says whether guidance doubles it.
func (m *Model) SizesFor(in Inputs, guided bool, dtype DType) (Sizes, error) {
	s, err := in.sizes(m.Defaults(), guided)
	s.DType = dtype
	return s, err
}

// AutoDType is what --dtype auto means on a device: bfloat16 where it multiplies that faster, else float32.
func AutoDType(dev *ecad.Device) (DType, error) {
	info, err := dev.Info()
	if err == nil && info.FastBFloat16 {
		return BFloat16, nil
	}
	return Float32, err
}
