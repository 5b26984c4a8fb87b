package schedule

import (
	"fmt"
	"strconv"
	"strings"
)

// Limits of a [Shape]. They bound what a file or an option can make the package
// allocate: the largest schedule takes 768 KiB.
const (
	MaxSteps  = 1000 // a sampler has at most one step per training timestep
	MaxBlocks = 1024 // of each kind
)

// ComponentsPerBlock is the number of cacheable components of a block; it is the
// same for every block kind.
const ComponentsPerBlock = 3

// Family is an architecture of diffusion transformers.
type Family uint8

// The families.
const (
	PixArt Family = iota + 1 // PixArt-alpha and PixArt-Sigma: one kind of block
	Flux                     // FLUX.1: double-stream blocks, then single-stream blocks
)

// String returns the family's name in files, hashes and messages.
func (f Family) String() string {
	switch f {
	case PixArt:
		return "pixart"
	case Flux:
		return "flux"
	}
	return "family(" + strconv.Itoa(int(f)) + ")"
}

// MarshalText writes the family's name.
func (f Family) MarshalText() ([]byte, error) {
	if f != PixArt && f != Flux {
		return nil, fmt.Errorf("ecadx/schedule: unknown family %d: use PixArt or Flux", uint8(f))
	}
	return []byte(f.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (f *Family) UnmarshalText(text []byte) error {
	parsed, err := ParseFamily(string(text))
	if err == nil {
		*f = parsed
	}
	return err
}

// ParseFamily reads a family's name.
func ParseFamily(name string) (Family, error) {
	for _, f := range []Family{PixArt, Flux} {
		if name == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("ecadx/schedule: unknown family %q: use pixart or flux", name)
}

// BlockKinds returns the kinds of block of the family, in the order in which the
// model runs them.
func (f Family) BlockKinds() []BlockKind {
	switch f {
	case PixArt:
		return []BlockKind{PixArtBlock}
	case Flux:
		return []BlockKind{DoubleBlock, SingleBlock}
	}
	return nil
}

// Components returns the components of the family, kind by kind, in genome order.
func (f Family) Components() []Component {
	var all []Component
	for _, kind := range f.BlockKinds() {
		c := kind.Components()
		all = append(all, c[:]...)
	}
	return all
}

// BlockKind is a kind of transformer block: the set of components it has.
type BlockKind uint8

// The block kinds.
const (
	PixArtBlock BlockKind = iota // self-attention, cross-attention, feed-forward
	DoubleBlock                  // FLUX double-stream: image and text side by side
	SingleBlock                  // FLUX single-stream: text and image in one sequence
)

// String names the kind.
func (k BlockKind) String() string {
	switch k {
	case PixArtBlock:
		return "block"
	case DoubleBlock:
		return "double"
	case SingleBlock:
		return "single"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Components returns the kind's components in genome order.
func (k BlockKind) Components() [ComponentsPerBlock]Component {
	first := Component(k) * ComponentsPerBlock
	return [ComponentsPerBlock]Component{first, first + 1, first + 2}
}

// Component is a cacheable part of a block. What is cached is its output before
// the gate.
type Component uint8

// The components, in genome order of their block kind.
const (
	SelfAttn      Component = iota // PixArt attn1, after the output projection
	CrossAttn                      // PixArt attn2, after the output projection; it has no gate
	FeedForward                    // PixArt ff
	JointAttn                      // FLUX full_attn: image and text output, one gene for both
	ImageFF                        // FLUX full_ff
	ContextFF                      // FLUX full_ff_context
	SingleAttn                     // FLUX single_attn: attention without output projection
	SingleProjMLP                  // FLUX single_proj_mlp, before the activation
	SingleProjOut                  // FLUX single_proj_out: reads the two others
	numComponents
)

var componentNames = [numComponents]string{
	"attn1", "attn2", "ff",
	"full_attn", "full_ff", "full_ff_context",
	"single_attn", "single_proj_mlp", "single_proj_out",
}

// String returns the component's name in ECAD's files.
func (c Component) String() string {
	if c < numComponents {
		return componentNames[c]
	}
	return "component(" + strconv.Itoa(int(c)) + ")"
}

// MarshalText writes the component's name in ECAD's files.
func (c Component) MarshalText() ([]byte, error) {
	if c >= numComponents {
		return nil, fmt.Errorf("ecadx/schedule: unknown component %d", uint8(c))
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (c *Component) UnmarshalText(text []byte) error {
	parsed, err := ParseComponent(string(text))
	if err == nil {
		*c = parsed
	}
	return err
}

// ParseComponent reads a component's name in ECAD's files, such as "attn1".
func ParseComponent(name string) (Component, error) {
	for i, n := range componentNames {
		if name == n {
			return Component(i), nil
		}
	}
	return 0, fmt.Errorf("ecadx/schedule: unknown component %q: use one of %s",
		name, strings.Join(componentNames[:], ", "))
}

// Kind returns the kind of block the component belongs to.
func (c Component) Kind() BlockKind { return BlockKind(c / ComponentsPerBlock) }

// Index returns the component's place in its block, 0 to 2.
func (c Component) Index() int { return int(c % ComponentsPerBlock) }

// Decision says what happens at one cell of a schedule.
type Decision uint8

// The decisions.
const (
	Compute Decision = iota // run the component and keep its output
	Reuse                   // take the output kept last
)

// String names the decision.
func (d Decision) String() string {
	switch d {
	case Compute:
		return "compute"
	case Reuse:
		return "reuse"
	}
	return "decision(" + strconv.Itoa(int(d)) + ")"
}

// MarshalText writes "compute" or "reuse".
func (d Decision) MarshalText() ([]byte, error) {
	if d != Compute && d != Reuse {
		return nil, fmt.Errorf("ecadx/schedule: unknown decision %d", uint8(d))
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *Decision) UnmarshalText(text []byte) error {
	switch string(text) {
	case "compute":
		*d = Compute
	case "reuse":
		*d = Reuse
	default:
		return fmt.Errorf("ecadx/schedule: unknown decision %q: use compute or reuse", text)
	}
	return nil
}
