package bench

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Memory is what the runs of a measurement take, in bytes. Weights, Activations, Slots and Runtime are planned, before any weight is loaded, and Total is
// their sum: what the process should hold at most. The peaks are measured; they end with the runs: what reuse costs, text encoder and decoder are measured
// after them.
type Memory struct {
	Weights     int64 `json:"weights"`      // packed as the device multiplies them; let go of on the host, if they came from there
	Activations int64 `json:"activations"`  // scratch, constants, and what a state keeps besides slots
	Slots       int64 `json:"slots"`        // outputs kept for reuse under the schedule; those that nothing reads again are scratch
	Runtime     int64 `json:"runtime"`      // everything else: code, libraries, heap, kernels' scratch
	Total       int64 `json:"total"`        // of the four
	Free        int64 `json:"free"`         // what the machine had left before, 0 where the system does not say
	DevicePeak  int64 `json:"device_peak"`  // most that libecad held: weights, activations and slots as they came out
	ProcessPeak int64 `json:"process_peak"` // most resident bytes of the process, 0 where the system does not say
}

// measureMemory takes the peaks.
func (b *bench) measureMemory(context.Context) error {
	info, err := b.dev.Info()
	b.memory.DevicePeak, b.memory.ProcessPeak = int64(info.MemoryPeak), statusBytes("VmHWM:")
	return err
}

// forgetPeak starts the system's count of the most resident bytes again, where it can (Linux 4.0).
func forgetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// residentBytes is how much memory the process has now, by the system's count where there is one.
func residentBytes() int64 {
	if n := statusBytes("VmRSS:"); n > 0 {
		return n
	}
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.Sys)
}

// statusBytes reads a line of Linux's /proc/self/status; 0 elsewhere.
func statusBytes(key string) int64 { return procBytes("/proc/self/status", key) }

func procBytes(path, key string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return n * 1024
		}
	}
	return 0
}
