package ecad

/*
#include <stdlib.h>
#include "ecad.h"
extern int32_t ecadGoNeed(void *user, uint64_t index);
extern void ecadGoDrop(void *user, uint64_t index);
extern void ecadGoReleaseSource(void *user);

static ecad_status ecad_go_weights(ecad_device *d, const ecad_tensor_desc *descs, size_t count, uintptr_t source, ecad_weights **out, ecad_error *err) {
  ecad_weights_source s = ECAD_WEIGHTS_SOURCE_INIT;
  if (source == 0) return ecad_weights_create(d, descs, count, out, err);
  s.need = ecadGoNeed;
  s.drop = ecadGoDrop;
  s.release = ecadGoReleaseSource;
  s.user = (void *)source; // made here so that Go never holds an invalid pointer
  return ecad_weights_create_on_demand(d, descs, count, &s, out, err);
}
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"unsafe"
)

// TensorDesc is one tensor of a checkpoint: row-major, dense, rank 1 to 4. Data is borrowed by the Weights made from it: it must lie outside
// the Go heap (a memory-mapped file, embedded bytes, foreign memory) and stay unchanged until the Weights are closed and
// every Program loaded with them too.
type TensorDesc struct {
	Name  string
	DType DType
	Shape []int64
	Data  []byte
}

// Weights is the set of tensors that programs find by name; packed copies are made per device when a program first needs them and
// are shared by all programs.
type Weights struct {
	handle[*C.ecad_weights]
	keep any // whoever owns the borrowed bytes
}

// WeightSource makes the bytes of tensors be there while they are read. Its methods are called on a thread of the device, with the tensor's place in
// the list that NewWeightsOnDemand was given; every Need without an error is followed by one Drop. They must not call into the device.
type WeightSource interface {
	// Need makes the bytes be there: they are about to be read. An error fails the load.
	Need(tensor int) error
	// Drop says that they are not read any more, until Need is called again.
	Drop(tensor int)
}

//export ecadGoNeed
func ecadGoNeed(user unsafe.Pointer, index C.uint64_t) C.int32_t {
	if err := cgo.Handle(uintptr(user)).Value().(WeightSource).Need(int(index)); err != nil {
		return 1
	}
	return 0
}

//export ecadGoDrop
func ecadGoDrop(user unsafe.Pointer, index C.uint64_t) {
	cgo.Handle(uintptr(user)).Value().(WeightSource).Drop(int(index))
}

//export ecadGoReleaseSource
func ecadGoReleaseSource(user unsafe.Pointer) { cgo.Handle(uintptr(user)).Delete() }

// NewWeights makes a weights object on the device. owner, if not nil, is kept reachable as long as the Weights.
func (d *Device) NewWeights(tensors []TensorDesc, owner any) (*Weights, error) {
	return d.newWeights(tensors, nil, owner)
}

// NewWeightsOnDemand does the same for tensors whose bytes are there only when source was asked for them: packed weights are not kept twice. source is
// kept as long as the library may call it.
func (d *Device) NewWeightsOnDemand(tensors []TensorDesc, source WeightSource) (*Weights, error) {
	return d.newWeights(tensors, source, source)
}

func (d *Device) newWeights(tensors []TensorDesc, source WeightSource, owner any) (*Weights, error) {
	n := len(tensors)
	size := C.size_t(max(n, 1)) * C.sizeof_ecad_tensor_desc
	descs := (*C.ecad_tensor_desc)(C.calloc(1, size)) // C memory: it holds pointers
	if descs == nil {
		return nil, &Error{Code: StatusOutOfMemory, Op: -1, Message: "tensor descriptors"}
	}
	defer C.free(unsafe.Pointer(descs))
	list := unsafe.Slice(descs, max(n, 1))
	defer func() {
		for i := range list {
			C.free(unsafe.Pointer(list[i].name))
		}
	}()
	for i, t := range tensors {
		if len(t.Shape) > 4 {
			return nil, &Error{Code: StatusBadWeights, Op: -1, Message: fmt.Sprintf("tensor %s: rank %d, at most 4 supported", t.Name, len(t.Shape))}
		}
		list[i] = C.ecad_tensor_desc{
			name: C.CString(t.Name), dtype: C.int32_t(t.DType), rank: C.int32_t(len(t.Shape)), nbytes: C.uint64_t(len(t.Data)),
			data: unsafe.Pointer(unsafe.SliceData(t.Data)),
		}
		for j, x := range t.Shape {
			list[i].dims[j] = C.int64_t(x)
		}
	}
	var w *Weights
	err := d.use(func(p *C.ecad_device) error {
		e := newCError()
		var ptr *C.ecad_weights
		var handle cgo.Handle
		if source != nil {
			handle = cgo.NewHandle(source) // the library releases it, whatever happens
		}
		if err := check(C.ecad_go_weights(p, descs, C.size_t(n), C.uintptr_t(handle), &ptr, &e), &e); err != nil {
			return err
		}
		w = newWeights(ptr, owner)
		return nil
	})
	return w, err
}

// OpenWeights maps a safetensors file.
func (d *Device) OpenWeights(path string) (*Weights, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var w *Weights
	err := d.use(func(p *C.ecad_device) error {
		e := newCError()
		var ptr *C.ecad_weights
		if err := check(C.ecad_weights_open(p, name, &ptr, &e), &e); err != nil {
			return err
		}
		w = newWeights(ptr, nil)
		return nil
	})
	return w, err
}

func newWeights(ptr *C.ecad_weights, owner any) *Weights {
	w := &Weights{keep: owner}
	w.ptr = ptr
	w.release = func(p *C.ecad_weights) { C.ecad_weights_release(p) }
	return w
}
