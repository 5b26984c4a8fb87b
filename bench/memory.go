package bench

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"ecadx/dit"
	"ecadx/dit/program"
)

// Memory is what a run of the schedule takes, in bytes. Weights, Activations, Slots and Runtime together are what the process holds;
// HostWeights comes on top where the device has packed its own copy (pages of a mapped file, which the system may drop).
type Memory struct {
	Weights     int64 `json:"weights"`     // as the device holds them, packed, with its kernels' scratch
	Activations int64 `json:"activations"` // scratch, constants, and what a state keeps besides slots
	Slots       int64 `json:"slots"`       // outputs kept for reuse
	Runtime     int64 `json:"runtime"`     // the process before any weights: code, libraries, heap
	HostWeights int64 `json:"host_weights"`
	DevicePeak  int64 `json:"device_peak"`  // most that the device held during the measurement, uncached run and probe included
	ProcessPeak int64 `json:"process_peak"` // most resident bytes of the process, 0 where the system does not say
}

// memoryPlan is what a program says it needs.
type memoryPlan struct{ activations, slots int64 }

func planOf(p *program.Program) memoryPlan {
	s := p.Stats()
	return memoryPlan{activations: s.ArenaBytes + s.ConstantBytes + s.PersistentBytes - s.SlotBytes, slots: s.SlotBytes}
}

// hostWeightBytes is the size of the checkpoint's tensors that a program names, as they are stored.
func hostWeightBytes(m *dit.Model, p *program.Program) (int64, error) {
	w, err := m.Weights()
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, b := range p.Buffers {
		if b.Kind != program.Weight {
			continue
		}
		if t, ok := w.Tensors().Describe(b.Name); ok {
			n := t.DType.Size()
			for _, d := range t.Shape {
				n *= d
			}
			total += n
		}
	}
	return total, nil
}

// memory fills the report's account.
func (b *bench) memory() (Memory, error) {
	plan := planOf(b.cached.Source)
	host, err := hostWeightBytes(b.cfg.Model, b.cached.Source)
	if err != nil {
		return Memory{}, err
	}
	info, err := b.dev.Info()
	if err != nil {
		return Memory{}, err
	}
	m := Memory{Weights: b.weightBytes, Activations: plan.activations, Slots: plan.slots, Runtime: b.hostBefore, HostWeights: host,
		DevicePeak: int64(info.MemoryPeak), ProcessPeak: statusBytes("VmHWM:")}
	if m.Weights == 0 { // the device reads the checkpoint where it lies
		m.Weights, m.HostWeights = host, 0
	}
	return m, nil
}

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

// availableBytes is how much memory new work can take, 0 where the system does not say.
func availableBytes() int64 { return procBytes("/proc/meminfo", "MemAvailable:") }

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
