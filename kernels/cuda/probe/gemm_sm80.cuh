// y = x w^T by mma.sync: small on purpose, with every synchronisation in plain sight. The emulator's tests leave parts out (Defect) and expect to be
// told; the probes run it whole on a GPU.
//
// x [m, k], w [n, k] bfloat16, k a multiple of 8; y [m, n] float32. A block of 128 threads owns 64 x 64 of y: 2 x 2 warps of 32 x 32. k goes by in
// tiles of 32 through two buffers filled by cp.async; rows of 64 bytes, whose 16-byte units are permuted (unit ^= row / 2 mod 4) so that neither
// the copies nor ldmatrix meet a bank twice. Rows and k beyond the edge arrive as zeros. Twin: gemm_reference in gemm_case.h.
#pragma once
#include "../ptx.cuh"
#include "gemm_case.h"

namespace ecad::cuda::probe {

struct GemmSm80 {
  static constexpr ptx::u32 kThreads = 128, kTile = 64, kDepth = 32;
  static constexpr ptx::u32 kRow = 2 * kDepth, kOperand = kTile * kRow, kBuffer = 2 * kOperand;  // bytes
  static constexpr ptx::u32 kSmem = 2 * kBuffer;
};

template <Defect defect>
struct GemmSm80Kernel {
  using u32 = ptx::u32;
  using i64 = ptx::i64;
  using f32 = ptx::f32;
  using C = GemmSm80;

  static ECAD_DEVICE u32 place(u32 row, u32 unit, bool swizzled) { return row * C::kRow + 16 * (swizzled ? unit ^ (row / 2 & 3) : unit); }

  // 64 rows of an operand from row `first` on, k from `depth` on.
  static ECAD_DEVICE void copy(u32 to, const ptx::bf16* from, i64 first, i64 rows, i64 depth, i64 k) {
    for (u32 i = ptx::thread_id(); i < C::kTile * 4; i += C::kThreads) {
      const u32 row = i / 4, unit = i % 4;
      const i64 at = depth + 8 * unit;
      const bool inside = first + row < rows && at < k;
      ptx::cp_async<16>(to + place(row, unit, defect != Defect::kSwizzleOneSide && defect != Defect::kSwizzleBothSides),
                        from + (inside ? (first + row) * k + at : 0), inside ? 16 : 0);
    }
  }

  static ECAD_DEVICE void multiply(u32 x, u32 w, f32 (&acc)[2][4][4]) {
    const u32 lane = ptx::lane_id(), warp = ptx::warp_id();
    constexpr bool swizzled = defect != Defect::kSwizzleBothSides;
#pragma unroll
    for (u32 step = 0; step < C::kDepth / 16; ++step) {
      u32 a[2][4], b[2][4];
#pragma unroll
      for (u32 i = 0; i < 2; ++i) {
        ptx::ldmatrix<4>(a[i], x + place(32 * (warp / 2) + 16 * i + lane % 16, 2 * step + lane / 16, swizzled));
        ptx::ldmatrix<4>(b[i], w + place(32 * (warp % 2) + 16 * i + lane % 8 + 8 * (lane / 16), 2 * step + lane / 8 % 2, swizzled));
      }
#pragma unroll
      for (u32 i = 0; i < 2; ++i)
#pragma unroll
        for (u32 j = 0; j < 4; ++j) ptx::mma_m16n8k16(acc[i][j], a[i], b[j / 2][2 * (j % 2)], b[j / 2][2 * (j % 2) + 1]);
    }
  }

  static ECAD_DEVICE void store(const GemmParams& p, i64 m0, i64 n0, const f32 (&acc)[2][4][4]) {
    const u32 lane = ptx::lane_id(), warp = ptx::warp_id();
#pragma unroll
    for (u32 i = 0; i < 2; ++i)
#pragma unroll
      for (u32 j = 0; j < 4; ++j)
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
          const i64 row = m0 + 32 * (warp / 2) + 16 * i + lane / 4 + 8 * half, col = n0 + 32 * (warp % 2) + 8 * j + 2 * (lane % 4);
          f32* y = static_cast<f32*>(p.y) + row * p.n + col;
          const bool inside = row < p.m || defect == Defect::kRowTail;
          if (defect == Defect::kWideStore) {
            if (inside && col + 1 < p.n) ptx::st_global(y, ptx::f32x2{acc[i][j][2 * half], acc[i][j][2 * half + 1]});  // misaligned where n is odd
          } else {
            ptx::st_global_if(y, acc[i][j][2 * half], inside && col < p.n);
            ptx::st_global_if(y + 1, acc[i][j][2 * half + 1], inside && col + 1 < p.n);
          }
        }
  }

  static ECAD_DEVICE void run(const GemmParams& p) {
    const u32 smem = ptx::smem_base();
    const i64 m0 = i64(ptx::block_x()) * C::kTile, n0 = i64(ptx::block_y()) * C::kTile;
    f32 acc[2][4][4] = {};
    const auto fill = [&](i64 tile) {
      const u32 buffer = smem + u32(tile % 2) * C::kBuffer;
      if (tile * C::kDepth < p.k) {
        copy(buffer, static_cast<const ptx::bf16*>(p.x), m0, p.m, tile * C::kDepth, p.k);
        copy(buffer + C::kOperand, static_cast<const ptx::bf16*>(p.w), n0, p.n, tile * C::kDepth, p.k);
      }
      ptx::cp_async_commit();
    };
    const i64 tiles = (p.k + C::kDepth - 1) / C::kDepth;
    fill(0);
    for (i64 tile = 0; tile < tiles; ++tile) {
      fill(tile + 1);
      if (defect != Defect::kNoWait) ptx::cp_async_wait<1>();
      if (defect != Defect::kNoBarrier) ptx::block_sync();
      const u32 buffer = smem + u32(tile % 2) * C::kBuffer;
      multiply(buffer, buffer + C::kOperand, acc);
      if (defect != Defect::kEarlyRelease) ptx::block_sync();  // everybody has read the buffer before it is filled again
    }
    ptx::cp_async_wait<0>();
    store(p, m0, n0, acc);
  }
};

template <Defect defect>
ECAD_KERNEL ECAD_BOUNDS(GemmSm80::kThreads) gemm_sm80(ECAD_PARAMS(GemmParams) p) { GemmSm80Kernel<defect>::run(p); }

}  // namespace ecad::cuda::probe
