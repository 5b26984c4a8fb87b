//go:build !unix

package dit

import "runtime"

// mapMemory gives n bytes that the collector neither moves nor frees before free is called.
func mapMemory(n int64) (data []byte, free func() error, err error) {
	data = make([]byte, n)
	var pin runtime.Pinner
	if n > 0 {
		pin.Pin(&data[0])
	}
	return data, func() error { pin.Unpin(); return nil }, nil
}

func dropPages([]byte) {}
