#include "view.h"

#include <numeric>

namespace ecad {
namespace {

// A view as a comb: teeth of `inner` bytes that start at `start` plus multiples of `pitch` (0: one tooth).
struct Comb {
  int64_t start, inner, pitch, end;
};

Comb comb(const Tensor& t, uint32_t num_steps) {
  const int64_t size = static_cast<int64_t>(dtype_size(t.dtype));
  int64_t inner = 1, pitch = 0;
  for (uint32_t d = t.rank; d-- > 0;) {
    if (t.dims[d] == 1) continue;
    if (pitch == 0 && t.strides[d] == inner) inner *= t.dims[d];
    else pitch = std::gcd(pitch, t.strides[d]);
  }
  const int64_t steps = static_cast<int64_t>(num_steps) - 1;
  if (steps > 0) pitch = std::gcd(pitch, t.step_stride);
  const int64_t start = static_cast<int64_t>(t.offset);
  return {start * size, inner * size, pitch * size, (start + last_element(t) + t.step_stride * steps + 1) * size};
}

}  // namespace

bool is_dense(const Tensor& t) {
  int64_t expected = 1;
  for (uint32_t d = t.rank; d-- > 0;) {
    if (t.dims[d] != 1 && t.strides[d] != expected) return false;
    expected *= t.dims[d];
  }
  return true;
}

bool covers(const Tensor& t, const Buffer& b) {
  return is_dense(t) && t.offset == 0 && t.step_stride == 0 && static_cast<uint64_t>(t.count()) * dtype_size(t.dtype) == b.bytes;
}

bool same_view(const Tensor& a, const Tensor& b) {
  return a.buffer == b.buffer && a.dtype == b.dtype && a.rank == b.rank && a.dims == b.dims && a.strides == b.strides && a.offset == b.offset &&
         a.step_stride == b.step_stride;
}

int64_t last_element(const Tensor& t) {
  int64_t last = 0;
  for (uint32_t d = 0; d < t.rank; ++d) last += (t.dims[d] - 1) * t.strides[d];
  return last;
}

bool may_share(const Tensor& a, const Tensor& b, uint32_t num_steps) {
  if (a.buffer != b.buffer) return false;
  const Comb p = comb(a, num_steps), q = comb(b, num_steps);
  if (p.end <= q.start || q.end <= p.start) return false;
  // Interleaved columns: with a common pitch, the teeth stay apart if their places within one pitch do.
  const int64_t pitch = std::gcd(p.pitch, q.pitch);
  if (pitch == 0) return true;
  const int64_t at_p = p.start % pitch, at_q = q.start % pitch;
  if (at_p + p.inner > pitch || at_q + q.inner > pitch) return true;
  return at_p < at_q + q.inner && at_q < at_p + p.inner;
}

}  // namespace ecad
