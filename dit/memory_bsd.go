//go:build unix && !linux

package dit

const mapNoReserve = 0

func dropPages([]byte) {} // elsewhere MADV_DONTNEED is only a hint, or keeps the pages
