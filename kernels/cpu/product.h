// Products of many rows with a packed matrix, cut into tiles of rows and chunks of columns. The cuts depend on shapes alone, the sum over k is
// never cut: results are the same for any number of threads.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "context.h"

namespace ecad {

struct ColumnChunk {
  int64_t first, n;
  std::shared_ptr<PackedWeights> weights;
};

// Matrices stacked along n, in chunks.
struct PackedMatrix {
  int64_t n = 0, k = 0;
  Compute compute = Compute::kF32;
  std::vector<ColumnChunk> chunks;
};

// bfloat16 when every operand is and the hardware multiplies it; float32 otherwise.
Compute choose_compute(const Context&, const std::vector<Source>& x);

// The packed form of the matrices w [N_j, k] (or filters seen as such), from the cache when all are weights, else made from c (null: weights only).
// Parts that are no weights: *out stays null when c is null.
Status get_matrix(Context&, PackCache*, const std::vector<Source>& w, int64_t k, Compute, const RunContext* c, std::shared_ptr<PackedMatrix>* out);

// Biases b_j [N_j] (absent ones are 0) one after the other in float32; null data when all are absent.
struct FloatVector {
  AlignedBuffer storage;
  const float* data() const { return storage.as<float>(); }
};
Status get_vector(Context&, PackCache*, const std::vector<Source>& b, const std::vector<int64_t>& lengths, const RunContext* c,
                  std::shared_ptr<FloatVector>* out);

// The primitives for all tiles of `rows` rows.
class TiledProduct {
 public:
  Status init(Context&, const PackedMatrix&, int64_t rows, bool bias, DType dst);

  int64_t tiles() const { return ceil_div(rows_, tile_rows_); }
  int64_t tile_rows() const { return tile_rows_; }
  int64_t rows_of(int64_t tile) const { return std::min(tile_rows_, rows_ - tile * tile_rows_); }
  size_t primitive_scratch() const { return scratch_; }
  int64_t widest_chunk() const { return widest_; }
  DType dst() const { return dst_; }

  // y [rows_of(tile), chunk n] dense in dst() from x [rows_of(tile), k] dense in the matrix's compute type.
  Status run(const PackedMatrix& m, int64_t tile, size_t chunk, int32_t thread, const void* x, const float* bias, void* y, void* scratch) const {
    const bool last = tile + 1 == tiles();
    return primitives_[2 * chunk + last]->run(thread, x, *m.chunks[chunk].weights, bias ? bias + m.chunks[chunk].first : nullptr, y, scratch);
  }

 private:
  int64_t rows_ = 0, tile_rows_ = 0, widest_ = 0;
  DType dst_ = DType::kF32;
  size_t scratch_ = 0;
  std::vector<std::shared_ptr<Primitive>> primitives_;  // per chunk: full tile, last tile
};

}  // namespace ecad
