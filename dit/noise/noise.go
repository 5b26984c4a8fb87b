package noise

import "math"

// Generator is torch's CPU generator. It is not safe for use by several goroutines at a time.
type Generator struct {
	mt        mt19937
	cached    float64 // the second value of the last float64 pair
	hasCached bool
}

// New returns a generator in the state of torch.Generator("cpu").manual_seed(seed). Only the low 32 bits of the seed count,
// as in torch.
func New(seed int64) *Generator {
	g := &Generator{}
	g.mt.seed(uint32(seed))
	return g
}

// group is the number of values one Box-Muller group makes; shorter draws go another way.
const group = 16

// Normal fills dst with the values that torch.randn(len(dst), generator=g, dtype=torch.float32) returns next; a tensor of
// any shape is drawn as one array in row-major order. Consecutive draws continue the stream, but two draws are not one draw
// of the sum of their lengths.
func (g *Generator) Normal(dst []float32) {
	if len(dst) < group {
		for i := range dst {
			dst[i] = float32(g.normal64())
		}
		return
	}
	g.uniform(dst)
	for i := 0; i+group <= len(dst); i += group {
		boxMuller((*[group]float32)(dst[i:]))
	}
	if len(dst)%group != 0 { // torch draws the last 16 again
		last := dst[len(dst)-group:]
		g.uniform(last)
		boxMuller((*[group]float32)(last))
	}
}

// uniform fills dst with multiples of 2^-24 in [0, 1), one 32-bit word each.
func (g *Generator) uniform(dst []float32) {
	for i := range dst {
		dst[i] = float32(g.mt.uint32()&(1<<24-1)) * 0x1p-24
	}
}

// boxMuller turns 16 uniform values into normal ones: element j and j+8 are one pair.
func boxMuller(v *[group]float32) {
	const twoPi = float32(6.283185307179586)
	for j := range group / 2 {
		u1 := 1 - v[j]
		radius := float32(math.Sqrt(float64(-2 * logf(u1)))) // a float64 root rounded to float32 is correctly rounded
		sin, cos := sincosf(float32(twoPi * v[j+group/2]))
		v[j] = float32(radius*cos) + 0 // torch adds the mean, which makes -0 into 0
		v[j+group/2] = float32(radius*sin) + 0
	}
}

// normal64 is the float64 path: a pair from two 53-bit uniform values, the second kept for the next call.
func (g *Generator) normal64() float64 {
	if g.hasCached {
		g.hasCached = false
		return g.cached
	}
	u1, u2 := g.uniform53(), g.uniform53()
	r := math.Sqrt(-2 * math.Log1p(-u2))
	sin, cos := math.Sincos(2 * math.Pi * u1)
	g.cached, g.hasCached = r*sin, true
	return r * cos
}

func (g *Generator) uniform53() float64 {
	hi := uint64(g.mt.uint32())
	return float64((hi<<32|uint64(g.mt.uint32()))&(1<<53-1)) * 0x1p-53
}
