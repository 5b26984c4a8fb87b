#include "attention_sm90.h"

#include <algorithm>

namespace ecad::cuda {
namespace {

int64_t tiles(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

// Of the work of a tile about 16 keys' worth does not depend on its size: barriers, maxima, scaling y.
int64_t cost(const AttentionSm90Variant& v, int64_t keys) { return tiles(keys, v.keys) * (v.keys + 16); }

constexpr int32_t kResidentQueries = 128;

}  // namespace

int32_t attention_span(int32_t batch, const AttentionParams& p, int32_t multiprocessors) {
  const int64_t all = tiles(p.queries, kResidentQueries), blocks = std::max<int64_t>(1, multiprocessors / (int64_t{p.heads} * batch));  // of a head of a sample
  return static_cast<int32_t>(tiles(all, std::min(all, blocks)));
}

const AttentionSm90Variant* choose_attention_sm90(int32_t batch, const AttentionParams& p, int32_t multiprocessors) {
  // Keys and values stay where a block has two tiles of queries or more, and room for them: it reads them once instead of once a tile.
  if (attention_span(batch, p, multiprocessors) >= 2) {
    const AttentionSm90Variants resident = attention_resident_sm90_variants();  // the smallest first
    for (const AttentionSm90Variant* v = resident.first; v != resident.first + resident.count; ++v)
      if (v->depth == p.depth && v->resident >= p.keys) return v;
  }
  const AttentionSm90Variants all = attention_sm90_variants();
  // 128 queries a block read keys and values half as often, if that leaves a block for every multiprocessor
  const int32_t consumers = tiles(p.queries, 128) * p.heads * batch >= multiprocessors ? 2 : 1;
  const AttentionSm90Variant* best = nullptr;
  for (const AttentionSm90Variant* v = all.first; v != all.first + all.count; ++v)
    if (v->depth == p.depth && v->consumers == consumers && (best == nullptr || cost(*v, p.keys) < cost(*best, p.keys))) best = v;
  return best;
}

void attention_maps(const void* base, const TokenView& view, int32_t batch, int32_t rows, const AttentionParams& p, int32_t box_rows, TensorMapDesc (&out)[2]) {
  TensorMapDesc d;
  d.rank = 4;
  d.base = base;
  const auto head = static_cast<uint64_t>(2 * p.depth), token = view.token > 0 ? static_cast<uint64_t>(view.token) : head * static_cast<uint64_t>(p.heads);
  const uint64_t dims[] = {static_cast<uint64_t>(p.depth), static_cast<uint64_t>(p.heads), static_cast<uint64_t>(rows), static_cast<uint64_t>(batch)};
  const uint64_t strides[] = {head, token, view.batch > 0 ? static_cast<uint64_t>(view.batch) : token * static_cast<uint64_t>(rows)};  // of one index any stride will do
  for (int i = 0; i < 4; ++i) d.dims[i] = dims[i];
  for (int i = 0; i < 3; ++i) d.strides[i] = strides[i];
  d.box[0] = 64;
  d.box[2] = static_cast<uint32_t>(box_rows);
  d.swizzle = Swizzle::k128;
  out[0] = d;
  d.box[0] = 16;
  d.swizzle = Swizzle::k32;
  out[1] = d;
}

}  // namespace ecad::cuda
