package dit

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ecadx/dit/safetensors"
	"ecadx/schedule"
)

// FLUX.1 was first released as one file with other names, queries, keys and values in one matrix, and shift before scale in the last norm. Reading it costs no
// copy but that of the last norm's modulation: its tensors become views of the mapped file under diffusers' names. Source: diffusers
// scripts/convert_flux_to_diffusers.py and loaders/single_file_utils.py.

// fluxPart is a tensor of diffusers' layout that is a range of rows of an original one.
type fluxPart struct {
	name string
	rows int // relative to the other parts
}

func whole(name string) []fluxPart { return []fluxPart{{name, 1}} }

var fluxOnce = map[string][]fluxPart{
	"time_in.in_layer": whole("time_text_embed.timestep_embedder.linear_1"), "time_in.out_layer": whole("time_text_embed.timestep_embedder.linear_2"),
	"vector_in.in_layer": whole("time_text_embed.text_embedder.linear_1"), "vector_in.out_layer": whole("time_text_embed.text_embedder.linear_2"),
	"guidance_in.in_layer": whole("time_text_embed.guidance_embedder.linear_1"), "guidance_in.out_layer": whole("time_text_embed.guidance_embedder.linear_2"),
	"txt_in": whole("context_embedder"), "img_in": whole("x_embedder"), "final_layer.linear": whole("proj_out"), fluxFinalMod: whole("norm_out.linear"),
}

const fluxFinalMod = "final_layer.adaLN_modulation.1"

var fluxDouble = map[string][]fluxPart{
	"img_mod.lin": whole("norm1.linear"), "txt_mod.lin": whole("norm1_context.linear"),
	"img_attn.qkv": {{"attn.to_q", 1}, {"attn.to_k", 1}, {"attn.to_v", 1}}, "txt_attn.qkv": {{"attn.add_q_proj", 1}, {"attn.add_k_proj", 1}, {"attn.add_v_proj", 1}},
	"img_attn.norm.query_norm": whole("attn.norm_q"), "img_attn.norm.key_norm": whole("attn.norm_k"),
	"txt_attn.norm.query_norm": whole("attn.norm_added_q"), "txt_attn.norm.key_norm": whole("attn.norm_added_k"),
	"img_attn.proj": whole("attn.to_out.0"), "txt_attn.proj": whole("attn.to_add_out"),
	"img_mlp.0": whole("ff.net.0.proj"), "img_mlp.2": whole("ff.net.2"), "txt_mlp.0": whole("ff_context.net.0.proj"), "txt_mlp.2": whole("ff_context.net.2"),
}

var fluxSingle = map[string][]fluxPart{
	"modulation.lin": whole("norm.linear"), "linear1": {{"attn.to_q", 1}, {"attn.to_k", 1}, {"attn.to_v", 1}, {"proj_mlp", fluxRatio}}, "linear2": whole("proj_out"),
	"norm.query_norm": whole("attn.norm_q"), "norm.key_norm": whole("attn.norm_k"),
}

// fluxParts are the tensors, less .weight or .bias, that an original one holds; nil: it is not known.
func fluxParts(stem string) []fluxPart {
	for _, kind := range []struct {
		prefix string
		key    func(block int, name string) string
		parts  map[string][]fluxPart
	}{{"double_blocks.", blockKey, fluxDouble}, {"single_blocks.", singleKey, fluxSingle}} {
		rest, ok := strings.CutPrefix(stem, kind.prefix)
		if !ok {
			continue
		}
		number, name, _ := strings.Cut(rest, ".")
		block, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return nil
		}
		var list []fluxPart
		for _, p := range kind.parts[name] {
			list = append(list, fluxPart{kind.key(int(block), p.name), p.rows})
		}
		return list
	}
	return fluxOnce[stem]
}

// adoptFlux gives tensors of the original layout diffusers' names and shapes; others stay as they are.
func adoptFlux(t *Tensors) error {
	const prefix = "model.diffusion_model." // of checkpoints with all parts in one file
	isOriginal := func(x safetensors.Tensor) bool { return strings.TrimPrefix(x.Name, prefix) == "img_in.weight" }
	if !slices.ContainsFunc(t.list, isOriginal) {
		return nil
	}
	var list []safetensors.Tensor
	for _, x := range t.list {
		stem, kind, _ := cutLast(strings.TrimPrefix(x.Name, prefix), '.')
		if kind == "scale" {
			kind = "weight"
		}
		parts := fluxParts(stem)
		if parts == nil {
			list = append(list, x)
			continue
		}
		split, err := splitRows(x, parts, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", t.path, err)
		}
		list = append(list, split...)
	}
	if err := t.replace(list); err != nil {
		return err
	}
	for _, kind := range []string{"weight", "bias"} {
		if err := t.rewrite("norm_out.linear."+kind, swapHalves); err != nil {
			return err
		}
	}
	return nil
}

// cutLast is strings.Cut at the last separator.
func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// splitRows is x as parts of its rows.
func splitRows(x safetensors.Tensor, parts []fluxPart, kind string) ([]safetensors.Tensor, error) {
	units := 0
	for _, p := range parts {
		units += p.rows
	}
	if len(x.Shape) == 0 || x.Shape[0] < 1 || x.Shape[0]%int64(units) != 0 {
		return nil, fmt.Errorf("tensor %q has shape %v: its rows must be a multiple of %d: the file belongs to another architecture", x.Name, x.Shape, units)
	}
	unit, row, at := x.Shape[0]/int64(units), len(x.Data)/int(x.Shape[0]), 0
	var list []safetensors.Tensor
	for _, p := range parts {
		n := int64(p.rows) * unit
		y := safetensors.Tensor{Name: p.name + "." + kind, DType: x.DType, Shape: append([]int64{n}, x.Shape[1:]...), Data: x.Data[at : at+int(n)*row]}
		list = append(list, y)
		at += int(n) * row
	}
	return list, nil
}

// swapHalves copies src to dst, second half first.
func swapHalves(dst, src []byte) {
	half := len(src) / 2
	copy(dst[copy(dst, src[half:]):], src[:half])
}

// fluxConfigOf derives config.json from the shapes of a checkpoint that comes without one.
func fluxConfigOf(t *Tensors) ([]byte, error) {
	dim := func(name string, i int) int {
		if x, ok := t.Describe(name); ok && i < len(x.Shape) {
			return int(x.Shape[i])
		}
		return 0
	}
	blocks := func(key func(int, string) string, name string) (n int) {
		for n < schedule.MaxBlocks {
			if _, ok := t.Describe(key(n, name)); !ok {
				break
			}
			n++
		}
		return n
	}
	layers, single := blocks(blockKey, "attn.to_q.weight"), blocks(singleKey, "attn.to_q.weight")
	width, head := dim("x_embedder.weight", 0), max(dim(blockKey(0, "attn.norm_q.weight"), 0), dim(singleKey(0, "attn.norm_q.weight"), 0))
	if width == 0 || head == 0 {
		return nil, fmt.Errorf("%s: no FLUX transformer in diffusers' or the original layout: other models are opened by the directory of their snapshot", t.path)
	}
	if head != 128 {
		return nil, fmt.Errorf("%s: its heads are %d wide, and a file without config.json does not say how positions share them: put it as %s/%s.safetensors beside a config.json",
			t.path, head, Transformer, diffusersWeights)
	}
	_, guidance := t.Describe("time_text_embed.guidance_embedder.linear_1.weight")
	return json.MarshalIndent(map[string]any{
		"_class_name": fluxArchitecture.classes[0], "attention_head_dim": head, "num_attention_heads": width / head, "num_layers": layers, "num_single_layers": single,
		"in_channels": dim("x_embedder.weight", 1), "out_channels": dim("proj_out.weight", 0), "joint_attention_dim": dim("context_embedder.weight", 1),
		"pooled_projection_dim": dim("time_text_embed.text_embedder.linear_1.weight", 1), "guidance_embeds": guidance, "patch_size": 1,
	}, "", "  ")
}

// openSingleFile opens a checkpoint file of a FLUX transformer as a snapshot that holds nothing else.
func openSingleFile(path string) (*Snapshot, error) {
	s := &Snapshot{ref: path, src: safetensors.Dir(filepath.Dir(path)), bare: true, disk: onDisk, weights: strings.TrimSuffix(filepath.Base(path), weightsSuffix)}
	t, err := openTensors(s.src, s.weights, s.disk)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if err := adoptFlux(t); err != nil {
		return nil, err
	}
	s.config, err = fluxConfigOf(t)
	return s, err
}
