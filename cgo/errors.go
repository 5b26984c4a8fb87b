package ecad

/*
#include "ecad.h"
*/
import "C"

import "errors"

// Status is the library's status code (ecad.h).
type Status int32

// The codes that callers tell apart.
const (
	StatusOK              Status = C.ECAD_OK
	StatusCancelled       Status = C.ECAD_CANCELLED
	StatusInvalidArgument Status = C.ECAD_INVALID_ARGUMENT
	StatusOutOfMemory     Status = C.ECAD_OUT_OF_MEMORY
	StatusUnsupported     Status = C.ECAD_UNSUPPORTED
	StatusBadProgram      Status = C.ECAD_BAD_PROGRAM
	StatusBadWeights      Status = C.ECAD_BAD_WEIGHTS
	StatusShapeMismatch   Status = C.ECAD_SHAPE_MISMATCH
	StatusDeviceError     Status = C.ECAD_DEVICE_ERROR
	StatusNoDevice        Status = C.ECAD_NO_DEVICE
	StatusIOError         Status = C.ECAD_IO_ERROR
	StatusNotReady        Status = C.ECAD_NOT_READY
	StatusInternal        Status = C.ECAD_INTERNAL
)

// String names the code as the library does, e.g. "out of memory".
func (s Status) String() string { return C.GoString(C.ecad_status_name(C.ecad_status(s))) }

// Error is a failure reported by libecad.
type Error struct {
	Code       Status
	DeviceCode int // errno or CUDA error, 0 if none
	Op         int // index of the op in its program, -1 if none
	Message    string
}

func (e *Error) Error() string {
	if e.Message == "" {
		return "libecad: " + e.Code.String()
	}
	return "libecad: " + e.Message
}

// Is makes errors.Is(err, ecad.ErrNoDevice) and its siblings work by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Code == e.Code
}

// Errors to compare with errors.Is.
var (
	ErrCancelled   = &Error{Code: StatusCancelled}
	ErrOutOfMemory = &Error{Code: StatusOutOfMemory}
	ErrUnsupported = &Error{Code: StatusUnsupported}
	ErrBadProgram  = &Error{Code: StatusBadProgram}
	ErrBadWeights  = &Error{Code: StatusBadWeights}
	ErrNoDevice    = &Error{Code: StatusNoDevice}
	ErrNotReady    = &Error{Code: StatusNotReady}

	// ErrClosed is returned by every method of a handle after Close.
	ErrClosed = errors.New("ecad: handle is closed")
)

func newCError() C.ecad_error {
	var e C.ecad_error
	e.struct_size = C.uint32_t(C.sizeof_ecad_error)
	e.op = -1
	return e
}

// check turns a status and the error struct filled with it into a Go error.
func check(status C.ecad_status, e *C.ecad_error) error {
	if status == C.ECAD_OK {
		return nil
	}
	return &Error{
		Code: Status(status), DeviceCode: int(e.device_code), Op: int(e.op), Message: C.GoString(&e.message[0]),
	}
}
