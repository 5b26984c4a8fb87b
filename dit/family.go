package dit

import (
	"fmt"

	"ecadx/dit/program"
	"ecadx/schedule"
)

// family is what the package knows about the architecture of one opened model. Adding an architecture means one
// implementation of family and one of network, and a line in readFamily.
type family interface {
	// shape is what schedules of this model range over.
	shape(steps int) schedule.Shape
	// tensors are the weights the architecture has; ignored are names that a checkpoint may hold besides.
	tensors() []TensorSpec
	ignored() []string
	defaults() Defaults
	// outputChannels is how many channels one call predicts, with those that a sampler drops.
	outputChannels() int
	// checkSampling says whether a sampler can use the prediction.
	checkSampling() error
	// first is the same architecture with at most n blocks of each kind.
	first(n int) family
	// check says whether the model can run with these sizes.
	check(g geometry) error
	// network starts the code of one program.
	network(b *program.Builder, g geometry) network
}

// network emits the ops of one program. Its prologue is emitted once, then any number of steps.
type network interface {
	// prologue emits what depends on the prompt or on the timestep alone, for all steps.
	prologue()
	// step emits one call of the model on latents [B, Cz, Hz, Wz] and writes the prediction of every row to out
	// [R, channels, Hz, Wz], of which it may leave out the last channels. row holds a decision per block and component in genome order; nil computes everything.
	step(latents program.Tensor, row []schedule.Decision, out program.Tensor)
}

// geometry is the sizes of one program.
type geometry struct {
	batch         int // B, images
	rows          int // R, rows the model runs on: batch, or twice as many with guidance
	height, width int // of the latents
	tokens        int // L, text tokens at most
	conditions    int // rows of micro-conditions: 1 for all alike, or R
	dtype         DType
	timesteps     []float64
}

// DType is the arithmetic of a program.
type DType uint8

// The arithmetics. In bfloat16 the inputs of matrix products, cache slots and cross-attention keys and values are bfloat16; the residual
// stream, modulations and latents stay float32. Float64 is for the reference backend.
const (
	Float32 DType = iota
	BFloat16
	Float64
)

var dtypeNames = [...]string{"float32", "bfloat16", "float64"}

func (d DType) String() string {
	if int(d) < len(dtypeNames) {
		return dtypeNames[d]
	}
	return fmt.Sprintf("dtype %d", d)
}

// ParseDType reads the name of an arithmetic.
func ParseDType(name string) (DType, error) {
	for i, n := range dtypeNames {
		if n == name {
			return DType(i), nil
		}
	}
	return 0, fmt.Errorf("dtype %q: use float32 or bfloat16", name)
}

// activation is the dtype of what feeds matrix products.
func (d DType) activation() program.DType {
	return [...]program.DType{Float32: program.Float32, BFloat16: program.BFloat16, Float64: program.Float64}[d]
}

// stream is the dtype of the residual stream, modulations and latents.
func (d DType) stream() program.DType {
	if d == Float64 {
		return program.Float64
	}
	return program.Float32
}

// Defaults is how a model is run when the user says nothing else.
type Defaults struct {
	Steps          int
	Guidance       float64
	LatentChannels int
	LatentSize     int // native height and width of the latents
	LatentMultiple int // latent height and width are multiples of it
	TextTokens     int // a prompt is cut there
	TextWidth      int // of the embeddings
	// Unmasked: padding of the text takes part in attention, so that all prompts of a batch have equally many tokens and none is dropped.
	Unmasked    bool
	PooledWidth int  // of the pooled embedding of a prompt; 0: the model takes none
	Micro       bool // conditioned on resolution and aspect ratio
}
