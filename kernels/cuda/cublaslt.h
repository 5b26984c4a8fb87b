// cuBLASLt for linears, when a device is opened with it. The library is looked for at run time: nothing is linked against it.
#pragma once
#include <memory>
#include <string>

#include "../core/program.h"
#include "runtime.h"

namespace ecad::cuda {

// y = act(x w^T + bias): x [m,k], w [n,k], y [m,n], rows that many elements apart. x and w are bfloat16 and sums float32.
struct LtShape {
  int64_t m, n, k, x_stride, w_stride, y_stride;
  bool f32_y;  // y and bias are float32, else bfloat16
  Act act;
};

// One product with everything that does not change between its runs: the library takes host pointers, so all addresses are fixed.
class LtProduct {
 public:
  virtual ~LtProduct() = default;
  virtual size_t workspace_bytes() const = 0;
  // x, y: aligned to 16 bytes; workspace: device memory of so many bytes, in use until the product is done.
  virtual Status enqueue(Stream&, const void* x, void* y, void* workspace) const = 0;
};

class CublasLt {
 public:
  // ECAD_UNSUPPORTED: it is not on this machine, or a function is missing.
  static Status open(std::unique_ptr<CublasLt>* out);
  virtual ~CublasLt() = default;
  virtual std::string version() const = 0;
  // w: aligned to 256 bytes; bias: [n] or null. *out is null where the library has no kernel for the shape.
  virtual Status plan(const LtShape&, const void* w, const void* bias, std::unique_ptr<LtProduct>* out) = 0;
  // Activations that its epilogues have.
  static bool has(Act act) { return act == Act::kNone || act == Act::kGeluTanh || act == Act::kRelu; }
};

}  // namespace ecad::cuda
