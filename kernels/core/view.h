// Which bytes of its buffer a tensor view covers. Extents have been checked: nothing here overflows.
#pragma once
#include "program.h"

namespace ecad {

// Row-major without gaps. Dims of 1 may have any stride.
bool is_dense(const Tensor&);
// Dense, from the first byte to the last of its buffer, at every step.
bool covers(const Tensor&, const Buffer&);
bool same_view(const Tensor&, const Tensor&);
// Whether the two views (at any step) may have a byte in common. False is certain; true is certain but for exotic strides.
bool may_share(const Tensor&, const Tensor&, uint32_t num_steps);
// Largest element index of the view, from its offset, at step 0.
int64_t last_element(const Tensor&);

}  // namespace ecad
