// The part of oneDNN that the cpu backend uses: products with packed weights and convolutions with packed filters, each run by one thread on one
// tile. What differs between oneDNN 2 and 3 is all in onednn.cpp.
//
// The team splits work over tiles that depend on shapes alone, and each tile is a primitive made for one thread. So a result is the same for any number
// of threads, whatever blocking oneDNN would have chosen for more.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "../core/program.h"
#include "../core/status.h"

namespace ecad {

// What a product multiplies in; it always adds up in float32.
enum class Compute : uint32_t { kF32 = 0, kBF16 = 1 };
inline DType compute_dtype(Compute c) { return c == Compute::kBF16 ? DType::kBF16 : DType::kF32; }

// y [m, n] = x [m, k] w^T [n, k] + bias [n], all dense row-major; x in the compute type, bias float32.
struct ProductShape {
  int64_t m, n, k;
  Compute compute;
  DType dst;  // kF32, or kBF16 with Compute::kBF16
  bool bias;
};

// One image: y [ho, wo, co] = x [h, w, ci] * filter [co, ci, kh, kw] + bias [co]; channels last, dense. Types as for ProductShape.
struct ConvShape {
  int64_t h, w, ci, co, kh, kw, stride, pad_top, pad_bottom, pad_left, pad_right;
  Compute compute;
  DType dst;
  bool bias;
};

// Weights in the layout oneDNN prefers. Immutable.
class PackedWeights {
 public:
  virtual ~PackedWeights() = default;
  virtual size_t bytes() const = 0;
};

// A product or a convolution of one shape. run may be called by several threads at once with different `thread` numbers.
class Primitive {
 public:
  virtual ~Primitive() = default;
  virtual size_t scratch_bytes() const = 0;
  // bias null where the shape has none; scratch: scratch_bytes(), 64-byte aligned
  virtual Status run(int32_t thread, const void* x, const PackedWeights&, const float* bias, void* y, void* scratch) = 0;
};

class OneDnn {
 public:
  // isa: ECAD_ISA_*. oneDNN has one bound per process, taken before its first use: a device opened later with a lower bound is refused.
  static Status create(int32_t isa, int32_t threads, std::unique_ptr<OneDnn>* out);
  virtual ~OneDnn() = default;

  // Whether products in bfloat16 run on hardware made for them; without, float32 is faster than oneDNN's emulation.
  virtual bool native_bf16() const = 0;
  // w: dense [n, k] in the compute type.
  virtual Status pack_product(Compute, int64_t n, int64_t k, const void* w, std::shared_ptr<PackedWeights>* out) = 0;
  // w: dense [co, ci, kh, kw] in the compute type. h, w hint the layout.
  virtual Status pack_filter(const ConvShape&, const void* w, std::shared_ptr<PackedWeights>* out) = 0;
  // Primitives are kept and shared by shape.
  virtual Status product(const ProductShape&, const PackedWeights&, std::shared_ptr<Primitive>* out) = 0;
  virtual Status convolution(const ConvShape&, const PackedWeights&, std::shared_ptr<Primitive>* out) = 0;
};

}  // namespace ecad
