package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ecadx/internal/hostile"
)

func loadBPE(t testing.TB) *BPE {
	t.Helper()
	b, err := NewBPEFromJSON(unzip(t, "bpe.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBPEGolden compares with transformers' CLIPTokenizer on 10,000 strings.
func TestBPEGolden(t *testing.T) {
	b := loadBPE(t)
	g := golden{unzip(t, "bpe.bin.gz")}
	n, bad := g.num(), 0
	for range n {
		text, want := string(g.blob()), g.ids()
		got, err := b.EncodeCLIP(text, 77)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			if bad++; bad < 20 {
				t.Errorf("%.200q\n got %v\nwant %v", text, got, want)
			}
		}
	}
	if n != 10000 || bad > 0 || len(g.b) > 0 {
		t.Errorf("%d of %d strings differ, %d bytes left", bad, n, len(g.b))
	}
}

// bpeFiles are vocab.json and merges.txt of the tokenizer of the goldens.
func bpeFiles(t testing.TB) (vocab, merges []byte) {
	t.Helper()
	var file struct {
		Model struct {
			Vocab  json.RawMessage `json:"vocab"`
			Merges [][2]string     `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(unzip(t, "bpe.json.gz"), &file); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString("#version: 0.2\n")
	for _, m := range file.Model.Merges {
		fmt.Fprintf(&text, "%s %s\n", m[0], m[1])
	}
	return file.Model.Vocab, []byte(text.String())
}

// Both forms of the files make the same tokenizer.
func TestBPEFiles(t *testing.T) {
	fromFiles, err := NewBPE(bpeFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	text := "A Photo of THREE red cats, it's 1920x1080 — naïve"
	if got, want := fromFiles.Encode(text), loadBPE(t).Encode(text); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("vocab.json and merges.txt: %v, tokenizer.json: %v", got, want)
	}
	if _, err := fromFiles.EncodeCLIP("a", 1); err == nil {
		t.Error("no room for begin and end, and no error")
	}
	if ids, err := fromFiles.EncodeCLIP(text, 2); err != nil || len(ids) != 2 {
		t.Errorf("two tokens: %v, %v", ids, err)
	}
}

func TestBadBPE(t *testing.T) {
	marks := `"<|startoftext|>": 0, "<|endoftext|>": 1`
	for _, c := range []struct{ want, vocab, merges string }{
		{"vocab.json", "", ""},
		{"vocab.json", `{"a": "b"}`, ""},
		{"lacks \"<|startoftext|>\"", `{"a": 0}`, ""},
		{"out of range", `{"a": -1}`, ""},
		{"out of range", `{"a": 5000000}`, ""},
		{"line 2", "{" + marks + "}", "#version: 0.2\nab\n"},
		{"line 1", "{" + marks + "}", "a b c\n"},
		{"no merges", "{" + marks + "}", "#version: 0.2\n"},
		{"merge 0", "{" + marks + "}", "a b\n"},
		{"lacks \"ab\"", "{" + marks + `, "a": 2, "b": 3}`, "a b\n"},
	} {
		if _, err := NewBPE([]byte(c.vocab), []byte(c.merges)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q: error %v, want %q", c.vocab, c.merges, err, c.want)
		}
	}
	for _, c := range []struct{ want, file string }{
		{"tokenizer.json", "{"}, {"\"model\"", `{"model": {"type": "Unigram"}}`}, {"end_of_word_suffix", `{"model": {"type": "BPE"}}`},
		{"model.vocab", `{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": []}}`},
		{"rule 0", `{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": {` + marks + `}, "merges": [3]}}`},
	} {
		if _, err := NewBPEFromJSON([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.file, err, c.want)
		}
	}
}

// Every small damage gives an error or a tokenizer, and large files that are refused at their end take no more memory than their size and 1 MiB.
func TestDamagedBPE(t *testing.T) {
	vocab := []byte(`{"<|startoftext|>": 0, "\u003c|endoftext|>": 1, "a": 2, "b</w>": 3, "ab</w>": 4}`)
	merges := []byte("#version: 0.2\r\na b</w>\n")
	file := []byte(`{"x": [1, {"y": "]"}], "model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": ` + string(vocab) + `, "merges": [["a", "b</w>"]]}}`)
	for _, c := range []struct {
		good []byte
		read func([]byte) (*BPE, error)
	}{
		{vocab, func(b []byte) (*BPE, error) { return NewBPE(b, merges) }}, {merges, func(b []byte) (*BPE, error) { return NewBPE(vocab, b) }}, {file, NewBPEFromJSON},
	} {
		b, err := c.read(c.good)
		if err != nil {
			t.Fatal(err)
		}
		if ids := b.Encode("AB"); !slices.Equal(ids, []int32{4}) {
			t.Errorf("ids %v", ids)
		}
		hostile.Damaged(c.good, func(_ string, bad []byte) {
			hostile.Bounded(t, len(bad), func() {
				if b, err := c.read(bad); err == nil {
					checkIDs(t, b, "ab a<|endoftext|>")
				}
			})
		})
	}

	var many, rules strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&many, "%q:%d,", fmt.Sprintf("%x", i), i)
		rules.WriteString("a b</w>\n")
	}
	last := func(entry string) []byte { return []byte("{" + many.String() + entry + "}") }
	long := rules.String()
	for name, c := range map[string]struct{ vocab, merges []byte }{
		"an id":              {last(`"z": -1`), merges},
		"no begin":           {last(`"z": 1`), merges},
		"an unknown symbol":  {last(string(vocab[1 : len(vocab)-1])), []byte(long + "a z\n")},
		"a line":             {vocab, []byte(long + "a")},
		"a symbol of merges": {vocab, []byte(long + "a c\n")},
	} {
		hostile.Bounded(t, len(c.vocab)+len(c.merges), func() {
			if _, err := NewBPE(c.vocab, c.merges); err == nil {
				t.Errorf("%s: no error", name)
			}
		})
		if t.Failed() {
			t.Fatal(name)
		}
		list := strings.ReplaceAll(strings.TrimSuffix(strings.ReplaceAll(strings.TrimPrefix(string(c.merges), "#version: 0.2\r\n"), " ", `","`), "\n"), "\n", `"],["`)
		whole := []byte(`{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": ` + string(c.vocab) + `, "merges": [["` + list + `"]]}}`)
		hostile.Bounded(t, len(whole), func() {
			if _, err := NewBPEFromJSON(whole); err == nil {
				t.Errorf("%s: no error", name)
			}
		})
		if t.Failed() {
			t.Fatal(name, "in tokenizer.json")
		}
	}
}

// FuzzBPE: any files give an error or a tokenizer whose ids are in the vocabulary.
func FuzzBPE(f *testing.F) {
	f.Add([]byte(`{"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b</w>": 3, "ab</w>": 4}`), []byte("#version: 0.2\na b</w>\n"), "ab a <|endoftext|>b\xff")
	f.Fuzz(func(t *testing.T, vocab, merges []byte, text string) {
		var b *BPE
		var err error
		if hostile.Bounded(t, len(vocab)+len(merges), func() { b, err = NewBPE(vocab, merges) }); err == nil {
			checkIDs(t, b, text)
		}
	})
}

// FuzzBPEFromJSON: the same of tokenizer.json.
func FuzzBPEFromJSON(f *testing.F) {
	f.Add([]byte(`{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b</w>": 3, "ab</w>": 4},`+
		`"merges": [["a", "b</w>"], "a b</w>"]}}`), "ab a <|endoftext|>b\xff")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		var b *BPE
		var err error
		if hostile.Bounded(t, len(file), func() { b, err = NewBPEFromJSON(file) }); err == nil {
			checkIDs(t, b, text)
		}
	})
}

func checkIDs(t *testing.T, b *BPE, text string) {
	t.Helper()
	for _, id := range b.Encode(text) {
		if id < 0 || int(id) >= b.VocabSize() {
			t.Fatalf("id %d of %d", id, b.VocabSize())
		}
	}
}
