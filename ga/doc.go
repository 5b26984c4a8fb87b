// Package ga searches for caching schedules: which components of which denoising steps of a diffusion transformer
// may reuse their last output, traded against the quality that costs.
//
// The package has three layers.
//
//   - The algorithm: Genome, NonDominatedSort, Crowding, Survive, NSGA2, Archive, Hypervolume. Pure functions of their
//     arguments, without input, output or clock. It knows bit strings and objective vectors, no schedules.
//   - The adapter (adapter.go): genomes to and from schedules, in the gene order of the reference.
//   - The driver (Run): asks the algorithm for genomes, takes known scores from the Log, has an Evaluator compute the
//     missing ones, and tells the algorithm. Package ga/study keeps the Log and everything else of a search on disk.
//
// # Reproducibility
//
// Every random decision is drawn from a stream derived from (seed, generation, purpose, round, index); see Stream.
// Nothing depends on the order in which work finishes, so a search that was interrupted, resumed or distributed gives
// the same front bit for bit. Scores are summed in image order in float64; products that are summed are converted
// explicitly, so that no compiler fuses them and all architectures agree.
//
// # What later modes build on
//
// The Evaluator gets all candidates that lack scores on a batch of images in one call, so a prefix tree can share their
// work behind it. Scores are logged per image, so racing on growing sets of images needs no other log, and a score that
// a rung has paid for is never computed again. An Algorithm sees the individuals of its population; operators, seeding
// and pre-selection by a surrogate are its own. The Archive keeps every point for all time.
//
// # Words
//
// A genome is a bit string, 1 = compute, 0 = reuse, a row of the search's shape after the other; one of fewer rows is a run of fewer steps. An individual is a genome with its objectives, which are
// minimised. The quality of a schedule is the mean of its scores and is maximised; Objectives holds the one place where
// the sign changes. A generation is one round of ask and tell; as in pymoo the first population is generation 1.
package ga
