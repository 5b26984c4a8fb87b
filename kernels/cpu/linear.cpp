// linear, gated linear, patch embedding: rows are gathered where they are not dense in the compute type, multiplied by tiles, and scattered where the
// output is not dense or of another type.
#include <algorithm>
#include <cstring>

#include "product.h"

namespace ecad {
namespace {

// Per-thread scratch: rows of x in the compute type, one or two result tiles, oneDNN's own.
struct TileScratch {
  size_t x = 0, y = 0, own = 0;
  size_t total(int results) const { return x + static_cast<size_t>(results) * y + own; }
  void init(const TiledProduct& p, const PackedMatrix& m) {
    x = round_up(static_cast<size_t>(p.tile_rows() * m.k) * dtype_size(compute_dtype(m.compute)), 64);
    y = round_up(static_cast<size_t>(p.tile_rows() * p.widest_chunk()) * dtype_size(p.dst()), 64);
    own = round_up(p.primitive_scratch(), 64);
  }
};

// Rows that are no matrix in memory yet (several inputs, another type) are made one for as many tiles as fit here, not once more for every chunk of columns.
constexpr int64_t kPanelBytes = int64_t{32} << 20;

// Rows of concatenated inputs.
class RowInputs {
 public:
  Status bind(const Binder& b, size_t first, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      Source s;
      ECAD_TRY(b.input(first + i, "x", &s));
      sources_.push_back(s);
      views_.emplace_back(*s.tensor);
      k_ += views_.back().cols;
    }
    return Status::ok();
  }
  const std::vector<Source>& sources() const { return sources_; }
  int64_t k() const { return k_; }
  int64_t rows() const { return views_[0].n; }
  // Whether gather leaves rows where they are, but for tiles over the seam of two samples.
  bool in_place(DType type) const { return sources_.size() == 1 && sources_[0].dtype == type && (rows() == 1 || views_[0].step() == k_); }

  // Rows [first, first + n) dense in type: in place when they are, else gathered into buffer.
  const void* gather(const Context& cx, const RunContext& c, int64_t first, int64_t n, DType type, char* buffer) const {
    if (sources_.size() == 1 && sources_[0].dtype == type && views_[0].run(first) >= n && (n == 1 || views_[0].step() == k_))
      return at(sources_[0].data(c), type, views_[0].offset(first));
    for (int64_t r = 0; r < n; ++r) {
      char* to = at(buffer, type, r * k_);
      for (size_t i = 0; i < sources_.size(); ++i) {
        cx.rows->convert(at(sources_[i].data(c), sources_[i].dtype, views_[i].offset(first + r)), sources_[i].dtype, to, type, views_[i].cols);
        to = at(to, type, views_[i].cols);
      }
    }
    return buffer;
  }

 private:
  std::vector<Source> sources_;
  std::vector<Rows> views_;
  int64_t k_ = 0;
};

class LinearKernel final : public Kernel {
 public:
  explicit LinearKernel(const Binder& b) : cx_(b.cx), cache_(b.cache()) {}

  Status bind(const Binder& b) {
    const auto nx = static_cast<size_t>(b.op.attr[0]), nw = static_cast<size_t>(b.op.attr[1]);
    act_ = static_cast<Act>(b.op.attr[2]);
    ECAD_TRY(x_.bind(b, 0, nx));
    for (size_t j = 0; j < nw; ++j) {
      Source w, bias;
      ECAD_TRY(b.input(nx + j, "w", &w));
      ECAD_TRY(b.input(nx + nw + j, "b", &bias));
      w_.push_back(w);
      bias_sources_.push_back(bias);
      lengths_.push_back(w.tensor->dims[0]);
      has_bias_ = has_bias_ || bias.present();
    }
    ECAD_TRY(b.output(0, "y", &y_));
    y_rows_ = Rows(*y_.tensor);
    compute_ = choose_compute(cx_, x_.sources());
    ECAD_TRY(get_matrix(cx_, cache_, w_, x_.k(), compute_, nullptr, &matrix_));
    ECAD_TRY(get_vector(cx_, cache_, bias_sources_, lengths_, nullptr, &bias_));
    return matrix_ ? prepare(*matrix_) : Status::ok();
  }

  Status run(const RunContext& c) override {
    std::shared_ptr<PackedMatrix> matrix = matrix_;
    std::shared_ptr<FloatVector> bias = bias_;
    if (!matrix) {  // a matrix that is no weight is packed each time
      ECAD_TRY(get_matrix(cx_, cache_, w_, x_.k(), compute_, &c, &matrix));
      ECAD_TRY(prepare(*matrix));
    }
    if (!bias) ECAD_TRY(get_vector(cx_, cache_, bias_sources_, lengths_, &c, &bias));
    const PackedMatrix& m = *matrix;
    const int64_t tiles = product_.tiles(), chunks = static_cast<int64_t>(m.chunks.size());
    for (int64_t first = 0; first < tiles; first += panel_tiles_) {
      const int64_t now = std::min(panel_tiles_, tiles - first), rows = std::min(now * product_.tile_rows(), x_.rows() - first * product_.tile_rows());
      if (panel_bytes_ > 0) {
        cx_.each(now, rows * m.k, [&](int64_t i, int32_t) {
          x_.gather(cx_, c, (first + i) * product_.tile_rows(), product_.rows_of(first + i), compute_dtype(compute_), cx_.shared() + static_cast<size_t>(i) * panel_bytes_);
        });
      }
      // chunk by chunk: its weights are read from memory once, while the rows stay near
      ECAD_TRY(cx_.try_each(now * chunks, rows * m.n * m.k, [&](int64_t item, int32_t thread) {
        const char* x = panel_bytes_ > 0 ? cx_.shared() + static_cast<size_t>(item % now) * panel_bytes_ : nullptr;
        return run_tile(c, m, bias->data(), first + item % now, static_cast<size_t>(item / now), thread, x);
      }));
    }
    return Status::ok();
  }

 private:
  Status prepare(const PackedMatrix& m) {
    // Activations take float32 from the tile: our own cost half of what oneDNN's do on AVX-512.
    const bool narrow = y_.dtype == DType::kBF16 && act_ == Act::kNone;
    ECAD_TRY(product_.init(cx_, m, x_.rows(), has_bias_, narrow ? compute_dtype(compute_) : DType::kF32));
    scratch_.init(product_, m);
    panel_tiles_ = product_.tiles();
    panel_bytes_ = 0;
    if (m.chunks.size() > 1 && !x_.in_place(compute_dtype(compute_))) {
      panel_bytes_ = scratch_.x;
      panel_tiles_ = std::clamp<int64_t>(kPanelBytes / static_cast<int64_t>(panel_bytes_), 1, panel_tiles_);
    }
    return cx_.reserve(scratch_.total(1), panel_bytes_ * static_cast<size_t>(panel_tiles_));
  }

  // gathered: the tile's rows; null: they are gathered here.
  Status run_tile(const RunContext& c, const PackedMatrix& m, const float* bias, int64_t tile, size_t chunk, int32_t thread, const void* gathered) {
    const int64_t first = tile * product_.tile_rows(), n = product_.rows_of(tile), width = m.chunks[chunk].n, column = m.chunks[chunk].first;
    char* scratch = cx_.scratch(thread);
    const void* x = gathered ? gathered : x_.gather(cx_, c, first, n, compute_dtype(compute_), scratch);
    char *own = scratch + scratch_.x + scratch_.y, *base = static_cast<char*>(y_.data(c));
    const DType dst = product_.dst();
    if (act_ == Act::kNone && y_.dtype == dst && y_rows_.run(first) >= n && width == m.n && (n == 1 || y_rows_.step() == m.n))
      return product_.run(m, tile, chunk, thread, x, bias, at(base, dst, y_rows_.offset(first)), own);
    char* y = scratch + scratch_.x;
    ECAD_TRY(product_.run(m, tile, chunk, thread, x, bias, y, own));
    for (int64_t r = 0; r < n; ++r) {
      const char* from = at(y, dst, r * width);
      char* to = at(base, y_.dtype, y_rows_.offset(first + r) + column);
      if (act_ == Act::kNone) {
        cx_.rows->convert(from, dst, to, y_.dtype, width);
      } else {
        cx_.rows->unary(from, dst, to, y_.dtype, width, act_);
      }
    }
    return Status::ok();
  }

  Context& cx_;
  PackCache* cache_;
  RowInputs x_;
  std::vector<Source> w_, bias_sources_;
  std::vector<int64_t> lengths_;
  Sink y_;
  Rows y_rows_;
  Act act_ = Act::kNone;
  bool has_bias_ = false;
  Compute compute_ = Compute::kF32;
  std::shared_ptr<PackedMatrix> matrix_;
  std::shared_ptr<FloatVector> bias_;
  TiledProduct product_;
  TileScratch scratch_;
  int64_t panel_tiles_ = 1;  // tiles of rows at a time
  size_t panel_bytes_ = 0;   // of each, in the shared scratch; 0: tiles gather for themselves
};

class GatedLinearKernel final : public Kernel {
 public:
  explicit GatedLinearKernel(const Binder& b) : cx_(b.cx), cache_(b.cache()) {}

  Status bind(const Binder& b) {
    act_ = static_cast<Act>(b.op.attr[0]);
    ECAD_TRY(x_.bind(b, 0, 1));
    ECAD_TRY(b.input(1, "wg", &wg_));
    ECAD_TRY(b.input(2, "wu", &wu_));
    ECAD_TRY(b.output(0, "y", &y_));
    y_rows_ = Rows(*y_.tensor);
    compute_ = choose_compute(cx_, x_.sources());
    ECAD_TRY(get_matrix(cx_, cache_, {wg_}, x_.k(), compute_, nullptr, &gate_));
    ECAD_TRY(get_matrix(cx_, cache_, {wu_}, x_.k(), compute_, nullptr, &up_));
    return gate_ && up_ ? prepare(*gate_) : Status::ok();
  }

  Status run(const RunContext& c) override {
    std::shared_ptr<PackedMatrix> gate = gate_, up = up_;
    if (!gate || !up) {
      ECAD_TRY(get_matrix(cx_, cache_, {wg_}, x_.k(), compute_, &c, &gate));
      ECAD_TRY(get_matrix(cx_, cache_, {wu_}, x_.k(), compute_, &c, &up));
      ECAD_TRY(prepare(*gate));
    }
    const int64_t tiles = product_.tiles(), chunks = static_cast<int64_t>(gate->chunks.size());
    return cx_.try_each(tiles * chunks, 2 * x_.rows() * gate->n * gate->k, [&](int64_t item, int32_t thread) {
      const int64_t tile = item % tiles, first = tile * product_.tile_rows(), n = product_.rows_of(tile);
      const auto chunk = static_cast<size_t>(item / tiles);
      char* scratch = cx_.scratch(thread);
      const void* x = x_.gather(cx_, c, first, n, compute_dtype(compute_), scratch);
      char *g = scratch + scratch_.x, *u = g + scratch_.y, *own = u + scratch_.y;
      ECAD_TRY(product_.run(*gate, tile, chunk, thread, x, nullptr, g, own));
      ECAD_TRY(product_.run(*up, tile, chunk, thread, x, nullptr, u, own));
      const int64_t width = gate->chunks[chunk].n, column = gate->chunks[chunk].first;
      for (int64_t r = 0; r < n; ++r)
        cx_.rows->glu(reinterpret_cast<float*>(g) + r * width, reinterpret_cast<float*>(u) + r * width,
                      at(y_.data(c), y_.dtype, y_rows_.offset(first + r) + column), y_.dtype, width, act_);
      return Status::ok();
    });
  }

 private:
  Status prepare(const PackedMatrix& m) {
    ECAD_TRY(product_.init(cx_, m, x_.rows(), false, DType::kF32));
    scratch_.init(product_, m);
    return cx_.reserve(scratch_.total(2));
  }

  Context& cx_;
  PackCache* cache_;
  RowInputs x_;
  Source wg_, wu_;
  Sink y_;
  Rows y_rows_;
  Act act_ = Act::kNone;
  Compute compute_ = Compute::kF32;
  std::shared_ptr<PackedMatrix> gate_, up_;
  TiledProduct product_;
  TileScratch scratch_;
};

// Patches are gathered as rows [Ci p p], multiplied, and stored once per repeat with the position added.
class PatchEmbedKernel final : public Kernel {
 public:
  explicit PatchEmbedKernel(const Binder& b) : cx_(b.cx), cache_(b.cache()) {}

  Status bind(const Binder& b) {
    patch_ = b.op.attr[0];
    repeat_ = b.op.attr[1];
    ECAD_TRY(b.input(0, "x", &x_));
    ECAD_TRY(b.input(1, "w", &w_));
    ECAD_TRY(b.input(2, "b", &bias_source_));
    ECAD_TRY(b.input(3, "pos", &pos_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor& x = *x_.tensor;
    batch_ = x.dims[0];
    wide_ = x.dims[3] / patch_;
    tokens_ = x.dims[2] / patch_ * wide_;
    k_ = x.dims[1] * patch_ * patch_;
    y_rows_ = Rows(*y_.tensor);
    pos_stride_ = pos_.present() && !pos_.weight ? pos_.tensor->strides[0] : y_.tensor->dims[2];
    compute_ = choose_compute(cx_, {x_});
    if (!w_.weight && !is_dense(*w_.tensor)) return {ECAD_UNSUPPORTED, "w must be dense"};
    flat_ = *w_.tensor;  // [C, Ci p p]
    flat_.rank = 2;
    flat_.dims = {w_.tensor->dims[0], k_, 1, 1};
    flat_.strides = {k_, 1, 0, 0};
    w_.tensor = &flat_;
    ECAD_TRY(get_matrix(cx_, cache_, {w_}, k_, compute_, nullptr, &matrix_));
    ECAD_TRY(get_vector(cx_, cache_, {bias_source_}, {flat_.dims[0]}, nullptr, &bias_));
    return matrix_ ? prepare(*matrix_) : Status::ok();
  }

  Status run(const RunContext& c) override {
    std::shared_ptr<PackedMatrix> matrix = matrix_;
    std::shared_ptr<FloatVector> bias = bias_;
    if (!matrix) {
      ECAD_TRY(get_matrix(cx_, cache_, {w_}, k_, compute_, &c, &matrix));
      ECAD_TRY(prepare(*matrix));
    }
    if (!bias) ECAD_TRY(get_vector(cx_, cache_, {bias_source_}, {flat_.dims[0]}, &c, &bias));
    const int64_t tiles = product_.tiles(), chunks = static_cast<int64_t>(matrix->chunks.size());
    return cx_.try_each(tiles * chunks, batch_ * tokens_ * matrix->n * k_, [&](int64_t item, int32_t thread) {
      const int64_t tile = item % tiles, first = tile * product_.tile_rows(), n = product_.rows_of(tile);
      const auto chunk = static_cast<size_t>(item / tiles);
      char *patches = cx_.scratch(thread), *out = patches + scratch_.x;
      for (int64_t r = 0; r < n; ++r) gather(c, first + r, at(patches, compute_dtype(compute_), r * k_));
      ECAD_TRY(product_.run(*matrix, tile, chunk, thread, patches, bias->data(), out, out + scratch_.y));
      const int64_t width = matrix->chunks[chunk].n;
      for (int64_t r = 0; r < n; ++r) scatter(c, first + r, matrix->chunks[chunk].first, width, reinterpret_cast<float*>(out) + r * width);
      return Status::ok();
    });
  }

 private:
  Status prepare(const PackedMatrix& m) {
    ECAD_TRY(product_.init(cx_, m, batch_ * tokens_, bias_source_.present(), DType::kF32));
    scratch_.init(product_, m);
    return cx_.reserve(scratch_.total(1));
  }

  void gather(const RunContext& c, int64_t row, char* to) const {
    const Tensor& x = *x_.tensor;
    const int64_t b = row / tokens_, token = row % tokens_, top = token / wide_ * patch_, left = token % wide_ * patch_;
    const DType type = compute_dtype(compute_);
    const char* base = at(x_.data(c), x_.dtype, b * x_stride(0) + top * x_stride(2) + left);
    for (int64_t ci = 0; ci < x.dims[1]; ++ci)
      for (int64_t p = 0; p < patch_; ++p, to = at(to, type, patch_))
        cx_.rows->convert(at(base, x_.dtype, ci * x_stride(1) + p * x_stride(2)), x_.dtype, to, type, patch_);
  }
  int64_t x_stride(size_t d) const { return x_.tensor->strides[d]; }

  void scatter(const RunContext& c, int64_t row, int64_t column, int64_t width, float* v) const {
    const int64_t b = row / tokens_, token = row % tokens_;
    if (pos_.present())
      cx_.rows->add(v, DType::kF32, 1, at(pos_.data(c), pos_.dtype, token * pos_stride_ + column), pos_.dtype, 1, v, DType::kF32, width);
    for (int64_t r = 0; r < repeat_; ++r)
      cx_.rows->convert(v, DType::kF32, at(y_.data(c), y_.dtype, y_rows_.offset((r * batch_ + b) * tokens_ + token) + column), y_.dtype, width);
  }

  Context& cx_;
  PackCache* cache_;
  Source x_, w_, bias_source_, pos_;
  Sink y_;
  Rows y_rows_;
  Tensor flat_;
  int64_t patch_ = 1, repeat_ = 1, batch_ = 1, wide_ = 1, tokens_ = 1, k_ = 1, pos_stride_ = 0;
  Compute compute_ = Compute::kF32;
  std::shared_ptr<PackedMatrix> matrix_;
  std::shared_ptr<FloatVector> bias_;
  TiledProduct product_;
  TileScratch scratch_;
};

}  // namespace

Status bind_linear(const Binder& b, KernelPtr* out) { return bind_as<LinearKernel>(b, out); }
Status bind_gated_linear(const Binder& b, KernelPtr* out) { return bind_as<GatedLinearKernel>(b, out); }
Status bind_patch_embed(const Binder& b, KernelPtr* out) { return bind_as<PatchEmbedKernel>(b, out); }

}  // namespace ecad
