// Which thread holds which element: the register layouts of PTX's matrix instructions for 16-bit elements. The tests hold them against CuTe's.
#pragma once
#include <cstdint>

namespace ecad::cuda::emu {

struct Element {
  uint32_t row, col;
};

// mma.sync m16n8k{8,16}: A [16, k] and its value v (register v / 2, half v % 2) of the lane; B [k, 8] as (row k, col n); C and D [16, 8], one float per v.
constexpr Element mma_a(uint32_t lane, uint32_t v) { return {lane / 4 + 8 * (v / 2 % 2), 2 * (lane % 4) + v % 2 + 8 * (v / 4)}; }
constexpr Element mma_b(uint32_t lane, uint32_t v) { return {2 * (lane % 4) + v % 2 + 8 * (v / 2), lane / 4}; }
constexpr Element mma_c(uint32_t lane, uint32_t v) { return {lane / 4 + 8 * (v / 2), 2 * (lane % 4) + v % 2}; }

// wgmma m64nNk16: A fragments of a thread of the warpgroup, and its accumulators.
constexpr Element wgmma_a(uint32_t thread, uint32_t v) {
  const Element e = mma_a(thread % 32, v);
  return {16 * (thread / 32) + e.row, e.col};
}
constexpr Element wgmma_d(uint32_t thread, uint32_t v) {
  const Element e = mma_c(thread % 32, v % 4);
  return {16 * (thread / 32) + e.row, 8 * (v / 4) + e.col};
}

// ldmatrix and stmatrix: value v (0, 1) of a lane in an 8x8 matrix whose rows the memory holds; transposed: row and col change places.
constexpr Element matrix_8x8(uint32_t lane, uint32_t v) { return {lane / 4, 2 * (lane % 4) + v}; }

}  // namespace ecad::cuda::emu
