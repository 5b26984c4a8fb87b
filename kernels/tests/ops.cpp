// Every opcode of the reference backend against formulas written once more, in float64 over index functions, for all float types, strided
// and step-indexed operands, constants and weights.
#include <functional>
#include <numeric>
#include <random>

#include "../core/dtype.h"
#include "fixture.h"

namespace {

using writer::Dims;
using writer::kAbsent;
using writer::kBF16;
using writer::kF16;
using writer::kF32;
using writer::kF64;
using writer::kI32;

// Dense float64 values with the dims they have.
struct Array {
  Dims dims;
  std::vector<double> v;
  Array() = default;
  explicit Array(Dims d) : dims(std::move(d)) { v.resize(static_cast<size_t>(std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>()))); }
  template <class... I>
  double operator()(I... i) const {
    const int64_t index[] = {static_cast<int64_t>(i)...};
    int64_t at = 0;
    for (size_t d = 0; d < sizeof...(i); ++d) at = at * dims[d] + index[d];
    return v[static_cast<size_t>(at)];
  }
};

// Fills an array from a function of its four indices.
Array made(const Dims& dims, const std::function<double(int64_t, int64_t, int64_t, int64_t)>& f) {
  Array a(dims);
  int64_t n[4] = {1, 1, 1, 1};
  for (size_t d = 0; d < dims.size(); ++d) n[d] = dims[d];
  size_t at = 0;
  for (int64_t i = 0; i < n[0]; ++i) for (int64_t j = 0; j < n[1]; ++j) for (int64_t k = 0; k < n[2]; ++k) for (int64_t l = 0; l < n[3]; ++l) a.v[at++] = f(i, j, k, l);
  return a;
}

std::mt19937& generator() {
  static std::mt19937 g(11);
  return g;
}

uint32_t pick(uint32_t n) { return static_cast<uint32_t>(generator()() % n); }

double round_to(double d, uint32_t dtype) {
  double stored = 0;
  ecad::store_element(&stored, static_cast<ecad::DType>(dtype), 0, d);
  return ecad::load_element(&stored, static_cast<ecad::DType>(dtype), 0);
}

Array random_array(const Dims& dims, uint32_t dtype, double scale = 1) {
  std::normal_distribution<double> normal(0, scale);
  return made(dims, [&](int64_t, int64_t, int64_t, int64_t) { return round_to(normal(generator()), dtype); });
}

enum class Where { kDense, kStrided, kConstant, kStep, kWeight };

struct In {
  Array a;
  uint32_t dtype = kF32;
  Where where = Where::kDense;
  bool absent = false;
};
struct Out {
  Dims dims;
  uint32_t dtype = kF32;
  bool absent = false;
};

std::vector<uint8_t> encoded(const std::vector<double>& v, uint32_t dtype) {
  std::vector<uint8_t> b(v.size() * writer::element_bytes(dtype));
  for (size_t i = 0; i < v.size(); ++i) {
    if (dtype == kI32) { const auto n = static_cast<int32_t>(v[i]); std::memcpy(b.data() + 4 * i, &n, 4); }
    else ecad::store_element(b.data(), static_cast<ecad::DType>(dtype), static_cast<int64_t>(i), v[i]);
  }
  return b;
}

// Builds the program of one op, runs it and returns its outputs.
class OneOp {
 public:
  std::vector<Array> run(uint32_t code, const std::vector<In>& in, const std::vector<Out>& out, std::initializer_list<int32_t> attr, std::initializer_list<double> fattr) {
    p_.steps = kSteps;
    std::vector<uint32_t> ins, outs, finals;
    for (const In& i : in) ins.push_back(i.absent ? kAbsent : place(i));
    for (const Out& o : out) {
      // Through a strided arena view, so that outputs are strided too.
      if (o.absent) { outs.push_back(kAbsent); finals.push_back(kAbsent); continue; }
      const Strided s = strided(o.dims);
      outs.push_back(p_.view(p_.arena(o.dtype, {s.extent}), o.dims, s.strides, s.offset));
      finals.push_back(p_.persistent("y" + std::to_string(finals.size()), o.dtype, o.dims));
    }
    p_.op(code, ins, outs, attr, fattr, "under test");
    for (size_t i = 0; i < outs.size(); ++i) {
      if (outs[i] != kAbsent) p_.op(writer::kCopy, {outs[i]}, {finals[i]});
    }
    return execute(out, finals);
  }

 private:
  static constexpr uint32_t kSteps = 3, kStep = 2;
  struct Strided { Dims strides; int64_t extent; uint64_t offset; };
  struct Stored { std::string name; Dims dims; std::vector<uint8_t> bytes; uint32_t dtype; };
  struct Pending { uint32_t buffer; std::vector<uint8_t> bytes; };

  // Strides with gaps of 3 after each row and 5 after each plane, from element 2.
  static Strided strided(const Dims& dims) {
    Strided s{Dims(dims.size(), 1), 0, 2};
    int64_t stride = 1;
    for (size_t d = dims.size(); d-- > 0;) {
      s.strides[d] = stride;
      stride = stride * dims[d] + (d + 1 == dims.size() ? 3 : 5);
    }
    s.extent = stride + 2;
    return s;
  }

  uint32_t place(const In& in) {
    const auto dense = encoded(in.a.v, in.dtype);
    const std::string name = "t" + std::to_string(p_.buffers.size());
    switch (in.where) {
      case Where::kWeight:
        stored_.push_back({name, in.a.dims, dense, in.dtype});
        return p_.weight(name, in.a.dims);
      case Where::kConstant: return p_.constant(in.dtype, in.a.dims, dense.data());
      case Where::kDense: {
        const uint32_t t = p_.persistent(name, in.dtype, in.a.dims);
        pending_.push_back({persistent_++, dense});
        return t;
      }
      case Where::kStep: {  // S copies, of which only that of step 2 is right
        const auto count = static_cast<int64_t>(in.a.v.size());
        std::vector<double> all(in.a.v.size() * kSteps, in.dtype == kI32 ? 0.0 : 1e3);
        std::copy(in.a.v.begin(), in.a.v.end(), all.begin() + static_cast<std::ptrdiff_t>(in.a.v.size() * kStep));
        const auto bytes = encoded(all, in.dtype);
        const uint32_t t = p_.constant(in.dtype, {count * kSteps}, bytes.data());
        Dims strides(in.a.dims.size(), 1);
        for (size_t d = strides.size() - 1; d-- > 0;) strides[d] = strides[d + 1] * in.a.dims[d + 1];
        return p_.view(t, in.a.dims, strides, 0, count);
      }
      case Where::kStrided: break;
    }
    const Strided s = strided(in.a.dims);
    std::vector<double> spread(static_cast<size_t>(s.extent), in.dtype == kI32 ? 0.0 : 777.0);
    size_t at = 0;
    Array index = made(in.a.dims, [&](int64_t i, int64_t j, int64_t k, int64_t l) {
      const int64_t n[4] = {i, j, k, l};
      int64_t place = static_cast<int64_t>(s.offset);
      for (size_t d = 0; d < in.a.dims.size(); ++d) place += n[d] * s.strides[d];
      spread[static_cast<size_t>(place)] = in.a.v[at++];
      return 0.0;
    });
    const uint32_t t = p_.persistent(name, in.dtype, {s.extent});
    pending_.push_back({persistent_++, encoded(spread, in.dtype)});
    return p_.view(t, in.a.dims, s.strides, s.offset);
  }

  std::vector<Array> execute(const std::vector<Out>& out, const std::vector<uint32_t>& finals) {
    auto device = open_device();
    std::vector<ecad_tensor_desc> descs;
    for (const Stored& s : stored_) {
      ecad_tensor_desc d{s.name.c_str(), static_cast<int32_t>(s.dtype), static_cast<int32_t>(s.dims.size()), {1, 1, 1, 1}, s.bytes.data(), s.bytes.size()};
      std::copy(s.dims.begin(), s.dims.end(), d.dims);
      descs.push_back(d);
    }
    ecad_weights* w = nullptr;
    CHECK_OK(ecad_weights_create(device.get(), descs.data(), descs.size(), &w, &err));
    Handle<ecad_weights> weights(w);
    auto program = load(device.get(), weights.get(), p_);
    auto state = new_state(program.get());
    for (const Pending& b : pending_) CHECK_OK(ecad_state_write_buffer(state.get(), b.buffer, b.bytes.data(), b.bytes.size(), &err));
    const ecad_run_item item{0, kStep};
    CHECK_OK(ecad_run(state.get(), program.get(), &item, 1, nullptr, &err));
    std::vector<Array> results;
    uint32_t index = persistent_;
    for (size_t i = 0; i < out.size(); ++i) {
      if (finals[i] == kAbsent) { results.emplace_back(); continue; }
      Array a(out[i].dims);
      std::vector<uint8_t> b(a.v.size() * writer::element_bytes(out[i].dtype));
      CHECK_OK(ecad_state_read_buffer(state.get(), index++, b.data(), b.size(), &err));
      for (size_t e = 0; e < a.v.size(); ++e) a.v[e] = ecad::load_element(b.data(), static_cast<ecad::DType>(out[i].dtype), static_cast<int64_t>(e));
      results.push_back(a);
    }
    return results;
  }

  writer::Program p_;
  std::vector<Stored> stored_;
  std::vector<Pending> pending_;
  uint32_t persistent_ = 0;
};

std::vector<Array> run_op(uint32_t code, const std::vector<In>& in, const std::vector<Out>& out, std::initializer_list<int32_t> attr = {}, std::initializer_list<double> fattr = {}) {
  return OneOp().run(code, in, out, attr, fattr);
}

// Half a unit in the last place of the output type, and the arithmetic's own error.
void expect(const Array& got, const Array& want, uint32_t dtype, bool wide, const char* what) {
  const double half = dtype == kBF16 ? 0x1p-8 : dtype == kF16 ? 0x1p-11 : dtype == kF32 ? 0x1p-24 : 0x1p-53, own = wide ? 1e-13 : 2e-5;
  REQUIRE(got.v.size() == want.v.size());
  double scale = 0;
  for (double w : want.v) scale = std::max(scale, std::fabs(w));
  for (size_t i = 0; i < want.v.size(); ++i) {
    const double tol = half * 1.01 * std::fabs(want.v[i]) + own * scale + (dtype == kF16 ? 0x1p-24 : 0);
    if (check::near(got.v[i], want.v[i], tol)) continue;
    check::report(false, __FILE__, __LINE__, std::string(what) + ": element " + std::to_string(i) + " is " + std::to_string(got.v[i]) + ", want " + std::to_string(want.v[i]));
    return;
  }
  CHECK(!want.v.empty());
}

constexpr uint32_t kFloats[] = {kF32, kBF16, kF16, kF64};

// Some dtype and place for an operand; everything float64 when `wide`.
In operand(const Dims& dims, bool wide, bool weight = false, double scale = 1) {
  const uint32_t dtype = wide ? uint32_t{kF64} : kFloats[pick(3)];
  const Where places[] = {Where::kDense, Where::kStrided, Where::kConstant, Where::kStep};
  const Where where = weight && pick(2) ? Where::kWeight : places[pick(4)];
  return {random_array(dims, dtype, scale), dtype, where, false};
}

In absent() { return {Array(), kF32, Where::kDense, true}; }
Out result(const Dims& dims, bool wide) { return {dims, wide ? uint32_t{kF64} : kFloats[pick(3)], false}; }

double act(int kind, double x) {
  switch (kind) {
    case 1: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case 2: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case 3: return x / (1 + std::exp(-x));
    case 4: return x / (1 + std::exp(-1.702 * x));
    case 5: return std::max(x, 0.0);
    default: return x;
  }
}

constexpr int kRounds = 16;

}  // namespace

TEST(copy_and_permute) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({2, 3, 4, 5}, wide, true);
    Out y = result({2, 3, 4, 5}, false);
    expect(run_op(writer::kCopy, {x}, {y})[0], x.a, y.dtype, true, "copy");
    y.dims = {4, 2, 5, 3};
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t k, int64_t l) { return x.a(j, l, i, k); });
    expect(run_op(writer::kPermute, {x}, {y}, {2, 0, 3, 1})[0], want, y.dtype, true, "permute");
  }
  // Integers move unchanged, large ones too.
  const In ids{made({2, 3, 1, 2}, [](int64_t i, int64_t j, int64_t, int64_t l) { return 2147483647.0 - static_cast<double>(7 * i + 3 * j + l); }), kI32, Where::kStrided, false};
  CHECK(run_op(writer::kCopy, {ids}, {{ids.a.dims, kI32, false}})[0].v == ids.a.v);
}

TEST(linear) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int kind = round % 6;
    const In x1 = operand({2, 5, 7}, wide), x2 = operand({2, 5, 4}, wide), w1 = operand({6, 11}, wide, true, 0.3), w2 = operand({3, 11}, wide, true, 0.3), b = operand({3}, wide, true);
    const Out y = result({2, 5, 9}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t n, int64_t) {
      const Array& w = n < 6 ? w1.a : w2.a;
      const int64_t row = n < 6 ? n : n - 6;
      double sum = n < 6 ? 0 : b.a(row);
      for (int64_t k = 0; k < 11; ++k) sum += (k < 7 ? x1.a(i, j, k) : x2.a(i, j, k - 7)) * w(row, k);
      return act(kind, sum);
    });
    expect(run_op(writer::kLinear, {x1, x2, w1, w2, absent(), b}, {y}, {2, 2, kind})[0], want, y.dtype, wide, "linear");
  }
}

TEST(linear_exact_by_hand) {
  const In x{made({1, 3}, [](int64_t, int64_t j, int64_t, int64_t) { return static_cast<double>(j + 1); }), kF32, Where::kDense, false};
  const In w{made({2, 3}, [](int64_t i, int64_t j, int64_t, int64_t) { return i == 0 ? 1.0 : static_cast<double>(j - 1); }), kBF16, Where::kWeight, false};
  const auto y = run_op(writer::kLinear, {x, w}, {{{1, 2}, kF32, false}}, {1, 1, 0})[0];  // the bias is left out
  CHECK(y.v == std::vector<double>({6, 2}));
}

TEST(gated_linear) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({3, 2, 6}, wide), g = operand({5, 6}, wide, true, 0.4), u = operand({5, 6}, wide, true, 0.4);
    const Out y = result({3, 2, 5}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t n, int64_t) {
      double a = 0, b = 0;
      for (int64_t k = 0; k < 6; ++k) a += x.a(i, j, k) * g.a(n, k), b += x.a(i, j, k) * u.a(n, k);
      return act(round % 6, a) * b;
    });
    expect(run_op(writer::kGatedLinear, {x, g, u}, {y}, {round % 6})[0], want, y.dtype, wide, "gated_linear");
  }
}

TEST(attention) {
  for (int round = 0; round < 2 * kRounds; ++round) {
    const bool wide = round % 4 == 0, causal = round % 3 == 0, counted = round % 2 == 0, biased = round % 5 < 3;
    const int64_t heads = 2, depth = 3, queries = 4, keys = causal ? 4 : 6, c = heads * depth;
    const In q = operand({2, queries, c}, wide), k = operand({2, keys, c}, wide), v = operand({2, keys, c}, wide);
    const In counts{made({2}, [](int64_t b, int64_t, int64_t, int64_t) { return b == 0 ? 1.0 : 3.0; }), kI32, Where::kStep, !counted};
    In bias = operand({heads, queries, keys}, wide, true);
    bias.absent = !biased;
    const double scale = 0.7;
    const Out y = result({2, queries, c}, wide);
    const Array want = made(y.dims, [&](int64_t b, int64_t i, int64_t e, int64_t) {
      const int64_t h = e / depth, present = counted ? static_cast<int64_t>(counts.a(b)) : keys;
      double top = 0, bottom = 0;
      for (int64_t j = 0; j < present; ++j) {
        if (causal && j > i) continue;
        double score = 0;
        for (int64_t d = 0; d < depth; ++d) score += q.a(b, i, h * depth + d) * k.a(b, j, h * depth + d);
        const double p = std::exp(scale * score + (biased ? bias.a(h, i, j) : 0));
        top += p * v.a(b, j, e);
        bottom += p;
      }
      return top / bottom;
    });
    expect(run_op(writer::kAttention, {q, k, v, counts, bias}, {y}, {2, 3, causal ? 1 : 0}, {scale})[0], want, y.dtype, wide, "attention");
  }
}

TEST(qk_norm_rope) {
  for (int round = 0; round < 2 * kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int64_t heads = 1 + round % 3, depth = 2 * (1 + round % 4), c = heads * depth;
    const In q = operand({2, 5, c}, wide), k = operand({2, 5, c}, wide), wq = operand({depth}, wide, true), wk = operand({depth}, wide, true), rope = operand({5, depth}, wide, true);
    const Out y = result({2, 5, c}, wide), z = result({2, 5, c}, wide);
    const double eps = round % 2 ? 1e-6 : 0.3;
    const auto got = run_op(writer::kQkNormRope, {q, k, wq, wk, rope}, {y, z}, {static_cast<int32_t>(heads), static_cast<int32_t>(depth)}, {eps});
    for (size_t i = 0; i < 2; ++i) {
      const Array &x = i == 0 ? q.a : k.a, &w = i == 0 ? wq.a : wk.a;
      const Array want = made(y.dims, [&](int64_t b, int64_t n, int64_t e, int64_t) {
        const int64_t first = e / depth * depth, d = e % depth, pair = d / 2 * 2;
        double mean = 0;
        for (int64_t j = 0; j < depth; ++j) mean += x(b, n, first + j) * x(b, n, first + j) / static_cast<double>(depth);
        const auto normed = [&](int64_t j) { return x(b, n, first + j) / std::sqrt(mean + eps) * w(j); };
        const double cosine = rope.a(n, pair), sine = rope.a(n, pair + 1);
        return d == pair ? normed(pair) * cosine - normed(pair + 1) * sine : normed(pair + 1) * cosine + normed(pair) * sine;
      });
      expect(got[i], want, i == 0 ? y.dtype : z.dtype, wide, i == 0 ? "q'" : "k'");
    }
  }
}

TEST(qk_norm_rope_by_hand) {  // norms of (3, 4) and (1, 1) without eps, a quarter turn
  const auto in = [](Dims dims, std::vector<double> v) {
    In i{Array(std::move(dims)), kF32, Where::kDense, false};
    i.a.v = std::move(v);
    return i;
  };
  const auto got = run_op(writer::kQkNormRope, {in({1, 1, 2}, {3, 4}), in({1, 1, 2}, {1, 1}), in({2}, {1, 2}), in({2}, {1, 1}), in({1, 2}, {0, 1})},
                          {{{1, 1, 2}, kF32, false}, {{1, 1, 2}, kF32, false}}, {1, 2}, {0.0});
  const double rms = std::sqrt(12.5);
  CHECK(check::near(got[0].v[0], -8 / rms, 1e-6) && check::near(got[0].v[1], 3 / rms, 1e-6));
  CHECK(check::near(got[1].v[0], -1, 1e-6) && check::near(got[1].v[1], 1, 1e-6));
}

TEST(attention_of_large_scores) {  // exp of 1000s must not overflow
  const In q{made({1, 1, 1}, [](int64_t, int64_t, int64_t, int64_t) { return 1000.0; }), kF32, Where::kDense, false};
  const In k{made({1, 2, 1}, [](int64_t, int64_t j, int64_t, int64_t) { return j == 0 ? 5.0 : 5.001; }), kF32, Where::kDense, false};
  const In v{made({1, 2, 1}, [](int64_t, int64_t j, int64_t, int64_t) { return static_cast<double>(j); }), kF32, Where::kDense, false};
  const double got = run_op(writer::kAttention, {q, k, v}, {{{1, 1, 1}, kF32, false}}, {1, 1, 0}, {1.0})[0].v[0];
  CHECK(check::near(got, 1 / (1 + std::exp(-1.0)), 2e-4));
}

TEST(chain) {
  for (int round = 0; round < 3 * kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int norm = round % 3, n = round % 4;
    const Dims dims{2, 3, 8};
    const In x = operand(dims, wide, false, 2);
    std::vector<In> in{x};
    for (int i = 0; i < n; ++i) {
      in.push_back(operand(dims, wide));
      in.push_back(i == 1 ? absent() : operand({i == 0 ? 1 : 2, 8}, wide));
    }
    const bool modulated = round % 2 == 0, affine = round % 5 < 2;
    const In scale = modulated ? operand({2, 8}, wide) : absent(), shift = modulated ? operand({1, 8}, wide) : absent();
    const In weight = affine ? operand({8}, wide, true) : absent(), bias = round % 5 == 1 ? operand({8}, wide, true) : absent();
    for (const In& i : {scale, shift, weight, bias}) in.push_back(i);
    const double eps = 1e-3;
    Out sum = result(dims, wide), y = result(dims, wide);
    sum.absent = round % 7 == 1;
    y.absent = round % 7 == 2;
    const Array want_sum = made(dims, [&](int64_t b, int64_t t, int64_t c, int64_t) {
      double s = x.a(b, t, c);
      for (int i = 0; i < n; ++i) {
        const In& term = in[static_cast<size_t>(1 + 2 * i)];
        const In& gate = in[static_cast<size_t>(2 + 2 * i)];
        s += term.a(b, t, c) * (gate.absent ? 1 : gate.a(gate.a.dims[0] == 1 ? 0 : b, c));
      }
      return s;
    });
    const Array want_y = made(dims, [&](int64_t b, int64_t t, int64_t c, int64_t) {
      double mean = 0, square = 0;
      for (int64_t k = 0; k < 8; ++k) mean += want_sum(b, t, k) / 8;
      for (int64_t k = 0; k < 8; ++k) square += std::pow(want_sum(b, t, k) - (norm == 1 ? mean : 0), 2) / 8;
      double v = want_sum(b, t, c);
      if (norm == 1) v = (v - mean) / std::sqrt(square + eps);
      if (norm == 2) v = v / std::sqrt(square + eps);
      if (affine) v *= weight.a(c);
      if (!bias.absent) v += bias.a(c);
      return modulated ? v * (1 + scale.a(b, c)) + shift.a(0, c) : v;
    });
    const auto got = run_op(writer::kChain, in, {sum, y}, {n, norm}, {eps});
    if (!sum.absent) expect(got[0], want_sum, sum.dtype, wide, "chain x'");
    if (!y.absent) expect(got[1], want_y, y.dtype, wide, "chain y");
  }
}

TEST(patch_embed_and_unpatchify) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({2, 3, 4, 6}, wide), w = operand({5, 3, 2, 2}, wide, true), b = round % 2 ? operand({5}, wide, true) : absent(), pos = round % 3 ? operand({6, 5}, wide, true) : absent();
    const Out y = result({4, 6, 5}, wide);
    const Array want = made(y.dims, [&](int64_t rb, int64_t n, int64_t o, int64_t) {
      double s = (b.absent ? 0 : b.a(o)) + (pos.absent ? 0 : pos.a(n, o));
      for (int64_t c = 0; c < 3; ++c) for (int64_t p = 0; p < 2; ++p) for (int64_t q = 0; q < 2; ++q) s += x.a(rb % 2, c, n / 3 * 2 + p, n % 3 * 2 + q) * w.a(o, c, p, q);
      return s;
    });
    expect(run_op(writer::kPatchEmbed, {x, w, b, pos}, {y}, {2, 2})[0], want, y.dtype, wide, "patch_embed");

    const int order = round % 2;
    const In tokens = operand({2, 6, 12}, wide);
    const Out image = result({2, 2, 4, 6}, wide);  // two of the three channels
    const Array picture = made(image.dims, [&](int64_t i, int64_t c, int64_t r, int64_t s) {
      return tokens.a(i, r / 2 * 3 + s / 2, order == 0 ? (r % 2 * 2 + s % 2) * 3 + c : c * 4 + r % 2 * 2 + s % 2);
    });
    expect(run_op(writer::kUnpatchify, {tokens}, {image}, {2, order, 3})[0], picture, image.dtype, wide, "unpatchify");
  }
}

TEST(timestep_embed) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0, cos_first = round % 2 == 0;
    const In t{made({3}, [&](int64_t i, int64_t, int64_t, int64_t) { return i == 0 ? 0 : i == 1 ? 7.5 : 31; }), wide ? uint32_t{kF64} : uint32_t{kF32}, Where::kDense, false};
    const double shift = round % 3 == 0 ? 1 : 0, scale = round % 5 == 0 ? 2 : 1;
    const Out y = result({3, 10}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t e, int64_t, int64_t) {
      const double a = scale * t.a(i) * std::exp(-std::log(10000.0) * static_cast<double>(e % 5) / (5 - shift));
      return (e < 5) == cos_first ? std::cos(a) : std::sin(a);
    });
    expect(run_op(writer::kTimestepEmbed, {t}, {y}, {cos_first ? 1 : 0}, {10000, scale, shift})[0], want, y.dtype, wide, "timestep_embed");
  }
}

TEST(embedding) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In ids{made({2, 3}, [](int64_t i, int64_t j, int64_t, int64_t) { return static_cast<double>((5 * i + 3 * j) % 7); }), kI32, round % 2 ? Where::kStrided : Where::kStep, false};
    const In table = operand({7, 4}, wide, true);
    const Out y = result({2, 3, 4}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t c, int64_t) { return table.a(static_cast<int64_t>(ids.a(i, j)), c); });
    expect(run_op(writer::kEmbedding, {ids, table}, {y})[0], want, y.dtype, true, "embedding");
  }
}

TEST(lincomb) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0, clamp = round % 2 == 0;
    const In a = operand({2, 3}, wide), b = operand({2, 3}, wide), c = operand({2, 3}, wide);
    const In k{made({3}, [](int64_t i, int64_t, int64_t, int64_t) { return i == 1 ? 0 : 0.3 - static_cast<double>(i); }), kF64, round % 3 ? Where::kStep : Where::kConstant, false};
    const Out y = result({2, 3}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t, int64_t) {
      const double s = 0.3 * a.a(i, j) - 1.7 * c.a(i, j);
      return clamp ? std::min(std::max(s, -0.5), 0.25) : s;
    });
    const auto got = clamp ? run_op(writer::kLincomb, {a, b, c, k}, {y}, {3, 1}, {-0.5, 0.25}) : run_op(writer::kLincomb, {a, b, c, k}, {y}, {3, 0});
    expect(got[0], want, y.dtype, true, "lincomb");
  }
}

TEST(add_spreads) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In a = operand({2, 1, 4, 3}, wide, true), b = operand({1, 5, 4, 1}, wide, true);
    const Out y = result({2, 5, 4, 3}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t k, int64_t l) { return a.a(i, 0, k, l) + b.a(0, j, k, 0); });
    expect(run_op(writer::kAdd, {a, b}, {y})[0], want, y.dtype, wide, "add");
  }
}

TEST(unary) {
  for (int kind = 0; kind < 6; ++kind) {
    for (bool wide : {false, true}) {
      In x = operand({4, 9}, wide, false, 3);
      x.a.v[0] = 40, x.a.v[1] = -40, x.a.v[2] = 0;
      const Out y = result({4, 9}, wide);
      const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t, int64_t) { return act(kind, x.a(i, j)); });
      expect(run_op(writer::kUnary, {x}, {y}, {kind})[0], want, y.dtype, wide, "unary");
    }
  }
}

TEST(conv2d) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int stride = 1 + round % 2, pad = round % 3;
    const int64_t h = 5, wd = 6, kh = 3, kw = 2, ho = (h + 2 * pad - kh) / stride + 1, wo = (wd + 2 * pad - kw) / stride + 1;
    const In x = operand({2, h, wd, 3}, wide), w = operand({4, 3, kh, kw}, wide, true), b = round % 2 ? operand({4}, wide, true) : absent();
    const Out y = result({2, ho, wo, 4}, wide);
    const Array want = made(y.dims, [&](int64_t n, int64_t i, int64_t j, int64_t o) {
      double s = b.absent ? 0 : b.a(o);
      for (int64_t p = 0; p < kh; ++p) for (int64_t q = 0; q < kw; ++q) for (int64_t c = 0; c < 3; ++c) {
        const int64_t r = i * stride + p - pad, t = j * stride + q - pad;
        if (r >= 0 && r < h && t >= 0 && t < wd) s += x.a(n, r, t, c) * w.a(o, c, p, q);
      }
      return s;
    });
    expect(run_op(writer::kConv2d, {x, w, b}, {y}, {stride, pad})[0], want, y.dtype, wide, "conv2d");
  }
}

TEST(group_norm_and_upsample) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({2, 3, 2, 6}, wide, false, 2), w = operand({6}, wide, true), b = operand({6}, wide, true);
    Out y = result({2, 3, 2, 6}, wide);
    const Array want = made(y.dims, [&](int64_t n, int64_t i, int64_t j, int64_t c) {
      const int64_t first = c / 2 * 2;
      double mean = 0, square = 0;
      for (int64_t p = 0; p < 3; ++p) for (int64_t q = 0; q < 2; ++q) for (int64_t k = first; k < first + 2; ++k) mean += x.a(n, p, q, k) / 12;
      for (int64_t p = 0; p < 3; ++p) for (int64_t q = 0; q < 2; ++q) for (int64_t k = first; k < first + 2; ++k) square += std::pow(x.a(n, p, q, k) - mean, 2) / 12;
      return act(round % 6, (x.a(n, i, j, c) - mean) / std::sqrt(square + 1e-6) * w.a(c) + b.a(c));
    });
    expect(run_op(writer::kGroupNorm, {x, w, b}, {y}, {3, round % 6}, {1e-6})[0], want, y.dtype, wide, "group_norm");
    y.dims = {2, 9, 6, 6};
    const Array larger = made(y.dims, [&](int64_t n, int64_t i, int64_t j, int64_t c) { return x.a(n, i / 3, j / 3, c); });
    expect(run_op(writer::kUpsample, {x}, {y}, {3})[0], larger, y.dtype, true, "upsample");
  }
}

CHECK_MAIN()
