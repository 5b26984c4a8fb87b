package ecad

/*
#include <stdlib.h>
#include "ecad.h"
*/
import "C"

import (
	"fmt"
	"sync"
)

// Backend chooses an implementation of the program's ops.
type Backend int32

// The backends; values are those of ecad.h.
const (
	Reference Backend = C.ECAD_BACKEND_REFERENCE
	CPU       Backend = C.ECAD_BACKEND_CPU
	CUDA      Backend = C.ECAD_BACKEND_CUDA
)

func (b Backend) String() string {
	switch b {
	case Reference:
		return "reference"
	case CPU:
		return "cpu"
	case CUDA:
		return "cuda"
	}
	return fmt.Sprintf("backend %d", int32(b))
}

// ISA bounds the instruction sets that the cpu backend uses; ISAAuto is all that the machine has. On a CUDA device ISAGeneric keeps to kernels
// that every device has.
type ISA int32

// The instruction set levels of ecad.h.
const (
	ISAAuto    ISA = C.ECAD_ISA_AUTO
	ISAGeneric ISA = C.ECAD_ISA_GENERIC
	ISAAVX2    ISA = C.ECAD_ISA_AVX2
	ISAAVX512  ISA = C.ECAD_ISA_AVX512
	ISAAMX     ISA = C.ECAD_ISA_AMX
)

// GEMM says who multiplies matrices on a CUDA device.
type GEMM int32

// The choices of ecad.h. GEMMAuto is libecad's own kernels; GEMMCuBLASLt is NVIDIA's library where it can express the product.
const (
	GEMMAuto     GEMM = C.ECAD_GEMM_AUTO
	GEMMECAD     GEMM = C.ECAD_GEMM_ECAD
	GEMMCuBLASLt GEMM = C.ECAD_GEMM_CUBLASLT
)

// DeviceConfig says what to open. The zero value of Threads means all cores.
type DeviceConfig struct {
	Backend Backend
	Ordinal int // CUDA device number
	Threads int // cpu: size of the device's own team
	ISA     ISA // cpu: upper bound
	GEMM    GEMM
	// NoGraphs launches every kernel of a CUDA device by itself, to measure what graphs save.
	NoGraphs bool
}

// DeviceInfo describes an open device. Memory is in bytes, as far as libecad holds it.
type DeviceInfo struct {
	Backend      Backend
	Threads      int
	FastBFloat16 bool // multiplies bfloat16 faster than float32
	MemoryTotal  uint64
	MemoryUsed   uint64
	MemoryPeak   uint64
	Name         string
	Features     string
}

// Device is a backend with its own queue. Safe for concurrent use; calls are serialised.
type Device struct {
	handle[*C.ecad_device]
}

// handle guards a library object against use after Close.
// P is a pointer to one of its opaque types.
type handle[P comparable] struct {
	mu      sync.RWMutex
	ptr     P
	release func(P)
}

// use calls f with the live pointer and keeps Close out while f runs.
func (h *handle[P]) use(f func(P) error) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var none P
	if h.ptr == none {
		return ErrClosed
	}
	return f(h.ptr)
}

// Close releases the object; what still depends on it stays alive inside the library.
func (h *handle[P]) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var none P
	if h.ptr != none {
		h.release(h.ptr)
		h.ptr = none
	}
	return nil
}

// DeviceCount returns how many devices a backend has, and why there are none.
func DeviceCount(b Backend) (n int, why string) {
	var buf [256]C.char
	n = int(C.ecad_device_count(C.int32_t(b), &buf[0], C.size_t(len(buf))))
	if n == 0 {
		why = C.GoString(&buf[0])
	}
	return n, why
}

// OpenDevice opens a device. Asking for a backend that is not there is ErrNoDevice, never another backend.
func OpenDevice(cfg DeviceConfig) (*Device, error) {
	if cfg.Threads < 0 || cfg.Threads > 4096 {
		return nil, &Error{Code: StatusInvalidArgument, Op: -1, Message: fmt.Sprintf("threads %d: use 0 (all cores) to 4096", cfg.Threads)}
	}
	c := C.ecad_device_config{
		struct_size: C.sizeof_ecad_device_config,
		backend:     C.int32_t(cfg.Backend),
		ordinal:     C.int32_t(cfg.Ordinal),
		num_threads: C.int32_t(cfg.Threads),
		isa:         C.int32_t(cfg.ISA),
		gemm:        C.int32_t(cfg.GEMM),
	}
	if cfg.NoGraphs {
		c.flags |= C.ECAD_DEVICE_NO_GRAPHS
	}
	e := newCError()
	var ptr *C.ecad_device
	if err := check(C.ecad_device_open(&c, &ptr, &e), &e); err != nil {
		return nil, err
	}
	d := &Device{}
	d.ptr = ptr
	d.release = func(p *C.ecad_device) { C.ecad_device_release(p) }
	return d, nil
}

// Info asks the device for its properties and present memory use.
func (d *Device) Info() (DeviceInfo, error) {
	var info DeviceInfo
	err := d.use(func(p *C.ecad_device) error {
		c := C.ecad_device_info{struct_size: C.sizeof_ecad_device_info}
		e := newCError()
		if err := check(C.ecad_device_query(p, &c, &e), &e); err != nil {
			return err
		}
		info = DeviceInfo{
			Backend: Backend(c.backend), Threads: int(c.num_threads), FastBFloat16: c.fast_bfloat16 != 0,
			MemoryTotal: uint64(c.memory_total), MemoryUsed: uint64(c.memory_used), MemoryPeak: uint64(c.memory_peak),
			Name: C.GoString(&c.name[0]), Features: C.GoString(&c.features[0]),
		}
		return nil
	})
	return info, err
}

// DType is an element type of ecad.h.
type DType int32

// The element types.
const (
	Float32  DType = C.ECAD_FLOAT32
	BFloat16 DType = C.ECAD_BFLOAT16
	Float16  DType = C.ECAD_FLOAT16
	Float64  DType = C.ECAD_FLOAT64
	Int32    DType = C.ECAD_INT32
	UInt8    DType = C.ECAD_UINT8
)
