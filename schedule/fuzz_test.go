package schedule_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecadx/schedule"
)

// FuzzDecode: any text is refused with a one-line error or read; what is read
// is JSON, can be edited, and edited back is the text it was.
func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, seed := range []string{
		"", "{", `{"cache_schedule":`, "[[[[", `{"a":"\ud800\udc00\ud800"}`, `{"a":1e999,"a":-0}`, "\ufeff{}", `{"\u0061":0,"a":0}`,
		`{"cache_schedule":{"num_blocks":1,"num_inference_steps":1,"schedule":{"0":{"0":{"attn1":true,"attn2":false,"ff":true}}}},"ecadx":{}}`,
		`{"ecadx":null,"cache_schedule":{"num_single_blocks":1,"num_blocks":0,"num_inference_steps":1,"attributes":{"num_affected_steps":null},` +
			`"schedule":{"00":{"single_0":{"single_attn":true,"single_proj_mlp":false,"single_proj_out":true}}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := schedule.Decode(slices.Clone(data))
		if err != nil {
			if err.Error() == "" || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
				t.Fatalf("error %q", err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is no JSON")
		}
		if !bytes.Equal(file.Bytes(), data) {
			t.Fatal("reading changed the text")
		}
		_ = file.Name()
		_, _ = file.Config()
		_ = file.Unsupported()
		if d, err := schedule.ECADDims(file.Shape().Family, 256, 256); err == nil {
			_, _ = file.MACs(d)
		}
		s := file.Schedule()
		last := s.Shape().Cells() - 1
		was := s.AtFlat(last)
		s.SetFlat(last, 1-was)
		if err := file.SetSchedule(s); err != nil || !file.Schedule().Equal(s) {
			t.Fatalf("edit: %v", err)
		}
		edited := slices.Clone(file.Bytes())
		s.SetFlat(last, was)
		if err := file.SetSchedule(s); err != nil {
			t.Fatalf("edit back: %v", err)
		}
		if !bytes.Equal(file.Bytes(), data) && !bytes.Contains(edited, []byte("num_affected")) && !bytes.Contains(edited, []byte("ecadx")) &&
			!bytes.Contains(data, []byte(`\u`)) {
			t.Fatalf("edited back is\n%s\nwas\n%s", file.Bytes(), data)
		}
		if err := file.SetOrigin("fuzz\n\U0001f600"); err != nil || !file.Schedule().Equal(s) || file.Meta().Origin != "fuzz\n\U0001f600" {
			t.Fatalf("origin: %v", err)
		}
		if err := file.SetName("x"); err != nil || file.Name() != "x" {
			t.Fatalf("name: %v", err)
		}
		if !json.Valid(file.Bytes()) {
			t.Fatalf("edits made no JSON of it:\n%s", file.Bytes())
		}
	})
}

// FuzzResolve: any reference is refused or gives a schedule of the shape, the
// same one for its normalised form.
func FuzzResolve(f *testing.F) {
	for _, h := range schedule.Heuristics() {
		f.Add(h.Example, uint8(20), uint8(28), uint8(0))
		f.Add(h.Example, uint8(4), uint8(2), uint8(3))
	}
	f.Fuzz(func(t *testing.T, ref string, steps, blocks, single uint8) {
		shape := schedule.Shape{Family: schedule.PixArt, Steps: int(steps), Blocks: int(blocks), SingleBlocks: int(single)}
		if single > 0 {
			shape.Family = schedule.Flux
		}
		g, err := schedule.Resolve(ref, shape)
		if err != nil {
			return
		}
		again, err := schedule.Resolve(g.Ref, shape)
		if err != nil || again.Ref != g.Ref || !again.Schedule.Equal(g.Schedule) || g.Schedule.Shape() != shape {
			t.Fatalf("%q: %q: %v", ref, g.Ref, err)
		}
		if file, err := g.File(schedule.Config{}); err != nil || !file.Schedule().Equal(g.Schedule) {
			t.Fatalf("%q: %v", ref, err)
		}
	})
}
