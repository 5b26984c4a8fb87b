//go:build !(cuda && linux && amd64)

package cudev

// Devices lists the CUDA devices; when there are none, why says so in one line.
func Devices() (devices []Device, why string) { return nil, "built without CUDA (make cuda)" }
