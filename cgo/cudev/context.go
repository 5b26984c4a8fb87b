//go:build cuda && linux && amd64

package cudev

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"gorgonia.org/cu"
)

// Context is a device's primary context, retained until Close: the one that the CUDA runtime in libecad works in too, so memory of either is seen by both.
// Its methods make it current for as long as they run, on the calling goroutine's thread; any goroutine may call them.
type Context struct {
	device  cu.Device
	primary cu.CUContext
}

// Open retains the primary context of a device.
func Open(ordinal int) (*Context, error) {
	device, err := cu.GetDevice(ordinal)
	if err != nil {
		return nil, fmt.Errorf("device %d: %w", ordinal, err)
	}
	primary, err := device.RetainPrimaryCtx()
	if err != nil {
		return nil, fmt.Errorf("device %d: its primary context: %w", ordinal, err)
	}
	return &Context{device, primary}, nil
}

// Close lets the context go. Memory of it must have been freed.
func (c *Context) Close() error { return c.device.ReleasePrimaryCtx() }

func (c *Context) do(f func() error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.PushCurrentCtx(c.primary); err != nil {
		return err
	}
	defer func() {
		_, popped := cu.PopCurrentCtx()
		err = errors.Join(err, popped)
	}()
	return f()
}

// MemoryFree is the device memory in bytes that nobody has taken.
func (c *Context) MemoryFree() (bytes int64, err error) {
	err = c.do(func() error {
		bytes, _, err = cu.MemInfo()
		return err
	})
	return bytes, err
}

// Memory is device memory of a Context. Its owner frees it.
type Memory struct {
	context *Context
	address cu.DevicePtr
	bytes   int64
}

// Alloc takes device memory, aligned to 256 bytes.
func (c *Context) Alloc(bytes int64) (*Memory, error) {
	m := &Memory{context: c, bytes: bytes}
	err := c.do(func() (err error) {
		m.address, err = cu.MemAlloc(bytes)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%d bytes of device memory: %w", bytes, err)
	}
	return m, nil
}

// Free gives the memory back.
func (m *Memory) Free() error { return m.context.do(func() error { return cu.MemFree(m.address) }) }

// Write copies data, as many bytes as the memory has, to the device and waits.
func (m *Memory) Write(data []byte) error {
	return m.copy(data, func(host unsafe.Pointer) error { return cu.MemcpyHtoD(m.address, host, m.bytes) })
}

// Read copies the memory into data, which is as long, and waits.
func (m *Memory) Read(data []byte) error {
	return m.copy(data, func(host unsafe.Pointer) error { return cu.MemcpyDtoH(host, m.address, m.bytes) })
}

func (m *Memory) copy(data []byte, run func(unsafe.Pointer) error) error {
	if int64(len(data)) != m.bytes || m.bytes == 0 {
		return fmt.Errorf("%d bytes for device memory of %d", len(data), m.bytes)
	}
	return m.context.do(func() error { return run(unsafe.Pointer(&data[0])) })
}

// Timed is the device time between two events around what work puts on the default stream.
func (c *Context) Timed(work func() error) (taken time.Duration, err error) {
	var begin, end cu.Event
	err = c.do(func() (err error) {
		if begin, err = cu.MakeEvent(cu.DefaultEvent); err != nil {
			return err
		}
		if end, err = cu.MakeEvent(cu.DefaultEvent); err != nil {
			return errors.Join(err, cu.DestroyEvent(&begin))
		}
		return begin.Record(cu.Stream{})
	})
	if err != nil {
		return 0, err
	}
	worked := work()
	err = c.do(func() (err error) {
		var ms float64
		if err = end.Record(cu.Stream{}); err == nil {
			err = end.Synchronize()
		}
		if err == nil {
			ms, err = begin.Elapsed(end)
		}
		taken = time.Duration(ms * float64(time.Millisecond))
		return errors.Join(err, cu.DestroyEvent(&begin), cu.DestroyEvent(&end))
	})
	return taken, errors.Join(worked, err)
}

// hostCopySpeed is the GB/s of copies from ordinary host memory, the better of two.
func (c *Context) hostCopySpeed() (gbs float64, err error) {
	data := make([]byte, 16<<20)
	m, err := c.Alloc(int64(len(data)))
	if err != nil {
		return 0, err
	}
	for range 2 {
		taken, err := c.Timed(func() error { return m.Write(data) })
		if err != nil {
			return 0, errors.Join(err, m.Free())
		}
		gbs = max(gbs, float64(len(data))/float64(max(taken, 1)))
	}
	return gbs, m.Free()
}
