package ecad

// #include "ecad.h"
import "C"

// Version is the library's own version string.
func Version() string { return C.GoString(C.ecad_version_string()) }

// ABIVersion returns the major and minor version of the C interface of the linked library.
func ABIVersion() (major, minor int) {
	v := uint32(C.ecad_abi_version())
	return int(v >> 16), int(v & 0xffff)
}
