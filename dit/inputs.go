package dit

import (
	"fmt"
	"slices"
)

// Prompt is one row of text for the model: the embeddings of the kept tokens, in order. Dropping padding this way is exact: a masked token
// has weight 0 in every softmax. Models of Unmasked text keep it.
type Prompt struct {
	Embeds []float32 // [Tokens, D]
	Tokens int       // at least 1
	Pooled []float32 // [P], of models with a pooled embedding
}

// PackPrompt keeps the tokens whose mask is not 0 of one row of embeddings [len(mask), width]. A mask may have holes, but must keep at
// least one token.
func PackPrompt(embeds []float32, width int, mask []int) (Prompt, error) {
	if width < 1 || len(embeds) != len(mask)*width {
		return Prompt{}, fmt.Errorf("prompt embeddings hold %d values, a mask of %d tokens and width %d needs %d", len(embeds), len(mask), width, len(mask)*width)
	}
	var p Prompt
	for i, keep := range mask {
		switch keep {
		case 0:
		case 1:
			p.Embeds = append(p.Embeds, embeds[i*width:(i+1)*width]...)
			p.Tokens++
		default:
			return Prompt{}, fmt.Errorf("prompt mask holds %d at token %d: it must be 0 or 1", keep, i)
		}
	}
	if p.Tokens == 0 {
		return Prompt{}, fmt.Errorf("prompt mask keeps no token: keep at least one, as the end of text is")
	}
	return p, nil
}

// MicroCondition is the size a micro-conditioned model is told. Source: PixArt-alpha's pipeline.
type MicroCondition struct {
	Height, Width float32 // pixels
	AspectRatio   float32 // height / width
}

// SizeCondition is the micro-condition of an image of that many pixels.
func SizeCondition(height, width int) MicroCondition {
	return MicroCondition{Height: float32(height), Width: float32(width), AspectRatio: float32(float64(height) / float64(width))}
}

// Inputs are one batch of B images.
type Inputs struct {
	Latents       []float32 // [B, Cz, Height, Width]: the noise the sampler starts from
	Height, Width int       // of the latents
	Prompts       []Prompt  // B
	// Negative is what guidance moves away from: B rows, or one for all images; needed with guidance only.
	Negative []Prompt
	// Conditions of micro-conditioned models: one per row (R, unconditional rows first), one per image, one for all, or none, which means 8 times the latent size.
	Conditions []MicroCondition
}

const tokenStep = 16

// sizes checks the inputs against the model and returns what to compile. The length of the text is a property of the longest prompt.
func (in *Inputs) sizes(d Defaults, guided bool) (Sizes, error) {
	b := len(in.Prompts)
	s := Sizes{Batch: b, Height: in.Height, Width: in.Width}
	if b == 0 {
		return s, fmt.Errorf("no prompts: give one per image")
	}
	if n := b * d.LatentChannels * in.Height * in.Width; in.Height < 1 || in.Width < 1 || len(in.Latents) != n {
		return s, fmt.Errorf("latents hold %d values, %d images of %d x %d x %d need %d", len(in.Latents), b, d.LatentChannels, in.Height, in.Width, n)
	}
	if guided && len(in.Negative) != 1 && len(in.Negative) != b {
		return s, fmt.Errorf("%d negative prompts for %d images: give one per image or one for all", len(in.Negative), b)
	}
	all := in.rows(guided)
	longest := 0
	for i, p := range all {
		if p.Tokens < 1 || len(p.Embeds) != p.Tokens*d.TextWidth {
			return s, fmt.Errorf("prompt row %d holds %d values for %d tokens of width %d", i, len(p.Embeds), p.Tokens, d.TextWidth)
		}
		if len(p.Pooled) != d.PooledWidth {
			return s, fmt.Errorf("the pooled embedding of prompt row %d holds %d values, the model reads %d", i, len(p.Pooled), d.PooledWidth)
		}
		if d.Unmasked && p.Tokens != all[0].Tokens {
			return s, fmt.Errorf("prompt row %d has %d tokens, row 0 has %d: the model attends to padding: pad all prompts to one length", i, p.Tokens, all[0].Tokens)
		}
		longest = max(longest, p.Tokens)
	}
	s.TextTokens = d.TextLength(longest)
	if !d.Micro {
		return s, nil
	}
	switch len(in.Conditions) {
	case 0, 1:
	case b, len(all):
		s.RowConditions = slices.ContainsFunc(in.Conditions, func(c MicroCondition) bool { return c != in.Conditions[0] })
	default:
		return s, fmt.Errorf("%d resolutions for %d images: give one per image or one for all", len(in.Conditions), b)
	}
	return s, nil
}

// TextLength is the length to compile for prompts of at most so many tokens. Where padding is masked it is rounded up, so that prompts of similar length
// share a program.
func (d Defaults) TextLength(tokens int) int {
	if d.Unmasked {
		return tokens
	}
	return (tokens + tokenStep - 1) / tokenStep * tokenStep
}

// rows are the prompts in the order of the model's rows: the unconditional half first.
func (in *Inputs) rows(guided bool) []Prompt {
	if !guided {
		return in.Prompts
	}
	all := make([]Prompt, 0, 2*len(in.Prompts))
	for i := range in.Prompts {
		all = append(all, in.Negative[i%len(in.Negative)])
	}
	return append(all, in.Prompts...)
}

// IOTensor is what a program's input of that name is given.
type IOTensor struct {
	Name   string
	Shape  []int
	Floats []float32
	Ints   []int32 // not nil: it is int32
}

// IOTensors are a batch as a program compiled for these sizes takes it. Of the rows of prompt_embeds and prompt_counts the negative prompts come
// first. A batch of other sizes is an error that states both.
func (m *Model) IOTensors(in Inputs, s Sizes, guided bool) ([]IOTensor, error) {
	d := m.Defaults()
	if in.Height != s.Height || in.Width != s.Width || len(in.Prompts) != s.Batch || len(in.Latents) != s.Batch*d.LatentChannels*s.Height*s.Width {
		return nil, fmt.Errorf("a batch of %d prompts and %d latent values of %d x %d, but the program is for %d images of %d x %d x %d",
			len(in.Prompts), len(in.Latents), in.Height, in.Width, s.Batch, d.LatentChannels, s.Height, s.Width)
	}
	if guided && len(in.Negative) == 0 {
		return nil, fmt.Errorf("guidance needs negative prompts: give one per image or one for all")
	}
	rows := in.rows(guided)
	embeds, counts, err := pack(rows, s.TextTokens, d.TextWidth)
	if err != nil {
		return nil, err
	}
	list := []IOTensor{
		{Name: IOLatents, Shape: []int{s.Batch, d.LatentChannels, s.Height, s.Width}, Floats: in.Latents},
		{Name: IOPrompt, Shape: []int{len(rows), s.TextTokens, d.TextWidth}, Floats: embeds},
	}
	if !d.Unmasked {
		list = append(list, IOTensor{Name: IOCounts, Shape: []int{len(rows)}, Ints: counts})
	} else if i := slices.IndexFunc(rows, func(p Prompt) bool { return p.Tokens != s.TextTokens }); i >= 0 {
		return nil, fmt.Errorf("prompt row %d has %d tokens, the program is for %d, padding included: pad it", i, rows[i].Tokens, s.TextTokens)
	}
	if d.PooledWidth > 0 {
		pooled, err := pool(rows, d.PooledWidth)
		if err != nil {
			return nil, err
		}
		list = append(list, IOTensor{Name: IOPooled, Shape: []int{len(rows), d.PooledWidth}, Floats: pooled})
	}
	if !d.Micro {
		return list, nil
	}
	n := 1
	if s.RowConditions {
		n = len(rows)
	}
	resolution, aspect, err := in.conditions(n)
	if err != nil {
		return nil, err
	}
	return append(list, IOTensor{Name: IOResolution, Shape: []int{n, 2}, Floats: resolution}, IOTensor{Name: IOAspectRatio, Shape: []int{n, 1}, Floats: aspect}), nil
}

// pool are the pooled embeddings [R, width].
func pool(rows []Prompt, width int) ([]float32, error) {
	var all []float32
	for i, p := range rows {
		if len(p.Pooled) != width {
			return nil, fmt.Errorf("the pooled embedding of prompt row %d holds %d values, the model reads %d", i, len(p.Pooled), width)
		}
		all = append(all, p.Pooled...)
	}
	return all, nil
}

// pack is prompts as a program takes them: embeddings [R, tokens, width] and counts [R].
func pack(rows []Prompt, tokens, width int) (embeds []float32, counts []int32, err error) {
	embeds = make([]float32, len(rows)*tokens*width)
	counts = make([]int32, len(rows))
	for i, p := range rows {
		if p.Tokens < 1 || p.Tokens > tokens || len(p.Embeds) != p.Tokens*width {
			return nil, nil, fmt.Errorf("prompt row %d has %d tokens and %d values, the program takes 1 to %d tokens of width %d", i, p.Tokens, len(p.Embeds), tokens, width)
		}
		copy(embeds[i*tokens*width:], p.Embeds)
		counts[i] = int32(p.Tokens)
	}
	return embeds, counts, nil
}

// conditions are the micro-conditions of M rows: resolutions [M,2] and aspect ratios [M,1].
func (in *Inputs) conditions(m int) (resolution, aspect []float32, err error) {
	given := in.Conditions
	if len(given) == 0 {
		given = []MicroCondition{SizeCondition(8*in.Height, 8*in.Width)}
	}
	if m%len(given) != 0 && m != 1 {
		return nil, nil, fmt.Errorf("%d resolutions for %d rows", len(given), m)
	}
	for i := range m {
		c := given[i%len(given)]
		resolution = append(resolution, c.Height, c.Width)
		aspect = append(aspect, c.AspectRatio)
	}
	return resolution, aspect, nil
}
