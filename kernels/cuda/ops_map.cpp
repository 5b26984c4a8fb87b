// Opcodes that go element by element: copy, unary, add, permute, upsample, unpatchify. Each becomes dims and, per operand, strides.
#include "../core/text.h"
#include "kernels/map.h"
#include "operands.h"

namespace ecad::cuda {
namespace {

// Dims of y and strides of every operand over them, in elements, outermost first.
struct Axis {
  int64_t extent, y, a, b;
};

class Map : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.a.ref = a_.ref(l);
    if (kind_ == MapOp::kAdd) p_.b.ref = b_.ref(l);
    p_.y.ref = y_.ref(l);
    return launch_map(l.stream->native(), kind_, wide_, p_);
  }

 protected:
  // a, y and, where op is kAdd, b must be set. A move of equal dtypes takes the widest runs of bytes that all strides allow.
  Status set(MapOp op, Act act, std::vector<Axis> axes) {
    join(&axes);
    const bool adds = op == MapOp::kAdd, moves = op == MapOp::kUnary && act == Act::kNone && a_.dtype == y_.dtype;
    const auto size = static_cast<int64_t>(dtype_size(y_.dtype));
    const int64_t run = moves ? 16 / size : kVector;
    wide_ = aligned(axes, run, *a_.tensor, a_.dtype, &Axis::a) && aligned(axes, run, *y_.tensor, y_.dtype, &Axis::y) && (!adds || aligned(axes, run, *b_.tensor, b_.dtype, &Axis::b));
    kind_ = !moves ? op : wide_ ? MapOp::kMove16 : size == 8 ? MapOp::kMove8 : size == 4 ? MapOp::kMove4 : MapOp::kMove2;
    if (moves && !wide_ && size == 1) return unsupported("moves single bytes only in runs of 16");
    if (wide_) {
      Axis& last = axes.back();
      last = {last.extent / run, run, run, run};
    }
    if (axes.size() > kMapRank) return unsupported(text("moves at most ", kMapRank, " dims"));
    p_.act = static_cast<int32_t>(act);
    int64_t runs = 1;
    const size_t skip = kMapRank - axes.size();
    const auto bytes = [](DType t) { return static_cast<int64_t>(dtype_size(t)); };
    for (size_t d = 0; d < kMapRank; ++d) {
      const Axis axis = d < skip ? Axis{1, 0, 0, 0} : axes[d - skip];
      runs *= axis.extent;
      if (runs >= int64_t{1} << 31) return unsupported(text("goes over at most 2^31 runs of elements: y is ", dims_text(*y_.tensor)));
      p_.dims[d] = static_cast<uint32_t>(axis.extent);
      p_.a.strides[d] = axis.a * bytes(a_.dtype);
      p_.b.strides[d] = adds ? axis.b * bytes(b_.dtype) : 0;
      p_.y.strides[d] = axis.y * bytes(y_.dtype);
    }
    p_.runs = static_cast<uint32_t>(runs);
    p_.a.elem = elem_of(a_.dtype);
    p_.b.elem = adds ? elem_of(b_.dtype) : Elem::kF32;
    p_.y.elem = elem_of(y_.dtype);
    return Status::ok();
  }

  // x and y of an op that moves: equal dtypes of any kind, or float32 and bfloat16.
  Status bind_move(const Binder& b) {
    a_ = b.raw_input(0);
    y_ = b.raw_output(0);
    if (a_.dtype == y_.dtype) return b.pack(&a_, a_.dtype);
    ECAD_TRY(computed_input(b, 0, "x", &a_));
    return b.output(0, "y", &y_);
  }

  Source a_, b_;
  Sink y_;

 private:
  // Leaves out dims of 1 and joins neighbours that are one dim in every operand.
  static void join(std::vector<Axis>* axes) {
    std::vector<Axis> joined;
    for (const Axis& next : *axes) {
      if (next.extent == 1) continue;
      if (!joined.empty() && joined.back().y == next.y * next.extent && joined.back().a == next.a * next.extent && joined.back().b == next.b * next.extent) {
        joined.back() = {joined.back().extent * next.extent, next.y, next.a, next.b};
      } else {
        joined.push_back(next);
      }
    }
    if (joined.empty()) joined.push_back({1, 1, 1, 1});
    *axes = joined;
  }
  // Whether the operand has runs of `run` neighbouring elements along the last axis that start at multiples of 16 bytes.
  static bool aligned(const std::vector<Axis>& axes, int64_t run, const Tensor& t, DType type, int64_t Axis::*stride) {
    const auto size = static_cast<int64_t>(dtype_size(type));
    bool ok = axes.back().extent % run == 0 && axes.back().*stride == 1 && static_cast<int64_t>(t.offset) * size % 16 == 0 && t.step_stride * size % 16 == 0;
    for (size_t i = 0; i + 1 < axes.size(); ++i) ok = ok && axes[i].*stride * size % 16 == 0;
    return ok;
  }

  MapOp kind_ = MapOp::kUnary;
  bool wide_ = false;
  MapParams p_ = {};
};

int64_t element_stride(const Tensor& t, uint32_t d) { return t.dims[d] > 1 ? t.strides[d] : 0; }

std::vector<Axis> axes_of(const Tensor& y, const Tensor& a, const Tensor& b) {
  std::vector<Axis> axes;
  for (uint32_t d = 0; d < y.rank; ++d) axes.push_back({y.dims[d], y.strides[d], element_stride(a, d), element_stride(b, d)});
  return axes;
}

class Copy final : public Map {
 public:
  using Map::Map;
  Status bind(const Binder& b) {
    ECAD_TRY(bind_move(b));
    return set(MapOp::kUnary, Act::kNone, axes_of(*y_.tensor, *a_.tensor, *a_.tensor));
  }
};

class Unary final : public Map {
 public:
  using Map::Map;
  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "x", &a_));
    ECAD_TRY(b.output(0, "y", &y_));
    return set(MapOp::kUnary, static_cast<Act>(b.op.attr[0]), axes_of(*y_.tensor, *a_.tensor, *a_.tensor));
  }
};

class Add final : public Map {
 public:
  using Map::Map;
  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "a", &a_));
    ECAD_TRY(computed_input(b, 1, "b", &b_));
    ECAD_TRY(b.output(0, "y", &y_));
    return set(MapOp::kAdd, Act::kNone, axes_of(*y_.tensor, *a_.tensor, *b_.tensor));
  }
};

class Permute final : public Map {
 public:
  using Map::Map;
  Status bind(const Binder& b) {
    ECAD_TRY(bind_move(b));
    std::vector<Axis> axes;
    for (uint32_t d = 0; d < 4; ++d) {
      const int64_t from = element_stride(*a_.tensor, static_cast<uint32_t>(b.op.attr[d]));
      axes.push_back({y_.tensor->dims[d], y_.tensor->strides[d], from, from});
    }
    return set(MapOp::kUnary, Act::kNone, axes);
  }
};

// y[b, f i + p, f j + q, c] = x[b, i, j, c]
class Upsample final : public Map {
 public:
  using Map::Map;
  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "x", &a_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor &x = *a_.tensor, &y = *y_.tensor;
    const int64_t f = b.op.attr[0];
    std::vector<Axis> axes = {{y.dims[0], y.strides[0], x.strides[0], 0}};
    for (uint32_t d = 1; d < 3; ++d) {
      axes.push_back({x.dims[d], f * y.strides[d], x.strides[d], 0});
      axes.push_back({f, y.strides[d], 0, 0});
    }
    axes.push_back({y.dims[3], y.strides[3], x.strides[3], 0});
    for (Axis& axis : axes) axis.b = axis.a;
    return set(MapOp::kUnary, Act::kNone, axes);
  }
};

// y[b, c, P row + p, P col + q] = x[b, row (W / P) + col, place of (p, q, c)]
class Unpatchify final : public Map {
 public:
  using Map::Map;
  Status bind(const Binder& b) {
    ECAD_TRY(computed_input(b, 0, "x", &a_));
    ECAD_TRY(b.output(0, "y", &y_));
    const Tensor &x = *a_.tensor, &y = *y_.tensor;
    const int64_t patch = b.op.attr[0], channels = b.op.attr[2], tall = y.dims[2] / patch, across = y.dims[3] / patch;
    const bool channel_last = b.op.attr[1] == 0;
    std::vector<Axis> axes = {{y.dims[0], y.strides[0], x.strides[0], 0},
                              {y.dims[1], y.strides[1], channel_last ? 1 : patch * patch, 0},
                              {tall, patch * y.strides[2], across * x.strides[1], 0},
                              {patch, y.strides[2], channel_last ? patch * channels : patch, 0},
                              {across, patch * y.strides[3], x.strides[1], 0},
                              {patch, y.strides[3], channel_last ? channels : 1, 0}};
    for (Axis& axis : axes) axis.b = axis.a;
    return set(MapOp::kUnary, Act::kNone, axes);
  }
};

}  // namespace

Status bind_copy(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Copy>(out); }
Status bind_unary(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Unary>(out); }
Status bind_add(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Add>(out); }
Status bind_permute(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Permute>(out); }
Status bind_upsample(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Upsample>(out); }
Status bind_unpatchify(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Unpatchify>(out); }

}  // namespace ecad::cuda
