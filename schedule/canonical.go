package schedule

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Canonical returns the one representative of all schedules that make a model do
// the same thing. It decides what each step reads:
//
//   - Step 0 computes everything: nothing is kept yet, so a reuse there is a
//     compute in disguise.
//   - Outside of FLUX's single-stream blocks every step adds each component's
//     output to the residual stream, so every other cell counts as it stands.
//   - In a single-stream block only single_proj_out reaches the residual
//     stream, and its input is nothing but the outputs of single_attn and
//     single_proj_mlp. So a computed single_proj_out whose two inputs are the
//     ones it saw last gives the value it gave last: it becomes a reuse. A
//     computed single_attn or single_proj_mlp that no remaining single_proj_out
//     reads becomes a reuse.
//   - FLUX's prediction is made of the image tokens alone. A computed
//     full_ff_context changes only text tokens; if no computed attention reads
//     those, in its step or through kept outputs in a later one, it becomes a
//     reuse.
//
// Of all equivalent schedules it is the one that computes least. Two schedules
// have equal canonical forms exactly if every step of the one predicts what that
// step of the other predicts, for any weights.
func (s *Schedule) Canonical() *Schedule {
	c := s.Clone()
	for i := range s.shape.RowLen() {
		c.SetFlat(i, Compute)
	}
	if s.shape.Family == Flux {
		for block := s.shape.Blocks; block < s.shape.TotalBlocks(); block++ {
			c.settleSingle(block)
		}
		c.settleText()
	}
	return c
}

// settleSingle puts one single-stream block into canonical form. What counts is
// which computations of attn and mlp the value of out goes back to.
func (s *Schedule) settleSingle(block int) {
	attn, mlp, out := SingleAttn.Index(), SingleProjMLP.Index(), SingleProjOut.Index()
	attnFrom, mlpFrom := 0, 0 // the steps at which the kept values were computed
	seenAttn, seenMLP := -1, -1
	for step := range s.shape.Steps {
		if s.At(step, block, attn) == Compute {
			attnFrom = step
		}
		if s.At(step, block, mlp) == Compute {
			mlpFrom = step
		}
		computesOut := s.At(step, block, out) == Compute
		for comp := range ComponentsPerBlock {
			s.Set(step, block, comp, Reuse)
		}
		if computesOut && (attnFrom != seenAttn || mlpFrom != seenMLP) {
			seenAttn, seenMLP = attnFrom, mlpFrom
			s.Set(step, block, out, Compute)
			s.Set(attnFrom, block, attn, Compute)
			s.Set(mlpFrom, block, mlp, Compute)
		}
	}
}

// settleText clears each full_ff_context that nobody reads. It walks backwards
// through steps and blocks with two kinds of state: whether the text tokens at
// this point of this step are read further on, and whether the text half of the
// output a component keeps is read by what comes later. The single-stream
// blocks must be settled: then every computed attention is read by the image.
func (s *Schedule) settleText() {
	kept := make([][ComponentsPerBlock]bool, s.shape.TotalBlocks())
	for step := s.shape.Steps - 1; step >= 0; step-- {
		read := false // the text tokens that leave the last block are dropped
		for block := s.shape.TotalBlocks() - 1; block >= 0; block-- {
			k := &kept[block]
			if s.shape.Kind(block) == SingleBlock {
				read = s.textReadBySingle(step, block, k, read)
			} else {
				read = s.textReadByDouble(step, block, k, read)
			}
		}
	}
}

// textReadBySingle takes whether the text tokens after a single-stream block are
// read and returns whether those before it are.
func (s *Schedule) textReadBySingle(step, block int, kept *[ComponentsPerBlock]bool, read bool) bool {
	attn, mlp, out := SingleAttn.Index(), SingleProjMLP.Index(), SingleProjOut.Index()
	kept[out] = kept[out] || read
	if s.At(step, block, out) == Compute {
		kept[attn] = kept[attn] || kept[out]
		kept[mlp] = kept[mlp] || kept[out]
		kept[out] = false
	}
	if s.At(step, block, mlp) == Compute {
		read = read || kept[mlp]
		kept[mlp] = false
	}
	if s.At(step, block, attn) == Compute {
		read, kept[attn] = true, false
	}
	return read
}

// textReadByDouble is textReadBySingle for a double-stream block; it clears a
// full_ff_context that is not read.
func (s *Schedule) textReadByDouble(step, block int, kept *[ComponentsPerBlock]bool, read bool) bool {
	attn, ff := JointAttn.Index(), ContextFF.Index()
	kept[ff] = kept[ff] || read
	if s.At(step, block, ff) == Compute {
		if read = kept[ff]; !read && step > 0 {
			s.Set(step, block, ff, Reuse)
		}
		kept[ff] = false
	}
	return read || s.At(step, block, attn) == Compute
}

// DeadReason says why a gene has no effect as it stands.
type DeadReason uint8

// The reasons.
const (
	ForcedCompute  DeadReason = iota // reuse in step 0, where nothing is kept yet: it computes
	UnreadCompute                    // a computed output that no step reads
	UnchangedInput                   // computed again from the inputs of the last time
)

// String says it in words.
func (r DeadReason) String() string {
	switch r {
	case ForcedCompute:
		return "reuse in step 0 computes"
	case UnreadCompute:
		return "computed and never read"
	case UnchangedInput:
		return "computed again from unchanged inputs"
	}
	return "reason(" + strconv.Itoa(int(r)) + ")"
}

// MarshalText writes the reason in words.
func (r DeadReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// DeadGene is a gene that differs from the canonical form.
type DeadGene struct {
	Cell      Cell
	Component Component
	Reason    DeadReason
}

// DeadGenes lists the cells in which s differs from its canonical form, in
// genome order: what the search wasted a gene on, and, for the two compute
// reasons, work that can be left out without changing the result.
func (s *Schedule) DeadGenes() []DeadGene {
	canonical := s.Canonical()
	var dead []DeadGene
	for cell, d := range s.All() {
		if d == canonical.At(cell.Step, cell.Block, cell.Comp) {
			continue
		}
		g := DeadGene{Cell: cell, Component: s.shape.Component(cell.Block, cell.Comp), Reason: UnreadCompute}
		switch {
		case d == Reuse:
			g.Reason = ForcedCompute
		case g.Component == SingleProjOut:
			g.Reason = UnchangedInput
		}
		dead = append(dead, g)
	}
	return dead
}

// Hash identifies what a schedule makes a model do.
type Hash [sha256.Size]byte

// String writes the hash as 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash as String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err == nil {
		*h = parsed
	}
	return err
}

// ParseHash reads 64 lower-case hexadecimal digits.
func ParseHash(text string) (Hash, error) {
	var h Hash
	if len(text) != 2*len(h) || strings.ToLower(text) != text {
		return h, fmt.Errorf("ecadx/schedule: %.80q is no schedule hash: write 64 lower-case hexadecimal digits", text)
	}
	if _, err := hex.Decode(h[:], []byte(text)); err != nil {
		return Hash{}, fmt.Errorf("ecadx/schedule: %.80q is no schedule hash: %v", text, err)
	}
	return h, nil
}

// Hash returns the SHA-256 of the canonical form: equal exactly for schedules
// with equal canonical forms. What is hashed is four lines of ASCII, each ended
// by a newline, then the bits:
//
//	family                                  pixart
//	component names in order, by spaces     attn1 attn2 ff
//	steps                                   20
//	blocks, kind by kind, by spaces         28
//
// and the canonical genome, compute = 1, eight cells per byte, the first cell in
// the lowest bit, the last byte filled up with zeros.
func (s *Schedule) Hash() Hash {
	var b bytes.Buffer
	b.WriteString(s.shape.Family.String())
	for i, c := range s.shape.Family.Components() {
		b.WriteByte("\n "[min(i, 1)])
		b.WriteString(c.String())
	}
	fmt.Fprintf(&b, "\n%d\n%d", s.shape.Steps, s.shape.Blocks)
	if s.shape.Family == Flux {
		fmt.Fprintf(&b, " %d", s.shape.SingleBlocks)
	}
	b.WriteByte('\n')
	var packed []byte
	for _, w := range s.Canonical().words {
		packed = binary.LittleEndian.AppendUint64(packed, w)
	}
	b.Write(packed[:(s.shape.Cells()+7)/8])
	return sha256.Sum256(b.Bytes())
}
