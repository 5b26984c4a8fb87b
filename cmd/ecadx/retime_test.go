package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecadx/dit"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// TestScheduleRetime re-times a file to itself, to more steps and to another sampler, and refuses what cannot be.
func TestScheduleRetime(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	succeed(t, dir, "schedule", "make", "random:0.5:3", "--steps", "10", "--out", "ten.json")
	read := func(name string) *schedule.File {
		f, err := schedule.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	ten := read("ten.json")
	succeed(t, dir, "schedule", "retime", "ten.json", "--steps", "10", "--out", "same.json")
	if same := read("same.json"); !same.Schedule().Equal(ten.Schedule().Canonical()) {
		t.Error("re-timed to its own steps it is another schedule")
	}
	succeed(t, dir, "schedule", "retime", "ten.json", "--steps", "25", "--out", "more.json")
	more := read("more.json")
	if more.Shape().Steps != 25 || !strings.Contains(more.Meta().Origin, ten.Schedule().Hash().String()) || !strings.HasSuffix(more.Name(), "_retimed_25") {
		t.Errorf("%v, %q, %q", more.Shape(), more.Meta().Origin, more.Name())
	}
	succeed(t, dir, "generate", "-p", ringPrompt, "--steps", "25", "--schedule", "more.json", "--out", "p.png")
	// DDIM's steps end earlier in the noise than DPM-Solver's, whose noise schedule is the model's: a file says the same as the name.
	out := succeedJSON[struct {
		Hash string `json:"hash"`
	}](t, dir, "schedule", "retime", "ten.json", "--steps", "10", "--sampler", "ddim", "--out", "ddim.json")
	if read("ddim.json").Schedule().Hash().String() != out.Hash || read("ddim.json").Schedule().Reused() == 0 {
		t.Errorf("%+v", out)
	}
	writeTestFile(t, filepath.Join(dir, "ddim", "scheduler_config.json"), `{"_class_name":"DDIMScheduler","clip_sample":false}`)
	fromFile := succeedJSON[struct {
		Hash string `json:"hash"`
	}](t, dir, "schedule", "retime", "ten.json", "--steps", "10", "--sampler", "ddim/scheduler_config.json", "--out", "file.json")
	if fromFile.Hash != out.Hash {
		t.Errorf("ddim by name makes %s, by file %s", out.Hash, fromFile.Hash)
	}
	// FLUX.1-dev shifts its noise by the picture's size, PixArt does not.
	succeed(t, dir, "schedule", "make", "fora:5", "--steps", "20", "--model", "random:flux-dev", "--out", "flux.json")
	for _, r := range []struct {
		file, model string
		same        bool
	}{{"flux.json", "random:flux-dev", false}, {"ten.json", "mini-pixart", true}} {
		steps := "20"
		if r.same {
			steps = "10"
		}
		var hashes []string
		for _, px := range []string{"256", "1024"} {
			out := succeedJSON[struct {
				Hash string `json:"hash"`
			}](t, dir, "schedule", "retime", r.file, "--model", r.model, "--steps", steps, "--from-resolution", "256", "--resolution", px, "--out", r.model[:4]+px+".json")
			hashes = append(hashes, out.Hash)
		}
		if (hashes[0] == hashes[1]) != r.same {
			t.Errorf("%s at 256 and 1024 px: %v", r.model, hashes)
		}
	}
	for _, c := range []struct {
		code exitCode
		want string
		line string
	}{
		{exitUsage, "--from-resolution", "schedule retime ten.json --steps 9 --from-resolution big --out x.json"},
		{exitBadInput, "multiples", "schedule retime ten.json --steps 9 --resolution 63 --out x.json"},
		{exitUsage, "schedule make fora:2 --steps 9", "schedule retime fora:2 --steps 9 --out x.json"},
		{exitUsage, "--out is missing", "schedule retime ten.json --steps 9"},
		{exitBadInput, "28 blocks", "schedule retime ten.json --steps 9 --model random:pixart-alpha-256 --out x.json"},
		{exitBadInput, `did you mean "ddim"?`, "schedule retime ten.json --steps 9 --sampler dimm --out x.json"},
		{exitBadInput, "scheduler_config.json: ", "schedule retime ten.json --steps 9 --from-sampler bad/scheduler_config.json --out x.json"},
		{exitUsage, "1000", "schedule retime ten.json --steps 1001 --out x.json"},
		{exitBadInput, "exists already", "schedule retime ten.json --steps 9 --out same.json"},
	} {
		writeTestFile(t, filepath.Join(dir, "bad", "scheduler_config.json"), `{"_class_name":"EulerDiscreteScheduler"}`)
		refuse(t, dir, c.code, c.want, strings.Fields(c.line)...)
	}
}

// TestSamplerOf: names take the model's noise schedule along.
func TestSamplerOf(t *testing.T) {
	m, err := dit.Open(dit.DefaultModel)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	own, err := samplerOf(m, ownSampler)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := samplerOf(m, own.Family.String()); err == nil {
		t.Errorf("%v is no name: %+v", own.Family, same)
	}
	ddim, err := samplerOf(m, ddimSampler)
	if err != nil || ddim.Family == own.Family || ddim.BetaEnd != own.BetaEnd || ddim.TrainTimesteps != own.TrainTimesteps || ddim.ClipSample {
		t.Errorf("%+v, %v", ddim, err)
	}
}

// TestSeedsOfOtherSteps: a seed file of a number of steps that the search does not run is refused with what to set, and re-timed when that is set; the
// study keeps the file as it came. One of fewer steps that it does run is taken as it is.
func TestSeedsOfOtherSteps(t *testing.T) {
	needsModel(t)
	dir := t.TempDir()
	succeed(t, dir, "schedule", "make", "random:0.5:9", "--steps", "6", "--out", "six.json")
	text := strings.Replace(smallSearch, "generations = 4", "generations = 1", 1) + "files = [\"six.json\"]\n"
	writeTestFile(t, filepath.Join(dir, "s.toml"), text)
	refuse(t, dir, exitBadInput, "set seeds.retime = true", "evolve", "s.toml", "--check")
	writeTestFile(t, filepath.Join(dir, "s.toml"), text+"retime = true\n")
	front := succeedJSON[study.Front](t, dir, "evolve", "s.toml")
	if n := len(front.Seeds); n != 5 || front.Seeds[4].Name != "six" {
		t.Fatalf("%d seeds: %+v", n, front.Seeds)
	}
	succeed(t, dir, "schedule", "retime", "six.json", "--steps", "4", "--out", "four.json")
	f, err := schedule.ReadFile(filepath.Join(dir, "four.json"))
	if err != nil || f.Schedule().Hash().String() != front.Seeds[4].Hash {
		t.Errorf("the seed is not what schedule retime makes: %v", err)
	}
	if kept := readTestFile(t, filepath.Join(dir, "s", "inputs", "seed-000.json")); string(kept) != string(readTestFile(t, filepath.Join(dir, "six.json"))) {
		t.Error("the study keeps another file than the configuration names")
	}
	succeed(t, dir, "evolve", "--resume", "--out", "s")

	succeed(t, dir, "schedule", "make", "random:0.5:9", "--steps", "3", "--out", "three.json")
	shorter := strings.Replace(strings.Replace(text, "six.json", "three.json", 1), `mode = "ecad"`, "mode = \"ecadx\"\nfewer_steps = [0.75]", 1)
	writeTestFile(t, filepath.Join(dir, "shorter.toml"), shorter)
	front = succeedJSON[study.Front](t, dir, "evolve", "shorter.toml")
	if f, err = schedule.ReadFile(filepath.Join(dir, "three.json")); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(front.Seeds, func(s study.FrontEntry) bool { return s.Name == "three" })
	if i < 0 || front.Seeds[i].Hash != f.Schedule().Hash().String() {
		t.Errorf("the seed of three steps became another: %+v", front.Seeds)
	}
}
