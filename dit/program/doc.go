// Package program builds, checks, stores and prints programs: the flat lists of ops over numbered tensors that libecad runs. The byte
// format and the ops are those of kernels/PROGRAM.md.
//
// A [Builder] collects storage (activations, persistent buffers, cache slots, constants, weights), views of it, sections of ops and
// schedules. Code that builds a model checks no errors: the Builder collects mistakes, each with section, block, component, op, operand
// and shapes, and [Builder.Finish] returns them.
//
//	b := program.NewBuilder(steps)
//	x := b.Activation(program.Float32, 2, 64, 144)
//	slot := b.Slot(0, 0, "b00.ff", program.Float32, 2, 64, 144)
//	b.Begin(program.Step, "step 3")
//	b.At(0, 0)
//	h := b.Norm("norm", program.ChainSpec{X: x, Norm: program.LayerNorm, Eps: 1e-6}, program.Tensor{})
//	f := b.Linear("up", program.LinearSpec{X: []program.Tensor{h}, W: []program.Tensor{w1}, Act: program.GeluTanh}, program.Tensor{})
//	b.Linear("down", program.LinearSpec{X: []program.Tensor{f}, W: []program.Tensor{w2}}, slot) // straight into the slot
//	step3 := b.End()
//
// Finish then leaves out what nobody needs. Content of a persistent buffer lives at a point of a schedule when the schedule reads it
// later before writing it whole, or ends and the buffer is an output; an op lives when it writes something that lives or that a living
// op of its section reads. A section that several places of several schedules share keeps an op that any of them needs. A persistent
// buffer that no section reads before writing becomes an activation. Rows of tensors [B,N,C] that nobody reads in any section are not computed where an op
// makes each row by itself, nor kept. What was taken out is told by [Program.Stats].
//
// Only runs that the schedules describe, or that switch at a point where two schedules have run the same items (a fork), are sure to find
// what they read. Sections in no schedule may run at any time: everything they read is kept, and everything they write.
//
// Activations of a section whose lives do not overlap share memory. All views are checked to stay inside their buffers, and no output
// shares bytes with an input but where the format allows it, as for the residual stream of a chain.
//
// A [Program] is immutable. [Decode] takes untrusted bytes and accepts only what obeys every rule; libecad checks the same rules again.
package program
