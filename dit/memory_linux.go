package dit

import (
	"os"
	"syscall"
	"unsafe"
)

const mapNoReserve = syscall.MAP_NORESERVE

// dropPages gives the memory of whole pages inside data back. Pages of a file are read again when they are touched, others come back as zeros. That
// the kernel may refuse is no error: then the memory stays.
func dropPages(data []byte) {
	page := uintptr(os.Getpagesize())
	start := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	skip := int((page - start%page) % page)
	if n := (len(data) - skip) / int(page) * int(page); skip <= len(data) && n > 0 {
		_ = syscall.Madvise(data[skip:skip+n], syscall.MADV_DONTNEED)
	}
}
