// Opcodes that multiply with weights: linear, gated_linear, conv2d, patch_embed.
#include "ref.h"

namespace ecad {

// y[m, n] = act(sum_k x[m, k] w[n, k] + b[n]); x is the concatenation of its parts, w the stack of its parts.
template <class A>
Status ref_linear(const RefOp& r) {
  const auto nx = static_cast<size_t>(r.op.attr[0]), nw = static_cast<size_t>(r.op.attr[1]);
  const Tensor& y = r.out(0);
  const size_t rows = static_cast<size_t>(y.rows()), width = static_cast<size_t>(y.cols());
  size_t depth = 0;
  for (size_t i = 0; i < nx; ++i) depth += static_cast<size_t>(r.in(i).cols());
  std::vector<A> x(rows * depth), result(rows * width);
  size_t first = 0;
  for (size_t i = 0; i < nx; ++i) {
    const auto part = r.load<A>(i);
    const size_t cols = static_cast<size_t>(r.in(i).cols());
    for (size_t m = 0; m < rows; ++m) {
      for (size_t k = 0; k < cols; ++k) x[m * depth + first + k] = part[m * cols + k];
    }
    first += cols;
  }
  first = 0;
  for (size_t j = 0; j < nw; ++j) {
    const auto w = r.load<A>(nx + j);
    const size_t cols = static_cast<size_t>(r.in(nx + j).dims[0]);
    const bool biased = r.has(nx + nw + j);
    const auto b = biased ? r.load<A>(nx + nw + j) : std::vector<A>();
    for (size_t m = 0; m < rows; ++m) {
      for (size_t n = 0; n < cols; ++n) {
        A sum = biased ? b[n] : A(0);
        for (size_t k = 0; k < depth; ++k) sum += x[m * depth + k] * w[n * depth + k];
        result[m * width + first + n] = activate(act_of(r.op.attr[2]), sum);
      }
    }
    first += cols;
  }
  r.store(0, result);
  return Status::ok();
}

// y = act(x wg^T) * (x wu^T)
template <class A>
Status ref_gated_linear(const RefOp& r) {
  const auto x = r.load<A>(0), gate = r.load<A>(1), up = r.load<A>(2);
  const size_t rows = static_cast<size_t>(r.out(0).rows()), width = static_cast<size_t>(r.out(0).cols()), depth = static_cast<size_t>(r.in(0).cols());
  std::vector<A> result(rows * width);
  for (size_t m = 0; m < rows; ++m) {
    for (size_t n = 0; n < width; ++n) {
      A g = 0, u = 0;
      for (size_t k = 0; k < depth; ++k) {
        g += x[m * depth + k] * gate[n * depth + k];
        u += x[m * depth + k] * up[n * depth + k];
      }
      result[m * width + n] = activate(act_of(r.op.attr[0]), g) * u;
    }
  }
  r.store(0, result);
  return Status::ok();
}

// y[b, i, j, o] = sum over c, p, q of x[b, stride i - pad + p, stride j - pad + q, c] w[o, c, p, q], x being 0 outside.
template <class A>
Status ref_conv2d(const RefOp& r) {
  const auto x = r.load<A>(0), w = r.load<A>(1);
  const auto bias = r.has(2) ? r.load<A>(2) : std::vector<A>();
  const auto &xd = r.in(0).dims, &wd = r.in(1).dims, &yd = r.out(0).dims;
  const int64_t stride = r.op.attr[0], pad = r.op.attr[1];
  std::vector<A> result;
  result.reserve(static_cast<size_t>(r.out(0).count()));
  for (int64_t b = 0; b < yd[0]; ++b) {
    for (int64_t i = 0; i < yd[1]; ++i) {
      for (int64_t j = 0; j < yd[2]; ++j) {
        for (int64_t o = 0; o < yd[3]; ++o) {
          A sum = bias.empty() ? A(0) : bias[static_cast<size_t>(o)];
          for (int64_t p = 0; p < wd[2]; ++p) {
            for (int64_t q = 0; q < wd[3]; ++q) {
              const int64_t row = stride * i - pad + p, col = stride * j - pad + q;
              if (row < 0 || row >= xd[1] || col < 0 || col >= xd[2]) continue;
              for (int64_t c = 0; c < xd[3]; ++c) {
                sum += x[static_cast<size_t>(((b * xd[1] + row) * xd[2] + col) * xd[3] + c)] * w[static_cast<size_t>(((o * wd[1] + c) * wd[2] + p) * wd[3] + q)];
              }
            }
          }
          result.push_back(sum);
        }
      }
    }
  }
  r.store(0, result);
  return Status::ok();
}

// y[repeat B + b, n, o] = sum over c, p, q of x[b, c, P row + p, P col + q] w[o, c, p, q] + bias[o] + pos[n, o], n = row (W / P) + col.
template <class A>
Status ref_patch_embed(const RefOp& r) {
  const auto x = r.load<A>(0), w = r.load<A>(1);
  const auto bias = r.has(2) ? r.load<A>(2) : std::vector<A>(), pos = r.has(3) ? r.load<A>(3) : std::vector<A>();
  const auto &xd = r.in(0).dims, &yd = r.out(0).dims;
  const int64_t patch = r.op.attr[0], across = xd[3] / patch;
  std::vector<A> result;
  result.reserve(static_cast<size_t>(r.out(0).count()));
  for (int64_t rb = 0; rb < yd[0]; ++rb) {
    const int64_t b = rb % xd[0];
    for (int64_t n = 0; n < yd[1]; ++n) {
      for (int64_t o = 0; o < yd[2]; ++o) {
        A sum = bias.empty() ? A(0) : bias[static_cast<size_t>(o)];
        for (int64_t c = 0; c < xd[1]; ++c) {
          for (int64_t p = 0; p < patch; ++p) {
            for (int64_t q = 0; q < patch; ++q) {
              const int64_t row = n / across * patch + p, col = n % across * patch + q;
              sum += x[static_cast<size_t>(((b * xd[1] + c) * xd[2] + row) * xd[3] + col)] * w[static_cast<size_t>(((o * xd[1] + c) * patch + p) * patch + q)];
            }
          }
        }
        result.push_back(pos.empty() ? sum : sum + pos[static_cast<size_t>(n * yd[2] + o)]);
      }
    }
  }
  r.store(0, result);
  return Status::ok();
}

ECAD_REF_INSTANTIATE(ref_linear);
ECAD_REF_INSTANTIATE(ref_gated_linear);
ECAD_REF_INSTANTIATE(ref_conv2d);
ECAD_REF_INSTANTIATE(ref_patch_embed);

}  // namespace ecad
