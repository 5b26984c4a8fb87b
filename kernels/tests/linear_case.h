// Products with packed weights on operands between guards, for tests that launch kernels directly: against sums in float64; on the emulator with its reports and
// counts. Weights are packed here by the layout's definition (kernels/linear.h), not by the backend's code. Included by one source file of each test program.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../core/dtype.h"
#include "../cuda/kernels/linear_sm90.h"
#include "../cuda/runtime.h"
#include "op_case.inc"
#include "cuda_watch.inc"

namespace {

using namespace ecad;
using namespace ecad::cuda;
using op_test::Random;

int failures = 0, checks = 0;

// What the emulator saw of the last launch; on a device nothing is counted.
#ifdef ECAD_EMULATE
emu::Report report;
void forget() { report = {}; }
std::string trouble() { return report.text(); }
uint64_t conflicts() { return report.conflicts(); }
// Where there are bank conflicts, but for those at results on their way out: of so many ways, or any unless whole warps store them.
std::string conflicts_inside(bool whole_stores, uint64_t ways_out) {
  for (const emu::SiteCounts& site : report.sites) {
    const std::string file = site.file;
    const bool out = file.find("linear_epilogue.cuh") != std::string::npos || file.find("linear_stream.cuh") != std::string::npos;  // a stream's loop has no shared memory
    if (site.shared && (!out || whole_stores) && site.transactions > (out ? ways_out : 1) * site.ideal) 
      return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line) + ", " + std::to_string(site.transactions) + " wavefronts where " + std::to_string(site.ideal) + " would do";
  }
  return "";
}
bool moved(uint64_t read, uint64_t written) { return report.counters.read_bytes == read && report.counters.written_bytes == written; }
std::string moves() { return "reads " + std::to_string(report.counters.read_bytes) + ", writes " + std::to_string(report.counters.written_bytes); }
#else
void forget() {}
std::string trouble() { return ""; }
uint64_t conflicts() { return 0; }
std::string conflicts_inside(bool, uint64_t) { return ""; }
bool moved(uint64_t, uint64_t) { return true; }
std::string moves() { return ""; }
#endif

// The device and the stream that all of a test is on.
DeviceProperties device;
Stream stream;

// Opens them and counts from here on; false: there is none.
bool open() {
  const Status s = open_device(0, &device), created = s.is_ok() ? stream.create() : s;
  if (!created.is_ok()) std::printf("FAIL no device: %s\n", created.message().c_str());
#ifdef ECAD_EMULATE
  emu::set_observer([](const emu::Report& r) { report = r; });
  emu::set_options({emu::Landing::kRandom, 1});
#endif
  return created.is_ok();
}

// Device memory between guards, and a copy of it on the host.
class Memory {
 public:
  Memory(size_t bytes, int fill) : bytes_(bytes), host_(bytes + 2 * kGuard, kGuardByte) {
    if (!allocate(host_.size(), &base_).is_ok()) {
      std::printf("FAIL no memory for an operand\n");
      std::exit(1);
    }
    std::memset(data(), fill, bytes);
  }
  ~Memory() { release(base_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* data() { return host_.data() + kGuard; }
  char* on_device() const { return static_cast<char*>(base_) + kGuard; }
  Status upload() { return stream.upload(base_, host_.data(), host_.size()); }
  Status download() { return stream.download(host_.data(), base_, host_.size()); }
  bool intact() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (host_[i] != kGuardByte || host_[kGuard + bytes_ + i] != kGuardByte) return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr char kGuardByte = 0x5a;
  void* base_ = nullptr;
  size_t bytes_;
  std::vector<char> host_;
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
  int64_t depth = 0, heads = 0;      // with depth: columns [queries, keys, others], of so many heads of that many columns; tokens: rows of each outer index
  int64_t queries_at = 0, keys_at = 0;  // in heads
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
         (p.f32_y ? ", f32 y" : "") + (p.gated ? ", gated" : "") + (p.integers ? "" : ", random") + (p.depth > 0 ? ", " + std::to_string(p.heads) + " heads of " + std::to_string(p.depth) : "") + ", gaps " + std::to_string(p.gap) + " " + std::to_string(p.outer_gap) + " " + std::to_string(p.y_gap);
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
    // Heads of exact values: each row of x has one element that is not 0, so that all of a head's have one magnitude, a power of two, and its norm is exact.
    const bool one_hot = p.integers && p.depth > 0;
    int64_t all_k = 0;
    for (const int64_t k : p.parts) all_k += k;
    const auto x_value = [&](DType t, int64_t row, int64_t k) { return one_hot ? (row % all_k != k ? 0.0 : row % 3 == 0 ? -1.0 : 1.0) : value(t, 1); };
    const auto w_value = [&](DType t, int64_t n, double spread) { return one_hot ? (random.below(2) != 0 ? 1.0 : -1.0) * static_cast<double>(1 << (n / p.depth % 3)) : value(t, spread); };
    const int64_t m = p.outer * p.inner;
    const DType weight = p.f32_x ? DType::kF32 : DType::kBF16;
    for (size_t i = 0; i < p.parts.size(); ++i) {
      const View v{p.outer, p.inner, p.parts[i], p.gap, p.outer_gap};
      const DType t = p.f32_x && !(p.mixed_x && i == 0) ? DType::kF32 : DType::kBF16;
      x_.push_back(std::make_unique<Memory>(static_cast<size_t>(v.extent()) * dtype_size(t), 0xff));  // gaps are NaN
      std::vector<double> values;
      for (int64_t r = 0; r < m; ++r)
        for (int64_t k = 0; k < v.columns; ++k) {
          values.push_back(x_value(t, r, k_ + k));
          store_element(x_.back()->data(), t, v.at(r) + k, values.back());
        }
      x_values_.push_back(values);
      k_ += p.parts[i];
      tiles_ += (p.parts[i] * static_cast<int64_t>(dtype_size(weight)) + kLineBytes - 1) / kLineBytes;
      params.parts[i] = {fixed_ref(x_.back()->on_device()), v.layout(), static_cast<int32_t>(v.columns), static_cast<int32_t>(tiles_), t == DType::kBF16, 0};
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
            w_values_.push_back(w_value(weight, n, 1 / std::sqrt(static_cast<double>(part))));
            store_element(line, weight, k, w_values_.back());
          }
          line += (part * static_cast<int64_t>(dtype_size(weight)) + kLineBytes - 1) / kLineBytes * kLineBytes;
        }
      }
    bias_ = std::make_unique<Memory>(static_cast<size_t>(p.n) * 4, 0);
    for (int64_t n = 0; n < p.n; ++n) {
      bias_values_.push_back(p.bias && !one_hot ? value(DType::kF32, 1) : 0);
      store_element(bias_->data(), DType::kF32, n, bias_values_.back());
    }
    y_view_ = {1, m, p.n, p.y_gap, 0};
    y_ = std::make_unique<Memory>(static_cast<size_t>(y_view_.extent()) * dtype_size(y_type()), 0xff);
    frame_ = std::make_unique<Memory>(sizeof(Frame) + 8 * sizeof(void*), 0);
    breadcrumb_ = std::make_unique<Memory>(sizeof(Breadcrumb), 0);
    Frame frame = {reinterpret_cast<Breadcrumb*>(breadcrumb_->on_device()), 3, 0, {nullptr}};
    std::memcpy(frame_->data(), &frame, sizeof frame);
    params.head = {reinterpret_cast<const Frame*>(frame_->on_device()), 7, 0};
    params.weights = w_->on_device();
    params.bias = p.bias ? reinterpret_cast<const float*>(bias_->on_device()) : nullptr;
    params.y = fixed_ref(y_->on_device());
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
    if (p.depth > 0) make_heads(random);
  }

  DType y_type() const { return p_.f32_y ? DType::kF32 : DType::kBF16; }
  LinearKind kind() const { return {p_.f32_x, p_.gated, params.wide_x != 0, p_.f32_y}; }
  const void* x(size_t i) const { return x_[i]->on_device(); }
  // Whole warps store y 16 bytes at a time. Elsewhere the ends of y are read from the staging element by element, and the emulator takes reads of
  // different times for one.
  bool whole_stores() const { return params.wide_y != 0 && p_.n % (p_.f32_y ? 4 : 8) == 0 && params.m % 16 == 0; }
  // Before a launch: everything as it was made, y NaN.
  Status poison() {
    forget();
    std::memset(y_->data(), 0xff, static_cast<size_t>(y_view_.extent()) * dtype_size(y_type()));
    for (Memory* m : memories()) ECAD_TRY(m->upload());
    return stream.synchronize();
  }
  // Puts y behind entry 2 of the frame's table.
  void y_behind_table() {
    void* base = y_->on_device() - 64;
    std::memcpy(frame_->data() + offsetof(Frame, entries) + 2 * sizeof(void*), &base, sizeof base);
    params.y = {64 - 3 * 16, 16, 2, 0};  // step 3
  }

  // Compares y with the truth, or with exact sums when the values are integers.
  bool check(const std::string& name) {
    ++checks;
    if (!trouble().empty()) return fail(name, trouble());
    Status s = stream.synchronize();
    for (Memory* m : memories()) s = s.is_ok() ? m->download() : s;
    s = s.is_ok() ? stream.synchronize() : s;
    if (!s.is_ok()) return fail(name, s.message());
    for (const Memory* m : memories())
      if (!m->intact()) return fail(name, "a guard was written");
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
    // twice the error of plain code in the same precision; approximate activations in float32 add about 1e-6. Of heads the plain code is that of two ops, with a rounding
    // between them: one that keeps float32 must not be worse.
    const double limit = std::max((p_.depth > 0 ? 1 : 2) * std::sqrt(plain), (1e-6 + 2e-7 * std::sqrt(static_cast<double>(k_))) * std::sqrt(norm));
    if (!(std::sqrt(error) <= limit)) {
      char text[96];
      std::snprintf(text, sizeof text, "error %.3g, limit %.3g, of %.3g", std::sqrt(error), limit, std::sqrt(norm));
      return fail(name, text);
    }
    return true;
  }

  // Bytes that tiles of this size read and write, without the bias: the formula of the kernels' comments, and what entering a kernel reads. warp: rows and columns of one.
  struct Warp { int64_t rows, columns; };
  bool check_bytes(const std::string& name, int64_t tile_m, int64_t tile_n, int64_t samples = 1, Warp warp = {}) {
    const int64_t tiles_m = samples * ((params.m / samples + tile_m - 1) / tile_m), tiles_n = (params.n + tile_n - 1) / tile_n;
    const uint64_t read = static_cast<uint64_t>(tiles_n * params.m * k_ * (p_.f32_x ? 4 : 2) + tiles_m * params.n * tiles_ * kLineBytes + heads_bytes(tiles_m * tile_m, warp)) + 12;
    const uint64_t written = static_cast<uint64_t>(params.m * p_.n) * dtype_size(y_type());
    return moved(read, written) || fail(name, moves() + " bytes, not " + std::to_string(read) + " and " + std::to_string(written));
  }

  // The same of streams (linear_stream.cuh), whose warps read the last row of weights for those behind it.
  bool check_stream_bytes(const std::string& name, int64_t tile_m, int64_t tile_n) {
    const int64_t blocks = (params.n + tile_n - 1) / tile_n, element = p_.f32_x ? 4 : 2, row_tiles = p_.f32_x ? (params.m + tile_m - 1) / tile_m : 1, readers = p_.f32_x ? tile_n / 4 : 1;
    const uint64_t read = static_cast<uint64_t>(row_tiles * blocks * tile_n * tiles_ * kLineBytes + blocks * readers * params.m * k_ * element) + 12;
    const uint64_t written = static_cast<uint64_t>(params.m * p_.n) * dtype_size(y_type());
    return moved(read, written) || fail(name, moves() + " bytes, not " + std::to_string(read) + " and " + std::to_string(written));
  }

  LinearParams params = {};

 private:
  std::vector<Memory*> memories() const {
    std::vector<Memory*> all = {w_.get(), bias_.get(), y_.get(), frame_.get(), breadcrumb_.get()};
    for (const auto& x : x_) all.push_back(x.get());
    if (rope_) all.push_back(rope_.get());
    return all;
  }

  // Weights and a table of turns for the heads; quarter turns and small integers where results are to be exact.
  void make_heads(Random& random) {
    const int64_t tokens = p_.inner, stride = p_.depth + 2;
    rope_ = std::make_unique<Memory>(static_cast<size_t>(tokens * stride + 2 * p_.depth) * 4, 0xff);
    const auto put = [&](int64_t at, double v) {
      store_element(rope_->data(), DType::kF32, at, v);
      return load_element(rope_->data(), DType::kF32, at);
    };
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < p_.depth / 2; ++i) {
        const int quarter = static_cast<int>(random.below(4));
        const double angle = 6.28 * random.normal();
        turns_.push_back(put(t * stride + 2 * i, p_.integers ? (quarter % 2 == 0 ? 1 - quarter : 0) : std::cos(angle)));
        turns_.push_back(put(t * stride + 2 * i + 1, p_.integers ? (quarter % 2 == 1 ? 2 - quarter : 0) : std::sin(angle)));
      }
    for (int64_t i = 0; i < 2 * p_.depth; ++i) head_weights_.push_back(put(tokens * stride + i, p_.integers ? static_cast<double>(random.below(4) + 1) : 1 + 0.3 * random.normal()));
    LinearHeads& h = params.heads;
    h.rope = fixed_ref(rope_->on_device());
    for (int64_t i = 0; i < 2; ++i) h.weight[i] = fixed_ref(rope_->on_device() + 4 * (tokens * stride + i * p_.depth));
    h.rope_stride = stride;
    h.first[0] = static_cast<int32_t>(p_.queries_at * p_.depth);
    h.first[1] = static_cast<int32_t>(p_.keys_at * p_.depth);
    h.width = static_cast<int32_t>(p_.heads * p_.depth);
    h.tokens = static_cast<int32_t>(tokens);
    h.eps = p_.integers ? 0.f : 1e-6f;
  }

  bool in_heads(int64_t column) const {
    for (const int32_t first : params.heads.first)
      if (column >= first && column < first + params.heads.width) return true;
    return false;
  }

  // Rope and weights, by warps of that many rows and columns: linear_heads.cuh. rows: of all tiles.
  int64_t heads_bytes(int64_t rows, Warp warp) const {
    int64_t rope = 0, weights = 0;
    for (int64_t c = 0; p_.depth > 0 && c < p_.n; c += warp.columns) {
      bool any = false;
      for (int64_t i = c; i < c + warp.columns && i < p_.n; ++i) {
        any = any || in_heads(i);
        if (in_heads(i)) weights += 32 * (rows / warp.rows);
      }
      if (any) rope += 4 * std::min(warp.columns, p_.depth) * params.m;
    }
    return rope + weights;
  }

  // What qk_norm_rope makes of a row of y, in the precision of T.
  template <class T>
  void finish_row(int64_t row, std::vector<double>* y) const {
    const double* turn = turns_.data() + row % p_.inner * p_.depth;
    for (int which = 0; which < 2; ++which)
      for (int64_t h = 0; h < p_.heads; ++h) {
        double* v = y->data() + params.heads.first[which] + h * p_.depth;
        const double* weight = head_weights_.data() + which * p_.depth;
        T sum = 0;
        for (int64_t i = 0; i < p_.depth; ++i) sum += static_cast<T>(v[i]) * static_cast<T>(v[i]);
        const T scale = 1 / std::sqrt(sum / static_cast<T>(p_.depth) + static_cast<T>(params.heads.eps));
        for (int64_t i = 0; i < p_.depth; i += 2) {
          const T a = static_cast<T>(v[i]) * scale * static_cast<T>(weight[i]), b = static_cast<T>(v[i + 1]) * scale * static_cast<T>(weight[i + 1]);
          const T c = static_cast<T>(turn[i]), s = static_cast<T>(turn[i + 1]);
          v[i] = static_cast<double>(a * c - b * s);
          v[i + 1] = static_cast<double>(b * c + a * s);
        }
      }
  }

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
      if (p_.depth > 0) finish_last_row(r);
    }
  }

  void finish_last_row(int64_t r) {
    const auto end = static_cast<std::ptrdiff_t>(truth_.size()), begin = end - p_.n;
    std::vector<double> row(truth_.begin() + begin, truth_.begin() + end);
    finish_row<double>(r, &row);
    std::copy(row.begin(), row.end(), truth_.begin() + begin);
    row.assign(plain_.begin() + begin, plain_.begin() + end);
    finish_row<float>(r, &row);
    for (double& v : row) v = op_test::rounded(v, y_type());
    std::copy(row.begin(), row.end(), plain_.begin() + begin);
  }

  const Problem p_;
  std::vector<std::unique_ptr<Memory>> x_;
  std::unique_ptr<Memory> w_, bias_, y_, frame_, breadcrumb_, rope_;  // rope_: the weights of heads too
  std::vector<double> turns_, head_weights_;
  std::vector<std::vector<double>> x_values_;
  std::vector<double> w_values_, bias_values_, truth_, plain_;
  View y_view_ = {};
  int64_t k_ = 0, tiles_ = 0, packed_ = 0;
};

std::string tile_name(const char* kernel, int32_t m, int32_t n) { return std::string(kernel) + " " + std::to_string(m) + "x" + std::to_string(n); }

// One launch of a kernel. conflict_free: without a single bank conflict, where whole warps store y; always without any but on the way out. bytes: whether those are counted.
void run_variant(const Problem& p, const LinearVariant& v, const char* kernel, Operands& o, bool conflict_free, bool bytes) {
  const std::string name = name_of(p, tile_name(kernel, v.tile_m, v.tile_n));
  Status s = o.poison();
  if (s.is_ok()) s = launch_linear(stream.native(), v, o.params);
  if (!s.is_ok() && trouble().empty()) fail(name, s.message());
  if (!o.check(name)) return;
  if (conflict_free && o.whole_stores() && conflicts() != 0) fail(name, std::to_string(conflicts()) + " bank conflicts");
  const std::string inside = conflicts_inside(o.whole_stores(), p.f32_x && kernel[0] == 't' ? 4 : 2);
  if (!inside.empty()) fail(name, "bank conflicts at " + inside);
  if (bytes && kernel[0] == 's') o.check_stream_bytes(name, v.tile_m, v.tile_n);
  else if (bytes) o.check_bytes(name, v.tile_m, v.tile_n, 1, {32, v.tile_n / 2});
}

// The same for kernels on wgmma; three blocks share the tiles. in_table: maps lie in memory.
void run_sm90_variants(const Problem& p, const LinearSm90Variants& all, Operands& o, bool bytes, bool in_table) {
  if (device.arch() != 90) return;
  Memory maps(kLinearParts * sizeof(TensorMap), 0);
  for (const LinearSm90Variant* v = all.first; v != all.first + all.count; ++v) {
    const std::string name = name_of(p, tile_name(in_table ? "sm90, maps in memory" : "sm90", v->tile_m, v->tile_n));
    LinearSm90Params q = {};
    q.linear = o.params;
    q.parts = static_cast<int32_t>(p.parts.size());
    q.sample_rows = linear_sample_rows(o.params, p.parts.size());
    for (size_t i = 0; i < p.parts.size(); ++i) {
      TensorMap map;
      if (!encode_tensor_map(linear_x_map(o.x(i), o.params.parts[i], o.params.m, q.sample_rows, v->tile_m), &map).is_ok()) fail(name, "no map of x");
      if (in_table) {
        std::memcpy(maps.data() + i * sizeof map, &map, sizeof map);
        q.x_table[i] = fixed_ref(maps.on_device() + i * sizeof map);
        q.x_in_table[i] = 1;
      } else {
        q.x_maps[i] = map;
      }
    }
    if (!encode_tensor_map(linear_w_map(o.params.weights, o.params.n, o.params.k_tiles, v->tile_n), &q.w_map).is_ok()) fail(name, "no map of w");
    Status s = maps.upload();
    if (s.is_ok()) s = o.poison();
    if (s.is_ok()) s = launch_linear_sm90(stream.native(), *v, q, 3);
    if (!s.is_ok() && trouble().empty()) fail(name, s.message());
    if (!o.check(name)) continue;
    if (o.whole_stores() && q.sample_rows % 16 == 0 && conflicts() != 0) fail(name, std::to_string(conflicts()) + " bank conflicts");
    if (bytes) o.check_bytes(name, v->tile_m, v->tile_n, o.params.m / q.sample_rows, {16, v->tile_n});
  }
}

}  // namespace
