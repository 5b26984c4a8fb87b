// Package ecad is the Go side of libecad: devices, weights, compiled programs, states, and one call per run.
//
// It is the only package with import "C" (apart from cudev, which reports CUDA devices). Nothing here knows a model: programs come from
// dit/program as bytes and are validated by the library.
//
// Threads: Device, Weights and Program may be used by any number of goroutines; a State by one at a time. Calls on one
// device are serialised by the library on the device's own thread, so no goroutine needs to be locked to a thread.
//
// Close is the contract for every handle; closing twice, or in any order, is fine.
package ecad
