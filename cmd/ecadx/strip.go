package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"

	"ecadx/dit"
	"ecadx/ga/study"
	"ecadx/schedule"
)

// stripPath is where a study keeps its strip of pictures.
var stripPath = filepath.Join("samples", "strip.png")

// The strip shows so many prompts under so many schedules of the front.
const (
	stripPrompts   = 4
	stripSchedules = 3
)

// defaultModel is the model of commands that are given none.
func (o *options) defaultModel() string { return dit.DefaultModel }

// stripEntries chooses schedules of the front whose ratios of arithmetic lie nearest to a sixth, a half and five sixths of the way, on a log
// scale, from the mildest to the boldest; mild ones first.
func stripEntries(f *study.Front) []study.FrontEntry {
	var list []study.FrontEntry
	for i := len(f.Front) - 1; i >= 0; i-- { // by descending cost
		if q, _ := judged(f.Front[i]); q != nil {
			list = append(list, f.Front[i])
		}
	}
	if len(list) <= stripSchedules {
		return list
	}
	mildest, boldest := math.Log(list[0].MACsRatio), math.Log(list[len(list)-1].MACsRatio)
	var picked []study.FrontEntry
	from := 0
	for k := range stripSchedules {
		aim := mildest + (boldest-mildest)*(2*float64(k)+1)/(2*stripSchedules)
		best := from
		for i := from; i <= len(list)-(stripSchedules-k); i++ {
			if math.Abs(math.Log(list[i].MACsRatio)-aim) < math.Abs(math.Log(list[best].MACsRatio)-aim) {
				best = i
			}
		}
		picked, from = append(picked, list[best]), best+1
	}
	return picked
}

// strip is generate --from-study: it draws a study's strip again.
func (o *options) strip(c *cli.Context, dir string) error {
	cfg, err := studyConfig(dir)
	if err != nil {
		return err
	}
	front, err := study.ReadFront(filepath.Join(dir, "front.json"))
	if err != nil {
		return inputError("%w: finish the study with ecadx evolve --resume --out %s", err, dir)
	}
	path := filepath.Join(dir, stripPath)
	if err := o.checkAbsent(path); err != nil {
		return err
	}
	if c.IsSet(flagDevice) {
		cfg.Model.Device = o.device.String()
	}
	if c.IsSet(flagDType) {
		cfg.Model.DType = o.dtype.String()
	}
	p, err := newSearchPlan(o, cfg, filepath.Join(dir, "config.toml"), inputs{dir, true})
	if err != nil {
		return err
	}
	defer p.close()
	st, err := study.OpenExisting(dir, study.Options{Session: p.sessionParts()})
	if err != nil {
		return err
	}
	run := &runReport{}
	if err := errors.Join(p.drawStrip(c.Context, st, front, run), st.Close()); err != nil {
		return err
	}
	if o.output == asJSON {
		return writeJSON(environmentOf(c).stdout, struct {
			File    string   `json:"file"`
			Samples []string `json:"samples"`
		}{path, run.Samples})
	}
	_, err = fmt.Fprintln(environmentOf(c).stdout, path)
	return err
}

// drawStrip writes samples/strip.png: uncached and schedules of the front side by side, one row per held-out prompt.
func (p *searchPlan) drawStrip(ctx context.Context, st *study.Study, f *study.Front, run *runReport) error {
	none, err := schedule.New(p.shape)
	if err != nil {
		return err
	}
	schedules, columns := []*schedule.Schedule{none}, []string{"uncached" + qualityLabel(f.Uncached)}
	for _, e := range stripEntries(f) {
		file, err := schedule.ReadFile(filepath.Join(st.Dir(), filepath.FromSlash(e.File)))
		if err != nil {
			return badInput(err)
		}
		schedules = append(schedules, file.Schedule())
		columns = append(columns, fmt.Sprintf("%s %.2fx less%s", shortName(e), e.MACsRatio, qualityLabel(e)))
	}
	first, prompts := p.cfg.Prompts.Count, p.prompts[p.cfg.Prompts.Count:p.cfg.Prompts.Count+p.cfg.Prompts.HeldOut]
	if len(prompts) == 0 {
		first, prompts = 0, p.prompts
	}
	prompts = prompts[:min(len(prompts), stripPrompts)]
	var rows []string
	for _, q := range prompts {
		rows = append(rows, q.Text)
	}
	encoded, negatives, err := p.session.EncodeGuided(ctx, p.cfg.Model.Guidance, p.cfg.Prompts.Negative, rows)
	if err != nil {
		return badModel(err)
	}
	plan := picturePlan{size: p.size, guidance: p.cfg.Model.Guidance, negative: negatives, prompts: encoded}
	for i := range prompts { // the noise each prompt's first image was scored with
		plan.seeds = append(plan.seeds, p.cfg.Prompts.NoiseSeed+int64((first+i)*p.cfg.Prompts.ImagesPerPrompt))
	}
	tiles := make([][]image.Image, len(prompts))
	for _, s := range schedules { // one by one: they may differ in their number of steps
		plan.steps, plan.schedules = s.Shape().Steps, []*schedule.Schedule{s}
		err = p.session.makePictures(ctx, plan, func(job int, pictures []made) error {
			tiles[job] = append(tiles[job], pictures[0].picture)
			return nil
		})
		if err != nil {
			return err
		}
	}
	data, err := encodePNG(grid{columns: columns, rows: rows, tiles: tiles}.draw(), []textChunk{{"Software", "ecadx"}, {"model", p.cfg.Model.Path},
		{"steps", strconv.Itoa(p.cfg.Model.Steps)}, {"guidance", strconv.FormatFloat(p.cfg.Model.Guidance, 'g', -1, 64)}})
	if err != nil {
		return err
	}
	run.Samples = []string{filepath.ToSlash(stripPath)}
	return st.WriteFile(filepath.ToSlash(stripPath), data)
}

func qualityLabel(e study.FrontEntry) string {
	if q, _ := judged(e); q != nil {
		return fmt.Sprintf(" quality %.3g", *q)
	}
	return ""
}
