package dit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"ecadx/cgo"
	"ecadx/dit/program"
)

// encoderCase is one case of testdata/encoders.json, made by testdata/make_encoder_goldens.py.
type encoderCase struct {
	Name    string          `json:"name"`
	Seed    uint64          `json:"seed"`
	Config  json.RawMessage `json:"config"`
	Tokens  int             `json:"tokens"`
	Lengths []int           `json:"lengths"`
	IDs     [][]int32       `json:"ids"`
	Prefix  string          `json:"prefix"`
	Latents [4]int          `json:"latents"`
	// BF16Error is PyTorch's own relative L2 error in bfloat16.
	BF16Error float64 `json:"bf16_error"`
}

// tolerance is the largest relative L2 error: 1e-5 in float32 and float64, 1.5 times PyTorch's in bfloat16.
func (c *encoderCase) tolerance(d DType) float64 {
	if d == BFloat16 {
		return 1.5 * c.BF16Error
	}
	return 1e-5
}

type encoderGoldens struct {
	T5   []encoderCase `json:"t5"`
	CLIP []encoderCase `json:"clip"`
	VAE  []encoderCase `json:"vae"`
}

// encoderBackend is what the encoders are tested on.
type encoderBackend struct {
	backend ecad.Backend
	dtype   DType
}

// encoderBackends are those of every build.
var encoderBackends = []encoderBackend{{ecad.Reference, Float64}, {ecad.Reference, Float32}, {ecad.CPU, Float32}, {ecad.CPU, BFloat16}}

// runEncoder runs the one schedule of a program with weights generated for specs, after write has filled the inputs.
func runEncoder(t *testing.T, backend ecad.Backend, seed uint64, specs []TensorSpec, p *program.Program, write func(*ecad.State, *ecad.Program) error, read func(*ecad.State, *ecad.Program) error) {
	t.Helper()
	tensors, err := newRandomTensors("random", specs, seed)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWeights(tensors)
	defer w.Close()
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: backend, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	loaded, err := w.Load(dev, p)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	state, err := loaded.NewState()
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if err := write(state, loaded.Program); err != nil {
		t.Fatal(err)
	}
	items, err := loaded.Program.Schedule(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.Run(context.Background(), loaded.Program, items, ecad.RunOptions{CheckFinite: true}); err != nil {
		t.Fatal(err)
	}
	if err := read(state, loaded.Program); err != nil {
		t.Fatal(err)
	}
}

func TestT5Golden(t *testing.T) { testT5(t, encoderBackends) }

func testT5(t *testing.T, backends []encoderBackend) {
	g, outputs := readEncoderGoldens(t)
	for _, c := range g.T5 {
		cfg, err := decodeT5(c.Config)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range backends {
			t.Run(fmt.Sprintf("%s/%v-%v", c.Name, b.backend, b.dtype), func(t *testing.T) {
				rows := len(c.Lengths)
				p, err := cfg.compile(rows, c.Tokens, b.dtype, t5Shared)
				if err != nil {
					t.Fatal(err)
				}
				ids, counts := make([]int32, rows*c.Tokens), make([]int32, rows)
				for i := range ids {
					ids[i] = int32(randomWord(randomKey(c.Seed, "input_ids"), i) % uint64(cfg.Vocabulary))
				}
				for i, n := range c.Lengths {
					counts[i] = int32(n)
				}
				var got []float32
				runEncoder(t, b.backend, c.Seed, cfg.specs(t5Shared), p, func(s *ecad.State, _ *ecad.Program) error {
					if err := ecad.Write(s, ioInputIDs, ids); err != nil {
						return err
					}
					return ecad.Write(s, ioCounts, counts)
				}, func(s *ecad.State, p *ecad.Program) (err error) { got, err = readFloats(s, p, ioHidden); return err })
				for i, n := range c.Lengths { // rows of padding are undefined
					clear(got[(i*c.Tokens+n)*cfg.Width : (i+1)*c.Tokens*cfg.Width])
				}
				if e := relativeError(got, outputs.output(t, c.Name)); !(e <= c.tolerance(b.dtype)) {
					t.Errorf("relative error %.2g, at most %.2g", e, c.tolerance(b.dtype))
				}
			})
		}
	}
}

func TestCLIPGolden(t *testing.T) { testCLIP(t, encoderBackends) }

func testCLIP(t *testing.T, backends []encoderBackend) {
	g, outputs := readEncoderGoldens(t)
	for _, c := range g.CLIP {
		cfg, err := decodeCLIP(c.Config)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range backends {
			t.Run(fmt.Sprintf("%s/%v-%v", c.Name, b.backend, b.dtype), func(t *testing.T) {
				var got []float32
				for _, ids := range c.IDs {
					ids = ids[:cfg.pooledAt(ids)+1]
					p, err := cfg.compile(1, len(ids), b.dtype, c.Prefix)
					if err != nil {
						t.Fatal(err)
					}
					runEncoder(t, b.backend, c.Seed, cfg.specs(c.Prefix), p,
						func(s *ecad.State, _ *ecad.Program) error { return ecad.Write(s, ioInputIDs, ids) },
						func(s *ecad.State, p *ecad.Program) error {
							pooled, err := readFloats(s, p, ioPooled)
							got = append(got, pooled...)
							return err
						})
				}
				if e := relativeError(got, outputs.output(t, c.Name)); !(e <= c.tolerance(b.dtype)) {
					t.Errorf("relative error %.2g, at most %.2g", e, c.tolerance(b.dtype))
				}
			})
		}
	}
}

func TestImageDecoderGolden(t *testing.T) { testImageDecoder(t, encoderBackends) }

func testImageDecoder(t *testing.T, backends []encoderBackend) {
	g, outputs := readEncoderGoldens(t)
	for _, c := range g.VAE {
		cfg, err := decodeVAE(c.Config)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range backends {
			t.Run(fmt.Sprintf("%s/%v-%v", c.Name, b.backend, b.dtype), func(t *testing.T) {
				batch, h, w := c.Latents[0], c.Latents[2], c.Latents[3]
				p, err := cfg.compile(batch, h, w, b.dtype, false)
				if err != nil {
					t.Fatal(err)
				}
				latents := make([]float32, batch*c.Latents[1]*h*w)
				for i := range latents {
					latents[i] = distribution{std: 1}.value(randomKey(c.Seed, "latents"), i)
				}
				var got []float32
				runEncoder(t, b.backend, c.Seed, cfg.specs(false), p,
					func(s *ecad.State, p *ecad.Program) error { return writeFloats(s, p, IOLatents, latents) },
					func(s *ecad.State, p *ecad.Program) (err error) { got, err = readFloats(s, p, ioImage); return err })
				want := outputs.output(t, c.Name)
				if e := relativeError(got, channelsLast(want, batch, h*cfg.Factor(), w*cfg.Factor())); !(e <= c.tolerance(b.dtype)) {
					t.Errorf("relative error %.2g, at most %.2g", e, c.tolerance(b.dtype))
				}
			})
		}
	}
}

// channelsLast turns [batch,3,h,w] into [batch,h,w,3].
func channelsLast(v []float32, batch, h, w int) []float32 {
	out := make([]float32, len(v))
	for b := range batch {
		for c := range 3 {
			for i := range h * w {
				out[(b*h*w+i)*3+c] = v[(b*3+c)*h*w+i]
			}
		}
	}
	return out
}

func readEncoderGoldens(t *testing.T) (*encoderGoldens, *goldens) {
	t.Helper()
	g := readGoldens(t, "encoders")
	e := &encoderGoldens{}
	data, err := os.ReadFile("testdata/encoders.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, e); err != nil {
		t.Fatal(err)
	}
	return e, g
}

func TestT5Buckets(t *testing.T) {
	// The thresholds of the published configuration (32 buckets, 128): distance to bucket of the first half.
	cfg := &T5Config{Buckets: 32, MaxDistance: 128}
	for _, c := range []struct{ from, to, bucket int }{
		{0, 0, 0}, {1, 1, 1}, {7, 7, 7}, {8, 11, 8}, {12, 15, 9}, {16, 22, 10}, {23, 31, 11}, {32, 45, 12}, {46, 63, 13}, {64, 90, 14}, {91, 600, 15},
	} {
		for d := c.from; d <= c.to; d++ {
			if got := cfg.bucket(-d); got != int32(c.bucket) {
				t.Errorf("bucket of a key %d before its query: %d, want %d", d, got, c.bucket)
			}
			if got := cfg.bucket(d); d > 0 && got != int32(16+c.bucket) {
				t.Errorf("bucket of a key %d after its query: %d, want %d", d, got, 16+c.bucket)
			}
		}
	}
}

func TestEncoderConfigErrors(t *testing.T) {
	for _, c := range []struct{ json, key string }{
		{`{"d_model": 0, "feed_forward_proj": "gated-gelu"}`, "d_model"}, {`{"model_type": "umt5"}`, "model_type"}, {`{"feed_forward_proj": "relu"}`, "feed_forward_proj"},
		{`{"feed_forward_proj": "gated-gelu", "num_heads": 9999999999}`, "num_heads"}, {`{"feed_forward_proj": "gated-gelu", "vocab_size": -1}`, "vocab_size"},
		{`{"feed_forward_proj": "gated-gelu", "layer_norm_epsilon": NaN}`, "layer_norm_epsilon"},
	} {
		if _, err := decodeT5([]byte(c.json)); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: error %v does not name %s", c.json, err, c.key)
		}
	}
	for _, c := range []struct{ json, key string }{
		{`{"model_type": "clip"}`, "model_type"}, {`{"hidden_act": "relu"}`, "hidden_act"}, {`{"hidden_size": 0}`, "hidden_size"},
		{`{"num_attention_heads": 7}`, "num_attention_heads"}, {`{"max_position_embeddings": 1}`, "max_position_embeddings"},
		{`{"vocab_size": 100}`, "eos_token_id"}, {`{"layer_norm_eps": NaN}`, "layer_norm_eps"}, {`{"num_hidden_layers": 1e9}`, "num_hidden_layers"},
	} {
		if _, err := decodeCLIP([]byte(c.json)); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: error %v does not name %s", c.json, err, c.key)
		}
	}
	for _, c := range []struct{ json, key string }{
		{`{"_class_name": "AutoencoderTiny"}`, "_class_name"}, {`{"block_out_channels": []}`, "block_out_channels"}, {`{"block_out_channels": [33]}`, "norm_num_groups"},
		{`{"scaling_factor": 0}`, "scaling_factor"}, {`{"up_block_types": ["AttnUpDecoderBlock2D"]}`, "up_block_types"}, {`{"layers_per_block": 100}`, "layers_per_block"},
		{`{"latents_mean": [1]}`, "latents_mean"},
	} {
		if _, err := decodeVAE([]byte(c.json)); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: error %v does not name %s", c.json, err, c.key)
		}
	}
}
