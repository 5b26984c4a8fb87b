// Runs the small products of probe/ on the emulator and compares them with plain sums.
#pragma once
#include <cstdint>
#include <vector>

#include "../../probe/gemm_sm80.cuh"
#include "../../probe/gemm_sm90.cuh"
#include "../emulator.h"

namespace emu_test {

using namespace ecad;
using namespace ecad::cuda;
using probe::Defect;

// Memory of the emulated device: aligned like a device's, all ones (NaN) at first, with a guard that must stay as it was.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes), storage_(bytes + 2 * kGuard + kAlignment, 0xff) {
    const auto at = reinterpret_cast<uintptr_t>(storage_.data()) + kGuard;
    data_ = reinterpret_cast<unsigned char*>((at + kAlignment - 1) / kAlignment * kAlignment);
    emu::add_memory(data_, bytes);
  }
  ~Buffer() { emu::remove_memory(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  template <class T>
  T* as() { return reinterpret_cast<T*>(data_); }
  size_t bytes() const { return bytes_; }
  bool guarded() const {
    for (const unsigned char* p = storage_.data(); p != storage_.data() + storage_.size(); ++p)
      if ((p < data_ || p >= data_ + bytes_) && *p != 0xff) return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 256, kAlignment = 256;
  size_t bytes_;
  std::vector<unsigned char> storage_;
  unsigned char* data_;
};

struct Product {
  emu::Report report;
  bool exact = false;    // every element is the plain sum
  bool guarded = false;  // nothing was written beside y
};

struct Shape { int64_t m, n, k; };

inline float integer_at(uint64_t i, uint64_t salt) {  // -4 .. 4
  const uint64_t h = (i + salt) * 0x9e3779b97f4a7c15ull;
  return static_cast<float>(static_cast<int>((h >> 40) % 9) - 4);
}

inline void fill_integers(Buffer& b, uint64_t salt) {
  for (size_t i = 0; i < b.bytes() / 2; ++i) b.as<ptx::bf16>()[i] = ptx::to_bf16(integer_at(i, salt));
}

template <class Load>
bool equals_sum(Buffer& x, Buffer& w, const Shape& s, Load y) {
  for (int64_t i = 0; i < s.m; ++i)
    for (int64_t j = 0; j < s.n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < s.k; ++l) sum += ptx::to_f32(x.as<ptx::bf16>()[i * s.k + l]) * ptx::to_f32(w.as<ptx::bf16>()[j * s.k + l]);
      if (!(y(i * s.n + j) == ptx::to_f32(ptx::to_bf16(sum)))) return false;
    }
  return true;
}

template <Defect defect>
Product run_sm80(const Shape& s) {
  Buffer x(static_cast<size_t>(s.m * s.k) * 2), w(static_cast<size_t>(s.n * s.k) * 2), y(static_cast<size_t>(s.m * s.n) * 4);
  fill_integers(x, 1), fill_integers(w, 2);
  const probe::GemmParams p = {x.as<void>(), w.as<void>(), y.as<void>(), s.m, s.n, s.k};
  const LaunchShape shape{{static_cast<uint32_t>((s.m + 63) / 64), static_cast<uint32_t>((s.n + 63) / 64)}, probe::GemmSm80::kThreads, probe::GemmSm80::kSmem};
  Product r;
  r.report = emu::run<probe::gemm_sm80<defect>>(shape, p);
  r.exact = equals_sum(x, w, s, [&](int64_t i) { return ptx::to_f32(ptx::to_bf16(y.as<float>()[i])); });
  r.guarded = y.guarded();
  return r;
}

// rows_claimed: what the map of x says of x's rows, when not the truth.
template <Defect defect>
Product run_sm90(const Shape& s, int64_t rows_claimed = 0) {
  Buffer x(static_cast<size_t>(s.m * s.k) * 2), w(static_cast<size_t>(s.n * s.k) * 2), y(static_cast<size_t>(s.m * s.n) * 2);
  fill_integers(x, 1), fill_integers(w, 2);
  probe::GemmMapParams p = {};
  const auto map = [](Buffer& b, int64_t rows, int64_t cols) {
    TensorMapDesc d;
    d.base = b.as<void>();
    d.dims[0] = static_cast<uint64_t>(cols), d.dims[1] = static_cast<uint64_t>(rows);
    d.strides[0] = static_cast<uint64_t>(cols) * 2;
    d.box[0] = d.box[1] = 64;
    d.swizzle = Swizzle::k128;
    return d;
  };
  Product r;
  for (const Status& status : {emu::encode_tensor_map(map(x, rows_claimed ? rows_claimed : s.m, s.k), &p.x), emu::encode_tensor_map(map(w, s.n, s.k), &p.w),
                               emu::encode_tensor_map(map(y, s.m, s.n), &p.y)})
    if (!status.is_ok()) return r;
  p.m = s.m, p.n = s.n, p.k = s.k;
  const LaunchShape shape{{static_cast<uint32_t>((s.m + 63) / 64), static_cast<uint32_t>((s.n + 63) / 64)}, probe::GemmSm90::kThreads, probe::GemmSm90::kSmem};
  r.report = emu::run<probe::gemm_sm90<defect>>(shape, p);
  r.exact = equals_sum(x, w, s, [&](int64_t i) { return ptx::to_f32(y.as<ptx::bf16>()[i]); });
  r.guarded = y.guarded();
  return r;
}

// Calls f for every timing and some seeds.
template <class F>
void for_timings(F f) {
  for (const emu::Landing landing : {emu::Landing::kEarly, emu::Landing::kLate, emu::Landing::kRandom})
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      emu::set_options({landing, seed});
      f();
    }
  emu::set_options({});
}

}  // namespace emu_test
