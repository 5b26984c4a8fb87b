// The part of cuBLASLt's binary interface that cublaslt.cpp calls, under NVIDIA's names (cublasLt.h and library_types.h of CUDA 12 and 13): the headers come with a
// library of 500 MB that no build needs. Values of enumerators are part of that interface.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

typedef int cublasStatus_t;  // 0: success
typedef struct cublasLtContext* cublasLtHandle_t;
typedef struct cublasLtMatmulDescOpaque* cublasLtMatmulDesc_t;
typedef struct cublasLtMatrixLayoutOpaque* cublasLtMatrixLayout_t;
typedef struct cublasLtMatmulPreferenceOpaque* cublasLtMatmulPreference_t;
typedef struct { uint64_t data[8]; } cublasLtMatmulAlgo_t;
typedef struct {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
} cublasLtMatmulHeuristicResult_t;

enum { CUDA_R_32F = 0, CUDA_R_16BF = 14 };                 // cudaDataType_t
enum { CUBLAS_COMPUTE_32F = 68 };                          // cublasComputeType_t
enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };                 // cublasOperation_t
enum { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_NOT_SUPPORTED = 15 };
enum {                                                     // cublasLtMatmulDescAttributes_t
  CUBLASLT_MATMUL_DESC_TRANSA = 3,                         // int32
  CUBLASLT_MATMUL_DESC_TRANSB = 4,                         // int32
  CUBLASLT_MATMUL_DESC_EPILOGUE = 7,                       // uint32
  CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8,                   // address of one element per row of D
  CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26                 // int32
};
enum {                                                     // cublasLtEpilogue_t; GELU is the tanh form
  CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_RELU = 2, CUBLASLT_EPILOGUE_BIAS = 4, CUBLASLT_EPILOGUE_GELU = 32
};
enum {                                                     // cublasLtMatmulPreferenceAttributes_t
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,            // size_t
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,          // uint32
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,          // uint32, and for B, C, D after it
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
};
enum { CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2 };       // cublasLtReductionScheme_t: partial sums in float32, added in a step of their own

}  // extern "C"

// CALL(name, parameters): the functions, all of which return cublasStatus_t.
#define ECAD_EACH_CUBLASLT(CALL)                                                                                                                   \
  CALL(Create, (cublasLtHandle_t*))                                                                                                                \
  CALL(Destroy, (cublasLtHandle_t))                                                                                                                \
  CALL(MatmulDescCreate, (cublasLtMatmulDesc_t*, int compute_type, int scale_type))                                                                \
  CALL(MatmulDescDestroy, (cublasLtMatmulDesc_t))                                                                                                  \
  CALL(MatmulDescSetAttribute, (cublasLtMatmulDesc_t, int attribute, const void* value, size_t bytes))                                             \
  CALL(MatrixLayoutCreate, (cublasLtMatrixLayout_t*, int type, uint64_t rows, uint64_t columns, int64_t leading))                                  \
  CALL(MatrixLayoutDestroy, (cublasLtMatrixLayout_t))                                                                                              \
  CALL(MatmulPreferenceCreate, (cublasLtMatmulPreference_t*))                                                                                      \
  CALL(MatmulPreferenceDestroy, (cublasLtMatmulPreference_t))                                                                                      \
  CALL(MatmulPreferenceSetAttribute, (cublasLtMatmulPreference_t, int attribute, const void* value, size_t bytes))                                 \
  CALL(MatmulAlgoGetHeuristic, (cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, \
                                cublasLtMatmulPreference_t, int wanted, cublasLtMatmulHeuristicResult_t*, int* found))                             \
  CALL(Matmul, (cublasLtHandle_t, cublasLtMatmulDesc_t, const void* alpha, const void* a, cublasLtMatrixLayout_t, const void* b, cublasLtMatrixLayout_t, const void* beta, \
                const void* c, cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t*, void* workspace, size_t workspace_bytes, void* stream))
