// How tiles of x and of packed weights come to shared memory in the kernels of linear_mma.cuh and linear_f32.cuh.
#pragma once
#include "linear_epilogue.cuh"

namespace ecad::cuda {

// A stage is TileM lines of x, then TileN lines of weights: 128 bytes each, the 16-byte chunk c of line r at place c ^ (r % 8). So the eight
// chunks of a line, and one chunk of eight neighbouring lines, lie in different banks.
ECAD_DEVICE u32 line_chunk(int line, int chunk) { return static_cast<u32>(line * kLineBytes + ((chunk ^ (line & 7)) << 4)); }

// One thread's share: chunk `thread % 8` of lines thread / 8 + i Threads / 8. X: what the products are of. Wide: x is copied by cp.async, which needs addresses
// that are multiples of 16; otherwise element by element.
template <class X, int TileM, int TileN, int Threads, bool Wide>
class LinearLoader {
  static constexpr int kRows = Threads / 8, kPassesX = TileM / kRows, kPassesW = TileN / kRows, kChunk = 16 / sizeof(X);
  static_assert(kRows % 8 == 0, "all lines of a thread have one swizzle");
  static_assert(TileM % kRows == 0 && TileN % kRows == 0, "every thread copies as many chunks");

 public:
  static constexpr int StageBytes = (TileM + TileN) * kLineBytes;

  ECAD_DEVICE LinearLoader(const LinearParams& p, int first_row, int first_n, int thread)
      : p_(p), first_row_(first_row), row_(thread / 8), chunk_(thread % 8), to_(line_chunk(thread / 8, thread % 8)) {
    ECAD_UNROLL
    for (int i = 0; i < kPassesW; ++i) {
      const int n = first_n + row_ + i * kRows;
      live_w_[i] = n < p.n;
      from_w_[i] = static_cast<const char*>(p.weights) + static_cast<int64_t>(live_w_[i] ? n : 0) * p.k_tiles * kLineBytes + 16 * chunk_;
    }
    enter();
  }

  ECAD_DEVICE bool more() const { return tile_ < p_.k_tiles; }

  // Copies the next lines of the k axis to the stage at address `stage`; cp.async where it can.
  ECAD_DEVICE void copy(u32 stage) {
    if (tile_ == p_.parts[part_].end_tile) {
      ++part_;
      enter();
    }
    const int valid = columns_ < 0 ? 0 : columns_ > kChunk ? kChunk : columns_;
    ECAD_UNROLL
    for (int i = 0; i < kPassesX; ++i) {
      const int elements = live_x_[i] ? valid : 0;
      const u32 to = stage + to_ + i * kRows * kLineBytes;
      if constexpr (Wide) ptx::cp_async<16>(to, from_x_[i], static_cast<u32>(elements) * sizeof(X));
      else copy_elements(to, from_x_[i], elements);
      from_x_[i] += kLineBytes / sizeof(X) * element_;
    }
    ECAD_UNROLL
    for (int i = 0; i < kPassesW; ++i) {
      ptx::cp_async<16>(stage + TileM * kLineBytes + to_ + i * kRows * kLineBytes, from_w_[i], live_w_[i] ? 16 : 0);
      from_w_[i] += kLineBytes;
    }
    columns_ -= kLineBytes / sizeof(X);
    ++tile_;
  }

 private:
  ECAD_DEVICE void enter() {
    const LinearPart& part = p_.parts[part_];
    element_ = part.bf16 ? 2 : 4;
    columns_ = part.k - kChunk * chunk_;
    const char* base = resolve<const char>(p_.head.frame, part.x);
    ECAD_UNROLL
    for (int i = 0; i < kPassesX; ++i) {
      const int r = first_row_ + row_ + i * kRows;
      live_x_[i] = r < p_.m;
      from_x_[i] = base + (row_offset(part.rows, live_x_[i] ? r : 0) + kChunk * chunk_) * element_;
    }
  }

  ECAD_DEVICE void copy_elements(u32 to, const char* from, int elements) const {
    if constexpr (sizeof(X) == 2) ptx::st_shared(to, load_bf16s(from, elements));
    else ptx::st_shared(to, load_f32s(from, elements, element_ == 2));
  }

  const LinearParams& p_;
  const char* from_x_[kPassesX];
  const char* from_w_[kPassesW];
  bool live_x_[kPassesX], live_w_[kPassesW];
  int first_row_, row_, chunk_;
  u32 to_;
  int part_ = 0, tile_ = 0, element_ = 0;
  int columns_ = 0;  // from this thread's chunk to the end of the part
};

}  // namespace ecad::cuda
