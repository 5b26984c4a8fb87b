// Package schedule holds the caching schedule of a diffusion transformer: for
// every denoising step, block and component of the transformer, whether the
// component is computed or its last output is reused.
//
// The parts, leaf first:
//
//   - [Family], [BlockKind], [Component] and [Shape] describe what a schedule
//     ranges over; [Schedule] is the tensor itself, one [Decision] per cell.
//   - [Schedule.Canonical] is the one representative of all schedules that make
//     a model do the same thing; [Schedule.Hash] and [Schedule.DeadGenes] follow
//     from it.
//   - [Resolve] builds schedules from references such as "fora:3";
//     [Heuristics] lists them, [SeedSet] is a whole starting population.
//   - [Decode] and [NewFile] read and write ECAD's JSON. What the package does
//     not know stays in the file byte for byte.
//   - [Retime] carries a schedule over to another number of steps or sampler.
//   - [Dims] and [Schedule.MACs] count multiply-accumulates by closed forms.
//   - [Show], [Diff] and [Summarize] are for people; [ExportSCM] and
//     [ExportSmoothCache] are for other tools, and say what they lose.
//
// In files and in genomes a set bit means compute, as in ECAD's code. In this
// package the two cases have names, so that polarity is never in question.
//
// Schedules are plain values without locks: concurrent readers are fine, a
// writer needs the schedule for itself.
package schedule
