package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"ecadx/dit"
	"ecadx/dit/safetensors"
)

// manifestInputs is the file that has a tensor for every input of denoise.ecadprog, under the input's name.
type manifestInputs struct {
	manifestFileEntry
	Prompts  []string `json:"prompts"` // image by image
	Negative string   `json:"negative_prompt"`
	Seeds    []int64  `json:"seeds"` // of the noise in latents
}

// promptInputs is what to write into it.
type promptInputs struct {
	prompts  []string
	negative string
}

// inputFlags are those that ask for inputs.
func inputFlags() []cli.Flag {
	return append(commonFlags(flagSeed),
		&cli.StringSliceFlag{Name: "prompt", Aliases: []string{"p"}, Usage: "write the inputs for this `PROMPT`; may be repeated, one per image of the batch"},
		&cli.StringFlag{Name: "prompts", Usage: "`FILE` with a prompt per line, or ECAD's JSON"},
		&cli.StringFlag{Name: "negative", Usage: "`PROMPT` that guidance moves away from"})
}

// readInputs reads the flags; nil: no inputs are wanted. The batch becomes the number of prompts, unless --batch says otherwise.
func (t *task) readInputs(c *cli.Context) (*promptInputs, error) {
	in := &promptInputs{prompts: c.StringSlice("prompt"), negative: c.String("negative")}
	if path := c.String("prompts"); path != "" {
		list, err := readPrompts(path)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			in.prompts = append(in.prompts, p.Text)
		}
	}
	if len(in.prompts) == 0 {
		for _, flag := range []string{flagSeed, "negative"} {
			if c.IsSet(flag) {
				return nil, usageError(`%s: --%s: it goes with prompts: add -p "..."`, t.command, flag)
			}
		}
		return nil, nil
	}
	if !c.IsSet(flagBatch) {
		t.batch = len(in.prompts)
	}
	switch {
	case t.batch > maxBatch:
		return nil, usageError("%s: --prompts: %d prompts: use at most %d", t.command, t.batch, maxBatch)
	case len(in.prompts) == 1:
		for len(in.prompts) < t.batch {
			in.prompts = append(in.prompts, in.prompts[0])
		}
	case len(in.prompts) != t.batch:
		return nil, usageError("%s: --%s: %d images and %d prompts: give one per image, or one for all", t.command, flagBatch, t.batch, len(in.prompts))
	}
	return in, nil
}

// encode makes the tensors: embeddings of the prompts, and the noise of seeds S, S+1, ... image by image, as generate does.
func (t *task) encode(c *cli.Context, in *promptInputs) ([]dit.IOTensor, error) {
	texts := append(slices.Clone(in.prompts), in.negative)
	if err := t.warnCut(environmentOf(c), t.opened, texts); err != nil {
		return nil, err
	}
	if why := negativeUnread(in.negative, t.model.Defaults(), t.guidance); why != "" {
		return nil, usageError("%s: --negative: %s", t.command, why)
	}
	s, err := t.openSession(t.opened)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	encoded, negatives, err := s.EncodeGuided(c.Context, t.guidance, in.negative, in.prompts)
	if err != nil {
		return nil, badModel(err)
	}
	unmasked := t.model.Defaults().Unmasked
	for i, p := range append(slices.Clone(encoded), negatives...) {
		if unmasked && p.Tokens != t.textTokens {
			return nil, usageError("%s: --%s: the model attends to padding, and prompts are padded to %d tokens: leave it out", t.command, flagTextTokens, p.Tokens)
		}
		if p.Tokens > t.textTokens {
			return nil, usageError("%s: --%s: prompt %.60q has %d tokens: use at least as many", t.command, flagTextTokens, texts[i], p.Tokens)
		}
	}
	batch := dit.Inputs{Latents: t.model.Noise(t.seeds(), t.size.LatentHeight, t.size.LatentWidth), Height: t.size.LatentHeight, Width: t.size.LatentWidth,
		Prompts: encoded, Negative: negatives}
	return t.model.IOTensors(batch, t.sizes(), t.model.Guided(t.guidance))
}

func (t *task) seeds() []int64 {
	seeds := make([]int64, t.batch)
	for i := range seeds {
		seeds[i] = t.seed + int64(i)
	}
	return seeds
}

// writeInputs writes inputs.safetensors.
func (t *task) writeInputs(dir string, in *promptInputs, list []dit.IOTensor) (*manifestInputs, error) {
	var tensors []safetensors.Tensor
	for _, x := range list {
		shape := make([]int64, len(x.Shape))
		for i, n := range x.Shape {
			shape[i] = int64(n)
		}
		if x.Ints != nil {
			out := safetensors.Tensor{Name: x.Name, DType: safetensors.I32, Shape: shape}
			for _, v := range x.Ints {
				out.Data = binary.LittleEndian.AppendUint32(out.Data, uint32(v))
			}
			tensors = append(tensors, out)
			continue
		}
		out, err := safetensors.FromFloat32(x.Name, safetensors.F32, shape, x.Floats)
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, out)
	}
	path := filepath.Join(dir, inputsFile)
	if err := safetensors.WriteFile(path, safetensors.Items(tensors...), map[string]string{"format": "pt"}); err != nil {
		return nil, err
	}
	sum, n, err := hashFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &manifestInputs{manifestFileEntry{inputsFile, n, sum}, in.prompts, in.negative, t.seeds()}, nil
}
