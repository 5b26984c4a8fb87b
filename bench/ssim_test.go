package bench

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"
)

// slowSSIM is SSIM by its definition: windows one by one, in two dimensions, variances about their means.
func slowSSIM(a, b *image.NRGBA) float64 {
	w, h := a.Rect.Dx(), a.Rect.Dy()
	total, n := 0.0, 0
	for c := range 3 {
		at := func(m *image.NRGBA, x, y int) float64 { return float64(m.Pix[y*m.Stride+4*x+c]) }
		for y0 := range h - 10 {
			for x0 := range w - 10 {
				var weights, mx, my, sxx, syy, sxy float64
				each := func(f func(weight, p, q float64)) {
					for y := range 11 {
						for x := range 11 {
							dx, dy := float64(x-5), float64(y-5)
							f(math.Exp(-(dx*dx+dy*dy)/4.5), at(a, x0+x, y0+y), at(b, x0+x, y0+y))
						}
					}
				}
				each(func(k, p, q float64) { weights, mx, my = weights+k, mx+k*p, my+k*q })
				mx, my = mx/weights, my/weights
				each(func(k, p, q float64) {
					sxx, syy, sxy = sxx+k*(p-mx)*(p-mx)/weights, syy+k*(q-my)*(q-my)/weights, sxy+k*(p-mx)*(q-my)/weights
				})
				c1, c2 := math.Pow(0.01*255, 2), math.Pow(0.03*255, 2)
				total += (2*mx*my + c1) * (2*sxy + c2) / ((mx*mx + my*my + c1) * (sxx + syy + c2))
				n++
			}
		}
	}
	return total / float64(n)
}

func TestSSIM(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(w, h, from, to int) *image.NRGBA {
		m := image.NewNRGBA(image.Rect(0, 0, w, h))
		for i := range m.Pix {
			m.Pix[i] = uint8(from + r.IntN(to-from))
		}
		return m
	}
	for _, size := range [][2]int{{11, 11}, {12, 11}, {17, 30}, {40, 13}} {
		a, b := noise(size[0], size[1], 0, 256), noise(size[0], size[1], 100, 140)
		near := image.NewNRGBA(a.Rect)
		for i, v := range a.Pix {
			near.Pix[i] = v/2 + 50
		}
		for _, other := range []*image.NRGBA{a, b, near} {
			got, err := SSIM(a, other)
			if want := slowSSIM(a, other); err != nil || !(math.Abs(got-want) <= 1e-9) {
				t.Errorf("%v: %v, %v, want %v", size, got, err, want)
			}
			if back, _ := SSIM(other, a); !(math.Abs(got-back) <= 1e-12) {
				t.Errorf("%v: %v one way, %v the other", size, got, back)
			}
		}
		if same, _ := SSIM(a, a); !(math.Abs(same-1) <= 1e-12) {
			t.Errorf("%v: %v to itself", size, same)
		}
	}
	for _, sizes := range [][4]int{{10, 20, 10, 20}, {20, 10, 20, 10}, {12, 12, 12, 13}} {
		if v, err := SSIM(noise(sizes[0], sizes[1], 0, 9), noise(sizes[2], sizes[3], 0, 9)); err == nil {
			t.Errorf("%v: %v", sizes, v)
		}
	}
}
