package study

import (
	"bytes"
	"encoding/csv"
	"strconv"
	"strings"

	"ecadx/ga"
)

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// optional writes a number, or nothing.
func optional(v *float64) string {
	if v == nil {
		return ""
	}
	return number(*v)
}

func interval(ci *[2]float64) []string {
	if ci == nil {
		return []string{"", ""}
	}
	return []string{number(ci[0]), number(ci[1])}
}

// table writes rows as CSV (RFC 4180, lines ended by a newline).
func table(head string, rows [][]string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Write(strings.Split(head, ","))
	w.WriteAll(rows) // a buffer takes everything
	return b.Bytes()
}

// EvaluationsCSV lists every schedule that was tried: what made it, how far its evaluation got, and what that found. Parents are schedule hashes;
// quality and std_err say nothing about an invalid schedule and speak of fewer images for a dropped one.
func EvaluationsCSV(snapshots []*ga.Snapshot) []byte {
	var rows [][]string
	base := 0.0
	for _, s := range snapshots {
		for _, e := range s.Candidates {
			if s.Generation == 0 && e.Name == ga.UncachedName {
				base = e.MACs
			}
			if !e.First {
				continue
			}
			var parents []string
			for _, p := range e.Birth.Parents {
				parents = append(parents, p.String())
			}
			ratio := ""
			if e.MACs > 0 {
				ratio = number(base / e.MACs)
			}
			quality, stdErr := number(e.Quality), number(e.StdErr)
			if e.Status == ga.StatusInvalid {
				quality, stdErr = "", ""
			}
			rows = append(rows, []string{strconv.Itoa(len(rows) + 1), strconv.Itoa(s.Generation), e.Hash.String(), e.Name, e.Status.String(), strconv.Itoa(e.Images),
				quality, stdErr, number(e.Cost), number(e.MACs), ratio, strings.Join(e.Birth.Operators, "+"), strings.Join(parents, " "), optional(e.Birth.Predicted), e.Reason})
		}
	}
	return table("id,generation,hash,name,status,images,quality,std_err,cost,macs,macs_ratio,operators,parents,predicted,reason", rows)
}

// HistoryCSV lists where the search stood after each generation.
func HistoryCSV(snapshots []*ga.Snapshot) []byte {
	var rows [][]string
	for _, h := range history(snapshots) {
		rows = append(rows, []string{strconv.Itoa(h.Generation), strconv.FormatInt(h.Evaluations, 10), strconv.FormatInt(h.Images, 10), strconv.FormatInt(h.Dropped, 10),
			strconv.Itoa(h.Front), number(h.Hypervolume), number(h.IGDPlus)})
	}
	return table("generation,evaluations,images,dropped,front,hypervolume,igd_plus", rows)
}

// CSV lists the front by ascending cost, and before it the uncached schedule.
func (f *Front) CSV() []byte {
	uncached := f.Uncached
	uncached.Name = "uncached"
	var rows [][]string
	for _, e := range append([]FrontEntry{uncached}, f.Front...) {
		row := append([]string{e.Hash, e.Name, e.File, optional(e.Quality)}, interval(e.QualityCI95)...)
		row = append(append(row, optional(e.HeldOutQuality)), interval(e.HeldOutCI95)...)
		rows = append(rows, append(row, number(e.Cost), number(e.MACsRatio), e.Invalid))
	}
	return table("hash,name,file,quality,quality_low,quality_high,heldout_quality,heldout_low,heldout_high,cost,macs_ratio,invalid", rows)
}
