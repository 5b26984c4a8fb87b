package study

import (
	"fmt"
	"math"
	"strings"
)

// lostShare is the part of the uncached quality that a baseline must have lost before the front has to be better than it.
const lostShare = 0.05

// Verdict says how a front stands against its baselines on held-out prompts. A comparison counts beyond its 95 % interval.
type Verdict struct {
	// Worse are the comparisons in which the front is worse.
	Worse []FrontComparison
	// NotBetter are those with a baseline that has lost at least 5 % of the uncached quality, that no other baseline equals at no more
	// cost, and that the front does not surpass.
	NotBetter []FrontComparison
	// Compared is the number of comparisons, Demanding the number of those in which the front has to be better.
	Compared, Demanding int
	// Unreached are the baselines that cost less than every schedule of the front.
	Unreached []FrontEntry
}

// Holds reports that the front is nowhere worse, and better wherever the best baseline has lost quality. It is false where nothing was
// compared.
func (v Verdict) Holds() bool { return v.Compared > 0 && len(v.Worse) == 0 && len(v.NotBetter) == 0 }

// Verdict judges the front by its comparisons.
func (f *Front) Verdict() Verdict {
	v := Verdict{Compared: len(f.HeldOut.Comparisons)}
	baselines := map[string]FrontEntry{}
	cheapest := math.Inf(1)
	for _, e := range f.Front {
		cheapest = min(cheapest, e.Cost)
	}
	for _, b := range f.Baselines {
		baselines[b.Hash] = b
		if b.HeldOutQuality != nil && b.Cost < cheapest {
			v.Unreached = append(v.Unreached, b)
		}
	}
	for _, c := range f.HeldOut.Comparisons {
		if !(c.CI95[1] >= 0) {
			v.Worse = append(v.Worse, c)
		}
		if f.demanding(baselines[c.Baseline]) {
			v.Demanding++
			if !(c.CI95[0] > 0) {
				v.NotBetter = append(v.NotBetter, c)
			}
		}
	}
	return v
}

// demanding tells whether a baseline is the best at its cost and has lost so much that the front has to be better.
func (f *Front) demanding(b FrontEntry) bool {
	top := f.Uncached.HeldOutQuality
	if top == nil || b.HeldOutQuality == nil || *top-*b.HeldOutQuality < lostShare*math.Abs(*top) {
		return false
	}
	for _, o := range f.Baselines {
		if o.Hash != b.Hash && o.HeldOutQuality != nil && o.Cost <= b.Cost && *o.HeldOutQuality >= *b.HeldOutQuality &&
			(o.Cost < b.Cost || *o.HeldOutQuality > *b.HeldOutQuality) {
			return false
		}
	}
	return true
}

// Text says the verdict in a sentence or two; name gives the name of a baseline by its hash.
func (v Verdict) Text(name func(hash string) string) string {
	if v.Compared == 0 {
		return "Nothing was compared: there are no held-out prompts, or no baseline that the front reaches."
	}
	list := func(c []FrontComparison) string {
		var names []string
		for _, x := range c {
			if x.Baseline == x.Front {
				names = append(names, name(x.Baseline)+" (which is part of it)")
			} else {
				names = append(names, fmt.Sprintf("%s (%+.4g, %.4g to %.4g)", name(x.Baseline), x.Difference, x.CI95[0], x.CI95[1]))
			}
		}
		return strings.Join(names, ", ")
	}
	text := fmt.Sprintf("Of %d baselines at equal cost, the front is worse than none beyond the 95 %% interval.", v.Compared)
	if len(v.Worse) > 0 {
		text = fmt.Sprintf("Of %d baselines at equal cost, the front is worse beyond the 95 %% interval than %s.", v.Compared, list(v.Worse))
	}
	switch better := v.Demanding - len(v.NotBetter); {
	case v.Demanding == 0:
		text += " No best baseline has lost 5 % of the uncached quality."
	case len(v.NotBetter) > 0:
		text += fmt.Sprintf(" Of the %d that are the best at their cost and have lost 5 %% of the uncached quality, it is better beyond the interval than %d, but not than %s.",
			v.Demanding, better, list(v.NotBetter))
	default:
		text += fmt.Sprintf(" It is better beyond the interval than all %d that are the best at their cost and have lost 5 %% of the uncached quality.", v.Demanding)
	}
	if n := len(v.Unreached); n > 0 {
		text += fmt.Sprintf(" %d cost less than every schedule of the front and are compared with none.", n)
	}
	return text
}

// BaselineName is the name of the baseline of a hash, or the hash's beginning.
func (f *Front) BaselineName(hash string) string {
	for _, b := range f.Baselines {
		if b.Hash == hash && b.Name != "" {
			return b.Name
		}
	}
	return hash[:min(12, len(hash))]
}
