// Good programs for tests that damage them, and weights that fit.
#pragma once
#include "fixture.h"

namespace corpus {

// Every opcode once, over all kinds of buffers, two sections, three steps, two schedules.
writer::Program every_op();
// A small one, for exhaustive damage.
writer::Program small();
// The start of a FLUX step: text and image rows of one buffer through a double block's attention, then joint attention. Batch of 2.
writer::Program joint();
// The weights that every_op and joint name, in memory of the test.
std::vector<ecad_tensor_desc> tensors();
Handle<ecad_weights> weights(ecad_device*);

}  // namespace corpus
