//go:build cuda

package ecad

// The archive is made by `make cuda`, which also writes libecad_cuda_stamp.h with the archive's hash: the Go build cache does not notice
// a changed archive by itself (golang/go issue 29293), but it does notice a changed header in this folder.

/*
#cgo CFLAGS: -I${SRCDIR}/../kernels/include
#cgo LDFLAGS: -L${SRCDIR}/../build/cuda/lib -l:libecad.a -l:libcudart_static.a -ldnnl -lgomp -lstdc++ -lm -lpthread -ldl -lrt
#include "ecad.h"
#if !__has_include("libecad_cuda_stamp.h")
#error "libecad is not built: run make cuda at the top of the repository"
#endif
#include "libecad_cuda_stamp.h"
*/
import "C"
