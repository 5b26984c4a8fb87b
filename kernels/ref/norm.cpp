// Opcodes chain, group_norm and qk_norm_rope.
#include "ref.h"

namespace ecad {
namespace {

// Layer norm (biased variance) or RMS norm of n values.
template <class A>
void normalise(Norm norm, A eps, A* v, size_t n) {
  if (norm == Norm::kNone) return;
  A mean = 0, square = 0;
  if (norm == Norm::kLayer) {
    for (size_t c = 0; c < n; ++c) mean += v[c];
    mean /= static_cast<A>(n);
  }
  for (size_t c = 0; c < n; ++c) square += (v[c] - mean) * (v[c] - mean);
  const A scale = A(1) / std::sqrt(square / static_cast<A>(n) + eps);
  for (size_t c = 0; c < n; ++c) v[c] = (v[c] - mean) * scale;
}

// Optional operand [1 or B, C] at (b, c).
template <class A>
struct PerSample {
  std::vector<A> v;
  size_t samples, channels;
  PerSample(const RefOp& r, size_t i) : v(r.has(i) ? r.load<A>(i) : std::vector<A>()), samples(r.has(i) ? static_cast<size_t>(r.in(i).dims[0]) : 0), channels(r.has(i) ? static_cast<size_t>(r.in(i).dims[1]) : 0) {}
  explicit operator bool() const { return !v.empty(); }
  A at(size_t b, size_t c) const { return v[(samples == 1 ? 0 : b) * channels + c]; }
};

}  // namespace

// x' = x + sum_i g_i s_i; y = norm(x') (* weight + bias) * (1 + scale) + shift
template <class A>
Status ref_chain(const RefOp& r) {
  const auto n = static_cast<size_t>(r.op.attr[0]), at = 1 + 2 * n;
  const size_t batch = static_cast<size_t>(r.in(0).dims[0]), tokens = static_cast<size_t>(r.in(0).dims[1]), channels = static_cast<size_t>(r.in(0).dims[2]);
  auto x = r.load<A>(0);
  for (size_t i = 0; i < n; ++i) {
    const auto s = r.load<A>(1 + 2 * i);
    const PerSample<A> g(r, 2 + 2 * i);
    for (size_t e = 0; e < x.size(); ++e) x[e] += g ? g.at(e / (tokens * channels), e % channels) * s[e] : s[e];
  }
  if (r.has_out(0)) r.store(0, x);
  if (!r.has_out(1)) return Status::ok();
  const PerSample<A> scale(r, at), shift(r, at + 1);
  const auto weight = r.has(at + 2) ? r.load<A>(at + 2) : std::vector<A>(), bias = r.has(at + 3) ? r.load<A>(at + 3) : std::vector<A>();
  for (size_t b = 0; b < batch; ++b) {
    for (size_t t = 0; t < tokens; ++t) {
      A* row = x.data() + (b * tokens + t) * channels;
      normalise(static_cast<Norm>(r.op.attr[1]), static_cast<A>(r.op.fattr[0]), row, channels);
      for (size_t c = 0; c < channels; ++c) {
        if (!weight.empty()) row[c] *= weight[c];
        if (!bias.empty()) row[c] += bias[c];
        if (scale) row[c] = row[c] * (A(1) + scale.at(b, c)) + shift.at(b, c);
      }
    }
  }
  r.store(1, x);
  return Status::ok();
}

// Layer norm over (H, W, C / groups) of each group of channels, weight and bias per channel, then the activation.
template <class A>
Status ref_group_norm(const RefOp& r) {
  auto x = r.load<A>(0);
  const auto weight = r.load<A>(1), bias = r.load<A>(2);
  const auto& d = r.in(0).dims;
  const size_t batch = static_cast<size_t>(d[0]), pixels = static_cast<size_t>(d[1] * d[2]), channels = static_cast<size_t>(d[3]);
  const size_t groups = static_cast<size_t>(r.op.attr[0]), each = channels / groups;
  std::vector<A> group(pixels * each);
  for (size_t b = 0; b < batch; ++b) {
    for (size_t g = 0; g < groups; ++g) {
      const auto place = [&](size_t i) { return (b * pixels + i / each) * channels + g * each + i % each; };
      for (size_t i = 0; i < group.size(); ++i) group[i] = x[place(i)];
      normalise(Norm::kLayer, static_cast<A>(r.op.fattr[0]), group.data(), group.size());
      for (size_t i = 0; i < group.size(); ++i) {
        const size_t c = g * each + i % each;
        x[place(i)] = activate(act_of(r.op.attr[1]), group[i] * weight[c] + bias[c]);
      }
    }
  }
  r.store(0, x);
  return Status::ok();
}

// Per token and head: n = rms norm(x) * w, then each pair (n[2m], n[2m+1]) turned by the token's angle m: its cosine is rope[2m], its sine rope[2m+1].
template <class A>
Status ref_qk_norm_rope(const RefOp& r) {
  const auto depth = static_cast<size_t>(r.op.attr[1]), width = static_cast<size_t>(r.in(0).dims[2]), tokens = static_cast<size_t>(r.in(0).dims[1]);
  const auto rope = r.load<A>(4);
  for (size_t i = 0; i < 2; ++i) {  // q, then k
    auto x = r.load<A>(i);
    const auto weight = r.load<A>(2 + i);
    for (size_t start = 0; start < x.size(); start += depth) {
      A* head = x.data() + start;
      const A* turn = rope.data() + start / width % tokens * depth;
      normalise(Norm::kRms, static_cast<A>(r.op.fattr[0]), head, depth);
      for (size_t d = 0; d < depth; d += 2) {
        const A a = head[d] * weight[d], b = head[d + 1] * weight[d + 1];
        head[d] = a * turn[d] - b * turn[d + 1];
        head[d + 1] = b * turn[d] + a * turn[d + 1];
      }
    }
    r.store(i, x);
  }
  return Status::ok();
}

ECAD_REF_INSTANTIATE(ref_chain);
ECAD_REF_INSTANTIATE(ref_group_norm);
ECAD_REF_INSTANTIATE(ref_qk_norm_rope);

}  // namespace ecad
