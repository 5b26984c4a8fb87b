package main

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"ecadx/dit"
	"ecadx/dit/safetensors"
)

// poison writes NaN over the first value of one tensor of a snapshot's file.
func poison(t *testing.T, path, tensor string) {
	t.Helper()
	data := readTestFile(t, path)
	f, err := safetensors.OpenBytes(path, data)
	if err != nil {
		t.Fatal(err)
	}
	x, ok := f.Tensor(tensor)
	if !ok {
		t.Fatalf("%s has no %s", path, tensor)
	}
	switch x.DType { // x.Data is part of data
	case safetensors.F32:
		binary.LittleEndian.PutUint32(x.Data, math.Float32bits(float32(math.NaN())))
	case safetensors.BF16:
		binary.LittleEndian.PutUint16(x.Data, 0x7fc0)
	case safetensors.F16:
		binary.LittleEndian.PutUint16(x.Data, 0x7e00)
	default:
		t.Fatalf("%s is %v", tensor, x.DType)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// NaN in the weights of any part is found by the built command, which names the first op that met it.
func TestCheckFinite(t *testing.T) {
	needsModel(t)
	for name, c := range map[string]struct{ file, tensor, want string }{
		"transformer":  {"transformer/diffusion_pytorch_model.safetensors", "transformer_blocks.2.attn1.to_q.weight", `, block 2, component 0, op `},
		"feed-forward": {"transformer/diffusion_pytorch_model.safetensors", "transformer_blocks.1.ff.net.2.weight", `"ff.down" (linear): output 0`},
		"text encoder": {"text_encoder/model.safetensors", "encoder.block.1.layer.0.SelfAttention.q.weight", `block 1, op `},
		"autoencoder":  {"vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", `vae: libecad: step 0`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			succeed(t, dir, "model", "export", "--model", dit.DefaultModel, "--out", "m")
			poison(t, filepath.Join(dir, "m", filepath.FromSlash(c.file)), c.tensor)
			args := []string{"generate", "-p", ringPrompt, "--model", "m", "--steps", "2", "--dtype", "float32", "--out", "p.png", "--quiet"}
			refuse(t, dir, exitFailed, c.want, append(args, "--check-finite")...)
			refuse(t, dir, exitFailed, "holds NaN", append(args, "--check-finite", "--force")...)
			refuse(t, dir, exitBadInput, "--check-finite", args...) // without the check the picture is refused, and the check named
			if _, err := os.Stat(filepath.Join(dir, "p.png")); err == nil {
				t.Error("a picture was written")
			}
			if name != "transformer" {
				return
			}
			refuse(t, dir, exitFailed, c.want, "evolve", "--model", "m", "--out", "s", "--quiet", "--check-finite")
			in := tensors(t, dir, nil)
			refuse(t, dir, exitFailed, c.want, "denoise", "--model", "m", "--inputs", in, "--steps", "2", "--out", "o.safetensors", "--check-finite")
			refuse(t, dir, exitFailed, "block 2, component 0", "denoise", "--model", "m", "--inputs", in, "--forward", "500", "--out", "o.safetensors", "--check-finite")
		})
	}
}
