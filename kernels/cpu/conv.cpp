// conv2d, image by image in bands of output rows, each a oneDNN convolution of its own.
#include <algorithm>
#include <cstring>

#include "product.h"

namespace ecad {
namespace {

constexpr int64_t kBandWork = int64_t{1} << 22;  // multiplications that make a band worth its overlap with the next
constexpr int64_t kMaxBands = 32;

struct PackedFilter {
  std::shared_ptr<PackedWeights> weights;
};

class ConvKernel final : public Kernel {
 public:
  explicit ConvKernel(const Binder& b) : cx_(b.cx), cache_(b.cache()) {}

  Status bind(const Binder& b) {
    stride_ = b.op.attr[0];
    pad_ = b.op.attr[1];
    ECAD_TRY(b.input(0, "x", &x_));
    ECAD_TRY(b.input(1, "w", &w_));
    ECAD_TRY(b.input(2, "b", &bias_source_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor &x = *x_.tensor, &w = *w_.tensor, &y = *y_.tensor;
    if (!w_.weight && !is_dense(w)) return {ECAD_UNSUPPORTED, "w must be dense"};
    if (pad_ >= w.dims[2] || pad_ >= w.dims[3])
      return {ECAD_UNSUPPORTED, "pad " + std::to_string(pad_) + " is not less than the filter's size: the cpu backend needs that"};
    compute_ = choose_compute(cx_, {x_});
    dst_ = y_.dtype == DType::kBF16 ? compute_dtype(compute_) : DType::kF32;
    x_rows_ = Rows(x);
    y_rows_ = Rows(y);
    const int64_t work = y.dims[1] * y.dims[2] * y.dims[3] * x.dims[3] * w.dims[2] * w.dims[3];
    const int64_t bands = std::max<int64_t>(1, std::min({work / kBandWork, kMaxBands, y.dims[1]}));
    band_rows_ = ceil_div(y.dims[1], bands);
    bands_ = ceil_div(y.dims[1], band_rows_);
    ECAD_TRY(get_filter(nullptr, &filter_));
    ECAD_TRY(get_vector(cx_, cache_, {bias_source_}, {w.dims[0]}, nullptr, &bias_));
    return filter_ ? prepare(*filter_) : Status::ok();
  }

  Status run(const RunContext& c) override {
    std::shared_ptr<PackedFilter> filter = filter_;
    std::shared_ptr<FloatVector> bias = bias_;
    if (!filter) {
      ECAD_TRY(get_filter(&c, &filter));
      ECAD_TRY(prepare(*filter));
    }
    if (!bias) ECAD_TRY(get_vector(cx_, cache_, {bias_source_}, {w_.tensor->dims[0]}, &c, &bias));
    const Tensor& y = *y_.tensor;
    return cx_.try_each(y.dims[0] * bands_, y.count() * x_.tensor->dims[3], [&](int64_t item, int32_t thread) {
      return run_band(c, *filter, bias->data(), item / bands_, item % bands_, thread);
    });
  }

 private:
  // Input rows and padding of a band.
  ConvShape shape_of(int64_t band) const {
    const Tensor &x = *x_.tensor, &w = *w_.tensor;
    const int64_t from = first_input(band), to = (last_output(band) - 1) * stride_ - pad_ + w.dims[2];
    ConvShape s = {};
    s.pad_top = std::max<int64_t>(0, -from);
    s.pad_bottom = std::max<int64_t>(0, to - x.dims[1]);
    s.h = std::min(to, x.dims[1]) - std::max<int64_t>(0, from);
    s.w = x.dims[2];
    s.ci = x.dims[3];
    s.co = w.dims[0];
    s.kh = w.dims[2];
    s.kw = w.dims[3];
    s.stride = stride_;
    s.pad_left = pad_;
    s.pad_right = (y_.tensor->dims[2] - 1) * stride_ + s.kw - s.w - pad_;  // columns that no window reaches are cut off by a negative number
    s.compute = compute_;
    s.dst = dst_;
    s.bias = bias_source_.present();
    return s;
  }
  int64_t first_input(int64_t band) const { return band * band_rows_ * stride_ - pad_; }
  int64_t last_output(int64_t band) const { return std::min(y_.tensor->dims[1], (band + 1) * band_rows_); }

  Status get_filter(const RunContext* c, std::shared_ptr<PackedFilter>* out) {
    const bool fixed = w_.weight && cache_;
    if (!fixed && !c) return Status::ok();
    const PackCache::Key key = {static_cast<uint64_t>(PackKind::kFilter), static_cast<uint64_t>(compute_), w_.weight_id};
    if (fixed && (*out = cache_->find<PackedFilter>(key))) return Status::ok();
    HeldWeights held;
    if (fixed) ECAD_TRY(held.hold(cache_, {w_}));
    const DType type = compute_dtype(compute_);
    const int64_t count = w_.tensor->count();
    AlignedBuffer dense(static_cast<size_t>(count) * dtype_size(type));
    if (!dense.data()) return {ECAD_OUT_OF_MEMORY, "no memory to pack a filter"};
    cx_.rows->convert(w_.weight ? w_.weight : w_.data(*c), w_.dtype, dense.data(), type, count);
    auto f = std::make_shared<PackedFilter>();
    ECAD_TRY(cx_.dnn->pack_filter(shape_of(bands_ / 2), dense.data(), &f->weights));
    if (fixed) cache_->keep(key, f, f->weights->bytes());
    *out = std::move(f);
    return Status::ok();
  }

  Status prepare(const PackedFilter& f) {
    bands_of_.clear();
    size_t own = 0;
    int64_t most_rows = 0;
    for (int64_t i = 0; i < bands_; ++i) {
      const ConvShape s = shape_of(i);
      std::shared_ptr<Primitive> p;
      ECAD_TRY(cx_.dnn->convolution(s, *f.weights, &p));
      own = std::max(own, p->scratch_bytes());
      most_rows = std::max(most_rows, s.h);
      bands_of_.push_back(std::move(p));
    }
    const Tensor &x = *x_.tensor, &y = *y_.tensor;
    x_dense_ = x_.dtype == compute_dtype(compute_) && (x.dims[2] == 1 || x.strides[2] == x.dims[3]) && (x.dims[1] == 1 || x.strides[1] == x.dims[2] * x.dims[3]);
    y_dense_ = y_.dtype == dst_ && (y.dims[2] == 1 || y.strides[2] == y.dims[3]) && (y.dims[1] == 1 || y.strides[1] == y.dims[2] * y.dims[3]);
    x_bytes_ = x_dense_ ? 0 : round_up(static_cast<size_t>(most_rows * x.dims[2] * x.dims[3]) * dtype_size(compute_dtype(compute_)), 64);
    y_bytes_ = y_dense_ ? 0 : round_up(static_cast<size_t>(band_rows_ * y.dims[2] * y.dims[3]) * dtype_size(dst_), 64);
    return cx_.reserve(x_bytes_ + y_bytes_ + own);
  }

  Status run_band(const RunContext& c, const PackedFilter& f, const float* bias, int64_t b, int64_t band, int32_t thread) {
    const Tensor &x = *x_.tensor, &y = *y_.tensor;
    const ConvShape s = shape_of(band);
    const int64_t row = std::max<int64_t>(0, first_input(band)), pixel = (b * x.dims[1] + row) * x.dims[2];
    char *scratch = cx_.scratch(thread), *from = scratch, *to = scratch + x_bytes_;
    if (x_dense_) {
      from = at(x_.data(c), x_.dtype, x_rows_.offset(pixel));
    } else {
      for (int64_t i = 0; i < s.h * s.w; ++i)
        cx_.rows->convert(at(x_.data(c), x_.dtype, x_rows_.offset(pixel + i)), x_.dtype, at(from, compute_dtype(compute_), i * s.ci), compute_dtype(compute_), s.ci);
    }
    const int64_t out = (b * y.dims[1] + band * band_rows_) * y.dims[2], rows = last_output(band) - band * band_rows_;
    if (y_dense_) to = at(y_.data(c), y_.dtype, y_rows_.offset(out));
    ECAD_TRY(bands_of_[static_cast<size_t>(band)]->run(thread, from, *f.weights, bias, to, scratch + x_bytes_ + y_bytes_));
    if (!y_dense_)
      for (int64_t i = 0; i < rows * y.dims[2]; ++i)
        cx_.rows->convert(at(to, dst_, i * s.co), dst_, at(y_.data(c), y_.dtype, y_rows_.offset(out + i)), y_.dtype, s.co);
    return Status::ok();
  }

  Context& cx_;
  PackCache* cache_;
  Source x_, w_, bias_source_;
  Sink y_;
  Rows x_rows_, y_rows_;
  int64_t stride_ = 1, pad_ = 0, bands_ = 1, band_rows_ = 1;
  bool x_dense_ = false, y_dense_ = false;
  size_t x_bytes_ = 0, y_bytes_ = 0;
  Compute compute_ = Compute::kF32;
  DType dst_ = DType::kF32;
  std::shared_ptr<PackedFilter> filter_;
  std::shared_ptr<FloatVector> bias_;
  std::vector<std::shared_ptr<Primitive>> bands_of_;
};

}  // namespace

Status bind_conv2d(const Binder& b, KernelPtr* out) { return bind_as<ConvKernel>(b, out); }

}  // namespace ecad
