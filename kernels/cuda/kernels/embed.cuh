// Embeddings: rows of a table, sinusoids of timesteps, patches of latents.
#pragma once
#include "elements.cuh"
#include "embed.h"

namespace ecad::cuda {

// Computes     y[.., :] = table[ids[..], :].
// Inputs       ids int32, up to three dims, any strides; table [V,D] float32 or bfloat16, rows dense. Output y [..,D] float32 or bfloat16, rows dense.
// Grid/block   a block of 128 threads one row, 8 elements a thread at a time when table and y are wide, else one. Expected bytes: rows D (|table| + |y|), and
//              the id once per thread (a broadcast); no FLOPs; limited by HBM.
// Edge cases   an id outside 0..V-1 is reported and its row is row 0's. Twin: kernels/ref/elementwise.cpp, ref_embedding.
ECAD_KERNEL ECAD_BOUNDS(kEmbedThreads) embedding_kernel(ECAD_PARAMS(EmbeddingParams) p) {
  enter(p.head);
  const uint32_t row = ptx::block_x(), i2 = row % p.dims[2], i1 = row / p.dims[2] % p.dims[1], i0 = row / p.dims[2] / p.dims[1];
  int id = ptx::ld_global<int32_t>(resolve<const char>(p.head.frame, p.ids) + i0 * p.id_strides[0] + i1 * p.id_strides[1] + i2 * p.id_strides[2]);
  if (id < 0 || id >= p.vocabulary) {
    if (ptx::thread_id() == 0) fault(p.head, Fault::kEmbeddingId, id);
    id = 0;
  }
  const char* from = resolve<const char>(p.head.frame, p.table) + id * p.table_stride;
  char* to = resolve<char>(p.head.frame, p.y) + i0 * p.y_strides[0] + i1 * p.y_strides[1] + i2 * p.y_strides[2];
  const int from_bytes = elem_bytes(p.table_elem), to_bytes = elem_bytes(p.y_elem);
  if (p.wide) {
    for (int c = static_cast<int>(ptx::thread_id()) * kVector; c < p.cols; c += kEmbedThreads * kVector) {
      float v[kVector];
      load_vector(from + c * from_bytes, p.table_elem, true, kVector, v);
      store_vector(to + c * to_bytes, p.y_elem, true, kVector, v);
    }
  } else {
    for (int c = static_cast<int>(ptx::thread_id()); c < p.cols; c += kEmbedThreads) store_one(to + c * to_bytes, p.y_elem, load_one(from + c * from_bytes, p.table_elem));
  }
}

namespace timestep {

struct SinCos { double sin, cos; };

// sin and cos of x, |x| < 2^30, to about 1e-15: x less the nearest multiple of pi/2 in two parts, then the Taylor series on -pi/4..pi/4.
// The standard functions of the device would keep a stack for the reduction of larger arguments.
ECAD_DEVICE SinCos sin_cos(double x) {
  const double turns = rint(x * 0.63661977236758134308), r = fma(-turns, 6.123233995736766e-17, fma(-turns, 1.5707963267948966, x)), z = r * r;
  const double s = r + r * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 + z * (-1.0 / 39916800 + z * (1.0 / 6227020800.0 - z / 1307674368000.0))))));
  const double c = 1 - z * (0.5 - z * (1.0 / 24 - z * (1.0 / 720 - z * (1.0 / 40320 - z * (1.0 / 3628800 - z * (1.0 / 479001600.0 - z / 87178291200.0))))));
  const int quarter = static_cast<int>(turns) & 3;
  return {quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c, quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s};
}

}  // namespace timestep

// Computes     a = scale (t f_k) in float32; [cos a, sin a] or [sin a, cos a]. f_k come from the host, in the order of operations of diffusers'
//              get_timestep_embedding, because float32 sines of large arguments depend on it.
// Inputs       t [R], float32 or bfloat16; f [half] float32. Output y [R, 2 half], rows dense. One thread per (row, k), 128 a block: bytes R half (2 |y| + |t| + 4), but for
//              y from the caches; limited by the launch. Twin: kernels/ref/elementwise.cpp, ref_timestep_embed.
ECAD_KERNEL ECAD_BOUNDS(kEmbedThreads) timestep_kernel(ECAD_PARAMS(TimestepParams) p) {
  enter(p.head);
  const int i = static_cast<int>(ptx::block_x()) * kEmbedThreads + static_cast<int>(ptx::thread_id());
  if (i >= p.rows * p.half) return;
  const int row = i / p.half, k = i % p.half, bytes = elem_bytes(p.y_elem);
  const float t = load_one(resolve<const char>(p.head.frame, p.t) + row * elem_bytes(p.t_elem), p.t_elem);
  const float angle = p.scale * (t * ptx::ld_global<float>(p.frequencies + k));
  const timestep::SinCos v = timestep::sin_cos(static_cast<double>(angle));
  char* y = resolve<char>(p.head.frame, p.y) + row * p.y_stride;
  store_one(y + (p.cos_first ? k : p.half + k) * bytes, p.y_elem, static_cast<float>(v.cos));
  store_one(y + (p.cos_first ? p.half + k : k) * bytes, p.y_elem, static_cast<float>(v.sin));
}

struct PatchConfig {
  static constexpr int kTokens = 8, kColumns = 4, kThreads = 128, kDepth = 64;  // kDepth: values of a patch in shared memory at a time
  static constexpr uint32_t kSmemBytes = kTokens * kDepth * 4;
};

// Computes     y[r B + b, n, :] = W x_patch[b, n] + bias + pos[n, :], a patch being its Ci p p values.
// Inputs       x [B,Ci,H,W] any strides; W transposed to [Ci p p, C] and bias in float32; pos [N,C], rows dense. x, y, pos float32 or bfloat16.
// Accumulates  in float32 along the patch, (c, p, q) in order, starting at the bias; pos last. One rounding.
// Grid/block   grid (ceil(C / 512), ceil(N / 8), B), 128 threads: a thread 4 columns, 128 apart, of 8 tokens, so a weight is loaded once for 8 tokens.
//              Shared memory: 8 tokens x 64 values. Expected bytes: R B N C |y| + B N Ci p p |x| ceil(C / 512) + B N C |pos| + B ceil(N / 8) C (Ci p p + 1) 4 (from L2); FLOPs
//              2 B N C Ci p p. For PixArt (Ci p p = 16) limited by writing y.
// Edge cases   any sizes; tokens and columns outside are masked. Bank conflicts: none where patch values are read (broadcasts); up to 8-way where they are
//              written, once per block (4-way for PixArt's 16 values).
// Twin         kernels/ref/linear.cpp: ref_patch_embed.
ECAD_KERNEL ECAD_BOUNDS(PatchConfig::kThreads) patch_embed_kernel(ECAD_PARAMS(PatchParams) p) {
  using C = PatchConfig;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), sample = static_cast<int>(ptx::block_z());
  const int first = static_cast<int>(ptx::block_y()) * C::kTokens, column = static_cast<int>(ptx::block_x()) * C::kThreads * C::kColumns + thread;
  const char* x = resolve<const char>(p.head.frame, p.x) + sample * p.x_strides[0];
  const uint32_t smem = ptx::smem_base();
  float acc[C::kTokens][C::kColumns];
  ECAD_UNROLL
  for (int j = 0; j < C::kColumns; ++j) {
    const int c = column + j * C::kThreads;
    const float b = p.bias != nullptr && c < p.cols ? ptx::ld_global<float>(p.bias + c) : 0.f;
    ECAD_UNROLL
    for (int t = 0; t < C::kTokens; ++t) acc[t][j] = b;
  }
  for (int base = 0; base < p.depth; base += C::kDepth) {
    const int n = p.depth - base < C::kDepth ? p.depth - base : C::kDepth;
    if (base > 0) ptx::block_sync();
    for (int i = thread; i < C::kTokens * n; i += C::kThreads) {
      const int token = first + i / n, k = base + i % n, q = k % p.patch, row = k / p.patch % p.patch, channel = k / p.patch / p.patch;
      float v = 0.f;
      if (token < p.tokens)
        v = load_one(x + channel * p.x_strides[1] + (token / p.across * p.patch + row) * p.x_strides[2] + (token % p.across * p.patch + q) * p.x_strides[3], p.x_elem);
      ptx::st_shared(smem + static_cast<uint32_t>(i % n * C::kTokens + i / n) * 4u, v);
    }
    ptx::block_sync();
    for (int k = 0; k < n; ++k) {
      const auto low = ptx::ld_shared<ptx::f32x4>(smem + static_cast<uint32_t>(k * C::kTokens) * 4u), high = ptx::ld_shared<ptx::f32x4>(smem + static_cast<uint32_t>(k * C::kTokens + 4) * 4u);
      const float v[C::kTokens] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      ECAD_UNROLL
      for (int j = 0; j < C::kColumns; ++j) {
        const int c = column + j * C::kThreads;
        const float w = c < p.cols ? ptx::ld_global<float>(p.weight + static_cast<int64_t>(base + k) * p.cols + c) : 0.f;
        ECAD_UNROLL
        for (int t = 0; t < C::kTokens; ++t) acc[t][j] = ptx::fma_rn(v[t], w, acc[t][j]);
      }
    }
  }
  const char* pos = p.has_pos ? resolve<const char>(p.head.frame, p.pos) : nullptr;
  char* y = resolve<char>(p.head.frame, p.y);
  ECAD_UNROLL
  for (int t = 0; t < C::kTokens; ++t) {
    ECAD_UNROLL
    for (int j = 0; j < C::kColumns; ++j) {
      const int token = first + t, c = column + j * C::kThreads;
      if (token >= p.tokens || c >= p.cols) continue;
      const float v = pos != nullptr ? acc[t][j] + load_one(pos + token * p.pos_token + c * elem_bytes(p.pos_elem), p.pos_elem) : acc[t][j];
      for (int r = 0; r < p.repeat; ++r) store_one(y + (r * p.batch + sample) * p.y_batch + token * p.y_token + c * elem_bytes(p.y_elem), p.y_elem, v);
    }
  }
}

}  // namespace ecad::cuda
