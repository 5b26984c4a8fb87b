package mini

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"strings"
)

// relation says where one object stands as seen from another one.
type relation uint8

const (
	leftOf relation = iota
	rightOf
	above
	below
)

// The grammar, the same as in train/scenes.py. Each caption names the objects, in either order, and the background,
// in one of four places.
var (
	sizeWords = [sizeCount][]string{{"small", "tiny", "little"}, {"large", "big"}}
	// between stands between the objects: the first one is there as seen from the second one.
	between = [...][]string{{"to the left of", "left of"}, {"to the right of", "right of"}, {"above", "over"}, {"below", "under"}}
	// trailing stands behind "A with B": B is there as seen from A.
	trailing = [...]string{"to its left", "to its right", "above it", "below it"}
)

// trailingShare is the share of the captions of two objects that use the trailing form.
const trailingShare = 0.3

// Caption describes the scene in one of its paraphrases, drawn from rng. ParseScene of it gives the scene again.
func (s Scene) Caption(rng *rand.Rand) string {
	phrase := func(o Object) string {
		words := sizeWords[o.Size]
		return "a " + words[rng.IntN(len(words))] + " " + o.Colour.String() + " " + o.Shape.String()
	}
	core := ""
	if s.Layout == Single {
		core = phrase(s.A)
	} else {
		where, opposite := leftOf, rightOf // where A is as seen from B
		if s.Layout == Stacked {
			where, opposite = above, below
		}
		first, second := s.A, s.B
		if rng.IntN(2) == 1 {
			first, second, where, opposite = second, first, opposite, where
		}
		if rng.Float64() < trailingShare {
			core = phrase(first) + " with " + phrase(second) + " " + trailing[opposite]
		} else {
			words := between[where]
			core = phrase(first) + " " + words[rng.IntN(len(words))] + " " + phrase(second)
		}
	}
	ground := s.Background.String()
	switch rng.IntN(4) {
	case 0:
		return "on a " + ground + " background, " + core
	case 1:
		return core + " on a " + ground + " background"
	case 2:
		return core + ", " + ground + " background"
	default:
		return core + " against a " + ground + " background"
	}
}

// ParseScene reads a caption of the grammar, in any of its paraphrases, whatever its case and outer space. The error
// quotes the caption and says which part is not of the grammar.
func ParseScene(caption string) (Scene, error) {
	p := parser{words: strings.Fields(strings.ToLower(strings.ReplaceAll(caption, ",", " , ")))}
	scene, err := p.scene()
	if err != nil {
		if len(caption) > 200 {
			caption = caption[:200] + "..."
		}
		return Scene{}, fmt.Errorf("ecadx/mini: caption %q: %w", caption, err)
	}
	return scene, nil
}

type parser struct{ words []string }

// accept consumes the words of text if they come next.
func (p *parser) accept(text string) bool {
	want := strings.Fields(text)
	if len(p.words) < len(want) {
		return false
	}
	for i, w := range want {
		if p.words[i] != w {
			return false
		}
	}
	p.words = p.words[len(want):]
	return true
}

// one consumes one of the words and returns its index.
func (p *parser) one(kind string, words []string) (int, error) {
	for i, w := range words {
		if p.accept(w) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("want %s (%s), found %s", kind, strings.Join(words, ", "), p.next())
}

func (p *parser) next() string {
	if len(p.words) == 0 {
		return "its end"
	}
	return fmt.Sprintf("%.40q", p.words[0])
}

func (p *parser) scene() (Scene, error) {
	var s Scene
	var err error
	leading := p.accept("on a")
	if leading {
		if s.Background, err = p.background(); err != nil {
			return s, err
		}
		if !p.accept(",") {
			return s, fmt.Errorf("want a comma after the background, found %s", p.next())
		}
	}
	if s.A, err = p.object(); err != nil {
		return s, err
	}
	if err = p.second(&s); err != nil {
		return s, err
	}
	if !leading {
		if !p.accept("on a") && !p.accept(",") && !p.accept("against a") {
			return s, fmt.Errorf("want a relation or a background (on a ..., against a ...), found %s", p.next())
		}
		if s.Background, err = p.background(); err != nil {
			return s, err
		}
	}
	if len(p.words) > 0 {
		return s, fmt.Errorf("%s is left over", p.next())
	}
	return s, nil
}

func (p *parser) background() (Background, error) {
	i, err := p.one("a background", backgroundNames[:])
	if err == nil && !p.accept("background") {
		err = fmt.Errorf("want the word background, found %s", p.next())
	}
	return Background(i), err
}

func (p *parser) object() (Object, error) {
	var o Object
	if !p.accept("a") {
		return o, fmt.Errorf("want an object (a SIZE COLOUR SHAPE), found %s", p.next())
	}
	i, err := p.one("a size", []string{"small", "tiny", "little", "large", "big"})
	if err != nil {
		return o, err
	}
	if i >= len(sizeWords[Small]) {
		o.Size = Large
	}
	if i, err = p.one("a colour", colourNames[:]); err != nil {
		return o, err
	}
	o.Colour = Colour(i)
	i, err = p.one("a shape", shapeNames[:])
	o.Shape = Shape(i)
	return o, err
}

// second reads the relation and the second object, if there are any, and puts both objects in order.
func (p *parser) second(s *Scene) error {
	var err error
	if p.accept("with") {
		if s.B, err = p.object(); err != nil {
			return err
		}
		for r, text := range trailing {
			if p.accept(text) {
				s.arrange(relation(r) ^ 1) // where the first one is as seen from the second one
				return nil
			}
		}
		return fmt.Errorf("want where the second object is (%s), found %s", strings.Join(trailing[:], ", "), p.next())
	}
	for r, texts := range between {
		for _, text := range texts {
			if p.accept(text) {
				s.B, err = p.object()
				s.arrange(relation(r))
				return err
			}
		}
	}
	return nil
}

// arrange sets the layout, given where A stands as seen from B, and swaps them if B comes first.
func (s *Scene) arrange(r relation) {
	s.Layout = Beside
	if r == above || r == below {
		s.Layout = Stacked
	}
	if r == rightOf || r == below {
		s.A, s.B = s.B, s.A
	}
}

// Captions returns count captions of scenes whose colour-shape pairs the miniature was trained on, one object in a
// quarter of them: the built-in prompts of a search. Equal arguments give equal lists, on every platform; a longer
// list begins with the shorter one.
func Captions(count int, seed uint64) []string { return captions(count, seed, pairs(false)) }

// MaxSplitCaptions is how many captions SplitCaptions gives in all: of some 8,000 scenes, so few that drawing them at random finds them all.
const MaxSplitCaptions = 4096

// SplitCaptions returns two lists of captions of which no two describe one scene, so that no paraphrase of a caption that is searched on is held
// out. A longer first list begins with the shorter one. More than MaxSplitCaptions in all is an error.
func SplitCaptions(count, heldOut int) (search, held []string, err error) {
	if count < 0 || heldOut < 0 || count+heldOut > MaxSplitCaptions {
		return nil, nil, fmt.Errorf("ecadx/mini: %d and %d captions of different scenes: there are at most %d", count, heldOut, MaxSplitCaptions)
	}
	seen := map[Scene]bool{}
	draw := func(want int, seed uint64) []string {
		var list []string
		for n := 2 * want; len(list) < want; n *= 2 {
			list = distinctScenes(Captions(n, seed), want, seen)
		}
		for _, text := range list {
			if scene, err := ParseScene(text); err == nil {
				seen[scene] = true
			}
		}
		return list
	}
	search = draw(count, 0)
	return search, draw(heldOut, 1), nil
}

// distinctScenes returns the first captions, at most want, whose scenes differ from one another and from those seen.
func distinctScenes(captions []string, want int, seen map[Scene]bool) []string {
	var list []string
	here := map[Scene]bool{}
	for _, text := range captions {
		scene, err := ParseScene(text)
		if err == nil && !seen[scene] && !here[scene] && len(list) < want {
			here[scene] = true
			list = append(list, text)
		}
	}
	return list
}

func captions(count int, seed uint64, choices []Pair) []string {
	rng := rand.New(rand.NewPCG(seed, 0x6d696e69)) // "mini"
	out := make([]string, count)
	for i := range out {
		out[i] = randomScene(rng, choices).Caption(rng)
	}
	return out
}

//go:embed heldout.txt
var heldOutText string

// HeldOutCaptions returns the 500 captions on which the miniature is judged: every object in them is of a
// colour-shape pair that training never showed. Picture i is drawn from seed i.
func HeldOutCaptions() []string { return strings.Split(strings.TrimSpace(heldOutText), "\n") }
