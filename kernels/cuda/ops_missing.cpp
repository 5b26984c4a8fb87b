// Opcodes whose kernels are not there yet.
#include "op.h"

namespace ecad::cuda {

#define ECAD_MISSING(name) \
  Status bind_##name(const Binder&, std::unique_ptr<Kernel>*) { return unsupported("has no kernel for " #name " yet"); }

ECAD_MISSING(linear)
ECAD_MISSING(gated_linear)
ECAD_MISSING(attention)
ECAD_MISSING(chain)
ECAD_MISSING(patch_embed)
ECAD_MISSING(unpatchify)
ECAD_MISSING(timestep_embed)
ECAD_MISSING(embedding)
ECAD_MISSING(lincomb)
ECAD_MISSING(add)
ECAD_MISSING(unary)
ECAD_MISSING(conv2d)
ECAD_MISSING(group_norm)
ECAD_MISSING(upsample)
ECAD_MISSING(permute)

}  // namespace ecad::cuda
