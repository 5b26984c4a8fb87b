#include "onednn.h"

#include <dnnl.h>

#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "../include/ecad.h"
#include "cpuid.h"
#include "memory.h"

namespace ecad {
namespace {

// ---- what differs between the two major versions -----------------------------------------------------------------

#if DNNL_VERSION_MAJOR >= 3
constexpr dnnl_cpu_isa_t kNoBound = dnnl_cpu_isa_default;
using DescRef = const_dnnl_memory_desc_t;

class Desc {
 public:
  Desc() = default;
  ~Desc() { if (desc_) dnnl_memory_desc_destroy(desc_); }
  Desc(const Desc&) = delete;
  Desc& operator=(const Desc&) = delete;
  dnnl_status_t strided(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(&desc_, ndims, dims, type, strides);
  }
  dnnl_status_t any(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type) {
    return dnnl_memory_desc_create_with_tag(&desc_, ndims, dims, type, dnnl_format_tag_any);
  }
  dnnl_status_t copy(DescRef from) { return dnnl_memory_desc_clone(&desc_, from); }
  DescRef get() const { return desc_; }

 private:
  dnnl_memory_desc_t desc_ = nullptr;
};

dnnl_status_t matmul_desc(dnnl_primitive_desc_t* pd, dnnl_engine_t engine, DescRef x, DescRef w, DescRef b, DescRef y, dnnl_primitive_attr_t attr) {
  return dnnl_matmul_primitive_desc_create(pd, engine, x, w, b, y, attr);
}
dnnl_status_t conv_desc(dnnl_primitive_desc_t* pd, dnnl_engine_t engine, DescRef x, DescRef w, DescRef b, DescRef y, const dnnl_dims_t strides,
                        const dnnl_dims_t low, const dnnl_dims_t high, dnnl_primitive_attr_t attr) {
  const dnnl_dims_t dilates = {0, 0};
  return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_inference, dnnl_convolution_direct, x, w, b, y, strides, dilates,
                                                        low, high, attr);
}
#else
constexpr dnnl_cpu_isa_t kNoBound = dnnl_cpu_isa_all;
using DescRef = const dnnl_memory_desc_t*;

class Desc {
 public:
  Desc() = default;
  Desc(const Desc&) = delete;
  Desc& operator=(const Desc&) = delete;
  dnnl_status_t strided(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(&desc_, ndims, dims, type, strides);
  }
  dnnl_status_t any(int ndims, const dnnl_dims_t dims, dnnl_data_type_t type) {
    return dnnl_memory_desc_init_by_tag(&desc_, ndims, dims, type, dnnl_format_tag_any);
  }
  dnnl_status_t copy(DescRef from) {
    desc_ = *from;
    return dnnl_success;
  }
  DescRef get() const { return &desc_; }

 private:
  dnnl_memory_desc_t desc_ = {};
};

dnnl_status_t matmul_desc(dnnl_primitive_desc_t* pd, dnnl_engine_t engine, DescRef x, DescRef w, DescRef b, DescRef y, dnnl_primitive_attr_t attr) {
  dnnl_matmul_desc_t op;
  const dnnl_status_t s = dnnl_matmul_desc_init(&op, x, w, b, y);
  return s == dnnl_success ? dnnl_primitive_desc_create(pd, &op, attr, engine, nullptr) : s;
}
dnnl_status_t conv_desc(dnnl_primitive_desc_t* pd, dnnl_engine_t engine, DescRef x, DescRef w, DescRef b, DescRef y, const dnnl_dims_t strides,
                        const dnnl_dims_t low, const dnnl_dims_t high, dnnl_primitive_attr_t attr) {
  dnnl_convolution_desc_t op;
  const dnnl_status_t s =
      dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_direct, x, w, b, y, strides, low, high);
  return s == dnnl_success ? dnnl_primitive_desc_create(pd, &op, attr, engine, nullptr) : s;
}
#endif

// ---- common to both ----------------------------------------------------------------------------------------------

Status to_status(dnnl_status_t s, const char* what) {
  switch (s) {
    case dnnl_success: return Status::ok();
    case dnnl_out_of_memory: return {ECAD_OUT_OF_MEMORY, std::string("no memory for a ") + what};
    case dnnl_unimplemented: return {ECAD_UNSUPPORTED, std::string("oneDNN has no ") + what + " for this processor and these types"};
    default: return {ECAD_INTERNAL, std::string("oneDNN refuses a ") + what + " (status " + std::to_string(static_cast<int>(s)) + ")"};
  }
}
#define ECAD_DNNL(expr, what)                                                       \
  do {                                                                              \
    const dnnl_status_t ecad_dnnl_status_ = (expr);                                 \
    if (ecad_dnnl_status_ != dnnl_success) return to_status(ecad_dnnl_status_, what); \
  } while (0)

template <class T, dnnl_status_t (*Destroy)(T)>
class Handle {
 public:
  Handle() = default;
  ~Handle() { if (h_) (void)Destroy(h_); }
  Handle(Handle&& o) noexcept : h_(o.h_) { o.h_ = nullptr; }
  Handle& operator=(Handle&&) = delete;
  T* put() { return &h_; }
  T get() const { return h_; }

 private:
  T h_ = nullptr;
};
using EngineHandle = Handle<dnnl_engine_t, dnnl_engine_destroy>;
using StreamHandle = Handle<dnnl_stream_t, dnnl_stream_destroy>;
using MemoryHandle = Handle<dnnl_memory_t, dnnl_memory_destroy>;
using PrimitiveHandle = Handle<dnnl_primitive_t, dnnl_primitive_destroy>;
using PrimitiveDescHandle = Handle<dnnl_primitive_desc_t, dnnl_primitive_desc_destroy>;
using AttrHandle = Handle<dnnl_primitive_attr_t, dnnl_primitive_attr_destroy>;

dnnl_data_type_t data_type(DType t) { return t == DType::kBF16 ? dnnl_bf16 : dnnl_f32; }

Status make_attr(AttrHandle* attr) {
  ECAD_DNNL(dnnl_primitive_attr_create(attr->put()), "attribute");
  ECAD_DNNL(dnnl_primitive_attr_set_scratchpad_mode(attr->get(), dnnl_scratchpad_mode_user), "attribute");
  return Status::ok();
}

class Packed final : public PackedWeights {
 public:
  Desc desc;
  AlignedBuffer storage;
  MemoryHandle memory;
  int64_t layout = 0;  // equal for equal descriptors up to dims: part of a primitive's key
  size_t bytes() const override { return storage.size(); }
};

class Tile final : public Primitive {
 public:
  size_t scratch_bytes() const override { return scratch_; }
  Status run(int32_t thread, const void* x, const PackedWeights& w, const float* bias, void* y, void* scratch) override {
    const Args& a = args_[static_cast<size_t>(thread)];
    ECAD_DNNL(dnnl_memory_set_data_handle(a.x.get(), const_cast<void*>(x)), "product");
    ECAD_DNNL(dnnl_memory_set_data_handle(a.y.get(), y), "product");
    dnnl_exec_arg_t list[5] = {{DNNL_ARG_SRC, a.x.get()}, {DNNL_ARG_WEIGHTS, static_cast<const Packed&>(w).memory.get()},
                               {DNNL_ARG_DST, a.y.get()}, {DNNL_ARG_SCRATCHPAD, a.scratch.get()}, {DNNL_ARG_BIAS, a.bias.get()}};
    if (scratch_ > 0) ECAD_DNNL(dnnl_memory_set_data_handle(a.scratch.get(), scratch), "product");
    if (bias_) ECAD_DNNL(dnnl_memory_set_data_handle(a.bias.get(), const_cast<float*>(bias)), "product");
    ECAD_DNNL(dnnl_primitive_execute(primitive_.get(), a.stream.get(), bias_ ? 5 : 4, list), "product");
    return Status::ok();
  }

  // Takes over pd. x, bias, y: the descriptors it was made with.
  Status init(dnnl_engine_t engine, int32_t threads, dnnl_primitive_desc_t pd, DescRef x, DescRef bias, DescRef y) {
    ECAD_DNNL(dnnl_primitive_create(primitive_.put(), pd), "primitive");
    const DescRef scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    scratch_ = dnnl_memory_desc_get_size(scratch);
    bias_ = bias != nullptr;
    args_.resize(static_cast<size_t>(threads));
    for (Args& a : args_) {
      ECAD_DNNL(dnnl_stream_create(a.stream.put(), engine, dnnl_stream_default_flags), "stream");
      ECAD_DNNL(dnnl_memory_create(a.x.put(), x, engine, DNNL_MEMORY_NONE), "operand");
      ECAD_DNNL(dnnl_memory_create(a.y.put(), y, engine, DNNL_MEMORY_NONE), "operand");
      ECAD_DNNL(dnnl_memory_create(a.scratch.put(), scratch, engine, DNNL_MEMORY_NONE), "operand");
      if (bias_) ECAD_DNNL(dnnl_memory_create(a.bias.put(), bias, engine, DNNL_MEMORY_NONE), "operand");
    }
    return Status::ok();
  }

 private:
  struct Args {
    StreamHandle stream;
    MemoryHandle x, y, bias, scratch;
  };
  PrimitiveHandle primitive_;
  size_t scratch_ = 0;
  bool bias_ = false;
  std::vector<Args> args_;
};

// The upper bound of a device as oneDNN counts.
dnnl_cpu_isa_t isa_bound(int32_t isa) {
  switch (isa) {
    case ECAD_ISA_GENERIC: return dnnl_cpu_isa_sse41;
    case ECAD_ISA_AVX2: return dnnl_cpu_isa_avx2;
    case ECAD_ISA_AVX512: return dnnl_cpu_isa_avx512_core_bf16;
    default: return kNoBound;
  }
}

Status bound_isa(int32_t isa) {
  const dnnl_cpu_isa_t bound = isa_bound(isa);
  if (bound == kNoBound) return Status::ok();
  (void)dnnl_set_max_cpu_isa(bound);  // refused once oneDNN has been used: what counts is what it does now
  const auto now = static_cast<uint32_t>(dnnl_get_effective_cpu_isa());
  if ((now & ~static_cast<uint32_t>(bound)) == 0) return Status::ok();
  return {ECAD_UNSUPPORTED,
          "isa: oneDNN already runs in this process with a wider instruction set, and takes its bound once; open the bounded device first, "
          "or use one bound per process"};
}

class OneDnnImpl final : public OneDnn {
 public:
  Status init(int32_t isa, int32_t threads) {
    ECAD_TRY(bound_isa(isa));
    threads_ = threads;
    ECAD_DNNL(dnnl_engine_create(engine_.put(), dnnl_cpu, 0), "engine");
    ECAD_DNNL(dnnl_stream_create(stream_.put(), engine_.get(), dnnl_stream_default_flags), "stream");
    const auto level = static_cast<uint32_t>(dnnl_get_effective_cpu_isa());
    native_bf16_ = (level & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    return Status::ok();
  }
  bool native_bf16() const override { return native_bf16_; }
  Status pack_product(Compute, int64_t n, int64_t k, const void* w, std::shared_ptr<PackedWeights>* out) override;
  Status pack_filter(const ConvShape&, const void* w, std::shared_ptr<PackedWeights>* out) override;
  Status product(const ProductShape&, const PackedWeights&, std::shared_ptr<Primitive>* out) override;
  Status convolution(const ConvShape&, const PackedWeights&, std::shared_ptr<Primitive>* out) override;

 private:
  using Key = std::vector<int64_t>;
  Status product_desc(const ProductShape&, DescRef weights, Desc* x, Desc* bias, Desc* y, PrimitiveDescHandle* pd);
  Status filter_desc(const ConvShape&, DescRef weights, Desc* x, Desc* bias, Desc* y, PrimitiveDescHandle* pd);
  Status pack(DescRef from, DescRef to, const void* data, std::shared_ptr<PackedWeights>* out);
  int64_t layout_id(DescRef desc);
  std::shared_ptr<Primitive> find(const Key& key) {
    const auto it = primitives_.find(key);
    return it == primitives_.end() ? nullptr : it->second.lock();
  }

  EngineHandle engine_;
  StreamHandle stream_;
  int32_t threads_ = 1;
  bool native_bf16_ = false;
  std::vector<std::unique_ptr<Desc>> layouts_;
  std::map<Key, std::weak_ptr<Primitive>> primitives_;
};

// Rows in the tile for which weights are laid out; oneDNN's layouts depend on n and k only, this keeps it so.
constexpr int64_t kLayoutRows = 128;

Status OneDnnImpl::product_desc(const ProductShape& s, DescRef weights, Desc* x, Desc* bias, Desc* y, PrimitiveDescHandle* pd) {
  const dnnl_dims_t xd = {s.m, s.k}, wd = {s.k, s.n}, bd = {1, s.n}, yd = {s.m, s.n};
  const dnnl_dims_t xs = {s.k, 1}, bs = {s.n, 1}, ys = {s.n, 1};
  Desc w;
  ECAD_DNNL(x->strided(2, xd, data_type(compute_dtype(s.compute)), xs), "product");
  ECAD_DNNL(bias->strided(2, bd, dnnl_f32, bs), "product");
  ECAD_DNNL(y->strided(2, yd, data_type(s.dst), ys), "product");
  if (!weights) {
    ECAD_DNNL(w.any(2, wd, data_type(compute_dtype(s.compute))), "product");
    weights = w.get();
  }
  AttrHandle attr;
  ECAD_TRY(make_attr(&attr));
  ECAD_DNNL(matmul_desc(pd->put(), engine_.get(), x->get(), weights, s.bias ? bias->get() : nullptr, y->get(), attr.get()), "product");
  return Status::ok();
}

Status OneDnnImpl::filter_desc(const ConvShape& s, DescRef weights, Desc* x, Desc* bias, Desc* y, PrimitiveDescHandle* pd) {
  const int64_t ho = (s.h + s.pad_top + s.pad_bottom - s.kh) / s.stride + 1, wo = (s.w + s.pad_left + s.pad_right - s.kw) / s.stride + 1;
  const dnnl_dims_t xd = {1, s.ci, s.h, s.w}, wd = {s.co, s.ci, s.kh, s.kw}, bd = {s.co}, yd = {1, s.co, ho, wo};
  const dnnl_dims_t xs = {s.h * s.w * s.ci, 1, s.w * s.ci, s.ci}, bs = {1}, ys = {ho * wo * s.co, 1, wo * s.co, s.co};
  const dnnl_dims_t step = {s.stride, s.stride}, low = {s.pad_top, s.pad_left}, high = {s.pad_bottom, s.pad_right};
  Desc w;
  ECAD_DNNL(x->strided(4, xd, data_type(compute_dtype(s.compute)), xs), "convolution");
  ECAD_DNNL(bias->strided(1, bd, dnnl_f32, bs), "convolution");
  ECAD_DNNL(y->strided(4, yd, data_type(s.dst), ys), "convolution");
  if (!weights) {
    ECAD_DNNL(w.any(4, wd, data_type(compute_dtype(s.compute))), "convolution");
    weights = w.get();
  }
  AttrHandle attr;
  ECAD_TRY(make_attr(&attr));
  ECAD_DNNL(conv_desc(pd->put(), engine_.get(), x->get(), weights, s.bias ? bias->get() : nullptr, y->get(), step, low, high, attr.get()),
            "convolution");
  return Status::ok();
}

int64_t OneDnnImpl::layout_id(DescRef desc) {
  for (size_t i = 0; i < layouts_.size(); ++i)
    if (dnnl_memory_desc_equal(layouts_[i]->get(), desc)) return static_cast<int64_t>(i);
  layouts_.push_back(std::make_unique<Desc>());
  if (layouts_.back()->copy(desc) != dnnl_success) throw std::bad_alloc();
  return static_cast<int64_t>(layouts_.size() - 1);
}

Status OneDnnImpl::pack(DescRef from, DescRef to, const void* data, std::shared_ptr<PackedWeights>* out) {
  auto packed = std::make_shared<Packed>();
  ECAD_DNNL(packed->desc.copy(to), "weight layout");
  const DescRef desc = packed->desc.get();
  packed->storage = AlignedBuffer(dnnl_memory_desc_get_size(desc));
  if (!packed->storage.data()) return {ECAD_OUT_OF_MEMORY, "no memory for packed weights"};
  packed->layout = layout_id(desc);
  ECAD_DNNL(dnnl_memory_create(packed->memory.put(), desc, engine_.get(), packed->storage.data()), "weight");
  MemoryHandle source;
  ECAD_DNNL(dnnl_memory_create(source.put(), from, engine_.get(), const_cast<void*>(data)), "weight");
  AttrHandle attr;
  ECAD_TRY(make_attr(&attr));
  PrimitiveDescHandle pd;
  ECAD_DNNL(dnnl_reorder_primitive_desc_create(pd.put(), from, engine_.get(), desc, engine_.get(), attr.get()), "weight layout");
  const DescRef scratch_desc = dnnl_primitive_desc_query_md(pd.get(), dnnl_query_scratchpad_md, 0);
  AlignedBuffer scratch(dnnl_memory_desc_get_size(scratch_desc));
  if (!scratch.data()) return {ECAD_OUT_OF_MEMORY, "no memory to pack weights"};
  MemoryHandle scratch_memory;
  ECAD_DNNL(dnnl_memory_create(scratch_memory.put(), scratch_desc, engine_.get(), scratch.data()), "weight layout");
  PrimitiveHandle reorder;
  ECAD_DNNL(dnnl_primitive_create(reorder.put(), pd.get()), "weight layout");
  const dnnl_exec_arg_t args[3] = {{DNNL_ARG_FROM, source.get()}, {DNNL_ARG_TO, packed->memory.get()}, {DNNL_ARG_SCRATCHPAD, scratch_memory.get()}};
  ECAD_DNNL(dnnl_primitive_execute(reorder.get(), stream_.get(), 3, args), "weight layout");
  ECAD_DNNL(dnnl_stream_wait(stream_.get()), "weight layout");
  *out = std::move(packed);
  return Status::ok();
}

Status OneDnnImpl::pack_product(Compute compute, int64_t n, int64_t k, const void* w, std::shared_ptr<PackedWeights>* out) {
  Desc x, bias, y, from;
  PrimitiveDescHandle pd;
  ECAD_TRY(product_desc({kLayoutRows, n, k, compute, compute_dtype(compute), false}, nullptr, &x, &bias, &y, &pd));
  const dnnl_dims_t dims = {k, n}, strides = {1, k};
  ECAD_DNNL(from.strided(2, dims, data_type(compute_dtype(compute)), strides), "weight");
  return pack(from.get(), dnnl_primitive_desc_query_md(pd.get(), dnnl_query_weights_md, 0), w, out);
}

Status OneDnnImpl::pack_filter(const ConvShape& s, const void* w, std::shared_ptr<PackedWeights>* out) {
  Desc x, bias, y, from;
  PrimitiveDescHandle pd;
  ECAD_TRY(filter_desc(s, nullptr, &x, &bias, &y, &pd));
  const dnnl_dims_t dims = {s.co, s.ci, s.kh, s.kw}, strides = {s.ci * s.kh * s.kw, s.kh * s.kw, s.kw, 1};
  ECAD_DNNL(from.strided(4, dims, data_type(compute_dtype(s.compute)), strides), "weight");
  return pack(from.get(), dnnl_primitive_desc_query_md(pd.get(), dnnl_query_weights_md, 0), w, out);
}

Status OneDnnImpl::product(const ProductShape& s, const PackedWeights& weights, std::shared_ptr<Primitive>* out) {
  const Packed& packed = static_cast<const Packed&>(weights);
  const Key key = {0, s.m, s.n, s.k, static_cast<int64_t>(s.compute), static_cast<int64_t>(s.dst), s.bias, packed.layout};
  if ((*out = find(key))) return Status::ok();
  Desc x, bias, y;
  PrimitiveDescHandle pd;
  ECAD_TRY(product_desc(s, packed.desc.get(), &x, &bias, &y, &pd));
  auto tile = std::make_shared<Tile>();
  ECAD_TRY(tile->init(engine_.get(), threads_, pd.get(), x.get(), s.bias ? bias.get() : nullptr, y.get()));
  primitives_[key] = tile;
  *out = std::move(tile);
  return Status::ok();
}

Status OneDnnImpl::convolution(const ConvShape& s, const PackedWeights& weights, std::shared_ptr<Primitive>* out) {
  const Packed& packed = static_cast<const Packed&>(weights);
  const Key key = {1, s.h, s.w, s.ci, s.co, s.kh, s.kw, s.stride, s.pad_top, s.pad_bottom, s.pad_left, s.pad_right,
                   static_cast<int64_t>(s.compute), static_cast<int64_t>(s.dst), s.bias, packed.layout};
  if ((*out = find(key))) return Status::ok();
  Desc x, bias, y;
  PrimitiveDescHandle pd;
  ECAD_TRY(filter_desc(s, packed.desc.get(), &x, &bias, &y, &pd));
  auto tile = std::make_shared<Tile>();
  ECAD_TRY(tile->init(engine_.get(), threads_, pd.get(), x.get(), s.bias ? bias.get() : nullptr, y.get()));
  primitives_[key] = tile;
  *out = std::move(tile);
  return Status::ok();
}

}  // namespace

Status OneDnn::create(int32_t isa, int32_t threads, std::unique_ptr<OneDnn>* out) {
  auto impl = std::make_unique<OneDnnImpl>();
  ECAD_TRY(impl->init(isa, threads));
  *out = std::move(impl);
  return Status::ok();
}

}  // namespace ecad
