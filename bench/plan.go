package bench

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
)

// ErrMemory is wrapped by the error of a measurement that would not fit into the machine's free memory.
var ErrMemory = errors.New("not enough memory")

// memoryPlan is what a program says it needs, before any weight is loaded.
type memoryPlan struct {
	weights     int64 // packed, or where they lie if the device reads them there
	activations int64 // scratch, constants, and what a state keeps besides slots
	slots       int64
	joined      int64 // where the device lays the inputs of a product side by side
	loading     int64 // the most at a time while weights are packed: those packed so far, and the ones that are read
}

// planOf plans a program on a device; stored gives the dtype size of a checkpoint's tensor.
func planOf(p *program.Program, device ecad.DeviceInfo, stored func(name string) int64) memoryPlan {
	s := p.Stats()
	plan := memoryPlan{activations: s.ArenaBytes + s.ConstantBytes + s.PersistentBytes - s.SlotBytes, slots: s.SlotBytes}
	seen := map[string]bool{}
	for i := range p.Ops {
		packed, read := opWeights(p, &p.Ops[i], device, stored, seen)
		plan.weights += packed
		plan.loading = max(plan.loading, plan.weights+read)
		plan.joined = max(plan.joined, joinedBytes(p, &p.Ops[i], device))
	}
	return plan
}

// opWeights is what an op's weights take that seen does not hold yet. The matrices of products are packed in the type that the product computes in, its
// biases in float32, each combination once; anything else is read as it is stored. read is what the cpu backend has in memory besides while it packs them.
func opWeights(p *program.Program, op *program.Op, device ecad.DeviceInfo, stored func(string) int64, seen map[string]bool) (total, read int64) {
	take := func(kind string, size func(name string) int64, inputs []uint32) {
		key, bytes, before := kind, int64(0), int64(0)
		for _, id := range inputs {
			if int(id) >= len(p.Tensors) { // absent
				continue
			}
			v := &p.Tensors[id]
			if b := &p.Buffers[v.Buffer]; b.Kind == program.Weight {
				key += "\x00" + b.Name
				bytes += v.Count() * size(b.Name)
				before += v.Count() * stored(b.Name)
			}
		}
		if !seen[key] {
			seen[key] = true
			total += bytes
			if device.Backend == ecad.CPU && kind != asStored {
				read = max(read, before)
			}
		}
	}
	matrices, biases := weightInputs(op)
	if device.Backend == ecad.Reference || matrices == nil {
		for _, id := range op.In {
			take(asStored, stored, []uint32{id})
		}
		return total, 0
	}
	element := productElement(p, op, device)
	take(fmt.Sprintf("packed %d", element), func(string) int64 { return element }, matrices)
	take("bias", func(string) int64 { return 4 }, biases)
	return total, read
}

// asStored is the kind of weights that are not packed.
const asStored = "stored"

// maxJoined is kPanelBytes of kernels/cpu/linear.cpp.
const maxJoined = 32 << 20

// joinedBytes is the scratch of the cpu backend for a product of several inputs: its rows, as many as fit at a time.
func joinedBytes(p *program.Program, op *program.Op, device ecad.DeviceInfo) int64 {
	if device.Backend != ecad.CPU || op.Code != program.OpLinear || op.Attr[0] < 2 {
		return 0
	}
	total := int64(0)
	for _, id := range op.In[:op.Attr[0]] {
		total += p.Tensors[id].Count()
	}
	return min(maxJoined, total*productElement(p, op, device))
}

// productElement is the bytes of an element that a product multiplies.
func productElement(p *program.Program, op *program.Op, device ecad.DeviceInfo) int64 {
	if p.Tensors[op.In[0]].DType == program.BFloat16 && (device.FastBFloat16 || device.Backend == ecad.CUDA) {
		return 2
	}
	return 4
}

// weightInputs are the inputs of an op that multiplies with weights; nil for others. The order is that of kernels/PROGRAM.md.
func weightInputs(op *program.Op) (matrices, biases []uint32) {
	switch op.Code {
	case program.OpLinear:
		x, w := int(op.Attr[0]), int(op.Attr[1])
		return op.In[x : x+w], op.In[x+w:]
	case program.OpGatedLinear:
		return op.In[1:], nil
	case program.OpPatchEmbed, program.OpConv2D:
		return op.In[1:2], op.In[2:]
	}
	return nil, nil
}

// storedSize looks the dtype of a checkpoint's tensors up.
func storedSize(m *dit.Model) (func(name string) int64, error) {
	w, err := m.Weights()
	if err != nil {
		return nil, err
	}
	return func(name string) int64 {
		t, ok := w.Tensors().Describe(name)
		if !ok {
			return 0
		}
		return t.DType.Size()
	}, nil
}

// runtimeGrowth is what the process takes on top of what it has before weights are loaded: threads' stacks, kernels made for shapes, the heap while it compiles;
// and, in step with the model's width, the padding of packed weights and the scratch of kernels. Found by measuring the miniature and PixArt-256 (TestPlannedMemory).
func runtimeGrowth(weights int64) int64 { return 16<<20 + weights/64 }

// PlanMemory says how much memory Measure would hold for the runs of a configuration, without loading weights. When the machine has less, the plan comes
// with an error that wraps ErrMemory.
func PlanMemory(cfg Config) (memory *Memory, err error) {
	b := &bench{cfg: cfg}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	if err := b.plan(); err != nil {
		return nil, err
	}
	return &b.memory, b.fits()
}

// plan fills in what the runs will take, and refuses what is not there.
func (b *bench) plan() error {
	stored, err := storedSize(b.cfg.Model)
	if err != nil {
		return err
	}
	info, err := b.dev.Info()
	if err != nil {
		return err
	}
	joined, loading := int64(0), int64(0)
	for _, s := range b.programs() {
		p, err := b.cfg.Model.CompileDenoise(dit.DenoiseOptions{Sizes: b.sizes(), Guidance: b.cfg.Guidance, Sampler: b.sampler, Schedules: s})
		if err != nil {
			return err
		}
		// The last one is that of the schedule. The uncached program comes first: its weights are all that any schedule uses, its scratch may be the larger one.
		plan := planOf(p, info, stored)
		b.memory.Weights = max(b.memory.Weights, plan.weights)
		b.memory.Activations = max(b.memory.Activations, plan.activations)
		b.memory.Slots = plan.slots
		joined, loading = max(joined, plan.joined), max(loading, plan.loading)
	}
	b.memory.Runtime = residentBytes() + b.inputBytes() + runtimeGrowth(b.memory.Weights)
	b.memory.Runtime += max(joined, loading-b.memory.Weights-b.memory.Activations-b.memory.Slots) // weights are packed before anything runs
	b.memory.Total = b.memory.Weights + b.memory.Activations + b.memory.Slots + b.memory.Runtime
	b.memory.Free = availableBytes()
	if info.Backend == ecad.CUDA {
		b.memory.Free = int64(info.MemoryTotal - min(info.MemoryTotal, info.MemoryUsed))
	}
	return nil
}

// fits refuses a plan for which there is not enough memory: numbers, and the option that helps most.
func (b *bench) fits() error {
	m, c := &b.memory, &b.cfg
	need := m.Total - residentBytes() // what is not held yet
	if m.Free <= 0 || need <= m.Free {
		return nil
	}
	help := "take fewer blocks (--blocks) or a smaller model"
	switch info, err := b.dev.Info(); {
	case err == nil && info.FastBFloat16 && c.DType != dit.BFloat16 && m.Weights > m.Total/2:
		help = "use --dtype bfloat16, which halves the weights, or --blocks"
	case c.Batch > 1 && m.Weights < m.Total/2:
		help = "lower --batch or --resolution"
	case m.Weights < m.Total/2 && m.Slots > m.Activations:
		help = "use a schedule that reuses fewer components, or lower --resolution"
	case m.Weights < m.Total/2:
		help = "lower --resolution"
	}
	return fmt.Errorf("%w: the runs need %s more (weights %s, activations %s, slots %s, runtime %s), %s are free: %s", ErrMemory, bytesText(need), bytesText(m.Weights),
		bytesText(m.Activations), bytesText(m.Slots), bytesText(m.Runtime), bytesText(m.Free), help)
}

// availableBytes is how much memory new work can take, 0 where the system does not say: what Linux has left, or the limit of the control group.
func availableBytes() int64 {
	free := procBytes("/proc/meminfo", "MemAvailable:")
	for _, g := range []struct{ limit, used, stat string }{
		{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat"},
	} {
		limit, ok1 := numberIn(g.limit)
		used, ok2 := numberIn(g.used)
		if ok1 && ok2 {
			left := max(1, limit-used+fileCache(g.stat))
			if free == 0 || left < free {
				free = left
			}
		}
	}
	return free
}

// numberIn reads a file that is one number; "max" is none.
func numberIn(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// fileCache is what a control group holds of files and gives back when asked.
func fileCache(path string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		if text, ok := strings.CutPrefix(line, "inactive_file "); ok {
			n, _ := strconv.ParseInt(text, 10, 64)
			return max(0, n)
		}
	}
	return 0
}
