// Opcode attention.
#include <algorithm>

#include "ref.h"

namespace ecad {

// For every batch b, head h and query i: y = sum_j p_j v[j] over the keys j that i may see, p = softmax(scale q[i] k[j] + bias[h, i, j]).
template <class A>
Status ref_attention(const RefOp& r) {
  const auto q = r.load<A>(0), k = r.load<A>(1), v = r.load<A>(2);
  const auto counts = r.has(3) ? r.load<double>(3) : std::vector<double>();
  const auto bias = r.has(4) ? r.load<A>(4) : std::vector<A>();
  const auto heads = static_cast<size_t>(r.op.attr[0]), depth = static_cast<size_t>(r.op.attr[1]), width = heads * depth;
  const bool causal = r.op.attr[2] == 1;
  const A scale = static_cast<A>(r.op.fattr[0]);
  const size_t batch = static_cast<size_t>(r.in(0).dims[0]), queries = static_cast<size_t>(r.in(0).dims[1]), keys = static_cast<size_t>(r.in(1).dims[1]);
  std::vector<A> result(batch * queries * width), p(keys);
  for (size_t b = 0; b < batch; ++b) {
    if (!counts.empty() && (counts[b] < 1 || counts[b] > static_cast<double>(keys))) {
      return Status(ECAD_INVALID_ARGUMENT, "key count " + std::to_string(static_cast<int64_t>(counts[b])) + " of sample " + std::to_string(b) + " is outside 1.." + std::to_string(keys));
    }
    const size_t present = counts.empty() ? keys : static_cast<size_t>(counts[b]);
    for (size_t h = 0; h < heads; ++h) {
      for (size_t i = 0; i < queries; ++i) {
        const size_t seen = causal ? std::min(present, i + 1) : present;
        for (size_t j = 0; j < seen; ++j) {
          A dot = 0;
          for (size_t d = 0; d < depth; ++d) dot += q[(b * queries + i) * width + h * depth + d] * k[(b * keys + j) * width + h * depth + d];
          p[j] = scale * dot + (bias.empty() ? A(0) : bias[(h * queries + i) * keys + j]);
        }
        const A most = *std::max_element(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(seen));
        A total = 0;
        for (size_t j = 0; j < seen; ++j) total += p[j] = std::exp(p[j] - most);
        for (size_t d = 0; d < depth; ++d) {
          A sum = 0;
          for (size_t j = 0; j < seen; ++j) sum += p[j] * v[(b * keys + j) * width + h * depth + d];
          result[(b * queries + i) * width + h * depth + d] = sum / total;
        }
      }
    }
  }
  r.store(0, result);
  return Status::ok();
}

ECAD_REF_INSTANTIATE(ref_attention);

}  // namespace ecad
