package dit

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"ecadx/cgo"
	"ecadx/dit/program"
	"ecadx/dit/safetensors"
)

// Weights lends the tensors of one part to devices: one libecad object per device, shared by every program, so that each tensor is
// packed once per device. Safe for concurrent use.
type Weights struct {
	tensors *Tensors

	mu      sync.Mutex
	devices map[*ecad.Device]*ecad.Weights
}

// NewWeights takes over the caller's reference to t.
func NewWeights(t *Tensors) *Weights {
	return &Weights{tensors: t, devices: map[*ecad.Device]*ecad.Weights{}}
}

// Tensors returns the tensors on the host.
func (w *Weights) Tensors() *Tensors { return w.tensors }

// deviceDType translates the types that weights may have.
func deviceDType(d safetensors.DType) (ecad.DType, bool) {
	switch d {
	case safetensors.F32:
		return ecad.Float32, true
	case safetensors.F16:
		return ecad.Float16, true
	case safetensors.BF16:
		return ecad.BFloat16, true
	}
	return 0, false
}

// on returns the device's object, made on first use from all tensors that libecad can take. Their values need not be there yet.
func (w *Weights) on(dev *ecad.Device) (*ecad.Weights, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lent, ok := w.devices[dev]; ok {
		return lent, nil
	}
	var list []ecad.TensorDesc
	lender := &lender{tensors: w.tensors}
	for i, t := range w.tensors.list {
		if dtype, ok := deviceDType(t.DType); ok && len(t.Shape) >= 1 && len(t.Shape) <= 4 && len(t.Data) > 0 {
			list = append(list, ecad.TensorDesc{Name: t.Name, DType: dtype, Shape: t.Shape, Data: t.Data})
			lender.places = append(lender.places, i)
		}
	}
	lent, err := dev.NewWeightsOnDemand(list, lender)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.tensors.Path(), err)
	}
	w.devices[dev] = lent
	return lent, nil
}

// lender holds tensors while a device reads them: until it has packed them, or as long as its programs read them where they lie. It implements
// ecad.WeightSource.
type lender struct {
	tensors *Tensors
	places  []int // of the tensors lent
}

// Need implements ecad.WeightSource.
func (l *lender) Need(i int) error {
	l.tensors.hold(l.places[i])
	return nil
}

// Drop implements ecad.WeightSource.
func (l *lender) Drop(i int) { l.tensors.drop(l.places[i]) }

// Loaded is a program bound to a device and weights. Close it when done; it keeps the weights' memory until then.
type Loaded struct {
	*ecad.Program
	Source  *program.Program
	tensors *Tensors
	once    sync.Once
}

// Load checks that every tensor the program names is there with its shape and binds the program to the device. Errors name file and
// tensor.
func (w *Weights) Load(dev *ecad.Device, p *program.Program) (*Loaded, error) {
	data, err := p.Encode()
	if err != nil {
		return nil, err
	}
	return w.load(dev, &compiled{program: p, bytes: data})
}

func (w *Weights) load(dev *ecad.Device, c *compiled) (*Loaded, error) {
	p := c.program
	if err := w.check(p); err != nil {
		return nil, err
	}
	lent, err := w.on(dev)
	if err != nil {
		return nil, err
	}
	loaded, err := dev.LoadProgram(lent, c.bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.tensors.Path(), err)
	}
	w.tensors.retain()
	return &Loaded{Program: loaded, Source: p, tensors: w.tensors}, nil
}

// check compares the shapes of the tensors that p names.
func (w *Weights) check(p *program.Program) error {
	for i := range p.Tensors {
		v := &p.Tensors[i]
		b := &p.Buffers[v.Buffer]
		if b.Kind != program.Weight {
			continue
		}
		t, ok := w.tensors.Describe(b.Name)
		if !ok {
			return fmt.Errorf("%s: tensor %q is missing: the file is incomplete or belongs to another configuration", w.tensors.Path(), b.Name)
		}
		if want := v.Shape(); !sameShape(t.Shape, want) {
			return fmt.Errorf("%s: tensor %q has shape %v, the model needs %v: the file belongs to another configuration", w.tensors.Path(), b.Name, t.Shape, want)
		}
		if _, ok := deviceDType(t.DType); !ok {
			return fmt.Errorf("%s: tensor %q is %v: weights are F32, F16 or BF16", w.tensors.Path(), b.Name, t.DType)
		}
	}
	return nil
}

// sameShape is the rule of kernels/PROGRAM.md: equal but for dims of 1, or a stored matrix [N,K] whose rows are the K values of filters [N,..].
func sameShape(stored, want []int64) bool {
	stored, want = squeeze(stored), squeeze(want)
	if len(stored) == 2 && len(want) > 2 {
		return stored[0] == want[0] && stored[1] == elements(want[1:])
	}
	return slices.Equal(stored, want)
}

func squeeze(shape []int64) []int64 {
	return slices.DeleteFunc(slices.Clone(shape), func(d int64) bool { return d == 1 })
}

// Close releases the program and its hold on the weights.
func (l *Loaded) Close() error {
	var err error
	l.once.Do(func() { err = errors.Join(l.Program.Close(), l.tensors.Close()) })
	return err
}

// Forget releases what the weights hold on a device that is about to be closed.
func (w *Weights) Forget(dev *ecad.Device) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	lent := w.devices[dev]
	delete(w.devices, dev)
	if lent == nil {
		return nil
	}
	return lent.Close()
}

// Close releases the objects on all devices and the reference to the tensors, whose memory goes with the last loaded program.
func (w *Weights) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, lent := range w.devices {
		errs = append(errs, lent.Close())
	}
	w.devices = map[*ecad.Device]*ecad.Weights{}
	return errors.Join(append(errs, w.tensors.Close())...)
}
