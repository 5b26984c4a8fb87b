//go:build unix

package dit

import (
	"fmt"
	"syscall"
)

// mapMemory reserves n bytes of zeroed memory outside the Go heap, page-aligned, which C code may keep a pointer to. Pages
// cost nothing until they are written.
func mapMemory(n int64) (data []byte, free func() error, err error) {
	if n == 0 {
		return nil, func() error { return nil }, nil
	}
	data, err = syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|mapNoReserve)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot reserve %d bytes: %w", n, err)
	}
	return data, func() error { return syscall.Munmap(data) }, nil
}
