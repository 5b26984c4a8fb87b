// Good programs for tests that damage them, and weights that fit.
#pragma once
#include "fixture.h"

namespace corpus {

// Every opcode once, over all kinds of buffers, two sections, three steps, two schedules.
writer::Program every_op();
// A small one, for exhaustive damage.
writer::Program small();
// The weights that every_op names, in memory of the test.
std::vector<ecad_tensor_desc> tensors();
Handle<ecad_weights> weights(ecad_device*);

}  // namespace corpus
