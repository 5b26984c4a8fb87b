package mini

import (
	"image"
	"math"
	"math/rand/v2"
)

// RGB is an 8-bit sRGB colour.
type RGB [3]uint8

var (
	colourRGB = [colourCount]RGB{{220, 40, 40}, {255, 140, 20}, {250, 220, 40}, {40, 160, 70}, {40, 80, 220}, {130, 50, 170}}
	groundRGB = [backgroundCount]RGB{{245, 245, 245}, {15, 15, 20}, {128, 128, 132}}
)

// Where objects stand, in pixels of a 64-pixel picture: the training set draws centres and radii from these ranges.
const (
	middle = 32.0 // centre of the picture
	before = 17.5 // of the left or upper object of two
	behind = 46.5 // of the right or lower one
	// Centres vary by so much to both sides: towards the other object, across that, and of an object alone.
	alongRange, acrossRange, singleRange = 1.0, 2.0, 3.0
)

// radiusRange are the least and the largest radius of each size.
var radiusRange = [sizeCount][2]float64{{7.5, 8.5}, {12.5, 14.0}}

// area is a range of centres, in pixels.
type area struct{ x0, x1, y0, y1 float64 }

func around(x, dx, y, dy float64) area { return area{x - dx, x + dx, y - dy, y + dy} }

// where returns the centres allowed for object i (0: A, 1: B).
func (s Scene) where(i int) area {
	at := before
	if i == 1 {
		at = behind
	}
	switch s.Layout {
	case Beside:
		return around(at, alongRange, middle, acrossRange)
	case Stacked:
		return around(middle, acrossRange, at, alongRange)
	default:
		return around(middle, singleRange, middle, singleRange)
	}
}

// Placed is an object with its place: centre and radius in pixels of a 64-pixel picture.
type Placed struct {
	Object
	X, Y, R float64
}

// Place draws centre and radius of each object as the training set does.
func (s Scene) Place(rng *rand.Rand) []Placed {
	between := func(lo, hi float64) float64 { return lo + (hi-lo)*rng.Float64() }
	out := make([]Placed, 0, 2)
	for i, o := range [2]Object{s.A, s.B} {
		if i < s.Objects() {
			a, r := s.where(i), radiusRange[o.Size]
			out = append(out, Placed{o, between(a.x0, a.x1), between(a.y0, a.y1), between(r[0], r[1])})
		}
	}
	return out
}

// Render draws the scene with its objects placed at random, [PictureSize] pixels wide and high.
func (s Scene) Render(rng *rand.Rand) *image.RGBA { return Draw(s.Background, s.Place(rng)) }

// Draw draws placed objects, later ones over earlier ones, [PictureSize] pixels wide and high. Edges are smooth: a
// pixel is covered by clip(0.5 - d, 0, 1), d the signed distance of its centre from the outline.
func Draw(background Background, objects []Placed) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, PictureSize, PictureSize))
	for y := range PictureSize {
		for x := range PictureSize {
			var colour [3]float64
			for k, v := range groundRGB[background] {
				colour[k] = float64(v)
			}
			for _, o := range objects {
				// float64() keeps compilers from fusing: pictures are equal on every platform.
				a := coverage(o.Shape, float64(x)+0.5-o.X, float64(y)+0.5-o.Y, o.R)
				for k, v := range colourRGB[o.Colour] {
					colour[k] = float64(colour[k]*(1-a)) + float64(a*float64(v))
				}
			}
			at := img.PixOffset(x, y)
			for k, v := range colour {
				img.Pix[at+k] = uint8(math.Floor(v + 0.5))
			}
			img.Pix[at+3] = 255
		}
	}
	return img
}

// coverage is the share of a pixel that a shape of radius r covers; x and y lead from its centre to the pixel's.
func coverage(s Shape, x, y, r float64) float64 { return min(1, max(0, 0.5-distance(s, x, y, r))) }

// distance is the signed distance in pixels of a point from the outline of a shape of radius r centred at the
// origin (y downwards); negative inside. A square's half side is 0.86 r, a triangle's (point up) circumradius is
// 1.12 r, a ring's hole 0.5 r. Near a triangle's corners it is the distance from the nearest side's line.
func distance(s Shape, x, y, r float64) float64 {
	switch s {
	case Circle:
		return math.Sqrt(x*x+y*y) - r
	case Square:
		dx, dy := math.Abs(x)-0.86*r, math.Abs(y)-0.86*r
		if dx > 0 && dy > 0 {
			return math.Sqrt(dx*dx + dy*dy)
		}
		return max(dx, dy)
	case Triangle:
		const cos30 = 0.8660254037844386
		return max(cos30*math.Abs(x)-0.5*y, y) - 0.56*r
	default:
		d := math.Sqrt(x*x + y*y)
		return max(d-r, 0.5*r-d)
	}
}
