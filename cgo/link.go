package ecad

// The archive is made by `make lib`, which also writes libecad_stamp.h with the archive's hash: the Go build cache does not notice
// a changed archive by itself (golang/go issue 29293), but it does notice a changed header in this folder.

/*
#cgo CFLAGS: -I${SRCDIR}/../kernels/include
#cgo LDFLAGS: -L${SRCDIR}/../build/lib -l:libecad.a -ldnnl -lgomp -lstdc++ -lm -lpthread -ldl
#include "ecad.h"
#if !__has_include("libecad_stamp.h")
#error "libecad is not built: run make lib at the top of the repository"
#endif
#include "libecad_stamp.h"
*/
import "C"

// Version is the library's own version string.
func Version() string { return C.GoString(C.ecad_version_string()) }

// ABIVersion returns the major and minor version of the C interface of the linked library.
func ABIVersion() (major, minor int) {
	v := uint32(C.ecad_abi_version())
	return int(v >> 16), int(v & 0xffff)
}
