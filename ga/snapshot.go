package ga

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"ecadx/schedule"
)

// Snapshot is everything that a generation adds to a search. The snapshots of a log in order, beginning with generation 0 (uncached schedule,
// baselines, reference point), put a search where it was: nothing is bred, scored or averaged again.
type Snapshot struct {
	Generation int
	// Evaluations, Images and Dropped count as in Progress, up to the end of this generation.
	Evaluations, Images, Dropped int64
	// Reference is the reference point of the hypervolume; it is known from generation 0 on.
	Reference Point
	// Candidates in the order in which they were asked for.
	Candidates []Evaluation
	// Digest is the SHA-256 over the population that follows: genomes, objectives, violations.
	Digest [32]byte
}

// Status says how the evaluation of a candidate ended. The numbers are part of the format of a study.
type Status uint8

// The statuses.
const (
	StatusScored     Status = 1 // on all search images
	StatusInvalid    Status = 2 // an image has no score
	StatusDropped    Status = 3 // it lost a race
	StatusInfeasible Status = 4 // scored, and reuses less than Config.MinDiff asks for or takes more than Config.MaxMemory
)

var statusNames = [...]string{StatusScored: "scored", StatusInvalid: "invalid", StatusDropped: "dropped", StatusInfeasible: "infeasible"}

// Names of the candidates of generation 0 that are neither baselines nor seeds.
const (
	UncachedName  = "none"
	AllReusedName = "all reused"
)

// String names the status.
func (s Status) String() string {
	if s < StatusScored || s > StatusInfeasible {
		return fmt.Sprintf("status(%d)", uint8(s))
	}
	return statusNames[s]
}

// Evaluation is a candidate of a generation and what its evaluation found.
type Evaluation struct {
	Genome Genome // as asked for; Hash is that of its canonical form
	Hash   schedule.Hash
	Name   string // of a seed or baseline; else empty
	Birth  Birth
	Status Status
	// Reason says why an invalid candidate is invalid.
	Reason string
	// First is false when an earlier generation, or an earlier candidate of this one, has found the same.
	First bool
	// Images is how many images were scored: all, those up to the first invalid one, or those of the rung at which the race was lost.
	Images int
	// Quality is the mean score on these images and StdErr its standard error (0 for a single image); neither says anything when invalid.
	Quality, StdErr float64
	Cost, MACs      float64
}

// Birth says how an algorithm made a genome: what Tell credits, and what people ask. The zero value says nothing.
type Birth struct {
	Operators []string        `json:"operators,omitempty"`
	Parents   []schedule.Hash `json:"parents,omitempty"`
	// Predicted is the quality that a surrogate expected.
	Predicted *float64 `json:"predicted,omitempty"`
}

// same returns nil if a replayed snapshot ends where the logged one did, else an error that wraps ErrDiverged.
func (s *Snapshot) same(replayed *Snapshot) error {
	if s.Digest == replayed.Digest && s.Evaluations == replayed.Evaluations && s.Images == replayed.Images && s.Reference == replayed.Reference {
		return nil
	}
	return fmt.Errorf("%w: generation %d replays to population %x (%d evaluations, %d images), logged is %x (%d, %d): "+
		"continue this study with the version that began it, or start a new one", ErrDiverged, replayed.Generation,
		replayed.Digest[:6], replayed.Evaluations, replayed.Images, s.Digest[:6], s.Evaluations, s.Images)
}

// CheckNext returns an error that wraps ErrDiverged unless s is the snapshot that may follow those a log holds already, or repeats one of them;
// known then reports that there is nothing to write.
func (s *Snapshot) CheckNext(logged []*Snapshot) (known bool, err error) {
	switch g := s.Generation; {
	case g < 0 || g > len(logged):
		return false, fmt.Errorf("%w: generation %d is committed after generation %d", ErrDiverged, g, len(logged)-1)
	case g < len(logged):
		return true, logged[g].same(s)
	}
	return false, nil
}

// errRecall is wrapped by errors of Algorithm.Recall.
var errRecall = errors.New("ecadx/ga: a snapshot cannot be recalled")

// recall takes the outcomes of a generation from the log. ok is false if the log does not hold it. Scores that a repaired log has lost are
// evaluated again: races and the result need them.
func (r *runner) recall(generation int) (s *Snapshot, ok bool, err error) {
	if s, ok = r.deps.Log.Snapshot(generation); !ok {
		return nil, false, nil
	}
	lost, err := r.incomplete(s)
	if err == nil && len(lost) > 0 {
		err = r.score(lost, r.cfg.Images)
	}
	if err != nil {
		return nil, false, err
	}
	for _, e := range s.Candidates {
		r.committed[e.Hash] = true
		if _, known := r.quality[e.Hash]; !known {
			r.quality[e.Hash] = outcome{quality: e.Quality, stdErr: e.StdErr, images: e.Images, cost: e.Cost, invalid: e.Reason, raced: e.Status == StatusDropped}
		}
	}
	r.progress.Evaluations, r.progress.Images, r.progress.Dropped = s.Evaluations, s.Images, s.Dropped
	return s, true, nil
}

// incomplete returns the candidates of a snapshot that were scored on all images and lack some of these scores.
func (r *runner) incomplete(s *Snapshot) ([]candidate, error) {
	var list []candidate
	for _, e := range s.Candidates {
		if e.Status == StatusInvalid || e.Status == StatusDropped || !e.First || !slices.ContainsFunc(r.cfg.Images, func(im Image) bool { _, ok := r.deps.Log.Score(e.Hash, im.ID); return !ok }) {
			continue
		}
		known, err := ScheduleOf(r.cfg.Shape, e.Genome)
		if err != nil {
			return nil, err
		}
		list = append(list, candidate{name: e.Name, hash: e.Hash, schedule: known.Canonical()})
	}
	return list, nil
}

// recallGeneration repeats a generation that the log holds and returns the population after it.
func (r *runner) recallGeneration(generation int, population []Individual) (next []Individual, ok bool, err error) {
	s, ok, err := r.recall(generation)
	if err != nil || !ok {
		return nil, false, err
	}
	genomes, births := make([]Genome, len(s.Candidates)), make([]Birth, len(s.Candidates))
	list := make([]candidate, len(s.Candidates))
	for i, e := range s.Candidates {
		known, err := ScheduleOf(r.cfg.Shape, e.Genome)
		if err != nil {
			return nil, false, err
		}
		genomes[i], births[i], list[i] = e.Genome, e.Birth, candidate{name: e.Name, hash: e.Hash, schedule: known.Canonical()}
	}
	if err := r.cfg.Algorithm.Recall(generation, genomes, births); err != nil {
		return nil, false, err
	}
	next = r.cfg.Algorithm.Tell(generation, population, r.judge(generation, genomes, list))
	return next, true, s.same(&Snapshot{Generation: generation, Evaluations: s.Evaluations, Images: s.Images, Reference: r.reference, Digest: digest(next)})
}

// commit logs the snapshot of a generation. genomes and list say the same.
func (r *runner) commit(generation int, genomes []Genome, list []candidate, population []Individual) error {
	s := &Snapshot{Generation: generation, Evaluations: r.progress.Evaluations, Images: r.progress.Images, Dropped: r.progress.Dropped,
		Reference: r.reference, Digest: digest(population), Candidates: make([]Evaluation, len(list))}
	for i, c := range list {
		o := r.quality[c.hash]
		macs, err := r.cost(r.deps.MACs, c)
		if err != nil {
			return err
		}
		fits, err := r.fits(c)
		if err != nil {
			return err
		}
		e := Evaluation{Genome: genomes[i], Hash: c.hash, Name: c.name, Birth: r.cfg.Algorithm.Birth(genomes[i]), Status: StatusScored, Reason: o.invalid,
			First: !r.committed[c.hash], Images: o.images, Quality: o.quality, StdErr: o.stdErr, Cost: o.cost, MACs: macs}
		switch {
		case o.invalid != "":
			e.Status = StatusInvalid
		case o.raced:
			e.Status = StatusDropped
		case !fits || generation > 0 && r.violation(genomes[i]) > 0:
			e.Status = StatusInfeasible
		}
		r.committed[c.hash] = true
		s.Candidates[i] = e
	}
	return r.deps.Log.Commit(s)
}

// digest identifies a population: the genomes in order with their objectives and violations.
func digest(population []Individual) [32]byte {
	h := sha256.New()
	var b []byte
	for _, ind := range population {
		b = append(b[:0], ind.Genome.Bytes()...)
		for _, f := range ind.F {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
		}
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(ind.CV))
		h.Write(b)
	}
	return [32]byte(h.Sum(nil))
}

// Birth implements Algorithm: the reference's operators keep no account.
func (a NSGA2) Birth(Genome) Birth { return Birth{} }

// Recall implements Algorithm: nothing is learned.
func (a NSGA2) Recall(int, []Genome, []Birth) error { return nil }

// Birth implements Algorithm.
func (a *Structured) Birth(g Genome) Birth {
	how, ok := a.children[g.key()]
	if !ok {
		return Birth{}
	}
	var b Birth
	if how.crossed && !a.cfg.Flat {
		b.Operators = append(b.Operators, how.cross.String())
	}
	for _, o := range how.mutations {
		b.Operators = append(b.Operators, o.String())
	}
	for _, p := range how.parents {
		if s, err := ScheduleOf(a.shape, p); err == nil {
			b.Parents = append(b.Parents, s.Hash())
		}
	}
	if !math.IsNaN(how.predicted) {
		b.Predicted = &how.predicted
	}
	return b
}

// Recall implements Algorithm.
func (a *Structured) Recall(generation int, genomes []Genome, births []Birth) error {
	a.children = make(map[string]origin)
	for i, g := range genomes {
		k := g.key()
		a.seen[k] = true
		if generation == 1 {
			continue
		}
		how := origin{predicted: math.NaN()}
		for _, name := range births[i].Operators {
			o, ok := operatorNamed(name)
			switch {
			case !ok:
				return fmt.Errorf("%w: generation %d: %.40q is no operator", errRecall, generation, name)
			case o < crossovers:
				how.cross, how.crossed = o, true
			default:
				how.mutations = append(how.mutations, o)
			}
		}
		if p := births[i].Predicted; p != nil {
			how.predicted = *p
		}
		a.children[k] = how
	}
	return nil
}

func operatorNamed(name string) (Operator, bool) {
	for o, n := range operatorNames {
		if n == name {
			return Operator(o), true
		}
	}
	return 0, false
}
