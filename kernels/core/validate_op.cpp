// Operands and attributes of every opcode (the table of kernels/PROGRAM.md).
#include <initializer_list>

#include "decode.h"
#include "dtype.h"
#include "text.h"

namespace ecad {
namespace {

constexpr int32_t kMaxLinearParts = 64, kMaxTerms = 4096, kMaxExtent = 1 << 15;
constexpr int32_t kLastAct = static_cast<int32_t>(Act::kRelu);

class Rule {
 public:
  Rule(const Program& p, size_t index, const Op& op) : p_(p), index_(index), op_(op) {}

  Status check() {
    switch (op_.code) {
      case Opcode::kCopy: return copy();
      case Opcode::kLinear: return linear();
      case Opcode::kGatedLinear: return gated_linear();
      case Opcode::kAttention: return attention();
      case Opcode::kChain: return chain();
      case Opcode::kPatchEmbed: return patch_embed();
      case Opcode::kUnpatchify: return unpatchify();
      case Opcode::kTimestepEmbed: return timestep_embed();
      case Opcode::kEmbedding: return embedding();
      case Opcode::kLincomb: return lincomb();
      case Opcode::kAdd: return add();
      case Opcode::kUnary: return unary();
      case Opcode::kConv2d: return conv2d();
      case Opcode::kGroupNorm: return group_norm();
      case Opcode::kUpsample: return upsample();
      case Opcode::kPermute: return permute();
      case Opcode::kQkNormRope: return qk_norm_rope();
    }
    return fail("opcode is not known");
  }

 private:
  template <class... Args>
  Status fail(const Args&... args) const { return bad_op(index_, op_, args...); }

  Status operands(size_t in, size_t out) const {
    if (op_.in.size() != in || op_.out.size() != out) return fail("has ", op_.in.size(), " inputs and ", op_.out.size(), " outputs, needs ", in, " and ", out);
    return Status::ok();
  }

  // attrs and fattrs: how many the opcode names. The rest must be 0.
  Status attributes(size_t attrs, size_t fattrs) const {
    for (size_t i = attrs; i < op_.attr.size(); ++i) {
      if (op_.attr[i] != 0) return fail("attr", i, " is not used and must be 0");
    }
    for (size_t i = fattrs; i < op_.fattr.size(); ++i) {
      if (op_.fattr[i] != 0) return fail("fattr", i, " is not used and must be 0");
    }
    return Status::ok();
  }

  Status attribute(size_t i, const char* what, int32_t low, int32_t high) const {
    if (op_.attr[i] < low || op_.attr[i] > high) return fail("attr", i, " (", what, ") is ", op_.attr[i], ", outside ", low, "..", high);
    return Status::ok();
  }

  Status find(uint32_t tensor, const char* what, const Tensor** out) const {
    if (tensor == kNoTensor) return fail(what, " is absent");
    *out = &p_.tensors[tensor];
    return Status::ok();
  }

  Status as_float(const Tensor& t, const char* what) const {
    if (t.dtype != DType::kAny && !is_float(t.dtype)) return fail(what, " is ", dtype_name(t.dtype), ", needs a float");
    return Status::ok();
  }

  Status input(size_t i, const char* what, const Tensor** out) const {
    ECAD_TRY(find(op_.in[i], what, out));
    return as_float(**out, what);
  }

  Status output(size_t i, const char* what, const Tensor** out) const {
    ECAD_TRY(find(op_.out[i], what, out));
    return as_float(**out, what);
  }

  Status rank(const Tensor& t, const char* what, uint32_t n) const {
    if (t.rank != n) return fail(what, " is ", dims_text(t), ", needs rank ", n);
    return Status::ok();
  }

  Status dims(const Tensor& t, const char* what, std::initializer_list<int64_t> want) const {
    bool same = t.rank == want.size();
    uint32_t i = 0;
    for (const int64_t d : want) same = same && t.dims[i++] == d;
    if (same) return Status::ok();
    std::string list;
    for (const int64_t d : want) list += text(list.empty() ? "" : ",", d);
    return fail(what, " is ", dims_text(t), ", needs [", list, "]");
  }

  Status same_dims(const Tensor& t, const char* what, const Tensor& like, const char* other) const {
    if (t.rank != like.rank || t.dims != like.dims) return fail(what, " is ", dims_text(t), ", ", other, " is ", dims_text(like), ": they must be equal");
    return Status::ok();
  }

  // Equal rank and equal dims but for the last.
  Status same_rows(const Tensor& t, const char* what, const Tensor& like, const char* other) const {
    bool same = t.rank == like.rank;
    for (uint32_t i = 0; same && i + 1 < t.rank; ++i) same = t.dims[i] == like.dims[i];
    if (!same) return fail(what, " is ", dims_text(t), ", ", other, " is ", dims_text(like), ": all but the last dim must be equal");
    return Status::ok();
  }

  // Input i, if it is there, with the given dims.
  Status optional(size_t i, const char* what, std::initializer_list<int64_t> want) const {
    if (op_.in[i] == kNoTensor) return Status::ok();
    const Tensor* t = nullptr;
    ECAD_TRY(input(i, what, &t));
    return dims(*t, what, want);
  }

  // [1 or B, C], if it is there.
  Status per_sample(size_t i, const char* what, int64_t batch, int64_t channels) const {
    if (op_.in[i] == kNoTensor) return Status::ok();
    const Tensor* t = nullptr;
    ECAD_TRY(input(i, what, &t));
    return dims(*t, what, {t->dims[0] == 1 ? 1 : batch, channels});
  }

  // x and y of copy and permute: floats of any kind, or the same dtype.
  Status convertible(const Tensor** x, const Tensor** y) const {
    ECAD_TRY(find(op_.in[0], "x", x));
    ECAD_TRY(find(op_.out[0], "y", y));
    if ((*x)->dtype == (*y)->dtype) return Status::ok();
    ECAD_TRY(as_float(**x, "x"));
    return as_float(**y, "y");
  }

  Status copy() const {
    const Tensor *x = nullptr, *y = nullptr;
    ECAD_TRY(operands(1, 1));
    ECAD_TRY(attributes(0, 0));
    ECAD_TRY(convertible(&x, &y));
    return same_dims(*x, "x", *y, "y");
  }

  Status linear() const {
    ECAD_TRY(attributes(3, 0));
    ECAD_TRY(attribute(0, "inputs", 1, kMaxLinearParts));
    ECAD_TRY(attribute(1, "weights", 1, kMaxLinearParts));
    ECAD_TRY(attribute(2, "activation", 0, kLastAct));
    const auto nx = static_cast<size_t>(op_.attr[0]), nw = static_cast<size_t>(op_.attr[1]);
    ECAD_TRY(operands(nx + 2 * nw, 1));
    const Tensor *y = nullptr, *t = nullptr;
    ECAD_TRY(output(0, "y", &y));
    int64_t depth = 0, width = 0;
    for (size_t i = 0; i < nx; ++i) {
      ECAD_TRY(input(i, "x", &t));
      ECAD_TRY(same_rows(*t, "x", *y, "y"));
      depth += t->cols();
    }
    for (size_t j = 0; j < nw; ++j) {
      ECAD_TRY(input(nx + j, "w", &t));
      ECAD_TRY(dims(*t, "w", {t->dims[0], depth}));
      ECAD_TRY(optional(nx + nw + j, "b", {t->dims[0]}));
      width += t->dims[0];
    }
    if (y->cols() != width) return fail("y is ", dims_text(*y), ", the weights have ", width, " rows");
    return Status::ok();
  }

  Status gated_linear() const {
    const Tensor *x = nullptr, *gate = nullptr, *up = nullptr, *y = nullptr;
    ECAD_TRY(operands(3, 1));
    ECAD_TRY(attributes(1, 0));
    ECAD_TRY(attribute(0, "activation", 0, kLastAct));
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(input(1, "wg", &gate));
    ECAD_TRY(input(2, "wu", &up));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(same_rows(*x, "x", *y, "y"));
    ECAD_TRY(dims(*gate, "wg", {y->cols(), x->cols()}));
    return dims(*up, "wu", {y->cols(), x->cols()});
  }

  Status attention() const {
    const Tensor *q = nullptr, *k = nullptr, *v = nullptr, *y = nullptr;
    ECAD_TRY(operands(5, 1));
    ECAD_TRY(attributes(3, 1));
    ECAD_TRY(attribute(0, "heads", 1, kMaxExtent));
    ECAD_TRY(attribute(1, "head dim", 1, kMaxExtent));
    ECAD_TRY(attribute(2, "causal", 0, 1));
    ECAD_TRY(input(0, "q", &q));
    ECAD_TRY(input(1, "k", &k));
    ECAD_TRY(input(2, "v", &v));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*q, "q", 3));
    ECAD_TRY(rank(*k, "k", 3));
    const int64_t heads = op_.attr[0], batch = q->dims[0], queries = q->dims[1], keys = k->dims[1], width = heads * op_.attr[1];
    ECAD_TRY(dims(*q, "q", {batch, queries, width}));
    ECAD_TRY(dims(*k, "k", {batch, keys, width}));
    ECAD_TRY(dims(*v, "v", {batch, keys, width}));
    ECAD_TRY(dims(*y, "y", {batch, queries, width}));
    if (op_.attr[2] == 1 && queries != keys) return fail("causal attention of ", queries, " queries and ", keys, " keys: they must be equal");
    if (op_.in[3] != kNoTensor) {
      const Tensor& counts = p_.tensors[op_.in[3]];
      if (counts.dtype != DType::kI32) return fail("counts is ", dtype_name(counts.dtype), ", needs int32");
      ECAD_TRY(dims(counts, "counts", {batch}));
    }
    return optional(4, "bias", {heads, queries, keys});
  }

  Status chain() const {
    ECAD_TRY(attributes(2, 1));
    ECAD_TRY(attribute(0, "terms", 0, kMaxTerms));
    ECAD_TRY(attribute(1, "norm", 0, static_cast<int32_t>(Norm::kRms)));
    const auto n = static_cast<size_t>(op_.attr[0]);
    ECAD_TRY(operands(1 + 2 * n + 4, 2));
    const Tensor *x = nullptr, *t = nullptr;
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(rank(*x, "x", 3));
    const int64_t batch = x->dims[0], channels = x->dims[2];
    for (size_t i = 0; i < n; ++i) {
      ECAD_TRY(input(1 + 2 * i, "s", &t));
      ECAD_TRY(same_dims(*t, "s", *x, "x"));
      ECAD_TRY(per_sample(2 + 2 * i, "g", batch, channels));
    }
    const size_t scale = 1 + 2 * n;
    if ((op_.in[scale] == kNoTensor) != (op_.in[scale + 1] == kNoTensor)) return fail("scale and shift come together, one is absent");
    ECAD_TRY(per_sample(scale, "scale", batch, channels));
    ECAD_TRY(per_sample(scale + 1, "shift", batch, channels));
    ECAD_TRY(optional(scale + 2, "weight", {channels}));
    ECAD_TRY(optional(scale + 3, "bias", {channels}));
    if (op_.fattr[0] < 0) return fail("fattr0 (eps) is negative");
    if (op_.out[0] == kNoTensor && op_.out[1] == kNoTensor) return fail("both outputs are absent");
    for (size_t i = 0; i < 2; ++i) {
      if (op_.out[i] == kNoTensor) continue;
      ECAD_TRY(output(i, i == 0 ? "x'" : "y", &t));
      ECAD_TRY(same_dims(*t, i == 0 ? "x'" : "y", *x, "x"));
    }
    return Status::ok();
  }

  Status patch_embed() const {
    const Tensor *x = nullptr, *w = nullptr, *y = nullptr;
    ECAD_TRY(operands(4, 1));
    ECAD_TRY(attributes(2, 0));
    ECAD_TRY(attribute(0, "patch", 1, kMaxExtent));
    ECAD_TRY(attribute(1, "repeat", 1, kMaxExtent));
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(input(1, "w", &w));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*x, "x", 4));
    ECAD_TRY(rank(*w, "w", 4));
    const int64_t p = op_.attr[0], channels = w->dims[0];
    if (x->dims[2] % p != 0 || x->dims[3] % p != 0) return fail("x is ", dims_text(*x), ", not a whole number of patches of ", p);
    const int64_t tokens = (x->dims[2] / p) * (x->dims[3] / p);
    ECAD_TRY(dims(*w, "w", {channels, x->dims[1], p, p}));
    ECAD_TRY(optional(2, "b", {channels}));
    ECAD_TRY(optional(3, "pos", {tokens, channels}));
    return dims(*y, "y", {op_.attr[1] * x->dims[0], tokens, channels});
  }

  Status unpatchify() const {
    const Tensor *x = nullptr, *y = nullptr;
    ECAD_TRY(operands(1, 1));
    ECAD_TRY(attributes(3, 0));
    ECAD_TRY(attribute(0, "patch", 1, kMaxExtent));
    ECAD_TRY(attribute(1, "order", 0, 1));
    ECAD_TRY(attribute(2, "channels", 1, kMaxExtent));
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*y, "y", 4));
    const int64_t p = op_.attr[0], channels = op_.attr[2];
    if (y->dims[2] % p != 0 || y->dims[3] % p != 0) return fail("y is ", dims_text(*y), ", not a whole number of patches of ", p);
    if (y->dims[1] > channels) return fail("y is ", dims_text(*y), ", a patch has only ", channels, " channels");
    return dims(*x, "x", {y->dims[0], (y->dims[2] / p) * (y->dims[3] / p), p * p * channels});
  }

  Status timestep_embed() const {
    const Tensor *t = nullptr, *y = nullptr;
    ECAD_TRY(operands(1, 1));
    ECAD_TRY(attributes(1, 3));
    ECAD_TRY(attribute(0, "cos first", 0, 1));
    ECAD_TRY(input(0, "t", &t));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*t, "t", 1));
    ECAD_TRY(rank(*y, "y", 2));
    ECAD_TRY(dims(*y, "y", {t->dims[0], y->dims[1]}));
    if (y->dims[1] % 2 != 0) return fail("y is ", dims_text(*y), ", its width must be even");
    if (!(op_.fattr[0] > 0)) return fail("fattr0 (max period) is ", op_.fattr[0], ", it must be positive");
    if (!(op_.fattr[2] < static_cast<double>(y->dims[1] / 2))) return fail("fattr2 (downscale shift) is ", op_.fattr[2], ", it must be less than ", y->dims[1] / 2);
    return Status::ok();
  }

  Status embedding() const {
    const Tensor *ids = nullptr, *table = nullptr, *y = nullptr;
    ECAD_TRY(operands(2, 1));
    ECAD_TRY(attributes(0, 0));
    ECAD_TRY(find(op_.in[0], "ids", &ids));
    if (ids->dtype != DType::kI32) return fail("ids is ", dtype_name(ids->dtype), ", needs int32");
    ECAD_TRY(input(1, "table", &table));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*table, "table", 2));
    ECAD_TRY(rank(*y, "y", ids->rank + 1));
    for (uint32_t i = 0; i < ids->rank; ++i) {
      if (ids->dims[i] != y->dims[i]) return fail("y is ", dims_text(*y), ", ids is ", dims_text(*ids), ": leading dims must be equal");
    }
    if (y->cols() != table->cols()) return fail("y is ", dims_text(*y), ", rows of the table have ", table->cols());
    return Status::ok();
  }

  Status lincomb() const {
    ECAD_TRY(attributes(2, 2));
    ECAD_TRY(attribute(0, "terms", 1, kMaxTerms));
    ECAD_TRY(attribute(1, "clamp", 0, 1));
    const auto n = static_cast<size_t>(op_.attr[0]);
    ECAD_TRY(operands(n + 1, 1));
    const Tensor *y = nullptr, *t = nullptr;
    ECAD_TRY(output(0, "y", &y));
    for (size_t i = 0; i < n; ++i) {
      ECAD_TRY(input(i, "x", &t));
      ECAD_TRY(same_dims(*t, "x", *y, "y"));
    }
    ECAD_TRY(input(n, "coefficients", &t));
    if (t->dtype != DType::kF64) return fail("coefficients are ", dtype_name(t->dtype), ", they must be float64");
    ECAD_TRY(dims(*t, "coefficients", {op_.attr[0]}));
    if (op_.attr[1] == 0 && (op_.fattr[0] != 0 || op_.fattr[1] != 0)) return fail("has clamp limits but does not clamp");
    if (op_.fattr[0] > op_.fattr[1]) return fail("clamps to ", op_.fattr[0], "..", op_.fattr[1], ", an empty range");
    return Status::ok();
  }

  Status add() const {
    const Tensor *y = nullptr, *t = nullptr;
    ECAD_TRY(operands(2, 1));
    ECAD_TRY(attributes(0, 0));
    ECAD_TRY(output(0, "y", &y));
    for (size_t i = 0; i < 2; ++i) {
      const char* what = i == 0 ? "a" : "b";
      ECAD_TRY(input(i, what, &t));
      ECAD_TRY(rank(*t, what, y->rank));
      for (uint32_t d = 0; d < y->rank; ++d) {
        if (t->dims[d] != 1 && t->dims[d] != y->dims[d]) return fail(what, " is ", dims_text(*t), ", which does not spread to ", dims_text(*y));
      }
    }
    return Status::ok();
  }

  Status unary() const {
    const Tensor *x = nullptr, *y = nullptr;
    ECAD_TRY(operands(1, 1));
    ECAD_TRY(attributes(1, 0));
    ECAD_TRY(attribute(0, "activation", 0, kLastAct));
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(output(0, "y", &y));
    return same_dims(*x, "x", *y, "y");
  }

  Status conv2d() const {
    const Tensor *x = nullptr, *w = nullptr, *y = nullptr;
    ECAD_TRY(operands(3, 1));
    ECAD_TRY(attributes(2, 0));
    ECAD_TRY(attribute(0, "stride", 1, kMaxExtent));
    ECAD_TRY(attribute(1, "pad", 0, kMaxExtent));
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(input(1, "w", &w));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*x, "x", 4));
    ECAD_TRY(rank(*w, "w", 4));
    ECAD_TRY(dims(*w, "w", {w->dims[0], x->dims[3], w->dims[2], w->dims[3]}));
    ECAD_TRY(optional(2, "b", {w->dims[0]}));
    const int64_t room_h = x->dims[1] + 2 * op_.attr[1] - w->dims[2], room_w = x->dims[2] + 2 * op_.attr[1] - w->dims[3];
    if (room_h < 0 || room_w < 0) return fail("the kernel of w ", dims_text(*w), " is larger than the padded x ", dims_text(*x));
    return dims(*y, "y", {x->dims[0], room_h / op_.attr[0] + 1, room_w / op_.attr[0] + 1, w->dims[0]});
  }

  Status group_norm() const {
    const Tensor *x = nullptr, *t = nullptr, *y = nullptr;
    ECAD_TRY(operands(3, 1));
    ECAD_TRY(attributes(2, 1));
    ECAD_TRY(attribute(0, "groups", 1, kMaxExtent));
    ECAD_TRY(attribute(1, "activation", 0, kLastAct));
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*x, "x", 4));
    ECAD_TRY(same_dims(*x, "x", *y, "y"));
    if (x->dims[3] % op_.attr[0] != 0) return fail(x->dims[3], " channels are not a multiple of ", op_.attr[0], " groups");
    for (size_t i = 1; i <= 2; ++i) {
      ECAD_TRY(input(i, i == 1 ? "weight" : "bias", &t));
      ECAD_TRY(dims(*t, i == 1 ? "weight" : "bias", {x->dims[3]}));
    }
    return op_.fattr[0] < 0 ? fail("fattr0 (eps) is negative") : Status::ok();
  }

  Status upsample() const {
    const Tensor *x = nullptr, *y = nullptr;
    ECAD_TRY(operands(1, 1));
    ECAD_TRY(attributes(1, 0));
    ECAD_TRY(attribute(0, "factor", 1, kMaxExtent));
    ECAD_TRY(input(0, "x", &x));
    ECAD_TRY(output(0, "y", &y));
    ECAD_TRY(rank(*x, "x", 4));
    const int64_t f = op_.attr[0];
    return dims(*y, "y", {x->dims[0], f * x->dims[1], f * x->dims[2], x->dims[3]});
  }

  Status permute() const {
    const Tensor *x = nullptr, *y = nullptr;
    ECAD_TRY(operands(1, 1));
    ECAD_TRY(attributes(4, 0));
    ECAD_TRY(convertible(&x, &y));
    ECAD_TRY(rank(*x, "x", 4));
    uint32_t seen = 0;
    for (size_t i = 0; i < 4; ++i) {
      ECAD_TRY(attribute(i, "perm", 0, 3));
      seen |= 1u << op_.attr[i];
    }
    if (seen != 15u) return fail("perm names a dim twice");
    const auto from = [&](size_t i) { return x->dims[static_cast<size_t>(op_.attr[i])]; };
    return dims(*y, "y", {from(0), from(1), from(2), from(3)});
  }

  Status qk_norm_rope() const {
    const Tensor *q = nullptr, *k = nullptr, *t = nullptr;
    ECAD_TRY(operands(5, 2));
    ECAD_TRY(attributes(2, 1));
    ECAD_TRY(attribute(0, "heads", 1, kMaxExtent));
    ECAD_TRY(attribute(1, "head dim", 1, kMaxExtent));
    ECAD_TRY(input(0, "q", &q));
    ECAD_TRY(input(1, "k", &k));
    ECAD_TRY(rank(*q, "q", 3));
    const int64_t tokens = q->dims[1], depth = op_.attr[1];
    if (depth % 2 != 0) return fail("attr1 (head dim) is ", depth, ", it must be even: pairs of elements are rotated");
    ECAD_TRY(dims(*q, "q", {q->dims[0], tokens, op_.attr[0] * depth}));
    ECAD_TRY(same_dims(*k, "k", *q, "q"));
    ECAD_TRY(input(2, "wq", &t));
    ECAD_TRY(dims(*t, "wq", {depth}));
    ECAD_TRY(input(3, "wk", &t));
    ECAD_TRY(dims(*t, "wk", {depth}));
    ECAD_TRY(input(4, "rope", &t));
    ECAD_TRY(dims(*t, "rope", {tokens, depth}));
    for (size_t i = 0; i < 2; ++i) {
      ECAD_TRY(output(i, i == 0 ? "q'" : "k'", &t));
      ECAD_TRY(same_dims(*t, i == 0 ? "q'" : "k'", *q, "q"));
    }
    return op_.fattr[0] < 0 ? fail("fattr0 (eps) is negative") : Status::ok();
  }

  const Program& p_;
  size_t index_;
  const Op& op_;
};

}  // namespace

Status validate_op(const Program& program, size_t index, const Op& op) { return Rule(program, index, op).check(); }

}  // namespace ecad
