// Products with packed weights on operands between guards, for tests that launch kernels directly on the emulator: against sums in float64, with the emulator's
// counts. Weights are packed here by the layout's definition (kernels/linear.h), not by the backend's code. Included by one source file of each test program.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../core/dtype.h"
#include "../cuda/emu/emulator.h"
#include "../cuda/kernels/linear_sm90.h"
#include "../cuda/runtime.h"
#include "op_case.inc"
#include "cuda_watch.inc"

namespace {

using namespace ecad;
using namespace ecad::cuda;
using op_test::Random;

int failures = 0, checks = 0;
emu::Report report;  // of the last launch

// Device memory between guards.
class Memory {
 public:
  Memory(size_t bytes, int fill) : bytes_(bytes) {
    if (!allocate(bytes + 2 * kGuard, &base_).is_ok()) std::exit(1);
    std::memset(base_, kGuardByte, bytes + 2 * kGuard);
    std::memset(data(), fill, bytes);
  }
  ~Memory() { release(base_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* data() const { return static_cast<char*>(base_) + kGuard; }
  bool intact() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (static_cast<unsigned char>(data()[bytes_ + i]) != kGuardByte || static_cast<unsigned char*>(base_)[i] != kGuardByte) return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr int kGuardByte = 0x5a;
  void* base_ = nullptr;
  size_t bytes_;
};

// A view [outer, inner, columns] of rows.
struct View {
  int64_t outer, inner, columns, row_gap, outer_gap;
  int64_t rows() const { return outer * inner; }
  int64_t stride() const { return columns + row_gap; }
  int64_t extent() const { return outer * (inner * stride() + outer_gap); }
  int64_t at(int64_t r) const { return r / inner * (inner * stride() + outer_gap) + r % inner * stride(); }
  RowLayout layout() const {
    Tensor t = {};
    t.rank = 3;
    t.dims = {outer, inner, columns, 1};
    t.strides = {inner * stride() + outer_gap, stride(), 1, 0};
    return row_layout(t);
  }
};

struct Problem {
  int64_t outer, inner;              // rows
  std::vector<int64_t> parts;        // columns of the inputs
  int64_t n;                         // columns of y
  Act act = Act::kNone;
  bool bias = true, f32_x = false, mixed_x = false, f32_y = false, gated = false, integers = true;
  int64_t gap = 8, outer_gap = 0;    // of the inputs, in elements
  int64_t y_gap = 8;
};

double activation(Act act, double x) {
  switch (act) {
    case Act::kNone: return x;
    case Act::kGeluTanh: return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Act::kGeluErf: return 0.5 * x * (1 + std::erf(x * 0.7071067811865476));
    case Act::kSilu: return x / (1 + std::exp(-x));
    case Act::kQuickGelu: return x / (1 + std::exp(-1.702 * x));
    case Act::kRelu: return x < 0 ? 0 : x;
  }
  return x;
}

std::string name_of(const Problem& p, const std::string& kernel) {
  std::string s = kernel + ": " + std::to_string(p.outer) + "x" + std::to_string(p.inner) + " rows, k";
  for (const int64_t k : p.parts) s += " " + std::to_string(k);
  return s + ", n " + std::to_string(p.n) + ", act " + std::to_string(static_cast<int>(p.act)) + (p.bias ? "" : ", no bias") + (p.f32_x ? ", f32 x" : "") + (p.mixed_x ? ", mixed x" : "") +
         (p.f32_y ? ", f32 y" : "") + (p.gated ? ", gated" : "") + (p.integers ? "" : ", random") + ", gaps " + std::to_string(p.gap) + " " + std::to_string(p.outer_gap) + " " + std::to_string(p.y_gap);
}

bool fail(const std::string& name, const std::string& what) {
  std::printf("FAIL %s: %s\n", name.c_str(), what.c_str());
  ++failures;
  return false;
}

// The operands of a problem in device memory.
class Operands {
 public:
  explicit Operands(const Problem& p) : p_(p) {
    Random random(17);
    const auto value = [&](DType t, double spread) { return p.integers ? static_cast<double>(random.below(9) - 4) : op_test::rounded(spread * random.normal(), t); };
    const int64_t m = p.outer * p.inner;
    const DType weight = p.f32_x ? DType::kF32 : DType::kBF16;
    for (size_t i = 0; i < p.parts.size(); ++i) {
      const View v{p.outer, p.inner, p.parts[i], p.gap, p.outer_gap};
      const DType t = p.f32_x && !(p.mixed_x && i == 0) ? DType::kF32 : DType::kBF16;
      x_.push_back(std::make_unique<Memory>(static_cast<size_t>(v.extent()) * dtype_size(t), 0xff));  // gaps are NaN
      std::vector<double> values;
      for (int64_t r = 0; r < m; ++r)
        for (int64_t k = 0; k < v.columns; ++k) {
          values.push_back(value(t, 1));
          store_element(x_.back()->data(), t, v.at(r) + k, values.back());
        }
      x_values_.push_back(values);
      k_ += p.parts[i];
      tiles_ += (p.parts[i] * static_cast<int64_t>(dtype_size(weight)) + kLineBytes - 1) / kLineBytes;
      params.parts[i] = {fixed_ref(x_.back()->data()), v.layout(), static_cast<int32_t>(v.columns), static_cast<int32_t>(tiles_), t == DType::kBF16, 0};
    }
    const int64_t matrices = p.gated ? 2 : 1, groups = (p.n + kGatedRows - 1) / kGatedRows;
    packed_ = p.gated ? 2 * kGatedRows * groups : p.n;
    const size_t row = static_cast<size_t>(tiles_ * kLineBytes);
    w_ = std::make_unique<Memory>(row * static_cast<size_t>(packed_), 0);
    for (int64_t j = 0; j < matrices; ++j)
      for (int64_t n = 0; n < p.n; ++n) {
        const int64_t r = p.gated ? n / kGatedRows * 2 * kGatedRows + j * kGatedRows + n % kGatedRows : n;
        char* line = w_->data() + static_cast<size_t>(r) * row;
        for (const int64_t part : p.parts) {
          for (int64_t k = 0; k < part; ++k) {
            w_values_.push_back(value(weight, 1 / std::sqrt(static_cast<double>(part))));
            store_element(line, weight, k, w_values_.back());
          }
          line += (part * static_cast<int64_t>(dtype_size(weight)) + kLineBytes - 1) / kLineBytes * kLineBytes;
        }
      }
    bias_ = std::make_unique<Memory>(static_cast<size_t>(p.n) * 4, 0);
    for (int64_t n = 0; n < p.n; ++n) {
      bias_values_.push_back(p.bias ? value(DType::kF32, 1) : 0);
      store_element(bias_->data(), DType::kF32, n, bias_values_.back());
    }
    y_view_ = {1, m, p.n, p.y_gap, 0};
    y_ = std::make_unique<Memory>(static_cast<size_t>(y_view_.extent()) * dtype_size(y_type()), 0xff);
    frame_ = std::make_unique<Memory>(sizeof(Frame) + 8 * sizeof(void*), 0);
    breadcrumb_ = std::make_unique<Memory>(sizeof(Breadcrumb), 0);
    Frame frame = {reinterpret_cast<Breadcrumb*>(breadcrumb_->data()), 3, 0, {nullptr}};
    std::memcpy(frame_->data(), &frame, sizeof frame);
    params.head = {reinterpret_cast<const Frame*>(frame_->data()), 7, 0};
    params.weights = w_->data();
    params.bias = p.bias ? reinterpret_cast<const float*>(bias_->data()) : nullptr;
    params.y = fixed_ref(y_->data());
    params.y_rows = y_view_.layout();
    params.m = static_cast<int32_t>(m);
    params.n = static_cast<int32_t>(packed_);
    params.columns = static_cast<int32_t>(p.n);
    params.k_tiles = static_cast<int32_t>(tiles_);
    params.act = static_cast<int32_t>(p.act);
    const int64_t x_unit = p.f32_x ? 4 : 8;
    bool wide = !p.mixed_x;
    for (const int64_t k : p.parts) wide = wide && (k + p.gap) % x_unit == 0 && p.outer_gap % x_unit == 0;
    params.wide_x = wide;
    params.wide_y = (p.n + p.y_gap) % (p.f32_y ? 4 : 8) == 0;
  }

  DType y_type() const { return p_.f32_y ? DType::kF32 : DType::kBF16; }
  LinearKind kind() const { return {p_.f32_x, p_.gated, params.wide_x != 0, p_.f32_y}; }
  const void* x(size_t i) const { return x_[i]->data(); }
  // Whole warps store y 16 bytes at a time. Elsewhere the ends of y are read from the staging element by element, and the emulator takes reads of
  // different times for one.
  bool whole_stores() const { return params.wide_y != 0 && p_.n % (p_.f32_y ? 4 : 8) == 0 && params.m % 16 == 0; }
  void poison() { std::memset(y_->data(), 0xff, static_cast<size_t>(y_view_.extent()) * dtype_size(y_type())); }
  // Puts y behind entry 2 of the frame's table.
  void y_behind_table() {
    void* base = y_->data() - 64;
    std::memcpy(frame_->data() + offsetof(Frame, entries) + 2 * sizeof(void*), &base, sizeof base);
    params.y = {64 - 3 * 16, 16, 2, 0};  // step 3
  }

  // Compares y with the truth, or with exact sums when the values are integers.
  bool check(const std::string& name) {
    ++checks;
    if (!report.ok()) return fail(name, report.text());
    for (const auto& x : x_)
      if (!x->intact()) return fail(name, "x's guard was written");
    if (!y_->intact() || !w_->intact() || !bias_->intact() || !frame_->intact()) return fail(name, "a guard was written");
    if (truth_.empty()) compute();
    double error = 0, plain = 0, norm = 0;
    for (int64_t r = 0; r < params.m; ++r) {
      for (int64_t c = 0; c < y_view_.stride(); ++c) {
        const int64_t at = y_view_.at(r) + c;
        if (c >= p_.n) {  // gaps stay as they were
          for (size_t b = 0; b < dtype_size(y_type()); ++b)
            if (y_->data()[static_cast<size_t>(at) * dtype_size(y_type()) + b] != '\xff') return fail(name, "a gap of y was written");
          continue;
        }
        const double got = load_element(y_->data(), y_type(), at), want = truth_[static_cast<size_t>(r * p_.n + c)];
        const bool exact = p_.integers && (p_.act == Act::kNone || p_.act == Act::kRelu);
        if (exact && !(got == op_test::rounded(want, y_type())))
          return fail(name, "y[" + std::to_string(r) + "][" + std::to_string(c) + "] is " + std::to_string(got) + ", not " + std::to_string(want));
        const double e = got - want, q = plain_[static_cast<size_t>(r * p_.n + c)] - want;
        error += e * e;
        plain += q * q;
        norm += want * want;
      }
    }
    // twice the error of plain code in the same precision; approximate activations in float32 add about 1e-6
    const double limit = std::max(2 * std::sqrt(plain), (1e-6 + 2e-7 * std::sqrt(static_cast<double>(k_))) * std::sqrt(norm));
    if (!(std::sqrt(error) <= limit)) {
      char text[96];
      std::snprintf(text, sizeof text, "error %.3g, limit %.3g, of %.3g", std::sqrt(error), limit, std::sqrt(norm));
      return fail(name, text);
    }
    return true;
  }

  // Bytes that tiles of this size read and write, without the bias: the formula of the kernels' comments, and what entering a kernel reads.
  bool check_bytes(const std::string& name, int64_t tile_m, int64_t tile_n) {
    const int64_t tiles_m = (params.m + tile_m - 1) / tile_m, tiles_n = (params.n + tile_n - 1) / tile_n;
    const uint64_t read = static_cast<uint64_t>(tiles_n * params.m * k_ * (p_.f32_x ? 4 : 2) + tiles_m * params.n * tiles_ * kLineBytes) + 12;
    const uint64_t written = static_cast<uint64_t>(params.m * p_.n) * dtype_size(y_type());
    const emu::Counters& c = report.counters;
    if (c.read_bytes != read || c.written_bytes != written)
      return fail(name, "reads " + std::to_string(c.read_bytes) + " bytes, not " + std::to_string(read) + "; writes " + std::to_string(c.written_bytes) + ", not " + std::to_string(written));
    return true;
  }

  LinearParams params = {};

 private:
  void compute() {
    const int64_t m = params.m, n = p_.n;
    for (int64_t r = 0; r < m; ++r) {
      std::vector<double> row;
      for (size_t i = 0; i < p_.parts.size(); ++i) row.insert(row.end(), x_values_[i].begin() + static_cast<std::ptrdiff_t>(r * p_.parts[i]), x_values_[i].begin() + static_cast<std::ptrdiff_t>((r + 1) * p_.parts[i]));
      for (int64_t c = 0; c < n; ++c) {
        double sums[2] = {0, 0};
        float plain[2] = {0, 0};
        for (int64_t j = 0; j < (p_.gated ? 2 : 1); ++j) {
          const double* w = w_values_.data() + (j * n + c) * k_;
          sums[j] = p_.gated ? 0 : bias_values_[static_cast<size_t>(c)];
          plain[j] = static_cast<float>(sums[j]);
          for (int64_t k = 0; k < k_; ++k) {
            sums[j] += row[static_cast<size_t>(k)] * w[k];
            plain[j] += static_cast<float>(row[static_cast<size_t>(k)]) * static_cast<float>(w[k]);
          }
        }
        truth_.push_back(p_.gated ? activation(p_.act, sums[0]) * sums[1] : activation(p_.act, sums[0]));
        const double p = activation(p_.act, static_cast<double>(plain[0])) * (p_.gated ? static_cast<double>(plain[1]) : 1);
        plain_.push_back(op_test::rounded(p, y_type()));
      }
    }
  }

  const Problem p_;
  std::vector<std::unique_ptr<Memory>> x_;
  std::unique_ptr<Memory> w_, bias_, y_, frame_, breadcrumb_;
  std::vector<std::vector<double>> x_values_;
  std::vector<double> w_values_, bias_values_, truth_, plain_;
  View y_view_ = {};
  int64_t k_ = 0, tiles_ = 0, packed_ = 0;
};

}  // namespace
