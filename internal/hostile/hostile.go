// Package hostile helps the tests of parsers: it damages good files in every small way, and bounds what reading a file may cost.
package hostile

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
)

// Slack is what reading a bad file may allocate beyond the file's own size, in bytes.
const Slack = 1 << 20

// Bounded runs read and fails t if it allocated more than size bytes and Slack, all in all: what is freed on the way counts.
// Nothing else may run meanwhile.
func Bounded(t testing.TB, size int, read func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; !(got <= uint64(size)+Slack) {
		t.Errorf("reading %d bytes allocated %d", size, got)
	}
}

// Damaged calls read with every truncation of good and with good after each single-bit flip. The bytes are read's until it returns.
func Damaged(good []byte, read func(what string, bad []byte)) {
	for n := range good {
		read(fmt.Sprintf("cut to %d bytes", n), bytes.Clone(good[:n]))
	}
	bad := bytes.Clone(good)
	for i := range bad {
		for bit := range 8 {
			bad[i] ^= 1 << bit
			read(fmt.Sprintf("bit %d of byte %d flipped", bit, i), bad)
			copy(bad, good)
		}
	}
}
