#include "product.h"

#include <cstring>

namespace ecad {
namespace {

constexpr int64_t kTileRows = 128;                          // rows of x that stay in the second-level cache while weights stream by
constexpr int64_t kWholeColumns = 768, kChunkColumns = 512; // up to the first one chunk, beyond chunks of at most the second

std::vector<ColumnChunk> cut_columns(int64_t n) {
  std::vector<ColumnChunk> chunks;
  if (n <= kWholeColumns) {
    chunks.push_back({0, n, nullptr});
    return chunks;
  }
  const int64_t width = static_cast<int64_t>(round_up(static_cast<size_t>(ceil_div(n, ceil_div(n, kChunkColumns))), 64));
  for (int64_t at = 0; at < n; at += width) chunks.push_back({at, std::min(width, n - at), nullptr});
  return chunks;
}

bool all_weights(const std::vector<Source>& parts) {
  for (const Source& s : parts)
    if (s.present() && !s.weight) return false;
  return true;
}

PackCache::Key key_of(PackKind kind, uint64_t detail, const std::vector<Source>& parts) {
  PackCache::Key key = {static_cast<uint64_t>(kind), detail};
  for (const Source& s : parts) key.push_back(s.present() ? s.weight_id : UINT64_MAX);
  return key;
}

// Rows [first, first + n) of the stacked matrices, dense in the compute type.
void stack_rows(const Context& cx, const std::vector<Source>& w, const std::vector<const void*>& data, int64_t k, int64_t first, int64_t n, DType type,
                char* out) {
  int64_t start = 0;
  for (size_t j = 0; j < w.size(); ++j) {
    const int64_t rows = w[j].tensor->dims[0], stride = w[j].weight ? k : w[j].tensor->strides[0];
    for (int64_t r = std::max(first, start); r < std::min(first + n, start + rows); ++r)
      cx.rows->convert(at(data[j], w[j].dtype, (r - start) * stride), w[j].dtype, at(out, type, (r - first) * k), type, k);
    start += rows;
  }
}

}  // namespace

Compute choose_compute(const Context& cx, const std::vector<Source>& x) {
  for (const Source& s : x)
    if (s.dtype != DType::kBF16) return Compute::kF32;
  return cx.dnn->native_bf16() ? Compute::kBF16 : Compute::kF32;
}

Status get_matrix(Context& cx, PackCache* cache, const std::vector<Source>& w, int64_t k, Compute compute, const RunContext* c,
                  std::shared_ptr<PackedMatrix>* out) {
  const bool fixed = all_weights(w) && cache;
  if (!fixed && !c) return Status::ok();
  const PackCache::Key key = key_of(PackKind::kMatrix, static_cast<uint64_t>(compute), w);
  if (fixed && (*out = cache->find<PackedMatrix>(key))) return Status::ok();
  HeldWeights held;
  if (fixed) ECAD_TRY(held.hold(cache, w));
  auto m = std::make_shared<PackedMatrix>();
  m->k = k;
  m->compute = compute;
  std::vector<const void*> data;
  for (const Source& s : w) {
    m->n += s.tensor->dims[0];
    data.push_back(s.weight ? s.weight : s.data(*c));
  }
  m->chunks = cut_columns(m->n);
  const DType type = compute_dtype(compute);
  AlignedBuffer dense(static_cast<size_t>(m->chunks[0].n * k) * dtype_size(type));
  if (!dense.data()) return {ECAD_OUT_OF_MEMORY, "no memory to pack weights"};
  size_t bytes = 0;
  for (ColumnChunk& chunk : m->chunks) {
    stack_rows(cx, w, data, k, chunk.first, chunk.n, type, dense.as<char>());
    ECAD_TRY(cx.dnn->pack_product(compute, chunk.n, k, dense.data(), &chunk.weights));
    bytes += chunk.weights->bytes();
  }
  if (fixed) cache->keep(key, m, bytes);
  *out = std::move(m);
  return Status::ok();
}

Status get_vector(Context& cx, PackCache* cache, const std::vector<Source>& b, const std::vector<int64_t>& lengths, const RunContext* c,
                  std::shared_ptr<FloatVector>* out) {
  bool any = false;
  int64_t n = 0;
  for (size_t j = 0; j < b.size(); ++j) {
    any = any || b[j].present();
    n += lengths[j];
  }
  auto v = std::make_shared<FloatVector>();
  if (!any) {
    *out = std::move(v);
    return Status::ok();
  }
  const bool fixed = all_weights(b) && cache;
  if (!fixed && !c) return Status::ok();
  PackCache::Key key = key_of(PackKind::kVector, 0, b);
  for (size_t j = 0; j < b.size(); ++j)
    if (!b[j].present()) key.push_back(static_cast<uint64_t>(lengths[j]));
  if (fixed && (*out = cache->find<FloatVector>(key))) return Status::ok();
  HeldWeights held;
  if (fixed) ECAD_TRY(held.hold(cache, b));
  v->storage = AlignedBuffer(static_cast<size_t>(n) * sizeof(float));
  if (!v->storage.data()) return {ECAD_OUT_OF_MEMORY, "no memory for a bias"};
  float* to = v->storage.as<float>();
  for (size_t j = 0; j < b.size(); ++j, to += lengths[j - 1]) {
    if (b[j].present()) {
      cx.rows->convert(b[j].weight ? b[j].weight : b[j].data(*c), b[j].dtype, to, DType::kF32, lengths[j]);
    } else {
      std::memset(to, 0, static_cast<size_t>(lengths[j]) * sizeof(float));
    }
  }
  if (fixed) cache->keep(key, v, v->storage.size());
  *out = std::move(v);
  return Status::ok();
}

Status TiledProduct::init(Context& cx, const PackedMatrix& m, int64_t rows, bool bias, DType dst) {
  rows_ = rows;
  dst_ = dst;
  // equal tiles, in whole groups of 8 rows: a last tile of few rows would waste the registers of the inner kernel
  tile_rows_ = std::min(rows, static_cast<int64_t>(round_up(static_cast<size_t>(ceil_div(rows, ceil_div(rows, kTileRows))), 8)));
  primitives_.clear();
  for (const ColumnChunk& chunk : m.chunks) {
    widest_ = std::max(widest_, chunk.n);
    for (const int64_t tile_rows : {tile_rows_, rows_of(tiles() - 1)}) {
      std::shared_ptr<Primitive> p;
      ECAD_TRY(cx.dnn->product({tile_rows, chunk.n, m.k, m.compute, dst, bias}, *chunk.weights, &p));
      scratch_ = std::max(scratch_, p->scratch_bytes());
      primitives_.push_back(std::move(p));
    }
  }
  return Status::ok();
}

}  // namespace ecad
