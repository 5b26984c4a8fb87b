//go:build unix && !linux

package dit

const mapNoReserve = 0
