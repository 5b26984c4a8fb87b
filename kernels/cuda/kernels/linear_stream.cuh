// linear and gated linear of few rows (m <= 64): weights are streamed from memory through registers, once.
//
// Computes     as linear_mma.cuh (bfloat16) and linear_f32.cuh (float32).
// Inputs       as there; x is read through L2 by every block. Not wide: element by element.
// Output       as there; element by element.
// Accumulates  in float32. bfloat16: eight warps share the k axis, warp w takes pieces w, w + 8, ... in order, and their
//              sums are added in the order of the warps. float32: lane l takes elements 4 l + 128 i, sums of lanes are added in pairs. The same on every run.
// Grid/block   one block of 256 threads per Groups * 8 packed rows of weights and all rows of x (bfloat16), or per 32 packed rows and 8 rows of x (float32).
//              bfloat16: a piece is 32 elements; a lane loads the 16 bytes of weights that lie at 8 (lane % 4) of row lane / 4, and the same of
//              x. The operands of an mma may take the k axis in any order if both take the same, so these are fragments as they are: no shared
//              memory but for the sums, and a warp's loads are whole sectors. float32: a warp owns 4 packed rows, a lane four elements of every 128; no mma.
//              Depth pieces are loaded before the first is used, so that enough bytes are under way. Shared memory (bfloat16): the warps' sums.
// Expected     reads n' 128 k_tiles (weights, once from HBM; n' is n rounded up to whole blocks, whose rows behind the last are the last one again) + blocks m k sizeof(x)
//              through L2, writes m n sizeof(y). float32: the weights once per 8 rows of x, x once per warp, 8 in a block. m FLOPs per byte of bfloat16 weights: limit HBM.
// Bank conflicts none but two-way ones where the warps' sums are read (bfloat16); float32 has no shared memory.
// Edge cases   m from 1: rows outside are read as zeros; any n, k.
// Measured     no GPU has run it yet: the emulator shows values, races, bank conflicts and bytes, not speed.
// Twin         kernels/ref/linear.cpp: ref_linear, ref_gated_linear.
// Not here     m > 64 (bfloat16); float32 takes any m but rereads the weights from L2 every 8 rows.
#pragma once
#include "linear_epilogue.cuh"

namespace ecad::cuda {

constexpr int kStreamWarps = 8;

// A cursor over the concatenated inputs for one thread: where x[row][k] is, k only growing.
class StreamCursor {
 public:
  ECAD_DEVICE explicit StreamCursor(const LinearParams& p) : p_(p) { enter(); }
  // Moves to the part that holds element k of a line of `line` elements; k is below k_tiles * line.
  ECAD_DEVICE void seek(int k, int line) {
    while (k >= p_.parts[part_].end_tile * line) {
      begin_ = p_.parts[part_].end_tile * line;
      ++part_;
      enter();
    }
    k_ = k - begin_;
  }
  // 8 bfloat16, or 4 float32, of a row from there; zeros beyond the last row and the part.
  ECAD_DEVICE ptx::u32x4 load_bf16(int row) const {
    const int left = row < p_.m ? p_.parts[part_].k - k_ : 0;
    const char* from = base_ + 2 * (row_offset(p_.parts[part_].rows, row < p_.m ? row : 0) + k_);
    return p_.wide_x && left >= 8 ? ptx::ld_global<ptx::u32x4>(from) : load_bf16s(from, left);
  }
  ECAD_DEVICE ptx::f32x4 load_f32(int row) const {
    const LinearPart& part = p_.parts[part_];
    const int left = row < p_.m ? part.k - k_ : 0;
    const char* from = base_ + (part.bf16 ? 2 : 4) * (row_offset(part.rows, row < p_.m ? row : 0) + k_);
    return p_.wide_x && left >= 4 ? ptx::ld_global<ptx::f32x4>(from) : load_f32s(from, left, part.bf16 != 0);
  }

 private:
  ECAD_DEVICE void enter() { base_ = resolve<const char>(p_.head.frame, p_.parts[part_].x); }
  const LinearParams& p_;
  const char* base_;
  int part_ = 0, begin_ = 0, k_ = 0;
};

ECAD_DEVICE void store_element(ptx::bf16* to, float v) { ptx::st_global(to, ptx::to_bf16(v)); }
ECAD_DEVICE void store_element(float* to, float v) { ptx::st_global(to, v); }

// Adds the warps' sums [kStreamWarps][rows][Pitch] at smem and stores what lies inside y. Columns: packed rows of weights of the block.
template <class Y, bool Gated, int Columns, int Pitch>
ECAD_DEVICE void store_sums(u32 smem, const LinearParams& p, int first_row, int rows, int first_n, int thread) {
  constexpr int kOut = Gated ? Columns / 2 : Columns;
  Y* y = resolve<Y>(p.head.frame, p.y);
  for (int i = thread; i < rows * kOut; i += 32 * kStreamWarps) {
    const int row = i / kOut, out = i % kOut, column = (Gated ? first_n / 2 : first_n) + out;
    if (first_row + row >= p.m || column >= p.columns) continue;
    const int at = Gated ? out / 8 * 16 + out % 8 : out;
    float v[1] = {0}, up = 0;
    ECAD_UNROLL
    for (int w = 0; w < kStreamWarps; ++w) {
      const u32 from = smem + 4 * ((w * rows + row) * Pitch + at);
      v[0] += ptx::ld_shared<float>(from);
      if (Gated) up += ptx::ld_shared<float>(from + 32);
    }
    if (!Gated && p.bias != nullptr) v[0] += ptx::ld_global_nc<float>(p.bias + column);
    activate(p.act, v);
    if (Gated) v[0] *= up;
    store_element(y + row_offset(p.y_rows, first_row + row) + column, v[0]);
  }
}

template <int TilesM_, int Groups_, bool Gated_, class Y_>
struct LinearStreamConfig {
  static constexpr int TilesM = TilesM_, Groups = Groups_, Depth = TilesM >= 4 ? 1 : 4 / TilesM;
  static constexpr int TileM = 16 * TilesM, TileN = 8 * Groups, Threads = 32 * kStreamWarps, Pitch = TileN + 8;  // the pitch keeps pairs free of bank conflicts
  static constexpr bool Gated = Gated_;
  using Y = Y_;
  static constexpr int SmemBytes = kStreamWarps * TileM * Pitch * 4;
  static_assert(Groups % 2 == 0, "gate and up groups come in pairs");
};

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::Threads, 1) linear_stream(ECAD_PARAMS(LinearParams) p) {
  enter(p.head);
  const u32 smem = ptx::smem_base();
  const int thread = static_cast<int>(ptx::thread_id()), lane = thread % 32, warp = thread / 32;
  const int first_n = static_cast<int>(ptx::block_x()) * C::TileN, pieces = 2 * p.k_tiles;
  const char* from_w[C::Groups];
  ECAD_UNROLL
  for (int j = 0; j < C::Groups; ++j) {
    const int n = first_n + 8 * j + lane / 4;
    from_w[j] = static_cast<const char*>(p.weights) + static_cast<int64_t>(n < p.n ? n : p.n - 1) * p.k_tiles * kLineBytes + 16 * (lane % 4);  // sums of rows beyond n are not stored
  }
  StreamCursor x(p);
  float acc[C::TilesM][C::Groups][4] = {};
  for (int first = warp; first < pieces; first += C::Depth * kStreamWarps) {
    ptx::u32x4 w[C::Depth][C::Groups], a[C::Depth][C::TilesM][2];  // [..][h]: rows h * 8 on of a tile
    ECAD_UNROLL
    for (int d = 0; d < C::Depth; ++d) {
      const int piece = first + d * kStreamWarps;
      if (piece >= pieces) break;
      ECAD_UNROLL
      for (int j = 0; j < C::Groups; ++j) w[d][j] = ptx::ld_global_nc<ptx::u32x4, ptx::Cache::kStream>(from_w[j] + piece * 64);
      x.seek(32 * piece + 8 * (lane % 4), kLineBytes / 2);
      ECAD_UNROLL
      for (int i = 0; i < C::TilesM; ++i)
        ECAD_UNROLL
        for (int h = 0; h < 2; ++h) a[d][i][h] = x.load_bf16(16 * i + 8 * h + lane / 4);
    }
    ECAD_UNROLL
    for (int d = 0; d < C::Depth; ++d) {
      if (first + d * kStreamWarps >= pieces) break;
      ECAD_UNROLL
      for (int i = 0; i < C::TilesM; ++i) {
        const ptx::u32x4 &low = a[d][i][0], &high = a[d][i][1];
        const u32 first_half[4] = {low.x, high.x, low.y, high.y}, second_half[4] = {low.z, high.z, low.w, high.w};
        ECAD_UNROLL
        for (int j = 0; j < C::Groups; ++j) ptx::mma_m16n8k16(acc[i][j], first_half, w[d][j].x, w[d][j].y);
        ECAD_UNROLL
        for (int j = 0; j < C::Groups; ++j) ptx::mma_m16n8k16(acc[i][j], second_half, w[d][j].z, w[d][j].w);
      }
    }
  }
  ECAD_UNROLL
  for (int i = 0; i < C::TilesM; ++i)
    ECAD_UNROLL
    for (int h = 0; h < 2; ++h)
      ECAD_UNROLL
      for (int j = 0; j < C::Groups; ++j)
        ptx::st_shared(smem + 4 * ((warp * C::TileM + 16 * i + 8 * h + lane / 4) * C::Pitch + 8 * j + 2 * (lane % 4)), ptx::f32x2{acc[i][j][2 * h], acc[i][j][2 * h + 1]});
  ptx::block_sync();
  store_sums<typename C::Y, C::Gated, C::TileN, C::Pitch>(smem, p, 0, C::TileM, first_n, thread);
}

template <bool Gated_, class Y_>
struct LinearStreamF32Config {
  static constexpr int TileM = 8, Columns = 4, TileN = Columns * kStreamWarps, Threads = 32 * kStreamWarps;
  static constexpr bool Gated = Gated_;
  using Y = Y_;
  static_assert(TileM * Columns == 32, "in the end every lane holds one result");
};

// Lanes l and l ^ Width hold 2 Width sums each: the one with bit Width clear takes the lower half of both, the other the upper half.
template <int Width>
ECAD_DEVICE void exchange(float (&v)[32], int lane) {
  const bool upper = (lane & Width) != 0;
  ECAD_UNROLL
  for (int i = 0; i < Width; ++i) {
    const float other = ptx::shfl_xor(upper ? v[i] : v[i + Width], Width);
    v[i] = (upper ? v[i + Width] : v[i]) + other;
  }
}

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::Threads, 2) linear_stream_f32(ECAD_PARAMS(LinearParams) p) {
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), lane = thread % 32, warp = thread / 32, block = static_cast<int>(ptx::block_x());
  const int first_row = block % p.tiles_m * C::TileM, group = block / p.tiles_m * kStreamWarps + warp;
  // The warp's four rows of weights; gated: gate of two columns of y, then up of both.
  const auto packed = [&](int j) {
    const int column = 2 * group + j % 2;
    return C::Gated ? column / kGatedRows * 2 * kGatedRows + column % kGatedRows + j / 2 * kGatedRows : C::Columns * group + j;
  };
  const float* from_w[C::Columns];
  const int k_packed = p.k_tiles * (kLineBytes / 4);
  ECAD_UNROLL
  for (int j = 0; j < C::Columns; ++j) from_w[j] = static_cast<const float*>(p.weights) + static_cast<int64_t>(packed(j) < p.n ? packed(j) : p.n - 1) * k_packed;
  float acc[32] = {};
  StreamCursor x(p);
  for (int k = 4 * lane; k < k_packed; k += 128) {
    x.seek(k, kLineBytes / 4);
    ptx::f32x4 w[C::Columns];
    ECAD_UNROLL
    for (int j = 0; j < C::Columns; ++j) w[j] = ptx::ld_global_nc<ptx::f32x4, ptx::Cache::kStream>(from_w[j] + k);
    ECAD_UNROLL
    for (int i = 0; i < C::TileM; ++i) {
      const ptx::f32x4 a = x.load_f32(first_row + i);
      ECAD_UNROLL
      for (int j = 0; j < C::Columns; ++j) acc[C::Columns * i + j] = dot4(a, w[j], acc[C::Columns * i + j]);
    }
  }
  // Every lane holds a share of all 32 results. Lanes exchange halves until lane l has the whole of result l.
  exchange<16>(acc, lane);
  exchange<8>(acc, lane);
  exchange<4>(acc, lane);
  exchange<2>(acc, lane);
  exchange<1>(acc, lane);
  const int row = first_row + lane / C::Columns, j = lane % C::Columns, column = C::Gated ? 2 * group + j % 2 : C::Columns * group + j;
  float v[1] = {acc[0]};
  const float up = C::Gated ? ptx::shfl_xor(v[0], 2) : 0;
  if (row >= p.m || column >= p.columns || (C::Gated && j >= 2)) return;
  if (!C::Gated && p.bias != nullptr) v[0] += ptx::ld_global_nc<float>(p.bias + column);
  activate(p.act, v);
  if (C::Gated) v[0] *= up;
  store_element(resolve<typename C::Y>(p.head.frame, p.y) + row_offset(p.y_rows, row) + column, v[0]);
}

template <class C>
Status launch_linear_stream(StreamHandle stream, const LinearParams& p) {
  return launch<linear_stream<C>>(stream, {{static_cast<uint32_t>(p.tiles_n)}, C::Threads, C::SmemBytes}, p);
}

template <class C>
Status launch_linear_stream_f32(StreamHandle stream, const LinearParams& p) {
  return launch<linear_stream_f32<C>>(stream, {{static_cast<uint32_t>(p.tiles_m * p.tiles_n)}, C::Threads, 0}, p);
}

}  // namespace ecad::cuda
