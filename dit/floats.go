package dit

import (
	"fmt"

	ecad "ecadx/cgo"
)

// writeFloats writes values to an io of the program, in the io's own dtype.
func writeFloats(s *ecad.State, p *ecad.Program, name string, src []float32) error {
	if io, ok := p.IO(name); !ok || io.DType != ecad.Float64 {
		return ecad.Write(s, name, src) // an unknown name is the library's error
	}
	wide := make([]float64, len(src))
	for i, v := range src {
		wide[i] = float64(v)
	}
	return ecad.Write(s, name, wide)
}

// readFloats reads a whole io of the program, rounding float64 to float32.
func readFloats(s *ecad.State, p *ecad.Program, name string) ([]float32, error) {
	io, ok := p.IO(name)
	if !ok {
		return nil, fmt.Errorf("the program has no %s", name)
	}
	dst := make([]float32, elements(io.Shape))
	if io.DType != ecad.Float64 {
		return dst, ecad.Read(s, name, dst)
	}
	wide := make([]float64, len(dst))
	if err := ecad.Read(s, name, wide); err != nil {
		return nil, err
	}
	for i, v := range wide {
		dst[i] = float32(v)
	}
	return dst, nil
}
