// Residual chains, some rows at a time: they are summed in float32 in a core's own cache, normalised and modulated there, and every operand is read once.
// Group norm.
#include <algorithm>
#include <cmath>

#include "context.h"

namespace ecad {
namespace {

constexpr int64_t kItemElements = 16384;  // elements of one operand in one item of a loop over rows
constexpr int64_t kGroupElements = 8192;   // float32 sums kept in a core's cache; each slot is read in runs of as many elements

class ChainKernel final : public Kernel {
 public:
  explicit ChainKernel(const Binder& b) : cx_(b.cx) {}

  Status bind(const Binder& b) {
    terms_ = b.op.attr[0];
    norm_ = static_cast<Norm>(b.op.attr[1]);
    eps_ = static_cast<float>(b.op.fattr[0]);
    const auto n = static_cast<size_t>(terms_);
    const auto add = [&](size_t i, const char* what) -> Status {
      Operand o;
      ECAD_TRY(b.input(i, what, &o.source));
      if (o.source.present()) set_strides(&o);
      operands_.push_back(o);
      return Status::ok();
    };
    ECAD_TRY(add(0, "x"));
    for (size_t i = 0; i < n; ++i) {
      ECAD_TRY(add(1 + 2 * i, "s"));
      ECAD_TRY(add(2 + 2 * i, "g"));
    }
    const char* last[] = {"scale", "shift", "weight", "bias"};
    for (size_t i = 0; i < 4; ++i) ECAD_TRY(add(1 + 2 * n + i, last[i]));
    ECAD_TRY(b.output(0, "x'", &sum_));
    ECAD_TRY(b.output(1, "y", &y_));
    const Tensor& x = *operands_[0].source.tensor;
    batch_ = x.dims[0];
    tokens_ = x.dims[1];
    cols_ = x.dims[2];
    group_ = std::min(tokens_, std::max<int64_t>(1, kGroupElements / cols_));
    // float32 rows, pointers of the terms, and where each operand starts at run time
    sums_bytes_ = round_up(static_cast<size_t>(group_ * cols_) * sizeof(float), 64);
    bases_.resize(operands_.size());
    return cx_.reserve(sums_bytes_ + operands_.size() * sizeof(RowsPtr));
  }

  Status run(const RunContext& c) override {
    for (size_t i = 0; i < operands_.size(); ++i) bases_[i] = operands_[i].source.present() ? operands_[i].source.data(c) : nullptr;
    const int64_t groups = ceil_div(tokens_, group_), all = batch_ * groups, per_item = std::max<int64_t>(1, kItemElements / (group_ * cols_));
    cx_.each(ceil_div(all, per_item), batch_ * tokens_ * cols_ * (terms_ + 2), [&](int64_t item, int32_t thread) {
      for (int64_t i = item * per_item; i < std::min(all, (item + 1) * per_item); ++i) run_group(c, i / groups, i % groups * group_, thread);
    });
    return Status::ok();
  }

 private:
  struct Operand {
    Source source;
    int64_t batch = 0, token = 0;  // strides; 0 where the operand is shared
  };

  static void set_strides(Operand* o) {
    const Tensor& t = *o->source.tensor;
    if (t.rank >= 2 && t.dims[0] > 1) o->batch = t.strides[0];
    if (t.rank == 3) o->token = t.strides[1];
  }

  // Tokens [token, token + group_) of sample b, as far as there are.
  void run_group(const RunContext& c, int64_t b, int64_t token, int32_t thread) const {
    char* scratch = cx_.scratch(thread);
    auto* p = reinterpret_cast<RowsPtr*>(scratch + sums_bytes_);
    for (size_t i = 0; i < operands_.size(); ++i) {
      const Operand& o = operands_[i];
      const DType type = o.source.dtype;
      p[i] = bases_[i] ? RowsPtr{at(bases_[i], type, b * o.batch + token * o.token), type, o.token * static_cast<int64_t>(dtype_size(type))} : RowsPtr{};
    }
    const RowsPtr* last = p + 1 + 2 * terms_;
    ChainRows rows = {};
    rows.rows = std::min(group_, tokens_ - token);
    rows.cols = cols_;
    rows.x = p[0];
    rows.terms = p + 1;
    rows.num_terms = terms_;
    if (sum_.present()) rows.sum = out(c, sum_, b, token, &rows.sum_step);
    rows.sum_dtype = sum_.dtype;
    if (y_.present()) rows.y = out(c, y_, b, token, &rows.y_step);
    rows.y_dtype = y_.dtype;
    rows.norm = norm_;
    rows.eps = eps_;
    rows.scale = last[0].row(0);
    rows.shift = last[1].row(0);
    rows.weight = last[2].row(0);
    rows.bias = last[3].row(0);
    rows.scratch = reinterpret_cast<float*>(scratch);
    cx_.rows->chain(rows);
  }
  static void* out(const RunContext& c, const Sink& s, int64_t b, int64_t token, int64_t* step) {
    *step = s.tensor->strides[1] * static_cast<int64_t>(dtype_size(s.dtype));
    return at(s.data(c), s.dtype, b * s.tensor->strides[0] + token * s.tensor->strides[1]);
  }

  Context& cx_;
  std::vector<Operand> operands_;  // x, (s, g)..., scale, shift, weight, bias
  std::vector<const void*> bases_;
  Sink sum_, y_;
  int32_t terms_ = 0;
  Norm norm_ = Norm::kNone;
  float eps_ = 0.f;
  int64_t batch_ = 1, tokens_ = 1, cols_ = 1, group_ = 1;
  size_t sums_bytes_ = 0;
};

// Sums per channel of fixed runs of pixels, combined in order in float64; then one pass that normalises.
class GroupNormKernel final : public Kernel {
 public:
  explicit GroupNormKernel(const Binder& b) : cx_(b.cx) {}

  Status bind(const Binder& b) {
    groups_ = b.op.attr[0];
    act_ = static_cast<Act>(b.op.attr[1]);
    eps_ = b.op.fattr[0];
    ECAD_TRY(b.input(0, "x", &x_));
    ECAD_TRY(b.input(1, "weight", &weight_));
    ECAD_TRY(b.input(2, "bias", &bias_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor& x = *x_.tensor;
    batch_ = x.dims[0];
    channels_ = x.dims[3];
    // an image is `lines` runs of `length` pixels at one stride
    const bool merged = x.dims[1] == 1 || x.strides[1] == x.dims[2] * x.strides[2];
    lines_ = merged ? 1 : x.dims[1];
    length_ = merged ? x.dims[1] * x.dims[2] : x.dims[2];
    line_stride_ = merged ? 0 : x.strides[1];
    pixel_stride_ = x.dims[2] > 1 ? x.strides[2] : (merged && x.dims[1] > 1 ? x.strides[1] : channels_);
    y_rows_ = Rows(*y_.tensor);
    pieces_ = lines_ * ceil_div(length_, kPixels);
    const auto floats = static_cast<size_t>(batch_ * channels_ * 3 * (pieces_ + 1));
    return cx_.reserve(0, floats * sizeof(float));
  }

  Status run(const RunContext& c) override {
    const int64_t items = batch_ * pieces_, work = batch_ * lines_ * length_ * channels_;
    cx_.each(items, work, [&](int64_t item, int32_t) {
      const Piece p = piece(item);
      float* s = sums(item);
      cx_.rows->channel_sums(p.x(x_, c), x_.dtype, pixel_stride_, p.count, channels_, s, s + channels_, s + 2 * channels_);
    });
    cx_.each(batch_ * groups_, work / kPixels, [&](int64_t item, int32_t) { combine(c, item / groups_, item % groups_); });
    cx_.each(items, 4 * work, [&](int64_t item, int32_t) {
      const Piece p = piece(item);
      const float* f = factors(item / pieces_);
      const char* x = p.x(x_, c);
      for (int64_t i = 0; i < p.count; ++i)
        cx_.rows->normalize(at(x, x_.dtype, i * pixel_stride_), x_.dtype, f, f + channels_, f + 2 * channels_,
                            at(y_.data(c), y_.dtype, y_rows_.offset(p.pixel + i)), y_.dtype, channels_, act_);
    });
    return Status::ok();
  }

 private:
  static constexpr int64_t kPixels = 128;

  struct Piece {
    int64_t offset, pixel, count;  // element offset in x, pixel number over the batch, pixels
    const char* x(const Source& s, const RunContext& c) const { return at(s.data(c), s.dtype, offset); }
  };
  Piece piece(int64_t item) const {
    const int64_t b = item / pieces_, per_line = ceil_div(length_, kPixels), line = item % pieces_ / per_line, first = item % pieces_ % per_line * kPixels;
    return {b * x_.tensor->strides[0] + line * line_stride_ + first * pixel_stride_, (b * lines_ + line) * length_ + first, std::min(kPixels, length_ - first)};
  }
  float* sums(int64_t item) const { return reinterpret_cast<float*>(cx_.shared()) + item * 3 * channels_; }
  float* factors(int64_t b) const { return sums(batch_ * pieces_ + b); }

  void combine(const RunContext& c, int64_t b, int64_t group) const {
    const int64_t width = channels_ / groups_, first = group * width;
    const double total = static_cast<double>(lines_ * length_ * width);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < pieces_; ++i) {
      const float* s = sums(b * pieces_ + i);
      const auto n = static_cast<double>(piece(i).count);
      for (int64_t ch = first; ch < first + width; ++ch) mean += n * static_cast<double>(s[ch]) + static_cast<double>(s[channels_ + ch]);
    }
    mean /= total;
    for (int64_t i = 0; i < pieces_; ++i) {
      const float* s = sums(b * pieces_ + i);
      const auto n = static_cast<double>(piece(i).count);
      for (int64_t ch = first; ch < first + width; ++ch) {
        const double d = static_cast<double>(s[ch]) - mean;
        variance += static_cast<double>(s[2 * channels_ + ch]) + d * (2 * static_cast<double>(s[channels_ + ch]) + n * d);
      }
    }
    const double rstd = 1 / std::sqrt(std::max(0.0, variance / total) + eps_);
    float* f = factors(b);
    for (int64_t ch = first; ch < first + width; ++ch) {
      float w;
      cx_.rows->convert(at(weight_.data(c), weight_.dtype, ch), weight_.dtype, &w, DType::kF32, 1);
      f[ch] = static_cast<float>(mean);
      f[channels_ + ch] = static_cast<float>(rstd * static_cast<double>(w));
      cx_.rows->convert(at(bias_.data(c), bias_.dtype, ch), bias_.dtype, f + 2 * channels_ + ch, DType::kF32, 1);
    }
  }

  Context& cx_;
  Source x_, weight_, bias_;
  Sink y_;
  Rows y_rows_;
  Act act_ = Act::kNone;
  double eps_ = 0;
  int64_t groups_ = 1, batch_ = 1, channels_ = 1, lines_ = 1, length_ = 1, line_stride_ = 0, pixel_stride_ = 0, pieces_ = 1;
};

}  // namespace

Status bind_chain(const Binder& b, KernelPtr* out) { return bind_as<ChainKernel>(b, out); }
Status bind_group_norm(const Binder& b, KernelPtr* out) { return bind_as<GroupNormKernel>(b, out); }

}  // namespace ecad
