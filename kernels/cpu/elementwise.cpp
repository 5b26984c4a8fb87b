// Ops that go element by element: copy, unary, add, linear combination.
#include <algorithm>
#include <cstring>

#include "../core/dtype.h"
#include "context.h"

namespace ecad {
namespace {

constexpr int64_t kPiece = 8192;  // elements of one loop item

// Several views of equal dims, cut into pieces of adjacent elements in all of them. A view whose dims are 1 where the shape's are not is repeated there.
class Walk {
 public:
  void init(const Tensor& shape, const std::vector<const Tensor*>& views) {
    bool flat = true;
    for (const Tensor* t : views) flat = flat && is_dense(*t) && t->dims == shape.dims;
    for (const Tensor* t : views) {
      Tensor v = *t;
      for (uint32_t d = 0; d < shape.rank; ++d)
        if (v.dims[d] == 1) v.strides[d] = 0;
      step_.push_back(t->dims[shape.rank - 1] == shape.dims[shape.rank - 1] ? 1 : 0);
      v.dims = shape.dims;
      rows_.emplace_back(v, flat ? shape.rank : 1);
    }
    per_row_ = ceil_div(rows_[0].cols, kPiece);
    group_ = std::max<int64_t>(1, kPiece / rows_[0].cols);
  }
  int64_t count() const { return rows_[0].n * rows_[0].cols; }
  int step(size_t view) const { return step_[view]; }

  // body(piece's first row, first column, elements, thread)
  template <class Body>
  void each(const Context& cx, const Body& body) const {
    const int64_t n = rows_[0].n, cols = rows_[0].cols;
    if (per_row_ > 1) {
      cx.each(n * per_row_, count(), [&](int64_t i, int32_t thread) {
        const int64_t first = i % per_row_ * kPiece;
        body(i / per_row_, first, std::min(kPiece, cols - first), thread);
      });
      return;
    }
    cx.each(ceil_div(n, group_), count(), [&](int64_t i, int32_t thread) {
      for (int64_t r = i * group_; r < std::min(n, (i + 1) * group_); ++r) body(r, 0, cols, thread);
    });
  }
  int64_t offset(size_t view, int64_t row, int64_t col) const { return rows_[view].offset(row) + (step_[view] ? col : 0); }

 private:
  std::vector<Rows> rows_;
  std::vector<int> step_;
  int64_t per_row_ = 1, group_ = 1;
};

class CopyKernel final : public Kernel {
 public:
  explicit CopyKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    x_ = b.raw_input(0);
    y_ = b.raw_output(0);
    if (x_.dtype != y_.dtype) {
      ECAD_TRY(b.input(0, "x", &x_));
      ECAD_TRY(b.output(0, "y", &y_));
    }
    walk_.init(*y_.tensor, {x_.tensor, y_.tensor});
    return Status::ok();
  }
  Status run(const RunContext& c) override {
    walk_.each(cx_, [&](int64_t row, int64_t col, int64_t n, int32_t) {
      const void* from = at(x_.data(c), x_.dtype, walk_.offset(0, row, col));
      void* to = at(y_.data(c), y_.dtype, walk_.offset(1, row, col));
      if (x_.dtype != y_.dtype) cx_.rows->convert(from, x_.dtype, to, y_.dtype, n);
      else if (from != to) std::memcpy(to, from, static_cast<size_t>(n) * dtype_size(x_.dtype));
    });
    return Status::ok();
  }

 private:
  Context& cx_;
  Source x_;
  Sink y_;
  Walk walk_;
};

class UnaryKernel final : public Kernel {
 public:
  explicit UnaryKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    act_ = static_cast<Act>(b.op.attr[0]);
    ECAD_TRY(b.input(0, "x", &x_));
    ECAD_TRY(b.output(0, "y", &y_));
    walk_.init(*y_.tensor, {x_.tensor, y_.tensor});
    return Status::ok();
  }
  Status run(const RunContext& c) override {
    walk_.each(cx_, [&](int64_t row, int64_t col, int64_t n, int32_t) {
      cx_.rows->unary(at(x_.data(c), x_.dtype, walk_.offset(0, row, col)), x_.dtype, at(y_.data(c), y_.dtype, walk_.offset(1, row, col)), y_.dtype, n, act_);
    });
    return Status::ok();
  }

 private:
  Context& cx_;
  Source x_;
  Sink y_;
  Act act_ = Act::kNone;
  Walk walk_;
};

class AddKernel final : public Kernel {
 public:
  explicit AddKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    ECAD_TRY(b.input(0, "a", &a_));
    ECAD_TRY(b.input(1, "b", &b_));
    ECAD_TRY(b.output(0, "y", &y_));
    walk_.init(*y_.tensor, {a_.tensor, b_.tensor, y_.tensor});
    return Status::ok();
  }
  Status run(const RunContext& c) override {
    walk_.each(cx_, [&](int64_t row, int64_t col, int64_t n, int32_t) {
      cx_.rows->add(at(a_.data(c), a_.dtype, walk_.offset(0, row, col)), a_.dtype, walk_.step(0), at(b_.data(c), b_.dtype, walk_.offset(1, row, col)),
                    b_.dtype, walk_.step(1), at(y_.data(c), y_.dtype, walk_.offset(2, row, col)), y_.dtype, n);
    });
    return Status::ok();
  }

 private:
  Context& cx_;
  Source a_, b_;
  Sink y_;
  Walk walk_;
};

// In float64, as the coefficients are: latents are small, and samplers lose least this way.
class LincombKernel final : public Kernel {
 public:
  explicit LincombKernel(const Binder& b) : cx_(b.cx) {}
  Status bind(const Binder& b) {
    const auto n = static_cast<size_t>(b.op.attr[0]);
    clamp_ = b.op.attr[1] != 0;
    low_ = b.op.fattr[0];
    high_ = b.op.fattr[1];
    ECAD_TRY(b.output(0, "y", &y_));
    std::vector<const Tensor*> views;
    for (size_t i = 0; i < n; ++i) {
      Source s;
      ECAD_TRY(b.input(i, "x", &s));
      x_.push_back(s);
      views.push_back(s.tensor);
    }
    views.push_back(y_.tensor);
    coefficients_ = b.raw_input(n);
    factor_.resize(n);
    walk_.init(*y_.tensor, views);
    return Status::ok();
  }
  Status run(const RunContext& c) override {
    for (size_t i = 0; i < x_.size(); ++i) std::memcpy(&factor_[i], at(coefficients_.data(c), DType::kF64, static_cast<int64_t>(i)), sizeof(double));
    walk_.each(cx_, [&](int64_t row, int64_t col, int64_t n, int32_t) {
      for (int64_t done = 0; done < n; done += kBlock) block(c, row, col + done, std::min(kBlock, n - done));
    });
    return Status::ok();
  }

 private:
  static constexpr int64_t kBlock = 256;

  void block(const RunContext& c, int64_t row, int64_t col, int64_t n) const {
    double sum[kBlock] = {};
    float x[kBlock];
    for (size_t i = 0; i < x_.size(); ++i) {
      if (factor_[i] == 0) continue;
      cx_.rows->convert(at(x_[i].data(c), x_[i].dtype, walk_.offset(i, row, col)), x_[i].dtype, x, DType::kF32, n);
      for (int64_t k = 0; k < n; ++k) sum[k] += factor_[i] * static_cast<double>(x[k]);
    }
    void* y = at(y_.data(c), y_.dtype, walk_.offset(x_.size(), row, col));
    for (int64_t k = 0; k < n; ++k) {
      if (clamp_ && sum[k] < low_) sum[k] = low_;
      if (clamp_ && sum[k] > high_) sum[k] = high_;
      store_element(y, y_.dtype, k, sum[k]);
    }
  }

  Context& cx_;
  std::vector<Source> x_;
  Source coefficients_;
  Sink y_;
  std::vector<double> factor_;
  bool clamp_ = false;
  double low_ = 0, high_ = 0;
  Walk walk_;
};

}  // namespace

Status bind_copy(const Binder& b, KernelPtr* out) { return bind_as<CopyKernel>(b, out); }
Status bind_unary(const Binder& b, KernelPtr* out) { return bind_as<UnaryKernel>(b, out); }
Status bind_add(const Binder& b, KernelPtr* out) { return bind_as<AddKernel>(b, out); }
Status bind_lincomb(const Binder& b, KernelPtr* out) { return bind_as<LincombKernel>(b, out); }

}  // namespace ecad
