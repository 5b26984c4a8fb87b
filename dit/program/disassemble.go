package program

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// DisassembleOptions choose what Disassemble prints.
type DisassembleOptions struct {
	Section   func(SectionID) bool                // nil: all sections
	Component func(block, component int) string   // names of components; nil: c0, c1, ...
	Block     func(block int) string              // names of blocks; nil: b00, b01, ...
	Removed   func(section SectionID) []RemovedOp // nil: what Finish removed; none for decoded programs
}

// Disassemble prints p: a summary, the schedules, and every chosen section as one line per op, its operands with dims and dtype. Arena
// tensors are called by the op that wrote them and the number of their buffer, as in qkv%4; +8 is an offset in elements, @step marks
// operands that change with the step.
func (p *Program) Disassemble(w io.Writer, opt DisassembleOptions) error {
	out := bufio.NewWriter(w)
	stats := p.Stats()
	fmt.Fprintf(out, "program: %d steps, %d sections, %d ops, layout %x\n", p.Steps, len(p.Sections), len(p.Ops), p.LayoutHash[:4])
	fmt.Fprintf(out, "  arena %s (at least %s), persistent %s, slots %s of them, constants %s\n", bytesText(stats.ArenaBytes), bytesText(stats.ArenaLowerBound),
		bytesText(stats.PersistentBytes), bytesText(stats.SlotBytes), bytesText(stats.ConstantBytes))
	for _, io := range p.IOs {
		v := &p.Tensors[io.Tensor]
		fmt.Fprintf(out, "  io %q %s %s\n", io.Name, io.Direction, shapeText(v))
	}
	if len(stats.Demoted) > 0 {
		fmt.Fprintf(out, "  not kept between sections: %s\n", strings.Join(stats.Demoted, ", "))
	}
	if len(stats.Dropped) > 0 {
		fmt.Fprintf(out, "  not used: %s\n", strings.Join(stats.Dropped, ", "))
	}
	for i, s := range p.Schedules {
		fmt.Fprintf(out, "schedule %q: %s; %s\n", s.Name, itemsText(s.Items), costText(p.ScheduleCost(i)))
	}
	for i := range p.Sections {
		if id := SectionID(i); opt.Section == nil || opt.Section(id) {
			if err := p.disassembleSection(out, id, &stats, opt); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// itemsText is the sections in order, runs of steps with one section folded.
func itemsText(items []Item) string {
	var parts []string
	for i := 0; i < len(items); {
		j := i + 1
		for j < len(items) && items[j].Section == items[i].Section && items[j].Step == items[j-1].Step+1 {
			j++
		}
		if j == i+1 {
			parts = append(parts, fmt.Sprintf("%d@%d", items[i].Section, items[i].Step))
		} else {
			parts = append(parts, fmt.Sprintf("%d@%d-%d", items[i].Section, items[i].Step, items[j-1].Step))
		}
		i = j
	}
	return "section@step " + strings.Join(parts, " ")
}

func (p *Program) disassembleSection(out io.Writer, id SectionID, stats *Stats, opt DisassembleOptions) error {
	sec, stat := p.Sections[id], stats.Sections[id]
	fmt.Fprintf(out, "\nsection %d, %s %q: %d ops, %s, arena %s\n", id, sec.Kind, sec.Name, sec.Count, costText(stat.Cost), bytesText(stat.ArenaBytes))
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	names := &namer{p: p, writer: map[uint32]string{}}
	label := ""
	for i := sec.First; i < sec.First+sec.Count; i++ {
		op := &p.Ops[i]
		shown := labelText(op.Block, op.Component, opt)
		if shown == label {
			shown = ""
		} else {
			label = shown
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", shown, op.Name, op.Code, names.expression(op))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	removed := stats.Removed
	if opt.Removed != nil {
		removed = opt.Removed(id)
	}
	for _, r := range removed {
		if r.Section == id {
			fmt.Fprintf(out, "  removed: %s\n", strings.Join(strings.Fields(fmt.Sprint(labelText(r.Block, r.Component, opt), " ", r.Name, " ", r.Code)), " ")+
				" (nobody reads it; "+costText(r.Cost)+")")
		}
	}
	for _, r := range stats.Narrowed {
		if r.Section == id {
			fmt.Fprintf(out, "  narrowed: %s %s %s to %d of %d rows (nobody reads the others; %s)\n", labelText(r.Block, r.Component, opt), r.Name, r.Code, r.Rows, r.Of, costText(r.Saved))
		}
	}
	return nil
}

func labelText(block, component int, opt DisassembleOptions) string {
	if block < 0 {
		return "-"
	}
	text := fmt.Sprintf("b%02d", block)
	if opt.Block != nil {
		text = opt.Block(block)
	}
	switch {
	case component < 0:
	case opt.Component != nil:
		text += " " + opt.Component(block, component)
	default:
		text += fmt.Sprintf(" c%d", component)
	}
	return text
}

// namer calls tensors by names while it walks the ops of a section in order.
type namer struct {
	p      *Program
	writer map[uint32]string // arena buffer: the op that wrote it last
}

func (n *namer) tensor(id uint32) string {
	if id == absent {
		return "_"
	}
	v := &n.p.Tensors[id]
	b := &n.p.Buffers[v.Buffer]
	name := b.Name
	switch b.Kind {
	case Weight:
		return "W(" + b.Name + ")"
	case Arena:
		name = fmt.Sprintf("%s%%%d", n.writer[v.Buffer], v.Buffer)
	case Constant:
		name = "const(" + b.Name + ")"
	}
	if v.Offset != 0 {
		name += fmt.Sprintf("+%d", v.Offset)
	}
	if v.StepStride != 0 {
		name += "@step"
	}
	return name + shapeText(v)
}

func (n *namer) list(ids []uint32, sep string) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = n.tensor(id)
	}
	return strings.Join(parts, sep)
}

// outputs names what op writes from now on.
func (n *namer) outputs(op *Op) string {
	var parts []string
	for _, id := range op.Out {
		if id == absent {
			continue
		}
		if v := &n.p.Tensors[id]; n.p.Buffers[v.Buffer].Kind == Arena {
			n.writer[v.Buffer] = op.Name
		}
		parts = append(parts, n.tensor(id))
	}
	return strings.Join(parts, ", ")
}

// expression is what op computes.
func (n *namer) expression(op *Op) string {
	var text string
	switch op.Code {
	case OpLinear:
		nx, nw := int(op.Attr[0]), int(op.Attr[1])
		text = n.list(op.In[:nx], " | ") + " x " + n.weights(op.In[nx:nx+nw])
		if n.anyPresent(op.In[nx+nw:]) {
			text += " + b"
		}
		text += actText(op.Attr[2])
	case OpGatedLinear:
		text = n.tensor(op.In[0]) + " x " + n.weights(op.In[1:]) + " gated" + actText(op.Attr[0])
	case OpAttention:
		text = n.attention(op)
	case OpChain:
		text = n.chain(op)
	case OpLincomb:
		terms := int(op.Attr[0])
		text = n.list(op.In[:terms], ", ") + " . " + n.tensor(op.In[terms])
		if op.Attr[1] == 1 {
			text += fmt.Sprintf(", clamp %g..%g", op.FAttr[0], op.FAttr[1])
		}
	case OpAdd:
		text = n.list(op.In, " + ")
	default:
		text = n.other(op)
	}
	return text + " -> " + n.outputs(op)
}

func (n *namer) attention(op *Op) string {
	text := n.list(op.In[:3], ", ")
	if op.In[3] != absent {
		text += ", counts " + n.tensor(op.In[3])
	}
	if op.In[4] != absent {
		text += ", bias " + n.tensor(op.In[4])
	}
	text += fmt.Sprintf(", %d heads of %d, scale %g", op.Attr[0], op.Attr[1], op.FAttr[0])
	if op.Attr[2] == 1 {
		text += ", causal"
	}
	return text
}

func (n *namer) chain(op *Op) string {
	terms := int(op.Attr[0])
	text := n.tensor(op.In[0])
	for i := 0; i < terms; i++ {
		text += " + "
		if g := op.In[2+2*i]; g != absent {
			text += n.tensor(g) + " * "
		}
		text += n.tensor(op.In[1+2*i])
	}
	if op.Out[1] == absent {
		return text
	}
	rest := op.In[1+2*terms:]
	if norm := Norm(op.Attr[1]); norm != NoNorm {
		text += fmt.Sprintf(", %s norm eps %g", norm, op.FAttr[0])
	}
	if n.anyPresent(rest[2:]) {
		text += ", affine " + n.list(rest[2:], " ")
	}
	if rest[0] != absent {
		text += ", scale " + n.tensor(rest[0]) + ", shift " + n.tensor(rest[1])
	}
	return text
}

// other is the ops with a plain list of operands and some attributes.
func (n *namer) other(op *Op) string {
	var operands []string
	for _, id := range op.In {
		if id != absent {
			operands = append(operands, n.tensor(id))
		}
	}
	text := strings.Join(operands, ", ")
	switch op.Code {
	case OpPatchEmbed:
		return text + fmt.Sprintf(", patch %d, repeat %d", op.Attr[0], op.Attr[1])
	case OpUnpatchify:
		return text + fmt.Sprintf(", patch %d %s, %d channels", op.Attr[0], PatchOrder(op.Attr[1]), op.Attr[2])
	case OpTimestepEmbed:
		order := "sin cos"
		if op.Attr[0] == 1 {
			order = "cos sin"
		}
		return text + fmt.Sprintf(", %s, period %g, scale %g, shift %g", order, op.FAttr[0], op.FAttr[1], op.FAttr[2])
	case OpUnary:
		return text + actText(op.Attr[0])
	case OpConv2D:
		return text + fmt.Sprintf(", stride %d, pad %d", op.Attr[0], op.Attr[1])
	case OpGroupNorm:
		return text + fmt.Sprintf(", %d groups, eps %g", op.Attr[0], op.FAttr[0]) + actText(op.Attr[1])
	case OpUpsample:
		return text + fmt.Sprintf(", times %d", op.Attr[0])
	case OpPermute:
		return text + fmt.Sprintf(", order %v", op.Attr[:maxRank])
	case OpQKNormRope:
		return text + fmt.Sprintf(", %d heads of %d, eps %g", op.Attr[0], op.Attr[1], op.FAttr[0])
	}
	return text
}

func (n *namer) anyPresent(ids []uint32) bool {
	for _, id := range ids {
		if id != absent {
			return true
		}
	}
	return false
}

// weights is W(a) or, for several keys, W(blocks.0.{q,k,v}.weight); other operands as they are.
func (n *namer) weights(ids []uint32) string {
	keys := make([]string, len(ids))
	for i, id := range ids {
		if id == absent || n.p.Buffers[n.p.Tensors[id].Buffer].Kind != Weight {
			return n.list(ids, " | ")
		}
		keys[i] = n.p.Buffers[n.p.Tensors[id].Buffer].Name
	}
	if len(keys) == 1 {
		return "W(" + keys[0] + ")"
	}
	prefix, suffix := keys[0], keys[0]
	for _, k := range keys[1:] {
		for !strings.HasPrefix(k, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
		for !strings.HasSuffix(k, suffix) {
			suffix = suffix[1:]
		}
	}
	prefix = prefix[:strings.LastIndexByte(prefix, '.')+1]
	if dot := strings.IndexByte(suffix, '.'); dot >= 0 {
		suffix = suffix[dot:]
	} else {
		suffix = ""
	}
	middles := make([]string, len(keys))
	for i, k := range keys {
		if len(prefix)+len(suffix) > len(k) {
			return "W(" + strings.Join(keys, " | ") + ")"
		}
		middles[i] = k[len(prefix) : len(k)-len(suffix)]
	}
	return "W(" + prefix + "{" + strings.Join(middles, ",") + "}" + suffix + ")"
}

func actText(act int32) string {
	if Act(act) == NoAct {
		return ""
	}
	return ", " + Act(act).String()
}

func costText(c Cost) string {
	return unitText(float64(c.Flops), 1000, "FLOP") + ", " + bytesText(c.Bytes) + " moved"
}

func bytesText(n int64) string { return unitText(float64(n), 1000, "B") }

// unitText is x with three digits and an SI prefix.
func unitText(x, base float64, unit string) string {
	prefixes := [...]string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for x >= base && i < len(prefixes)-1 {
		x /= base
		i++
	}
	return fmt.Sprintf("%.3g %s%s", x, prefixes[i], unit)
}
