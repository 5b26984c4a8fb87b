package noise

import "math"

// fma returns a*b + c rounded once to float32. The product of two float32 is exact in float64; the sum is rounded to odd
// there, which keeps enough of the lost bits for the second rounding to be right (Boldo and Melquiond, "Emulation of FMA
// and correctly rounded sums", 2008).
func fma(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	// Knuth's two-sum: s + rest is exactly p + q. The conversions keep the compiler from fusing.
	z := float64(s - p)
	rest := float64(p-float64(s-z)) + float64(q-z)
	if rest != 0 && !math.IsInf(s, 0) {
		if bits := math.Float64bits(s); bits&1 == 0 {
			if (rest > 0) == (s > 0) {
				bits++
			} else {
				bits--
			}
			s = math.Float64frombits(bits)
		}
	}
	return float32(s)
}

// horner continues y = y*x + k, fused, over the coefficients.
func horner(y, x float32, coefficients ...float32) float32 {
	for _, k := range coefficients {
		y = fma(y, x, k)
	}
	return y
}

// logf is avx_mathfun's log256_ps for x in (0, 1].
func logf(x float32) float32 {
	bits := math.Float32bits(x)
	e := float32(int32(bits>>23) - 126)
	m := math.Float32frombits(bits&0x007fffff | 0x3f000000) // in [0.5, 1)
	if m < 0.707106781186547524 {
		e--
		m = (m - 1) + m
	} else {
		m--
	}
	z := float32(m * m)
	y := horner(7.0376836292e-2, m, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
	y = float32(y * m)
	y = fma(y, z, float32(e*-2.12194440e-4))
	y = fma(-z, 0.5, y)
	return fma(e, 0.693359375, float32(m+y))
}

// sincosf is avx_mathfun's sincos256_ps for x >= 0.
func sincosf(x float32) (sin, cos float32) {
	q := (int32(float32(x*1.27323954473516)) + 1) &^ 1 // octant, rounded up to even
	f := float32(q)
	x = fma(f, -0.78515625, x)
	x = fma(f, -2.4187564849853515625e-4, x)
	x = fma(f, -3.77489497744594108e-8, x)
	z := float32(x * x)
	c := horner(2.443315711809948e-5, z, -1.388731625493765e-3, 4.166664568298827e-2)
	c = float32(c * z)
	c = fma(c, z, -float32(z*0.5)) + 1
	s := horner(-1.9515295891e-4, z, 8.3321608736e-3, -1.6666654611e-1)
	s = float32(s * z)
	s = fma(s, x, x)
	if q&2 != 0 {
		s, c = c, s
	}
	if q&4 != 0 {
		s = -s
	}
	if ^(q-2)&4 != 0 {
		c = -c
	}
	return s, c
}
