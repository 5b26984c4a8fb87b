// Programs of one op on the reference backend, for tests that compare it with formulas over index functions: operands of any type and place, and how near a result
// must come. Included by one source file of each test program.
#pragma once
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
