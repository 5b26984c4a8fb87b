// Group norm with an activation, for images with channels last: three kernels.
//
// Computes     y = act((x - mean_g) rstd_g weight + bias), mean and biased variance over (H, W, C / groups) of each sample and group.
// Inputs       x [B,H,W,C] float32 or bfloat16, C dense, other strides free; weight, bias [C], x and y float32 or bfloat16 each. Output y [B,H,W,C] likewise.
// Accumulates  sums: per channel and piece of an image, float32 sums of x - s and (x - s)^2, s the piece's first value of the channel, so that a
//              large mean costs no digits: pixels in order per lane, lanes in order. combine: those in float64, one block per group, twice over:
//              mean, then variance around it. Deterministic; pieces depend on the shape alone.
// Grid/block   sums, normalize: grid (pieces, ceil(vectors / columns), B), 256 threads as `lanes` pixels x `columns` runs of 8 channels (1 when not wide).
//              combine: grid (groups, B), 256 threads. Shared memory of sums: 16 KB (8 floats of two sums per thread); of combine: 64 bytes.
// Expected     bytes = B H W C (2 |x| + |y|) + 3 x 12 B pieces C (sums: written once, read twice) + B pieces lanes C (|x| + 12) from the caches + small; FLOPs about 10 B H W C. Limited by HBM; the
//              second read of x hits L2 while an image is smaller than it.
// Edge cases   any sizes; a group may be narrower than a run.
// Bank conflicts none: sums lie as [run element][thread].
// Twin         kernels/ref/norm.cpp: ref_group_norm.
// Not here     float16, float64.
#pragma once
#include "activation.cuh"
#include "elements.cuh"
#include "group_norm.h"

namespace ecad::cuda {

template <int kRun_>
struct GroupNormConfig {
  static constexpr int kRun = kRun_, kThreads = 256;
  static constexpr uint32_t kSumsSmem = 2 * kRun * kThreads * 4;
};
constexpr int kCombineThreads = 256;
constexpr uint32_t kCombineSmem = 64;

namespace group_norm {

template <int kRun>
ECAD_DEVICE void load_run(const char* p, Elem t, float (&v)[kVector]) {
  if constexpr (kRun == kVector) load_vector(p, t, true, kVector, v);
  else v[0] = load_one(p, t);
}

template <int kRun>
ECAD_DEVICE void store_run(char* p, Elem t, const float (&v)[kVector]) {
  if constexpr (kRun == kVector) store_vector(p, t, true, kVector, v);
  else store_one(p, t, v[0]);
}

ECAD_DEVICE int64_t pixel_at(const ImageView& view, int pixel, int width) { return pixel / width * view.row + pixel % width * view.pixel; }

// Where a thread of sums and normalize stands.
struct Place {
  int lane, channel, first, end;  // lane; first channel; pixels of the piece
  bool live;
};
template <class C>
ECAD_DEVICE Place place(const GroupNormParams& p) {
  const int thread = static_cast<int>(ptx::thread_id()), run = static_cast<int>(ptx::block_y()) * p.columns + thread % p.columns;
  const int first = static_cast<int>(ptx::block_x()) * p.piece, end = first + p.piece < p.pixels ? first + p.piece : p.pixels;
  return {thread / p.columns, run * C::kRun, first, end, thread / p.columns < p.lanes && run < p.vectors};
}

}  // namespace group_norm

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::kThreads) group_norm_sums(ECAD_PARAMS(GroupNormParams) p) {
  using namespace group_norm;
  enter(p.head);
  const Place at = place<C>(p);
  const int thread = static_cast<int>(ptx::thread_id()), sample = static_cast<int>(ptx::block_z());
  const char* x = resolve<const char>(p.head.frame, p.x.ref) + sample * p.x.batch + at.channel * elem_bytes(p.x.elem);
  float shift[kVector] = {}, sum[kVector] = {}, square[kVector] = {};
  if (at.live) {
    load_run<C::kRun>(x + pixel_at(p.x, at.first, p.width), p.x.elem, shift);
    for (int pixel = at.first + at.lane; pixel < at.end; pixel += p.lanes) {
      float v[kVector];
      load_run<C::kRun>(x + pixel_at(p.x, pixel, p.width), p.x.elem, v);
      ECAD_UNROLL
      for (int i = 0; i < C::kRun; ++i) {
        const float d = v[i] - shift[i];
        sum[i] += d;
        square[i] += d * d;
      }
    }
  }
  const uint32_t smem = ptx::smem_base();
  ECAD_UNROLL
  for (int i = 0; i < C::kRun; ++i) {
    ptx::st_shared(smem + static_cast<uint32_t>(i * C::kThreads + thread) * 4u, sum[i]);
    ptx::st_shared(smem + static_cast<uint32_t>((C::kRun + i) * C::kThreads + thread) * 4u, square[i]);
  }
  ptx::block_sync();
  if (at.lane != 0 || !at.live) return;
  float* out = p.sums + (static_cast<int64_t>(sample) * p.pieces + ptx::block_x()) * 3 * p.channels + at.channel;
  ECAD_UNROLL
  for (int i = 0; i < C::kRun; ++i) {
    float s = 0.f, q = 0.f;
    for (int lane = 0; lane < p.lanes; ++lane) {
      s += ptx::ld_shared<float>(smem + static_cast<uint32_t>(i * C::kThreads + lane * p.columns + thread) * 4u);
      q += ptx::ld_shared<float>(smem + static_cast<uint32_t>((C::kRun + i) * C::kThreads + lane * p.columns + thread) * 4u);
    }
    ptx::st_global(out + i, shift[i]);
    ptx::st_global(out + p.channels + i, s);
    ptx::st_global(out + 2 * p.channels + i, q);
  }
}

namespace group_norm {

// The sum over the block's 256 threads, in every thread. Each call has 8 doubles of shared memory of its own order: call it with barriers between.
ECAD_DEVICE double block_sum(double v, uint32_t smem, int thread) {
  ECAD_UNROLL
  for (uint32_t offset = 16; offset > 0; offset /= 2) {
    uint64_t bits;
    __builtin_memcpy(&bits, &v, 8);
    bits = ptx::shfl_xor(bits, offset);
    double other;
    __builtin_memcpy(&other, &bits, 8);
    v += other;
  }
  ptx::block_sync();  // the last call's sums have been read
  if (thread % 32 == 0) ptx::st_shared(smem + static_cast<uint32_t>(thread / 32) * 8u, v);
  ptx::block_sync();
  double total = 0;
  for (uint32_t warp = 0; warp < 8; ++warp) total += ptx::ld_shared<double>(smem + warp * 8);
  return total;
}

}  // namespace group_norm

ECAD_KERNEL ECAD_BOUNDS(kCombineThreads) group_norm_combine(ECAD_PARAMS(GroupNormParams) p) {
  using namespace group_norm;
  enter(p.head);
  const int thread = static_cast<int>(ptx::thread_id()), group = static_cast<int>(ptx::block_x()), sample = static_cast<int>(ptx::block_y());
  const int width = p.channels / p.groups, first = group * width;
  const float* sums = p.sums + static_cast<int64_t>(sample) * p.pieces * 3 * p.channels + first;
  const auto each = [&](auto&& f) {
    for (int i = thread; i < p.pieces * width; i += kCombineThreads) {
      const int piece = i / width, n = p.pixels - piece * p.piece < p.piece ? p.pixels - piece * p.piece : p.piece;
      const float* s = sums + static_cast<int64_t>(piece) * 3 * p.channels + i % width;
      f(static_cast<double>(n), static_cast<double>(ptx::ld_global<float>(s)), static_cast<double>(ptx::ld_global<float>(s + p.channels)), static_cast<double>(ptx::ld_global<float>(s + 2 * p.channels)));
    }
  };
  double v = 0;
  each([&](double n, double shift, double sum, double) { v += n * shift + sum; });
  const double mean = block_sum(v, ptx::smem_base(), thread) * p.per_value;
  v = 0;
  each([&](double n, double shift, double sum, double square) {
    const double d = shift - mean;
    v += square + d * (2 * sum + n * d);
  });
  const double variance = block_sum(v, ptx::smem_base(), thread) * p.per_value;
  const float rstd = 1.f / sqrtf(static_cast<float>(variance < 0 ? 0 : variance) + p.eps);  // NaN stays
  const char *weight = resolve<const char>(p.head.frame, p.weight.ref), *bias = resolve<const char>(p.head.frame, p.bias.ref);
  float* out = p.factors + static_cast<int64_t>(sample) * 3 * p.channels + first;
  for (int c = thread; c < width; c += kCombineThreads) {
    ptx::st_global(out + c, static_cast<float>(mean));
    ptx::st_global(out + p.channels + c, rstd * load_one(weight + (first + c) * elem_bytes(p.weight.elem), p.weight.elem));
    ptx::st_global(out + 2 * p.channels + c, load_one(bias + (first + c) * elem_bytes(p.bias.elem), p.bias.elem));
  }
}

template <class C>
ECAD_KERNEL ECAD_BOUNDS(C::kThreads) group_norm_normalize(ECAD_PARAMS(GroupNormParams) p) {
  using namespace group_norm;
  enter(p.head);
  const Place at = place<C>(p);
  if (!at.live) return;
  const int sample = static_cast<int>(ptx::block_z());
  const char* x = resolve<const char>(p.head.frame, p.x.ref) + sample * p.x.batch + at.channel * elem_bytes(p.x.elem);
  char* y = resolve<char>(p.head.frame, p.y.ref) + sample * p.y.batch + at.channel * elem_bytes(p.y.elem);
  const char* factors = reinterpret_cast<const char*>(p.factors + static_cast<int64_t>(sample) * 3 * p.channels + at.channel);
  float mean[kVector], scale[kVector], bias[kVector];
  load_run<C::kRun>(factors, Elem::kF32, mean);
  load_run<C::kRun>(factors + 4 * p.channels, Elem::kF32, scale);
  load_run<C::kRun>(factors + 8 * p.channels, Elem::kF32, bias);
  for (int pixel = at.first + at.lane; pixel < at.end; pixel += p.lanes) {
    float v[kVector] = {};
    load_run<C::kRun>(x + pixel_at(p.x, pixel, p.width), p.x.elem, v);
    ECAD_UNROLL
    for (int i = 0; i < C::kRun; ++i) v[i] = (v[i] - mean[i]) * scale[i] + bias[i];
    activate(p.act, v);
    store_run<C::kRun>(y + pixel_at(p.y, pixel, p.width), p.y.elem, v);
  }
}

}  // namespace ecad::cuda
