// Opcodes whose kernels are not there yet.
#include "op.h"

namespace ecad::cuda {

#define ECAD_MISSING(name) \
  Status bind_##name(const Binder&, std::unique_ptr<Kernel>*) { return unsupported("has no kernel for " #name " yet"); }

ECAD_MISSING(linear)
ECAD_MISSING(gated_linear)

}  // namespace ecad::cuda
