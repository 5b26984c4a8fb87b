package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/image/draw"

	"ecadx/bench"
	"ecadx/bench/page"
	"ecadx/ga"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// reportName is the page in a study.
const reportName = "report.html"

// What a page shows, so that it stays a few megabytes.
const (
	reportPrompts   = 4
	reportSchedules = 48
	reportPixels    = 256     // longer edge of larger pictures
	reportBytes     = 3 << 20 // of all pictures together; fewer schedules are drawn if they would take more
	reportLeast     = 8       // schedules that evolve draws even if that is much work beside the search
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "write a study as one page: the front, its pictures, what tolerates reuse",
		UsageText: "ecadx report STUDY [--out FILE] [flags]",
		CustomHelpTemplate: commandHelp(`The page needs no network and no server. evolve writes it when it ends; this writes it again, for example with more prompts. The pictures
are made anew, with the study's model; --no-pictures does without.`,
			"ecadx report study", "ecadx report study --prompts 8 --out front.html --force", "ecadx report study --no-pictures --out front.html"),
		Flags: append(commonFlags(flagDevice, flagDType, flagThreads, flagJSON, flagQuiet, flagForce),
			&cli.StringFlag{Name: flagOut, Usage: "write `FILE`", DefaultText: reportName + " in the study"},
			&cli.IntFlag{Name: "prompts", Value: reportPrompts, Usage: "show pictures of the first `N` held-out prompts"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "no-pictures", Usage: "make no pictures; the model is not needed"}),
		Action: writeReport,
	}
}

func writeReport(c *cli.Context) error {
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	args, err := positional(c, 1, 1, "ecadx report STUDY")
	if err != nil {
		return err
	}
	dir, path, prompts := args[0], c.String(flagOut), c.Int("prompts")
	if prompts < 1 || prompts > 64 {
		return usageError("%s: --prompts: %d: use 1 to 64", o.command, prompts)
	}
	cfg, err := studyConfig(dir)
	if err != nil {
		return err
	}
	contents, err := study.Read(dir)
	if err != nil {
		return err
	}
	front := contents.Front
	if front == nil {
		return inputError("%s: the search is not finished: go on with ecadx evolve --resume --out %s", dir, dir)
	}
	if path != "" {
		if err := o.checkAbsent(path); err != nil {
			return err
		}
	}
	env := environmentOf(c)
	w := &pageWriter{options: o, env: env, dir: dir, front: front, cfg: cfg, prompts: prompts, most: reportSchedules}
	if !c.Bool("no-pictures") {
		if c.IsSet(flagDevice) {
			cfg.Model.Device = o.device.String()
		}
		if c.IsSet(flagDType) {
			cfg.Model.DType = o.dtype.String()
		}
		if w.plan, err = newSearchPlan(o, cfg, filepath.Join(dir, "config.toml"), inputs{dir, true}); err != nil {
			return err
		}
		defer w.plan.close()
	}
	text, err := w.page(c.Context)
	if err != nil {
		return err
	}
	if path == "" {
		path, err = filepath.Join(dir, reportName), w.keep(text)
	} else {
		err = writeFile(path, text)
	}
	if err != nil {
		return err
	}
	if o.output == asJSON {
		v := front.Verdict()
		return writeJSON(env.stdout, struct {
			File     string `json:"file"`
			Bytes    int    `json:"bytes"`
			Compared int    `json:"compared"` // baselines
			Holds    bool   `json:"holds"`    // ahead of the baselines
			Verdict  string `json:"verdict"`
		}{path, len(text), v.Compared, v.Holds(), v.Text(front.BaselineName)})
	}
	_, err = fmt.Fprintln(env.stdout, path)
	return err
}

// pageWriter gathers what the page of a study shows.
type pageWriter struct {
	*options
	env     *environment
	dir     string
	front   *study.Front
	cfg     evolveConfig
	plan    *searchPlan // nil: no pictures
	prompts int
	most    int // schedules with pictures
}

// keep makes the page the study's own.
func (w *pageWriter) keep(text []byte) error {
	var session []study.Part
	if w.plan != nil {
		session = w.plan.sessionParts()
	}
	st, err := study.OpenExisting(w.dir, study.Options{Session: session})
	if err != nil {
		return err
	}
	return errors.Join(st.WriteFile(reportName, text), st.Close())
}

// page makes the page.
func (w *pageWriter) page(ctx context.Context) ([]byte, error) {
	content := page.Content{Study: filepath.Base(absolute(w.dir)), Front: w.front, Facts: w.facts()}
	contents, err := study.Read(w.dir)
	if err != nil {
		return nil, err
	}
	content.History = historyOf(contents)
	for _, e := range w.front.Front {
		f, err := schedule.ReadFile(filepath.Join(w.dir, filepath.FromSlash(e.File)))
		if err != nil {
			return nil, inputError("%w: write it again with ecadx evolve --resume --out %s", err, w.dir)
		}
		content.Schedules = append(content.Schedules, f.Schedule())
	}
	model := ""
	if w.cfg.Model.Path != w.defaultModel() {
		model = " --model " + w.cfg.Model.Path
	}
	content.Generate = fmt.Sprintf("ecadx generate%s --compare -p PROMPT --schedule %s/%%s", model, w.dir)
	if w.plan != nil && len(content.Schedules) > 0 {
		if err := w.draw(ctx, &content); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	if err := page.Write(&b, content); err != nil {
		return nil, inputError("%s: %w", w.dir, err)
	}
	return b.Bytes(), nil
}

// historyOf is where the search stood after each generation, and the work up to there: the MACs of the images scored, each a whole run.
func historyOf(c *study.Contents) []page.Generation {
	var out []page.Generation
	macs := make([]float64, len(c.Snapshots)) // by generation, 0 included
	for g, s := range c.Snapshots {
		if g > 0 {
			macs[g] = macs[g-1]
		}
		for _, e := range s.Candidates {
			if e.First {
				macs[g] += e.MACs * float64(e.Images)
			}
		}
	}
	for _, h := range c.History() {
		out = append(out, page.Generation{Generation: h.Generation, Images: h.Images, MACs: macs[h.Generation], Hypervolume: h.Hypervolume})
	}
	return out
}

func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// facts are what the study ran on, and what its last run found out about that.
func (w *pageWriter) facts() []page.Fact {
	m, s := w.cfg.Model, w.cfg.Search
	facts := []page.Fact{
		{Name: "model", Value: m.Path}, {Name: "device", Value: m.Device + ", " + m.DType}, {Name: "pictures", Value: fmt.Sprintf("%s px, %d steps, guidance %g", m.Resolution, m.Steps, m.Guidance)},
		{Name: "search", Value: fmt.Sprintf("mode %s, population %d, seed %d", s.Mode, s.Population, s.Seed)},
		{Name: "prompts", Value: fmt.Sprintf("%d searched, %d confirm the front, %d held out, %d images each", w.cfg.Prompts.Count, w.front.ConfirmPrompts, w.cfg.Prompts.HeldOut, w.cfg.Prompts.ImagesPerPrompt)},
		{Name: "objectives", Value: w.front.Quality + " up, " + w.front.Cost + " down"}, {Name: "ecadx", Value: commit + ", " + runtime.GOOS + "/" + runtime.GOARCH},
	}
	var run struct {
		Seconds, Sharing float64
		NewImages        int64   `json:"new_images"`
		ImagesPerSecond  float64 `json:"images_per_second"`
		Latency          *struct {
			MedianError float64 `json:"median_error"`
			MaxError    float64 `json:"max_error"`
		}
	}
	data, err := readLimited(filepath.Join(w.dir, "run.json"), maxConfigFile)
	if err != nil || json.Unmarshal(data, &run) != nil {
		return facts // a study that was never finished on this machine
	}
	if run.NewImages > 0 {
		facts = append(facts, page.Fact{Name: "last run", Value: fmt.Sprintf("%d images in %s, %.1f images/s, %.2fx by shared steps", run.NewImages,
			shortDuration(time.Duration(run.Seconds*float64(time.Second))), run.ImagesPerSecond, run.Sharing)})
	}
	if l := run.Latency; l != nil {
		facts = append(facts, page.Fact{Name: "predicted against measured times", Value: fmt.Sprintf("median error %.1f %%, at most %.1f %%", 100*l.MedianError, 100*l.MaxError)})
	}
	return facts
}

// draw makes the pictures: the first image of each of the first held-out prompts, with the noise it was scored with, uncached and under the
// schedules of the front that there is room for.
func (w *pageWriter) draw(ctx context.Context, content *page.Content) error {
	p := w.plan
	c := p.evaluatorConfig()
	from, per := w.firstPrompt(), p.cfg.Prompts.ImagesPerPrompt
	c.Prompts = c.Prompts[from:min(from+w.prompts, len(c.Prompts))]
	c.Seed += int64(from * per)
	evaluator, err := bench.NewEvaluator(ctx, p.session.Pipeline, c)
	if err != nil {
		return badModel(err)
	}
	none, err := schedule.New(p.shape)
	if err != nil {
		return err
	}
	var ids []ga.ImageID
	for i := range c.Prompts {
		ids = append(ids, ga.ImageID(i*per))
	}
	// The uncached pictures come first: they tell how much room one takes.
	uncached, err := w.pictures(ctx, evaluator, []*schedule.Schedule{none}, ids, nil)
	if err != nil {
		return err
	}
	size := 0
	for k, q := range c.Prompts {
		content.Galleries = append(content.Galleries, page.Gallery{Prompt: q, Uncached: uncached[0][k].Picture})
		size += len(uncached[0][k].Data)
	}
	content.Drawn = page.Thin(w.front.Front, max(2, min(w.most, reportBytes/max(1, size)-1)))
	var list []*schedule.Schedule
	for _, i := range content.Drawn {
		list = append(list, content.Schedules[i])
	}
	made, err := w.pictures(ctx, evaluator, list, ids, uncached[0])
	if err != nil {
		return err
	}
	for _, row := range made {
		for k := range content.Galleries {
			content.Galleries[k].Front = append(content.Galleries[k].Front, row[k].Picture)
		}
	}
	return nil
}

// drawn is a picture with its encoded form.
type drawn struct {
	page.Picture
	picture *image.NRGBA
}

// pictures makes pictures by schedule and image, and judges them beside the uncached ones (nil: beside themselves).
func (w *pageWriter) pictures(ctx context.Context, e *bench.Evaluator, list []*schedule.Schedule, ids []ga.ImageID, uncached []drawn) ([][]drawn, error) {
	show := w.newProgress(w.env, "report", "pictures", len(list)*len(ids))
	defer show.end()
	out := make([][]drawn, len(list))
	for i := range out {
		out[i] = make([]drawn, len(ids))
	}
	var mu sync.Mutex
	err := e.Pictures(ctx, list, ids, func(s, k int, picture *image.NRGBA, failure error) error {
		if failure != nil {
			return failure
		}
		d, err := newDrawn(picture)
		if err != nil {
			return err
		}
		beside := picture
		if uncached != nil {
			beside = uncached[k].picture
		}
		prompt, _ := e.Prompt(ids[k])
		if v, err := w.plan.quality.Score(w.plan.prompts[w.firstPrompt()+prompt].Text, picture, beside); err == nil {
			d.Quality = &v
		}
		mu.Lock()
		out[s][k] = d
		mu.Unlock()
		show.add(1)
		return nil
	})
	return out, badModel(err)
}

// firstPrompt is the place of the first prompt that is shown: a held-out one if there are any.
func (w *pageWriter) firstPrompt() int {
	if w.cfg.Prompts.HeldOut == 0 {
		return 0
	}
	return w.cfg.Prompts.Count
}

// newDrawn encodes a picture for the page: small ones as they are, larger ones reduced and as JPEG.
func newDrawn(picture *image.NRGBA) (drawn, error) {
	d := drawn{picture: picture}
	b := picture.Bounds()
	longest := max(b.Dx(), b.Dy())
	var buf bytes.Buffer
	var err error
	if longest <= 128 {
		d.Type = "image/png"
		err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&buf, picture)
	} else {
		d.Type = "image/jpeg"
		small := picture
		if longest > reportPixels {
			small = image.NewNRGBA(image.Rect(0, 0, max(1, b.Dx()*reportPixels/longest), max(1, b.Dy()*reportPixels/longest)))
			draw.CatmullRom.Scale(small, small.Rect, picture, b, draw.Src, nil)
		}
		err = jpeg.Encode(&buf, small, &jpeg.Options{Quality: 85})
	}
	d.Data = buf.Bytes()
	return d, err
}
