package mini

import "math"

// Limits of the strict judgement.
const (
	leastFit     = 0.6  // intersection over union of an object with its best template
	extraShare   = 0.12 // a further component may have so much of the coloured area
	leastArea    = 20   // pixels of an object
	middleRadius = 10.5 // between small and large
)

// component is a connected set of pixels of one label.
type component struct {
	label uint8
	id    uint16
	count int
	x, y  float64 // centroid
}

// strict looks for the first fault of the picture.
func (j *judge) strict(s Scene) Fault {
	ground := uint8(colourCount) + uint8(s.Background)
	if j.classify(ground) <= pixelCount/2 {
		return WrongBackground
	}
	j.findComponents(ground)
	var found [2]*component
	var coloured int
	for i, o := range [2]Object{s.A, s.B} {
		if i == s.Objects() {
			break
		}
		for k := range j.components {
			c := &j.components[k]
			if c.label == uint8(o.Colour) && (found[i] == nil || c.count > found[i].count) {
				found[i] = c
			}
		}
		if found[i] == nil || found[i].count < leastArea {
			return MissingObject
		}
		coloured += found[i].count
	}
	for i, o := range [2]Object{s.A, s.B} {
		if i == s.Objects() {
			break
		}
		shape, radius, fit := j.identify(found[i])
		if shape != o.Shape || !(fit >= leastFit) {
			return WrongShape
		}
		if (radius >= middleRadius) != (o.Size == Large) {
			return WrongSize
		}
	}
	if s.Layout != Single && !stand(s.Layout, found[0], found[1]) {
		return WrongRelation
	}
	for k := range j.components {
		c := &j.components[k]
		if c != found[0] && c != found[1] && float64(c.count) > extraShare*float64(coloured) {
			return ExtraObject
		}
	}
	return None
}

// stand reports whether a is left of b, or above it: further apart in that direction than in the other one.
func stand(l Layout, a, b *component) bool {
	dx, dy := b.x-a.x, b.y-a.y
	if l == Stacked {
		dx, dy = dy, dx
	}
	return dx > math.Abs(dy)
}

// classify labels each pixel with the nearest palette colour and returns how many have the label ground.
func (j *judge) classify(ground uint8) int {
	count := 0
	for i := range j.pixels {
		p, best, least := &j.pixels[i], 0, math.Inf(1)
		for label := range paletteSize {
			c := palette(label)
			var squared float64
			for k, v := range c {
				d := p[k] - float64(v)
				squared += d * d
			}
			if squared < least {
				best, least = label, squared
			}
		}
		j.labels[i] = uint8(best)
		if uint8(best) == ground {
			count++
		}
	}
	return count
}

// findComponents finds the 4-connected components of every label but the background's, after an opening by 2x2
// pixels, which removes the one pixel wide fringes of mixed colours around objects.
func (j *judge) findComponents(ground uint8) {
	j.components = j.components[:0]
	clear(j.parts[:])
	for label := range uint8(paletteSize) {
		if label == ground {
			continue
		}
		clear(j.mask[:])
		for y := range PictureSize - 1 {
			for x := range PictureSize - 1 {
				i := y*PictureSize + x
				if j.labels[i] == label && j.labels[i+1] == label && j.labels[i+PictureSize] == label && j.labels[i+PictureSize+1] == label {
					j.mask[i], j.mask[i+1], j.mask[i+PictureSize], j.mask[i+PictureSize+1] = true, true, true, true
				}
			}
		}
		for i := range j.mask {
			if j.mask[i] && j.parts[i] == 0 {
				j.components = append(j.components, j.flood(int32(i), label, uint16(len(j.components)+1)))
			}
		}
	}
}

// flood marks the component of pixel start and measures it.
func (j *judge) flood(start int32, label uint8, id uint16) component {
	c := component{label: label, id: id}
	j.parts[start] = id
	j.stack = append(j.stack[:0], start)
	visit := func(i int32) {
		if j.mask[i] && j.parts[i] == 0 {
			j.parts[i] = id
			j.stack = append(j.stack, i)
		}
	}
	for len(j.stack) > 0 {
		i := j.stack[len(j.stack)-1]
		j.stack = j.stack[:len(j.stack)-1]
		x, y := int(i%PictureSize), int(i/PictureSize)
		c.count++
		c.x += float64(x) + 0.5
		c.y += float64(y) + 0.5
		if x > 0 {
			visit(i - 1)
		}
		if x < PictureSize-1 {
			visit(i + 1)
		}
		if y > 0 {
			visit(i - PictureSize)
		}
		if y < PictureSize-1 {
			visit(i + PictureSize)
		}
	}
	c.x /= float64(c.count)
	c.y /= float64(c.count)
	return c
}

// filledArea is the area of each shape of radius 1.
var filledArea = [shapeCount]float64{math.Pi, 1.72 * 1.72, 0.56 * 0.56 * 5.196152422706632, 0.75 * math.Pi}

// identify fits a template of every shape to a component and returns the best one, its radius in pixels and the
// intersection over union.
func (j *judge) identify(c *component) (Shape, float64, float64) {
	var shape Shape
	var radius, fit float64
	for s := range shapeCount {
		o := Placed{Object{Shape: s}, c.x, c.y, math.Sqrt(float64(c.count) / filledArea[s])}
		value := j.componentOverlap(c, o)
		for step := 1.0; step > 0.2; {
			improved := false
			for k := range 6 {
				next := o
				*[...]*float64{&next.X, &next.Y, &next.R}[k/2] += step * float64(1-2*(k&1))
				if v := j.componentOverlap(c, next); next.R > 1 && v > value {
					o, value, improved = next, v, true
				}
			}
			if !improved {
				step /= 2
			}
		}
		if value > fit {
			shape, radius, fit = s, o.R, value
		}
	}
	return shape, radius, fit
}

// componentOverlap is the soft intersection over union of a template with a component.
func (j *judge) componentOverlap(c *component, o Placed) float64 {
	box := o.box(rect{0, PictureSize, 0, PictureSize})
	var both, own float64
	for y := box.y0; y < box.y1; y++ {
		row := j.parts[y*PictureSize:][:PictureSize]
		dy := float64(y) + 0.5 - o.Y
		for x := box.x0; x < box.x1; x++ {
			a := coverage(o.Shape, float64(x)+0.5-o.X, dy, o.R)
			own += a
			if row[x] == c.id {
				both += a
			}
		}
	}
	return both / (float64(c.count) + own - both)
}
