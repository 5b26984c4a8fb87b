#include "fake_cublaslt.h"

#include <cmath>
#include <cstring>

#include "../core/dtype.h"
#include "../cuda/cublaslt_abi.h"

using fake_cublaslt::Call;
using fake_cublaslt::Layout;

struct cublasLtContext { int opened; };
struct cublasLtMatmulDescOpaque { Call call; };
struct cublasLtMatrixLayoutOpaque { Layout layout; };
struct cublasLtMatmulPreferenceOpaque { Call call; };

namespace {

enum { kInvalidValue = 7 };
std::vector<Call> calls;

ecad::DType dtype(int type) { return type == CUDA_R_32F ? ecad::DType::kF32 : ecad::DType::kBF16; }

template <class T, class... Args>
cublasStatus_t create(T** out, Args... args) {
  *out = new T{args...};
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t destroy(T* object) {
  delete object;
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t set(T* to, const void* value, size_t bytes) {
  if (bytes != sizeof *to) return kInvalidValue;
  std::memcpy(to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// Which call proposed an algorithm: its first word.
uint64_t mark(const Layout& d) { return d.rows * 1000003 + d.columns; }

double activated(uint32_t epilogue, double v) {
  if ((epilogue & CUBLASLT_EPILOGUE_GELU) != 0) return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
  return (epilogue & CUBLASLT_EPILOGUE_RELU) != 0 ? std::fmax(v, 0.0) : v;
}

// d = epilogue(op(a) op(b)), column-major.
void multiply(const Call& c) {
  const auto at = [](const Layout& l, uint64_t row, uint64_t column) { return static_cast<int64_t>(row + column * static_cast<uint64_t>(l.leading)); };
  const uint64_t depth = c.trans_a == CUBLAS_OP_T ? c.a.rows : c.a.columns;
  for (uint64_t i = 0; i < c.d.rows; ++i)
    for (uint64_t j = 0; j < c.d.columns; ++j) {
      double sum = 0;
      for (uint64_t k = 0; k < depth; ++k)
        sum += ecad::load_element(c.a_data, dtype(c.a.type), c.trans_a == CUBLAS_OP_T ? at(c.a, k, i) : at(c.a, i, k)) *
               ecad::load_element(c.b_data, dtype(c.b.type), c.trans_b == CUBLAS_OP_T ? at(c.b, j, k) : at(c.b, k, j));
      if ((c.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) sum += ecad::load_element(c.bias, dtype(c.bias_type), static_cast<int64_t>(i));
      ecad::store_element(c.d_data, dtype(c.d.type), at(c.d, i, j), activated(c.epilogue, sum));
    }
}

}  // namespace

extern "C" {
#define EXPORT __attribute__((visibility("default")))

EXPORT void fake_cublaslt_take(std::vector<Call>* out) {
  *out = std::move(calls);
  calls.clear();
}

EXPORT size_t cublasLtGetVersion() { return fake_cublaslt::kVersion; }
EXPORT cublasStatus_t cublasLtCreate(cublasLtHandle_t* out) { return create(out, 1); }
EXPORT cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }

EXPORT cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* out, int compute_type, int scale_type) {
  Call call = {};
  call.compute_type = compute_type;
  call.scale_type = scale_type;
  call.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  call.bias_type = -1;
  return create(out, call);
}
EXPORT cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return destroy(desc); }
EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, int attribute, const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&desc->call.trans_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&desc->call.trans_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&desc->call.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&desc->call.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(&desc->call.bias_type, value, bytes);
    default: return kInvalidValue;
  }
}

EXPORT cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (leading < static_cast<int64_t>(rows)) return kInvalidValue;
  return create(out, Layout{type, rows, columns, leading});
}
EXPORT cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }

EXPORT cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* out) {
  Call call = {};
  for (uint32_t& a : call.alignment) a = 256;
  call.reduction_mask = 7;
  return create(out, call);
}
EXPORT cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }
EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, int attribute, const void* value, size_t bytes) {
  Call& call = preference->call;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&call.most_workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&call.reduction_mask, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(&call.alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
    default: return kInvalidValue;
  }
}

EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  if (wanted != 1) return kInvalidValue;
  if (d->layout.rows == fake_cublaslt::kNoKernel) return CUBLAS_STATUS_NOT_SUPPORTED;
  Call& call = desc->call;  // what a Matmul cannot see, kept for its record
  std::memcpy(call.alignment, preference->call.alignment, sizeof call.alignment);
  call.reduction_mask = preference->call.reduction_mask;
  call.most_workspace = preference->call.most_workspace;
  *results = {};
  results->algo.data[0] = mark(d->layout);
  results->workspaceSize = fake_cublaslt::kWorkspaceBytes;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                                     const void* c, cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                                     void* stream) {
  Call call = desc->call;
  call.alpha = *static_cast<const float*>(alpha);
  call.beta = *static_cast<const float*>(beta);
  call.a = a_layout->layout, call.b = b_layout->layout, call.c = c_layout->layout, call.d = d_layout->layout;
  call.a_data = a, call.b_data = b, call.c_data = c, call.d_data = d;
  call.workspace = workspace;
  call.workspace_bytes = workspace_bytes;
  call.stream = stream;
  call.chosen = algo->data[0] == mark(d_layout->layout);
  std::memset(workspace, 0x5a, workspace_bytes);
  multiply(call);
  calls.push_back(call);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
