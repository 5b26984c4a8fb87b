package ecad

/*
#include "ecad.h"
*/
import "C"

import (
	"errors"
	"sync"
	"unsafe"
)

// Program is a validated program bound to a device and weights. Immutable; safe for concurrent use.
type Program struct {
	handle[*C.ecad_program]
	weights *Weights // keeps the borrowed bytes reachable
	ios     []IO

	once     sync.Once // counts is filled when a run first asks for times
	counts   map[uint32]int
	countErr error
}

// IO is a named tensor that the caller writes or reads.
type IO struct {
	Name   string
	DType  DType
	Shape  []int64
	Bytes  uint64
	Input  bool
	Output bool
}

// Item is one section of a program run at one step index.
type Item struct{ Section, Step uint32 }

// ProgramInfo sums a program up. Sizes are in bytes.
type ProgramInfo struct {
	Ops, Sections, Schedules, Steps                       int
	ArenaBytes, PersistentBytes, SlotBytes, ConstantBytes uint64
	LayoutHash                                            [32]byte
}

// OpInfo describes one op; FLOPs and Bytes are of one execution.
type OpInfo struct {
	Opcode, Block, Component, Section int
	FLOPs, Bytes                      uint64
	Name                              string
}

// CheckProgram validates program bytes without a device.
func CheckProgram(data []byte) error {
	if len(data) == 0 {
		return &Error{Code: StatusBadProgram, Op: -1, Message: "program: empty"}
	}
	e := newCError()
	return check(C.ecad_program_check(unsafe.Pointer(&data[0]), C.size_t(len(data)), &e), &e)
}

// LoadProgram validates data (kernels/PROGRAM.md), packs the weights it names and chooses kernels. w may be nil when the program names
// no weights. data is copied as needed.
func (d *Device) LoadProgram(w *Weights, data []byte) (*Program, error) {
	if len(data) == 0 {
		return nil, &Error{Code: StatusBadProgram, Op: -1, Message: "program: empty"}
	}
	var prog *Program
	load := func(dp *C.ecad_device, wp *C.ecad_weights) error {
		e := newCError()
		var ptr *C.ecad_program
		if err := check(C.ecad_program_load(dp, wp, unsafe.Pointer(&data[0]), C.size_t(len(data)), &ptr, &e), &e); err != nil {
			return err
		}
		prog = &Program{weights: w}
		prog.ptr = ptr
		prog.release = func(p *C.ecad_program) { C.ecad_program_release(p) }
		return nil
	}
	err := d.use(func(dp *C.ecad_device) error {
		if w == nil {
			return load(dp, nil)
		}
		return w.use(func(wp *C.ecad_weights) error { return load(dp, wp) })
	})
	if err != nil {
		return nil, err
	}
	if prog.ios, err = prog.readIOs(); err != nil {
		return nil, errors.Join(err, prog.Close())
	}
	return prog, nil
}

// Info sums the program up.
func (p *Program) Info() (ProgramInfo, error) {
	var info ProgramInfo
	err := p.use(func(ptr *C.ecad_program) error {
		c := C.ecad_program_info{struct_size: C.sizeof_ecad_program_info}
		e := newCError()
		if err := check(C.ecad_program_query(ptr, &c, &e), &e); err != nil {
			return err
		}
		info = ProgramInfo{
			Ops: int(c.num_ops), Sections: int(c.num_sections), Schedules: int(c.num_schedules), Steps: int(c.num_steps),
			ArenaBytes: uint64(c.arena_bytes), PersistentBytes: uint64(c.persistent_bytes), SlotBytes: uint64(c.slot_bytes),
			ConstantBytes: uint64(c.constant_bytes),
		}
		for i := range info.LayoutHash {
			info.LayoutHash[i] = byte(c.layout_hash[i])
		}
		return nil
	})
	return info, err
}

// IOs lists the named tensors of the program.
func (p *Program) IOs() []IO { return p.ios }

// IO finds a named tensor.
func (p *Program) IO(name string) (IO, bool) {
	for _, io := range p.ios {
		if io.Name == name {
			return io, true
		}
	}
	return IO{}, false
}

func (p *Program) readIOs() ([]IO, error) {
	var list []IO
	err := p.use(func(ptr *C.ecad_program) error {
		info := C.ecad_program_info{struct_size: C.sizeof_ecad_program_info}
		e := newCError()
		if err := check(C.ecad_program_query(ptr, &info, &e), &e); err != nil {
			return err
		}
		for i := C.uint32_t(0); i < info.num_ios; i++ {
			c := C.ecad_io_info{struct_size: C.sizeof_ecad_io_info}
			if err := check(C.ecad_program_io(ptr, i, &c, &e), &e); err != nil {
				return err
			}
			io := IO{
				Name: C.GoString(&c.name[0]), DType: DType(c.dtype), Bytes: uint64(c.nbytes),
				Input: c.direction&1 != 0, Output: c.direction&2 != 0,
			}
			for j := 0; j < int(c.rank); j++ {
				io.Shape = append(io.Shape, int64(c.dims[j]))
			}
			list = append(list, io)
		}
		return nil
	})
	return list, err
}

// Op describes op i, 0 <= i < Info().Ops.
func (p *Program) Op(i int) (OpInfo, error) {
	var info OpInfo
	err := p.use(func(ptr *C.ecad_program) error {
		c := C.ecad_op_info{struct_size: C.sizeof_ecad_op_info}
		e := newCError()
		if err := check(C.ecad_program_op(ptr, C.uint32_t(i), &c, &e), &e); err != nil {
			return err
		}
		info = OpInfo{
			Opcode: int(c.opcode), Block: int(c.block), Component: int(c.component), Section: int(c.section),
			FLOPs: uint64(c.flops), Bytes: uint64(c.bytes), Name: C.GoString(&c.name[0]),
		}
		return nil
	})
	return info, err
}

// Schedule returns the items that run schedule i: the prologue, then one section per step.
func (p *Program) Schedule(i int) ([]Item, error) {
	var items []Item
	err := p.use(func(ptr *C.ecad_program) error {
		e := newCError()
		var n C.size_t
		if err := check(C.ecad_program_schedule(ptr, C.uint32_t(i), nil, 0, &n, &e), &e); err != nil {
			return err
		}
		items = make([]Item, int(n))
		if n == 0 {
			return nil
		}
		return check(C.ecad_program_schedule(ptr, C.uint32_t(i), (*C.ecad_run_item)(unsafe.Pointer(&items[0])), n, &n, &e), &e)
	})
	return items, err
}
