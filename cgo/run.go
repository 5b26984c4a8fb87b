package ecad

/*
#include <stdlib.h>
#include "ecad.h"
extern int32_t ecadGoOnItem(void *user, uint32_t done, uint32_t of);

// The handle travels as an integer in a pointer; made here so that Go never holds an invalid pointer.
static void *ecad_go_user(uintptr_t handle) { return (void *)handle; }
*/
import "C"

import (
	"context"
	"errors"
	"runtime/cgo"
	"unsafe"
)

// RunOptions modify a run; the zero value is fine.
type RunOptions struct {
	// OnItem is called after each item, on a thread of the device; it must return quickly and must not call into the same
	// device.
	OnItem func(done, of int)
	// Times asks for the time of every op. It costs two clock readings per op.
	Times bool
	// CheckFinite stops at the first NaN or infinity and names the op. It reads every output once more.
	CheckFinite bool
}

// OpTime is the duration of one op of a run, in nanoseconds since the run began.
type OpTime struct {
	Item, Op       uint32
	StartNS, DurNS uint64
}

// onItem is what the callback is given.
type onItem struct {
	ctx  context.Context
	call func(done, of int)
}

// A context that is done by now cancels at once, without waiting for the goroutine that watches it to get its turn.
//
//export ecadGoOnItem
func ecadGoOnItem(user unsafe.Pointer, done, of C.uint32_t) C.int32_t {
	o := cgo.Handle(uintptr(user)).Value().(onItem)
	o.call(int(done), int(of))
	if done < of && o.ctx.Err() != nil {
		return 1
	}
	return 0
}

// Run executes items in order on the state and returns when they are done. A done context stops the run after the current op and
// returns the context's error; the state is then good for Reset, Write or Close only. Times are returned when asked for.
func (s *State) Run(ctx context.Context, p *Program, items []Item, opt RunOptions) ([]OpTime, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, nil
	}
	args := (*C.ecad_run_args)(C.calloc(1, C.sizeof_ecad_run_args)) // C memory: it holds pointers
	if args == nil {
		return nil, &Error{Code: StatusOutOfMemory, Op: -1, Message: "run arguments"}
	}
	defer C.free(unsafe.Pointer(args))
	args.struct_size = C.sizeof_ecad_run_args
	if opt.CheckFinite {
		args.flags |= C.ECAD_RUN_CHECK_FINITE
	}
	if opt.OnItem != nil {
		h := cgo.NewHandle(onItem{ctx, opt.OnItem})
		defer h.Delete()
		args.on_item = (*[0]byte)(C.ecadGoOnItem)
		args.user = C.ecad_go_user(C.uintptr_t(h))
	}
	stop, err := watch(ctx, args)
	if err != nil {
		return nil, err
	}
	defer stop()
	var capacity int
	if opt.Times {
		if capacity, err = p.opCount(items); err != nil {
			return nil, err
		}
		args.times = (*C.ecad_op_time)(C.calloc(C.size_t(max(capacity, 1)), C.sizeof_ecad_op_time))
		if args.times == nil {
			return nil, &Error{Code: StatusOutOfMemory, Op: -1, Message: "op times"}
		}
		defer C.free(unsafe.Pointer(args.times))
		args.times_cap = C.uint64_t(capacity)
	}
	err = s.use(func(sp *C.ecad_state) error {
		return p.use(func(pp *C.ecad_program) error {
			e := newCError()
			return check(C.ecad_run(sp, pp, (*C.ecad_run_item)(unsafe.Pointer(&items[0])), C.size_t(len(items)), args, &e), &e)
		})
	})
	if errors.Is(err, ErrCancelled) && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil || !opt.Times {
		return nil, err
	}
	n := min(int(args.times_len), capacity)
	times := make([]OpTime, n)
	for i, t := range unsafe.Slice(args.times, n) {
		times[i] = OpTime{Item: uint32(t.item), Op: uint32(t.op), StartNS: uint64(t.start_ns), DurNS: uint64(t.dur_ns)}
	}
	return times, nil
}

// watch lets the context cancel the run; stop must be called when the run is over.
func watch(ctx context.Context, args *C.ecad_run_args) (stop func(), err error) {
	if ctx.Done() == nil {
		return func() {}, nil
	}
	cancel := C.ecad_cancel_create()
	if cancel == nil {
		return nil, &Error{Code: StatusOutOfMemory, Op: -1, Message: "cancel handle"}
	}
	args.cancel = cancel
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-ctx.Done():
			C.ecad_cancel_trigger(cancel)
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-gone
		C.ecad_cancel_release(cancel)
	}, nil
}

// opCount is the number of ops that items run, for the times array.
func (p *Program) opCount(items []Item) (int, error) {
	counts, err := p.sectionOps()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, it := range items {
		n += counts[it.Section] // an unknown section counts 0 and is refused by the library
	}
	return n, nil
}

// sectionOps counts the ops of each section, once.
func (p *Program) sectionOps() (map[uint32]int, error) {
	p.once.Do(func() {
		info, err := p.Info()
		if err != nil {
			p.countErr = err
			return
		}
		p.counts = make(map[uint32]int, info.Sections)
		for i := range info.Ops {
			op, err := p.Op(i)
			if err != nil {
				p.countErr = err
				return
			}
			p.counts[uint32(op.Section)]++
		}
	})
	return p.counts, p.countErr
}
