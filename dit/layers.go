package dit

import (
	"ecadx/dit/program"
	"ecadx/schedule"
)

// layers emits the modules that families share.
type layers struct {
	*program.Builder
	act    program.DType // inputs of matrix products, slots, keys and values
	stream program.DType // residual stream, modulations
	width  int           // C
}

func newLayers(b *program.Builder, d DType, width int) layers {
	return layers{Builder: b, act: d.activation(), stream: d.stream(), width: width}
}

// decisions tell which components of a row compute; nil: all.
type decisions []schedule.Decision

func (d decisions) compute(block int, comp schedule.Component) bool {
	return d == nil || d[block*schedule.ComponentsPerBlock+comp.Index()] == schedule.Compute
}

// modulation is row k of a table [S,M,K C] of modulations at the step that runs: [M,C].
func (n *layers) modulation(table program.Tensor, k int) program.Tensor {
	return n.Slice(n.Step(table), 1, k*n.width, (k+1)*n.width)
}

// linear is y = act(x W^T + b) with the weights called key, the rows of several keys stacked. bias says whether there are biases.
func (n *layers) linear(name string, x program.Tensor, act program.Act, bias bool, width int, out program.Tensor, keys ...string) program.Tensor {
	spec := program.LinearSpec{X: []program.Tensor{x}, Act: act}
	for _, key := range keys {
		spec.W = append(spec.W, n.Weight(key+".weight", width, x.Dim(-1)))
		if bias {
			spec.B = append(spec.B, n.Weight(key+".bias", width))
		}
	}
	return n.Linear(name, spec, out)
}

// inAct is x in the dtype that feeds matrix products.
func (n *layers) inAct(name string, x program.Tensor) program.Tensor {
	if n.act == x.DType() {
		return x
	}
	return n.Copy(name, x, n.Activation(n.act, x.Dims()...))
}

// embedding is x [rows,K] through linear_1, SiLU and linear_2 of a key: [rows,width].
func (n *layers) embedding(name, key string, x program.Tensor, width int, out program.Tensor) program.Tensor {
	hidden := n.Activation(n.stream, x.Dim(0), width)
	hidden = n.linear(name+".1", x, program.SiLU, true, width, hidden, key+".linear_1")
	return n.linear(name+".2", hidden, program.NoAct, true, width, out, key+".linear_2")
}

// timestepWidth is the width of the sinusoids of timesteps and sizes.
const timestepWidth = 256

// sinusoids embeds t [rows]: [rows,256]. They are float32 in any arithmetic, as in diffusers: those of large t depend on it.
func (n *layers) sinusoids(name string, t program.Tensor) program.Tensor {
	spec := program.TimestepSpec{CosFirst: true, MaxPeriod: 10000, Scale: 1}
	return n.TimestepEmbed(name+".sinusoid", t, spec, n.Activation(program.Float32, t.Dim(0), timestepWidth))
}

// feedForward is linear, activation, linear of a key, from y [R,N,C] into the slot.
func (n *layers) feedForward(name, key string, y program.Tensor, act program.Act, hidden int, slot program.Tensor) {
	dims := y.Dims()
	dims[2] = hidden
	up := n.linear(name+".up", y, act, true, hidden, n.Activation(n.act, dims...), key+".net.0.proj")
	n.linear(name+".down", up, program.NoAct, true, y.Dim(-1), slot, key+".net.2")
}

// columns are values from to to of each token.
func (n *layers) columns(x program.Tensor, from, to int) program.Tensor {
	return n.Slice(x, 2, from, to)
}
