package dit

import (
	"strings"
	"testing"

	"ecadx/dit/hfconfig"
	"ecadx/internal/hostile"
)

const (
	someTransformer = `{"_class_name":"PixArtTransformer2DModel","norm_type":"ada_norm_single","num_attention_heads":2,"attention_head_dim":8,"num_layers":1,` +
		`"in_channels":4,"out_channels":8,"patch_size":2,"sample_size":16,"cross_attention_dim":16,"caption_channels":8,"norm_eps":1e-06,"attention_type":null}`
	someFlux = `{"_class_name":"FluxTransformer2DModel","patch_size":1,"num_attention_heads":2,"attention_head_dim":8,"num_layers":1,"num_single_layers":2,` +
		`"in_channels":8,"out_channels":null,"joint_attention_dim":16,"pooled_projection_dim":8,"guidance_embeds":true,"axes_dims_rope":[2,2,4]}`
	someT5  = `{"model_type":"t5","feed_forward_proj":"gated-gelu","d_model":8,"d_kv":4,"num_heads":2,"d_ff":16,"num_layers":1,"vocab_size":64}`
	someVAE = `{"_class_name":"AutoencoderKL","block_out_channels":[8,16],"norm_num_groups":4,"latent_channels":4,"up_block_types":["UpDecoderBlock2D","UpDecoderBlock2D"],"shift_factor":null}`
)

// readConfigs reads one text as each kind of configuration; what is accepted is within the ranges that the compiler takes.
func readConfigs(t *testing.T, data []byte) {
	t.Helper()
	bounded := func(read func() error) bool {
		var err error
		hostile.Bounded(t, len(data), func() { err = read() })
		if err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000+len(data)) {
			t.Errorf("error %.200q", err)
		}
		return err == nil
	}
	var f family
	var t5 *T5Config
	var vae *VAEConfig
	if bounded(func() (err error) { f, err = readFamily(data, "PixArtSigmaPipeline"); return }) {
		a := f.traits().architecture
		if a.Width < 1 || a.Width > 256*1024 || a.Layers+a.SingleLayers < 1 || a.PatchSize < 1 || f.shape(1).Validate() != nil || f.dims(64, 64).Validate() != nil {
			t.Errorf("accepted %+v", a)
		}
	}
	if bounded(func() (err error) { t5, err = decodeT5(data); return }) && (t5.Width < 1 || t5.Layers < 1 || !(t5.Eps > 0)) {
		t.Errorf("accepted %+v", t5)
	}
	if bounded(func() (err error) { vae, err = decodeVAE(data); return }) && (len(vae.Channels) < 1 || vae.Groups < 1) {
		t.Errorf("accepted %+v", vae)
	}
}

// FuzzConfigs: the configurations of transformer, text encoder and autoencoder.
func FuzzConfigs(f *testing.F) {
	for _, seed := range []string{someTransformer, someFlux, someT5, someVAE, `{"_class_name":"Transformer2DModel","norm_type":"ada_norm_single","norm_eps":NaN}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= hfconfig.MaxSize { // longer files are not read at all
			readConfigs(t, data)
		}
	})
}

func TestDamagedConfigs(t *testing.T) {
	if _, err := readFamily([]byte(someTransformer), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := readFamily([]byte(someFlux), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeT5([]byte(someT5)); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeVAE([]byte(someVAE)); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{someTransformer, someFlux, someT5, someVAE} {
		hostile.Damaged([]byte(good), func(what string, bad []byte) {
			readConfigs(t, bad)
			if t.Failed() {
				t.Fatalf("%s: %s", what, bad)
			}
		})
	}
	var keys strings.Builder
	keys.WriteString("{")
	for i := 0; keys.Len() < hfconfig.MaxSize-20; i++ {
		keys.WriteString(`"` + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + `":0,`)
	}
	keys.WriteString(`"z":0}`)
	readConfigs(t, []byte(keys.String()))
	readConfigs(t, []byte(`{"block_out_channels":[`+strings.Repeat("1,", hfconfig.MaxSize/2-20)+`1]}`))
	readConfigs(t, []byte(`{"up_block_types":[`+strings.Repeat(`"",`, hfconfig.MaxSize/3-20)+`""]}`))
	readConfigs(t, []byte(`{"_class_name":"FluxTransformer2DModel","axes_dims_rope":[`+strings.Repeat("2,", hfconfig.MaxSize/2-60)+`2]}`))
	readConfigs(t, []byte(`{"d_model":`+strings.Repeat("1", hfconfig.MaxSize-20)+`}`))
}
