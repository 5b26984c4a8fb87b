package dit

import (
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"sync"
)

// The generator of `random:` models and of the goldens under testdata; testdata/ecadrand.py makes the same bits.
//
// Element i of the tensor called name under seed comes from one 64-bit word
//
//	key  = mix(seed + G) ^ fnv1a64(name)    G = 0x9E3779B97F4A7C15, modulo 2^64
//	word = mix(key + (i + 1) * G)           mix: the finaliser of splitmix64 (Steele, Lea, Flood 2014)
//
// Its four 16-bit parts are summed and centred: an integer with mean 0 and variance (2^32 - 1) / 3, close to normal
// (Irwin-Hall). The value is mean + s * float32(std / sqrt(variance)), each operation rounded once to float32; s is exact
// in float32, so every machine gets the same bits.
const goldenGamma = 0x9E3779B97F4A7C15

func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// randomKey starts the stream of one tensor.
func randomKey(seed uint64, name string) uint64 {
	h := uint64(0xCBF29CE484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001B3
	}
	return mix64(seed+goldenGamma) ^ h
}

// randomWord is word i of the stream, counting from 0.
func randomWord(key uint64, i int) uint64 { return mix64(key + uint64(i+1)*goldenGamma) }

// distribution is what the values of a tensor are drawn from.
type distribution struct{ std, mean float64 }

// weightDistribution gives matrices and convolutions 1/sqrt(fan in), so that activations keep their size in any dtype;
// modulation tables 0.25, so that gates are neither 0 nor 1; biases 0.1; the weights of norms 1 with 0.1.
func weightDistribution(name string, shape []int64) distribution {
	switch {
	case strings.HasSuffix(name, "scale_shift_table"):
		return distribution{std: 0.25}
	case len(shape) > 1:
		fan := int64(1)
		for _, d := range shape[1:] {
			fan *= d
		}
		return distribution{std: 1 / math.Sqrt(float64(fan))}
	case strings.HasSuffix(name, "bias"):
		return distribution{std: 0.1}
	}
	return distribution{std: 0.1, mean: 1}
}

// value is element i of the stream.
func (d distribution) value(key uint64, i int) float32 {
	w := randomWord(key, i)
	s := int32(w&0xFFFF+w>>16&0xFFFF+w>>32&0xFFFF+w>>48) - 131070
	v := float32(s) * d.scale()
	if d.mean != 0 {
		v = float32(v) + float32(d.mean) // the conversion keeps the compiler from fusing
	}
	return v
}

// randomSD is the standard deviation of the sum of four 16-bit parts.
var randomSD = math.Sqrt((1<<32 - 1) / 3.0)

func (d distribution) scale() float32 { return float32(d.std / randomSD) }

// fillRandom writes elements first, first+1, ... of the tensor as little-endian float32.
func fillRandom(dst []byte, seed uint64, name string, first int, d distribution) {
	key := randomKey(seed, name)
	for i := range len(dst) / 4 {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(d.value(key, first+i)))
	}
}

// fillRandomParallel does the same for a whole tensor on all cores.
func fillRandomParallel(dst []byte, seed uint64, name string, d distribution) {
	const chunk = 1 << 20
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for at := 0; at < len(dst); at += chunk {
		part := dst[at:min(at+chunk, len(dst))]
		slots <- struct{}{}
		wg.Go(func() {
			fillRandom(part, seed, name, at/4, d)
			<-slots
		})
	}
	wg.Wait()
}
