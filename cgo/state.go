package ecad

/*
#include <stdlib.h>
#include "ecad.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// State is a table of references to persistent buffers: latents, sampler history, prologue results, cache slots. It fits every program of the
// same layout on the same device. One goroutine at a time.
type State struct {
	handle[*C.ecad_state]
}

func newState(ptr *C.ecad_state) *State {
	s := &State{}
	s.ptr = ptr
	s.release = func(p *C.ecad_state) { C.ecad_state_release(p) }
	return s
}

// NewState makes an empty state for the program's layout.
func (p *Program) NewState() (*State, error) {
	var s *State
	err := p.use(func(ptr *C.ecad_program) error {
		e := newCError()
		var out *C.ecad_state
		if err := check(C.ecad_state_create(ptr, &out, &e), &e); err != nil {
			return err
		}
		s = newState(out)
		return nil
	})
	return s, err
}

// Fork copies the table, not the data. A buffer that both sides share is replaced when one side writes it.
func (s *State) Fork() (*State, error) {
	var f *State
	err := s.use(func(ptr *C.ecad_state) error {
		e := newCError()
		var out *C.ecad_state
		if err := check(C.ecad_state_fork(ptr, &out, &e), &e); err != nil {
			return err
		}
		f = newState(out)
		return nil
	})
	return f, err
}

// Reset drops every buffer of the state.
func (s *State) Reset() error {
	return s.use(func(ptr *C.ecad_state) error {
		e := newCError()
		return check(C.ecad_state_reset(ptr, &e), &e)
	})
}

// Element is a Go type that a named tensor can be copied from or to, matching its dtype by size.
type Element interface {
	~float32 | ~float64 | ~int32 | ~uint16 | ~uint8
}

// Write copies data into the named tensor; its size must be that of the tensor.
func Write[T Element](s *State, name string, data []T) error {
	return s.transfer(name, unsafe.Pointer(unsafe.SliceData(data)), byteLen(data), true)
}

// Read copies the named tensor into data; its size must be that of the tensor.
func Read[T Element](s *State, name string, data []T) error {
	return s.transfer(name, unsafe.Pointer(unsafe.SliceData(data)), byteLen(data), false)
}

func byteLen[T Element](data []T) uint64 {
	var zero T
	return uint64(len(data)) * uint64(unsafe.Sizeof(zero))
}

func (s *State) transfer(name string, data unsafe.Pointer, n uint64, write bool) error {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	return s.use(func(ptr *C.ecad_state) error {
		e := newCError()
		if write {
			return check(C.ecad_state_write(ptr, cname, data, C.uint64_t(n), &e), &e)
		}
		return check(C.ecad_state_read(ptr, cname, data, C.uint64_t(n), &e), &e)
	})
}

// ReadBuffer copies persistent buffer index (its position among the program's persistent buffers) into data. For tests
// and tools.
func (s *State) ReadBuffer(index int, data []byte) error {
	if index < 0 || len(data) == 0 {
		return fmt.Errorf("ecad: read buffer %d into %d bytes: index must not be negative, data not empty", index, len(data))
	}
	return s.use(func(ptr *C.ecad_state) error {
		e := newCError()
		return check(C.ecad_state_read_buffer(ptr, C.uint32_t(index), unsafe.Pointer(&data[0]), C.uint64_t(len(data)), &e), &e)
	})
}
