// Package cudev asks the CUDA driver: it lists a machine's devices with names, attributes and memory, and in a build with CUDA opens a device's primary context for memory
// and events of one's own. It needs no GPU and no driver to be linked or
// started: with the build tag cuda (make cuda), gorgonia.org/cu is linked against a loader that looks for the driver when it is first needed
// (loader.c); without the tag, or without a driver, Devices says why there are none.
//
// It only ever uses a device's primary context, which is also that of the CUDA runtime in libecad.
package cudev

// Device is what the driver says of one device. Memory is in bytes.
type Device struct {
	Ordinal         int
	Name            string
	Major, Minor    int // compute capability
	Multiprocessors int
	L2Bytes         int64
	ClockKHz        int // of the multiprocessors, at most
	MemoryTotal     int64
	MemoryFree      int64
	HostCopyGBs     float64 // 1e9 bytes a second from ordinary host memory, measured when asked; 0: there was no memory for it
	Driver          string  // newest CUDA version that the driver serves, "13.0"
}
