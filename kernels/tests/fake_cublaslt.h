// A stand-in for libcublasLt.so: it keeps what it was asked, and multiplies on the host. Built under the library's own name, so that the loader finds it as it would
// find the real one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fake_cublaslt {

struct Layout { int type; uint64_t rows, columns; int64_t leading; };

// One call of Matmul.
struct Call {
  int compute_type, scale_type, trans_a, trans_b, bias_type;
  uint32_t epilogue, reduction_mask, alignment[4];  // alignment: of a, b, c, d
  Layout a, b, c, d;
  float alpha, beta;
  const void *a_data, *b_data, *c_data, *bias;
  void *d_data, *workspace, *stream;
  size_t workspace_bytes, most_workspace;
  bool chosen;  // with the algorithm that it had proposed for this shape
};

constexpr size_t kVersion = 130105, kWorkspaceBytes = 4096;
constexpr uint64_t kNoKernel = 24;  // columns of y that it has no kernel for

// What the shared library exports besides NVIDIA's functions.
using Take = void (*)(std::vector<Call>* out);  // moves the calls since the last time
constexpr const char* kTake = "fake_cublaslt_take";

}  // namespace fake_cublaslt
