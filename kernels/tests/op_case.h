// One op, run by a backend on strided, guarded, NaN-filled memory and compared with the reference backend: on float64 copies of the same
// operands (the truth), and on the operands themselves (what plain code of that precision reaches). Operands lie in the backend's own memory.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../core/backend.h"
#include "../core/dtype.h"

namespace op_test {

using namespace ecad;

class Random {
 public:
  explicit Random(uint64_t seed) : s_(seed * 2654435761u + 88172645463325252u) {}
  uint64_t next() {
    s_ ^= s_ << 13;
    s_ ^= s_ >> 7;
    s_ ^= s_ << 17;
    return s_;
  }
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(next() >> 11) * 0x1p-53; }
  double normal() { return uniform(-1, 1) + uniform(-1, 1) + uniform(-1, 1); }  // variance 1
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }

 private:
  uint64_t s_;
};

struct Arg {
  bool absent = false, weight = false;
  DType dtype = DType::kF32;
  std::vector<int64_t> dims;
  std::vector<int64_t> strides;     // of the view; empty: dense
  std::vector<double> values;       // inputs, row-major, exactly representable in dtype
  std::vector<char> unread;         // inputs: elements that are NaN in memory because the op must not read them
};

struct Case {
  explicit Case(std::string n, Opcode c) : name(std::move(n)), code(c) {}
  std::string name;
  Opcode code;
  std::array<int32_t, 8> attr = {};
  std::array<double, 3> fattr = {};
  std::vector<Arg> in, out;
  double depth = 1;                 // length of the longest sum: float32 tolerance
  bool persistent = false;          // operands lie in buffers of a state, which may be others at each step
  bool exact = false;               // equal to the reference on the same operands, bit for bit
  int alias = -1;                   // output 0 is this input's own memory
  Random random{1};

  int64_t count(const std::vector<int64_t>& dims) const {
    int64_t n = 1;
    for (const int64_t d : dims) n *= d;
    return n;
  }
  // Adds an input of random values; gap: elements left free after every row; outer gap: rows left free after every outer index.
  Arg& input(std::vector<int64_t> dims, DType t, double spread = 1, int64_t gap = 0, int64_t outer_gap = 0);
  Arg& weight(std::vector<int64_t> dims, DType t, double spread = 1) {
    Arg& a = input(std::move(dims), t, spread);
    a.weight = true;
    return a;
  }
  Arg& integers(std::vector<int64_t> dims, std::vector<int32_t> values) {
    Arg a;
    a.dtype = DType::kI32;
    a.dims = std::move(dims);
    a.values.assign(values.begin(), values.end());
    in.push_back(a);
    return in.back();
  }
  void absent() { in.push_back(Arg()); in.back().absent = true; }
  void absent_output() { out.push_back(Arg()); out.back().absent = true; }
  Arg& output(std::vector<int64_t> dims, DType t, int64_t gap = 0, int64_t outer_gap = 0);
};

inline std::vector<int64_t> gap_strides(const std::vector<int64_t>& dims, int64_t gap, int64_t outer_gap) {
  std::vector<int64_t> s(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) s[i - 1] = s[i] * dims[i] + (i + 1 == dims.size() ? gap : outer_gap);
  return s;
}

inline double rounded(double v, DType t) {
  char raw[8] = {};
  store_element(raw, t, 0, v);
  return load_element(raw, t, 0);
}

inline Arg& Case::input(std::vector<int64_t> dims, DType t, double spread, int64_t gap, int64_t outer_gap) {
  Arg a;
  a.dtype = t;
  a.strides = gap_strides(dims, gap, outer_gap);
  const int64_t n = count(dims);
  for (int64_t i = 0; i < n; ++i) a.values.push_back(rounded(spread * random.normal(), t));
  a.dims = std::move(dims);
  in.push_back(std::move(a));
  return in.back();
}

inline Arg& Case::output(std::vector<int64_t> dims, DType t, int64_t gap, int64_t outer_gap) {
  Arg a;
  a.dtype = t;
  a.strides = gap_strides(dims, gap, outer_gap);
  a.dims = std::move(dims);
  out.push_back(std::move(a));
  return out.back();
}

// Memory of one operand on the host, and its copy on the device: the view's extent between guards.
class Block {
 public:
  Block(const Arg& a, DType t, bool dense, bool unaligned, bool is_output);
  ~Block();
  Block(Block&&) noexcept;
  char* view() { return raw_.data() + start_; }
  Status to_device(Backend&);
  Status from_device();
  bool on_device() const { return device_ != nullptr; }
  char* device_view() { return device_ + kGuard; }
  const Tensor& tensor() const { return tensor_; }
  // Bytes outside the view's elements are as they were.
  bool intact() const;
  std::vector<double> read() const;
  std::vector<char> bytes() const;  // of the elements, row-major
  template <class F> void each(F f) const {
    int64_t n = 0;
    const auto& d = tensor_.dims;
    const auto& s = tensor_.strides;
    for (int64_t a = 0; a < d[0]; ++a)
      for (int64_t b = 0; b < d[1]; ++b)
        for (int64_t c = 0; c < d[2]; ++c)
          for (int64_t e = 0; e < d[3]; ++e) f(n++, a * s[0] + b * s[1] + c * s[2] + e * s[3]);
  }

 private:
  static constexpr size_t kGuard = 256;
  std::vector<char> raw_;
  size_t start_, size_;
  Backend* backend_ = nullptr;
  char* device_ = nullptr;
  Tensor tensor_ = {};
};

struct Outcome {
  Status status;
  std::vector<std::vector<double>> values;  // per output, row-major
  std::vector<std::vector<char>> bytes;
  bool intact = true;
};

// wide: every float operand as dense float64.
Outcome run_case(const Case&, Backend&, bool wide);

// Reports and counts failures; false when the case fails. tested: backends whose results must be equal to each other bit for bit.
bool check_case(const Case&, const std::vector<Backend*>& tested, Backend& reference);
extern int failures, checks;

// Multiply-adds of matrix products in a case, and cases of more of them that check_case leaves out.
double work(const Case&);
extern double most_work;

}  // namespace op_test
