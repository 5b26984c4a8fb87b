package program

import "fmt"

// DType is the type of a tensor's elements, with the values of the program format.
type DType uint32

// Any is the dtype of weights: as the checkpoint stores them.
const (
	Any DType = iota
	Float32
	BFloat16
	Float16
	Float64
	Int32
	Uint8
	numDTypes
)

var dtypeNames = [numDTypes]string{"any", "f32", "bf16", "f16", "f64", "i32", "u8"}
var dtypeSizes = [numDTypes]int64{0, 4, 2, 2, 8, 4, 1}

func (d DType) String() string { return enumName(dtypeNames[:], int64(d), "dtype") }

// Size is the bytes of one element, 0 for Any.
func (d DType) Size() int64 {
	if d < numDTypes {
		return dtypeSizes[d]
	}
	return 0
}

// IsFloat says whether d can be an operand of arithmetic; weights of dtype Any can.
func (d DType) IsFloat() bool { return d < numDTypes && d != Int32 && d != Uint8 }

// BufferKind says where a buffer lives and for how long.
type BufferKind uint32

const (
	Arena      BufferKind = iota // scratch of one section
	Persistent                   // one entry of a state
	Constant                     // bytes inside the program
	Weight                       // a tensor of the checkpoint
	numBufferKinds
)

var bufferKindNames = [numBufferKinds]string{"arena", "persistent", "constant", "weight"}

func (k BufferKind) String() string { return enumName(bufferKindNames[:], int64(k), "buffer kind") }

// SectionKind says what a section is for.
type SectionKind uint32

const (
	Prologue SectionKind = iota // once per prompt batch
	Step                        // one denoising step
	Other                       // encoders, decoders
	numSectionKinds
)

var sectionKindNames = [numSectionKinds]string{"prologue", "step", "other"}

func (k SectionKind) String() string { return enumName(sectionKindNames[:], int64(k), "section kind") }

// Direction says who writes an io tensor: the caller (input), the program (output) or both.
type Direction uint32

const (
	In    Direction = 1
	Out   Direction = 2
	InOut Direction = 3
)

var directionNames = [...]string{"?", "in", "out", "in+out"}

func (d Direction) String() string { return enumName(directionNames[:], int64(d), "direction") }

// Opcode is the kind of an op, with the values of the program format.
type Opcode uint32

const (
	OpCopy Opcode = iota + 1
	OpLinear
	OpGatedLinear
	OpAttention
	OpChain
	OpPatchEmbed
	OpUnpatchify
	OpTimestepEmbed
	OpEmbedding
	OpLincomb
	OpAdd
	OpUnary
	OpConv2D
	OpGroupNorm
	OpUpsample
	OpPermute
	OpQKNormRope
	numOpcodes
)

var opcodeNames = [numOpcodes]string{"?", "copy", "linear", "gated_linear", "attention", "chain", "patch_embed", "unpatchify",
	"timestep_embed", "embedding", "lincomb", "add", "unary", "conv2d", "group_norm", "upsample", "permute",
	"qk_norm_rope"}

func (c Opcode) String() string { return enumName(opcodeNames[:], int64(c), "opcode") }

// Act is an activation function.
type Act int32

const (
	NoAct     Act = iota
	GeluTanh      // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
	GeluErf       // 0.5 x (1 + erf(x / sqrt 2))
	SiLU          // x / (1 + exp(-x))
	QuickGelu     // x / (1 + exp(-1.702 x))
	ReLU
	numActs
)

var actNames = [numActs]string{"none", "gelu_tanh", "gelu_erf", "silu", "quick_gelu", "relu"}

func (a Act) String() string { return enumName(actNames[:], int64(a), "act") }

// Norm is the normalisation over the last dim that ends a chain.
type Norm int32

const (
	NoNorm Norm = iota
	LayerNorm
	RMSNorm
	numNorms
)

var normNames = [numNorms]string{"none", "layer", "rms"}

func (n Norm) String() string { return enumName(normNames[:], int64(n), "norm") }

// PatchOrder is the order of a patch's p*p*C values in a token: PQC (PixArt, torch reshape n h w p q c) or CPQ (FLUX).
type PatchOrder int32

const (
	PQC PatchOrder = iota
	CPQ
	numPatchOrders
)

var patchOrderNames = [numPatchOrders]string{"pqc", "cpq"}

func (o PatchOrder) String() string { return enumName(patchOrderNames[:], int64(o), "patch order") }

func enumName(names []string, v int64, kind string) string {
	if v >= 0 && v < int64(len(names)) {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", kind, v)
}
