// linear and gated linear: weights are packed once per device (kernels/linear.h), the kernel is chosen by the shape; or cuBLASLt multiplies (cublaslt.h).
#include <cstring>

#include "../core/text.h"
#include "kernels/linear_sm90.h"
#include "ops_qk_norm_rope.h"

namespace ecad::cuda {
namespace {

// n elements of stored type `from`, perhaps unaligned, as float32 or bfloat16.
void convert(const void* from, DType stored, int64_t n, void* to, DType type) {
  const auto count = static_cast<size_t>(n);
  if (stored == type) {
    std::memcpy(to, from, count * dtype_size(type));
  } else if (stored == DType::kF32 && type == DType::kBF16) {  // the common one, without a detour over double
    auto* out = static_cast<uint16_t*>(to);
    for (size_t i = 0; i < count; ++i) {
      float v;
      std::memcpy(&v, static_cast<const char*>(from) + 4 * i, 4);
      out[i] = float_to_bf16(v);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) store_element(to, type, i, load_element(from, stored, i));
  }
}

// The matrices of an op as the kernels read them (linear.h).
class Packing {
 public:
  Packing(bool gated, DType type) : gated_(gated), type_(type) {}
  void add_part(int64_t k) {
    parts_.push_back(k);
    k_ += k;
    tiles_ += (k + line() - 1) / line();
  }
  void add_matrix(const Source& w) {
    matrices_.push_back(w);
    n_ += w.tensor->dims[0];
  }
  int64_t line() const { return kLineBytes / static_cast<int64_t>(dtype_size(type_)); }
  int64_t tiles() const { return tiles_; }
  int64_t n() const { return gated_ ? 2 * groups() * kGatedRows : n_; }

  Status pack(const Binder& b, void** out) const {
    PackCache::Key key = {static_cast<uint64_t>(gated_ ? Pack::kGatedMatrix : Pack::kMatrix), static_cast<uint64_t>(type_)};
    for (const Source& w : matrices_) key.push_back(w.weight->id);
    for (const int64_t k : parts_) key.push_back(static_cast<uint64_t>(k));
    const size_t row = static_cast<size_t>(tiles_) * kLineBytes, bytes = row * static_cast<size_t>(n());
    return b.cache()->get(key, bytes, [&](void* device) {
      return b.cx.stage(device, bytes, row, [&](size_t at, size_t count, void* to) {
        for (size_t done = 0; done < count; done += row) write_row(static_cast<int64_t>((at + done) / row), static_cast<char*>(to) + done, row);
        return Status::ok();
      });
    }, out);
  }

 private:
  int64_t groups() const { return (matrices_[0].tensor->dims[0] + kGatedRows - 1) / kGatedRows; }

  void write_row(int64_t r, char* to, size_t bytes) const {
    std::memset(to, 0, bytes);
    size_t matrix = 0;
    if (gated_) {
      matrix = static_cast<size_t>(r / kGatedRows % 2);
      r = r / (2 * kGatedRows) * kGatedRows + r % kGatedRows;
      if (r >= matrices_[matrix].tensor->dims[0]) return;
    } else {
      while (r >= matrices_[matrix].tensor->dims[0]) r -= matrices_[matrix++].tensor->dims[0];
    }
    const WeightView& w = *matrices_[matrix].weight;
    const char* from = static_cast<const char*>(w.data) + static_cast<size_t>(r * k_) * dtype_size(w.dtype);
    for (const int64_t k : parts_) {
      convert(from, w.dtype, k, to, type_);
      from += static_cast<size_t>(k) * dtype_size(w.dtype);
      to += (k + line() - 1) / line() * kLineBytes;
    }
  }

  bool gated_;
  DType type_;
  std::vector<int64_t> parts_;
  std::vector<Source> matrices_;
  int64_t k_ = 0, n_ = 0, tiles_ = 0;
};

// Whether every row of the view starts at a multiple of 16 bytes at every step; buffers do.
bool wide(const Tensor& t, DType type) {
  const auto unit = static_cast<int64_t>(16 / dtype_size(type));
  bool aligned = static_cast<int64_t>(t.offset) % unit == 0 && t.step_stride % unit == 0;
  for (uint32_t d = 0; d + 1 < t.rank; ++d) aligned = aligned && (t.dims[d] == 1 || t.strides[d] % unit == 0);
  return aligned;
}

class LinearOp : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status enqueue(const Launch& l) override {
    if (product_ != nullptr) return product_->enqueue(*l.stream, address(x_[0].ref(l)), address(y_.ref(l)), cx_.scratch());
    return multiply(l, tiles_, params_);
  }

 protected:
  // A kernel, and the map of the weights for its tiles.
  struct Tiles {
    const LinearVariant* plain = nullptr;
    const LinearSm90Variant* sm90 = nullptr;  // null: plain
    TensorMap w_map = {};
  };

  Status multiply(const Launch& l, const Tiles& tiles, LinearParams p) const {
    p.head = l.head;
    for (size_t i = 0; i < x_.size(); ++i) p.parts[i].x = x_[i].ref(l);
    p.y = y_.ref(l);
    if (tiles.sm90 == nullptr) return launch_linear(l.stream->native(), *tiles.plain, p);
    LinearSm90Params q = {};
    q.linear = p;
    q.w_map = tiles.w_map;
    q.parts = static_cast<int32_t>(x_.size());
    q.sample_rows = sample_rows_;
    size_t next = 0;
    for (size_t i = 0; i < x_.size(); ++i) {
      q.x_in_table[i] = in_table_[i];
      if (in_table_[i]) q.x_table[i] = l.maps[next++];
      else ECAD_TRY(encode_tensor_map(linear_x_map(address(p.parts[i].x), p.parts[i], p.m, sample_rows_, tiles.sm90->tile_m), &q.x_maps[i]));
    }
    return launch_linear_sm90(l.stream->native(), *tiles.sm90, q, cx_.device.multiprocessors);
  }
  Status encode_weights(Tiles* t) const { return encode_tensor_map(linear_w_map(params_.weights, params_.n, params_.k_tiles, t->sm90->tile_n), &t->w_map); }

  // Inputs first..first + nx - 1 and output 0; what matrix products are of.
  Status bind_operands(const Binder& b, size_t nx) {
    if (nx > kLinearParts) return unsupported(text("concatenates at most ", kLinearParts, " inputs of a linear, not ", nx));
    for (size_t i = 0; i < nx; ++i) {
      Source x;
      ECAD_TRY(b.input(i, "x", &x));
      if (x.weight != nullptr) return unsupported("multiplies activations by weights: x is a weight");
      kind_.f32 = kind_.f32 || x.dtype != DType::kBF16;
      x_.push_back(x);
    }
    ECAD_TRY(b.output(0, "y", &y_));
    kind_.f32_y = y_.dtype == DType::kF32;
    kind_.wide_x = true;
    const DType type = kind_.f32 ? DType::kF32 : DType::kBF16;
    for (const Source& x : x_) kind_.wide_x = kind_.wide_x && x.dtype == type && wide(*x.tensor, type);
    return Status::ok();
  }

  DType type() const { return kind_.f32 ? DType::kF32 : DType::kBF16; }

  Status weight(const Binder& b, size_t i, const char* what, Source* out) const {
    ECAD_TRY(b.input(i, what, out));
    if (out->present() && out->weight == nullptr) return unsupported(text("multiplies by tensors of the checkpoint only: ", what, " of a linear is another tensor"));
    return Status::ok();
  }

  // Packs and chooses. bias: device address or null.
  Status finish(const Binder& b, Packing* packing, Act act, const float* bias) {
    for (const Source& x : x_) packing->add_part(x.tensor->cols());
    void* packed = nullptr;
    ECAD_TRY(packing->pack(b, &packed));
    int64_t end = 0;
    for (size_t i = 0; i < x_.size(); ++i) {
      const Tensor& t = *x_[i].tensor;
      end += (t.cols() + packing->line() - 1) / packing->line();
      params_.parts[i] = {{}, row_layout(t), static_cast<int32_t>(t.cols()), static_cast<int32_t>(end), x_[i].dtype == DType::kBF16, 0};
    }
    const Tensor& y = *y_.tensor;
    if (y.rows() > INT32_MAX || packing->n() > INT32_MAX || end > INT32_MAX) return unsupported("multiplies matrices of less than 2^31 rows");
    params_.weights = packed;
    params_.bias = bias;
    params_.y_rows = row_layout(y);
    params_.m = static_cast<int32_t>(y.rows());
    params_.n = static_cast<int32_t>(packing->n());
    params_.columns = static_cast<int32_t>(y.cols());
    params_.k_tiles = static_cast<int32_t>(end);
    params_.act = static_cast<int32_t>(act);
    params_.wide_x = kind_.wide_x;
    params_.wide_y = wide(y, y_.dtype);
    tiles_.plain = &choose_linear(kind_, y.rows(), packing->n(), cx_.device.multiprocessors);
    return bulk_copies() ? choose_sm90(b) : Status::ok();
  }

  // Whether cuBLASLt may do the op: it takes host pointers, so operands must lie at fixed addresses.
  bool library_takes(const Binder& b, Act act) const {
    return cx_.cublaslt != nullptr && CublasLt::has(act) && x_.size() == 1 && !kind_.f32 && kind_.wide_x && params_.wide_y && fixed(b, *x_[0].tensor) && fixed(b, *y_.tensor) &&
           one_stride(params_.parts[0].rows, params_.parts[0].k) && one_stride(params_.y_rows, params_.columns);
  }
  // bias: [n] of y's dtype, or null. The library may have no kernel for the shape: then ours stays.
  Status plan_product(Act act, const void* bias) {
    const auto line = kLineBytes / static_cast<int64_t>(dtype_size(DType::kBF16));
    const LtShape shape = {params_.m, params_.n, params_.parts[0].k, stride(params_.parts[0].rows, params_.parts[0].k), params_.k_tiles * line, stride(params_.y_rows, params_.columns), kind_.f32_y, act};
    ECAD_TRY(cx_.cublaslt->plan(shape, params_.weights, bias, &product_));
    return product_ != nullptr ? cx_.reserve_scratch(product_->workspace_bytes()) : Status::ok();
  }

  bool any_in_table() const { return in_table_[0] || in_table_[1] || in_table_[2] || in_table_[3]; }
  int64_t cost(int32_t tile_m, int32_t tile_n, int64_t samples) const { return linear_cost(tile_m, tile_n, params_.m, params_.n, cx_.device.multiprocessors, samples); }
  int64_t samples() const { return params_.m / sample_rows_; }

  LinearKind kind_ = {};
  std::vector<Source> x_;
  Sink y_;
  LinearParams params_ = {};
  Tiles tiles_;
  int32_t sample_rows_ = 0;                  // of sm90 tiles
  std::unique_ptr<LtProduct> product_;       // null: a kernel of ours

 private:
  static_assert(kLinearParts == 4, "any_in_table");
  static void* address(const Ref& fixed) { return reinterpret_cast<void*>(fixed.offset); }

  static bool fixed(const Binder& b, const Tensor& t) { return t.step_stride == 0 && !in_state(b, t); }
  static bool in_state(const Binder& b, const Tensor& t) { return t.buffer < b.program.buffers.size() && b.program.buffers[t.buffer].kind == BufferKind::kPersistent; }

  // Whether one distance leads from each row to the next; of one row any will do.
  bool one_stride(const RowLayout& rows, int64_t columns) const { return params_.m == 1 || (rows.inner == params_.m && rows.inner_stride >= columns); }
  int64_t stride(const RowLayout& rows, int64_t columns) const { return params_.m == 1 ? (columns + 7) / 8 * 8 : rows.inner_stride; }

  // Whether linear_sm90.cuh takes the operands and there are rows enough for its tiles.
  bool bulk_copies() {
    bool possible = cx_.sm90 && !kind_.f32 && kind_.wide_x && params_.m > kLinearStreamM;
    for (const Source& x : x_) possible = possible && x.tensor->step_stride == 0;
    sample_rows_ = possible ? linear_sample_rows(params_, x_.size()) : 0;
    return sample_rows_ > 0;
  }

  // No tile crosses samples: of many short ones the tiles of mma.sync, half as fast, are fewer.
  Status choose_sm90(const Binder& b) {
    const LinearSm90Variant& v = choose_linear_sm90(kind_.gated, kind_.f32_y, params_.m, params_.n, cx_.device.multiprocessors, samples());
    if (samples() > 1 && cost(v.tile_m, v.tile_n, samples()) > 2 * cost(tiles_.plain->tile_m, tiles_.plain->tile_n, 1)) return Status::ok();
    tiles_.sm90 = &v;
    for (size_t i = 0; i < x_.size(); ++i) {
      in_table_[i] = in_state(b, *x_[i].tensor);
      if (in_table_[i]) maps_.push_back({false, static_cast<uint32_t>(x_[i].index), linear_x_map(nullptr, params_.parts[i], params_.m, sample_rows_, v.tile_m)});
    }
    return encode_weights(&tiles_);
  }

  bool in_table_[kLinearParts] = {};  // x i is in a buffer that may be another one at each step
};

class Linear final : public LinearOp {
 public:
  using LinearOp::LinearOp;

  Status bind(const Binder& b) {
    const auto nx = static_cast<size_t>(b.op.attr[0]), nw = static_cast<size_t>(b.op.attr[1]);
    ECAD_TRY(bind_operands(b, nx));
    Packing packing(false, type());
    std::vector<Source> biases(nw);
    std::vector<int64_t> lengths;
    for (size_t j = 0; j < nw; ++j) {
      Source w;
      ECAD_TRY(weight(b, nx + j, "w", &w));
      ECAD_TRY(weight(b, nx + nw + j, "b", &biases[j]));
      lengths.push_back(w.tensor->dims[0]);
      packing.add_matrix(w);
    }
    void* bias = nullptr;
    ECAD_TRY(pack_biases(b, biases, lengths, DType::kF32, &bias));
    const Act act = static_cast<Act>(b.op.attr[2]);
    ECAD_TRY(finish(b, &packing, act, static_cast<const float*>(bias)));
    if (!library_takes(b, act)) return Status::ok();
    if (!kind_.f32_y) ECAD_TRY(pack_biases(b, biases, lengths, DType::kBF16, &bias));
    return plan_product(act, bias);
  }

  // Queries and keys are normalised and turned before they are stored, when the op behind this one does that in place, so that nobody sees them as they were: linear_heads.cuh.
  bool take_over(const CudaOp& next) override {
    const auto* op = dynamic_cast<const QkNormRope*>(&next);
    if (op == nullptr || params_.act != static_cast<int32_t>(Act::kNone) || product_ != nullptr || kind_.f32 || kind_.f32_y || !kind_.wide_x || params_.m <= kLinearStreamM || any_in_table()) return false;
    LinearHeads heads = {};
    if (!find_heads(*op, &heads)) return false;
    Tiles tiles;
    int64_t fused = 0, plain = 0;
    if (tiles_.sm90 != nullptr) {
      const LinearSm90Variants all = linear_sm90_heads(op->depth());
      if (all.count == 0) return false;
      tiles.sm90 = &cheapest_linear(all, params_.m, params_.n, cx_.device.multiprocessors, samples());
      fused = cost(tiles.sm90->tile_m, tiles.sm90->tile_n, samples());
      plain = cost(tiles_.sm90->tile_m, tiles_.sm90->tile_n, samples());
      if (!encode_weights(&tiles).is_ok()) return false;
    } else {
      const LinearVariants all = linear_mma_heads(op->depth());
      if (all.count == 0) return false;
      tiles.plain = &cheapest_linear(all, params_.m, params_.n, cx_.device.multiprocessors);
      fused = cost(tiles.plain->tile_m, tiles.plain->tile_n, 1);
      plain = cost(tiles_.plain->tile_m, tiles_.plain->tile_n, 1);
    }
    const int64_t moved = int64_t{params_.m} * heads.width * 2 * 2 * 2;  // queries and keys, read and written in bfloat16
    if (fused > plain + memory_cost(moved, params_.k_tiles * (kLineBytes / 2), cx_.device.multiprocessors)) return false;
    heads_ = heads;
    heads_tiles_ = tiles;
    next_ = op;
    return true;
  }

  Status enqueue_both(const Launch& own, const Launch& next) override {
    LinearParams p = params_;
    p.heads = heads_;
    for (size_t i = 0; i < 2; ++i) p.heads.weight[i] = next_->weight(i).ref(next);
    p.heads.rope = next_->rope().ref(next);
    return multiply(own, heads_tiles_, p);
  }

 private:
  // Where in y the op's queries and keys are. false: they are not columns of y, whole heads apart, changed in place; or their weights and rope are not what kernels read.
  bool find_heads(const QkNormRope& op, LinearHeads* h) const {
    const Tensor &y = *y_.tensor, &rope = *op.rope().tensor;
    const int64_t depth = op.depth();
    if (y.rank != 3) return false;
    for (size_t i = 0; i < 2; ++i) {
      const Tensor &x = *op.x(i).tensor, &out = *op.y(i).tensor, &w = *op.weight(i).tensor;
      if (!same_view(x, out) || x.buffer != y.buffer || x.dtype != y.dtype || x.dims[0] != y.dims[0] || x.dims[1] != y.dims[1]) return false;
      for (size_t d = 0; d < 2; ++d)
        if (y.dims[d] > 1 && x.strides[d] != y.strides[d]) return false;
      const int64_t column = static_cast<int64_t>(x.offset) - static_cast<int64_t>(y.offset);
      if (column < 0 || column % depth != 0 || column + x.cols() > y.cols()) return false;
      h->first[i] = static_cast<int32_t>(column);
      h->width = static_cast<int32_t>(x.cols());
      if (op.weight(i).dtype != DType::kF32 || (op.weight(i).packed == nullptr && !pairs_aligned(w))) return false;
    }
    if (op.rope().dtype != DType::kF32 || (op.rope().packed == nullptr && !pairs_aligned(rope))) return false;
    h->rope_stride = rope.dims[0] > 1 ? rope.strides[0] : 0;
    h->tokens = static_cast<int32_t>(y.dims[1]);
    h->eps = op.eps();
    return true;
  }
  static bool same_view(const Tensor& a, const Tensor& b) { return a.buffer == b.buffer && a.offset == b.offset && a.dtype == b.dtype && a.rank == b.rank && a.dims == b.dims && a.strides == b.strides; }
  // Whether each pair of float32 lies in 8 bytes.
  static bool pairs_aligned(const Tensor& t) { return t.offset % 2 == 0 && t.step_stride % 2 == 0 && (t.rank < 2 || t.dims[0] == 1 || t.strides[0] % 2 == 0); }

  const QkNormRope* next_ = nullptr;  // whose work this does too
  LinearHeads heads_ = {};
  Tiles heads_tiles_;

  // One after the other, zeros for absent ones; null when all are absent.
  static Status pack_biases(const Binder& b, const std::vector<Source>& biases, const std::vector<int64_t>& lengths, DType type, void** out) {
    PackCache::Key key = {static_cast<uint64_t>(Pack::kBias), static_cast<uint64_t>(type)};
    int64_t n = 0;
    bool any = false;
    for (size_t j = 0; j < biases.size(); ++j) {
      any = any || biases[j].present();
      n += lengths[j];
      key.push_back(biases[j].present() ? biases[j].weight->id : UINT64_MAX);
      key.push_back(static_cast<uint64_t>(lengths[j]));
    }
    if (!any) return Status::ok();
    const size_t size = dtype_size(type), bytes = static_cast<size_t>(n) * size;
    return b.cache()->get(key, bytes, [&](void* device) {
      std::vector<char> values(bytes, 0);
      size_t at = 0;
      for (size_t j = 0; j < biases.size(); at += static_cast<size_t>(lengths[j++]) * size)
        if (biases[j].present()) convert(biases[j].weight->data, biases[j].weight->dtype, lengths[j], values.data() + at, type);
      return b.cx.stage(device, bytes, size, [&](size_t from, size_t count, void* to) {
        std::memcpy(to, values.data() + from, count);
        return Status::ok();
      });
    }, out);
  }
};

class GatedLinear final : public LinearOp {
 public:
  using LinearOp::LinearOp;

  Status bind(const Binder& b) {
    kind_.gated = true;
    ECAD_TRY(bind_operands(b, 1));
    Packing packing(true, type());
    for (size_t j = 0; j < 2; ++j) {
      Source w;
      ECAD_TRY(weight(b, 1 + j, j == 0 ? "wg" : "wu", &w));
      packing.add_matrix(w);
    }
    return finish(b, &packing, static_cast<Act>(b.op.attr[0]), nullptr);
  }
};

}  // namespace

Status bind_linear(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Linear>(out); }
Status bind_gated_linear(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<GatedLinear>(out); }

}  // namespace ecad::cuda
