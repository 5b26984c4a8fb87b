// Opcodes lincomb, add, unary, timestep_embed, embedding.
#include "ref.h"

namespace ecad {

// y = sum_i c_i x_i, clamped if asked. A term with c_i = 0 is not read. Coefficients are float64, so arithmetic is.
template <class A>
Status ref_lincomb(const RefOp& r) {
  const auto n = static_cast<size_t>(r.op.attr[0]);
  const auto c = r.load<A>(n);
  std::vector<A> y(static_cast<size_t>(r.out(0).count()), A(0));
  for (size_t i = 0; i < n; ++i) {
    if (c[i] == A(0)) continue;
    const auto x = r.load<A>(i);
    for (size_t e = 0; e < y.size(); ++e) y[e] += c[i] * x[e];
  }
  if (r.op.attr[1] == 1) {
    const A low = static_cast<A>(r.op.fattr[0]), high = static_cast<A>(r.op.fattr[1]);
    for (A& v : y) v = v < low ? low : v > high ? high : v;  // NaN stays
  }
  r.store(0, y);
  return Status::ok();
}

// y = a + b; dims of 1 spread.
template <class A>
Status ref_add(const RefOp& r) {
  std::vector<A> y(static_cast<size_t>(r.out(0).count()), A(0));
  for (size_t i = 0; i < 2; ++i) {
    const auto x = r.load<A>(i);
    const auto &xd = r.in(i).dims, &yd = r.out(0).dims;
    size_t next = 0;
    for (int64_t a = 0; a < yd[0]; ++a) {
      for (int64_t b = 0; b < yd[1]; ++b) {
        for (int64_t c = 0; c < yd[2]; ++c) {
          for (int64_t d = 0; d < yd[3]; ++d) y[next++] += x[static_cast<size_t>((((a % xd[0]) * xd[1] + b % xd[1]) * xd[2] + c % xd[2]) * xd[3] + d % xd[3])];
        }
      }
    }
  }
  r.store(0, y);
  return Status::ok();
}

template <class A>
Status ref_unary(const RefOp& r) {
  auto x = r.load<A>(0);
  for (A& v : x) v = activate(act_of(r.op.attr[0]), v);
  r.store(0, x);
  return Status::ok();
}

// f_k = exp(-ln(period) k / (half - shift)), a = scale (t f_k); cos and sin halves. The order of operations is that of diffusers'
// get_timestep_embedding, whose float32 sines of large arguments depend on it.
template <class A>
Status ref_timestep_embed(const RefOp& r) {
  const auto t = r.load<A>(0);
  const size_t width = static_cast<size_t>(r.out(0).dims[1]), half = width / 2;
  const A minus_log_period = static_cast<A>(-std::log(r.op.fattr[0])), scale = static_cast<A>(r.op.fattr[1]), span = static_cast<A>(static_cast<double>(half) - r.op.fattr[2]);
  const size_t cos_at = r.op.attr[0] == 1 ? 0 : half, sin_at = half - cos_at;
  std::vector<A> y(t.size() * width);
  for (size_t i = 0; i < t.size(); ++i) {
    for (size_t k = 0; k < half; ++k) {
      const A frequency = std::exp(minus_log_period * static_cast<A>(k) / span);
      const A angle = scale * (t[i] * frequency);
      y[i * width + cos_at + k] = std::cos(angle);
      y[i * width + sin_at + k] = std::sin(angle);
    }
  }
  r.store(0, y);
  return Status::ok();
}

// y[.., :] = table[ids[..], :]
template <class A>
Status ref_embedding(const RefOp& r) {
  const auto ids = r.load<double>(0);
  const Tensor& table = r.in(1);
  std::vector<A> y;
  y.reserve(static_cast<size_t>(r.out(0).count()));
  for (const double id : ids) {
    if (id < 0 || id >= static_cast<double>(table.dims[0])) {
      return Status(ECAD_INVALID_ARGUMENT, "id " + std::to_string(static_cast<int64_t>(id)) + " is outside 0.." + std::to_string(table.dims[0] - 1));
    }
    for (int64_t c = 0; c < table.dims[1]; ++c) y.push_back(static_cast<A>(load_element(r.data(1), r.dtype(1), static_cast<int64_t>(id) * table.strides[0] + c)));
  }
  r.store(0, y);
  return Status::ok();
}

ECAD_REF_INSTANTIATE(ref_lincomb);
ECAD_REF_INSTANTIATE(ref_add);
ECAD_REF_INSTANTIATE(ref_unary);
ECAD_REF_INSTANTIATE(ref_timestep_embed);
ECAD_REF_INSTANTIATE(ref_embedding);

}  // namespace ecad
