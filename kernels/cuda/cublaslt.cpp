#include "cublaslt.h"

#include <dlfcn.h>

#include "../core/text.h"
#include "cublaslt_abi.h"

namespace ecad::cuda {
namespace {

// Enough for its split products on an H100 or H200 (NVIDIA's recommendation).
constexpr size_t kMostWorkspace = size_t{32} << 20;

struct Functions {
#define ECAD_CUBLASLT_MEMBER(name, parameters) cublasStatus_t(*name) parameters = nullptr;
  ECAD_EACH_CUBLASLT(ECAD_CUBLASLT_MEMBER)
#undef ECAD_CUBLASLT_MEMBER
  size_t (*GetVersion)() = nullptr;
};

Status check(cublasStatus_t code, const char* what) {
  return code == CUBLAS_STATUS_SUCCESS ? Status::ok() : Status(ECAD_DEVICE_ERROR, text("cuBLASLt: ", what, " gives status ", code)).with_device_code(code);
}

// An object of the library and the function that frees it.
template <class T>
class Owned {
 public:
  explicit Owned(cublasStatus_t (*destroy)(T)) : destroy_(destroy) {}
  ~Owned() {
    if (object_ != nullptr) (void)destroy_(object_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T* out() { return &object_; }
  T get() const { return object_; }

 private:
  cublasStatus_t (*destroy_)(T);
  T object_ = nullptr;
};

// Its matrices are column-major: y^T [n,m] = w^T's transpose [n,k] times x^T [k,m], so a is w and b is x.
class Product final : public LtProduct {
 public:
  Product(const Functions& lt, cublasLtHandle_t handle)
      : lt_(lt), handle_(handle), desc_(lt.MatmulDescDestroy), a_(lt.MatrixLayoutDestroy), b_(lt.MatrixLayoutDestroy), d_(lt.MatrixLayoutDestroy) {}

  Status plan(const LtShape& s, const void* w, const void* bias, bool* found) {
    w_ = w;
    const int y_type = s.f32_y ? CUDA_R_32F : CUDA_R_16BF;
    ECAD_TRY(check(lt_.MatmulDescCreate(desc_.out(), CUBLAS_COMPUTE_32F, CUDA_R_32F), "MatmulDescCreate"));
    ECAD_TRY(set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T}));
    ECAD_TRY(set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t{CUBLAS_OP_N}));
    uint32_t epilogue = s.act == Act::kGeluTanh ? CUBLASLT_EPILOGUE_GELU : s.act == Act::kRelu ? CUBLASLT_EPILOGUE_RELU : 0;
    if (bias != nullptr) {
      epilogue |= CUBLASLT_EPILOGUE_BIAS;
      ECAD_TRY(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
      ECAD_TRY(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{y_type}));
    }
    ECAD_TRY(set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue != 0 ? epilogue : uint32_t{CUBLASLT_EPILOGUE_DEFAULT}));
    const auto m = static_cast<uint64_t>(s.m), n = static_cast<uint64_t>(s.n), k = static_cast<uint64_t>(s.k);
    ECAD_TRY(check(lt_.MatrixLayoutCreate(a_.out(), CUDA_R_16BF, k, n, s.w_stride), "MatrixLayoutCreate"));
    ECAD_TRY(check(lt_.MatrixLayoutCreate(b_.out(), CUDA_R_16BF, k, m, s.x_stride), "MatrixLayoutCreate"));
    ECAD_TRY(check(lt_.MatrixLayoutCreate(d_.out(), y_type, n, m, s.y_stride), "MatrixLayoutCreate"));
    return choose(found);
  }

  size_t workspace_bytes() const override { return workspace_; }

  Status enqueue(Stream& stream, const void* x, void* y, void* workspace) const override {
    return stream.call([this, x, y, workspace](void* native) {
      const float one = 1, zero = 0;
      return check(lt_.Matmul(handle_, desc_.get(), &one, w_, a_.get(), x, b_.get(), &zero, y, d_.get(), y, d_.get(), &algo_, workspace, workspace_, native), "Matmul");
    });
  }

 private:
  template <class T>
  Status set(int attribute, T value) {
    return check(lt_.MatmulDescSetAttribute(desc_.get(), attribute, &value, sizeof value), "MatmulDescSetAttribute");
  }

  // The kernel that the library expects to be fastest, among those that sum in the same order on every run.
  Status choose(bool* found) {
    Owned<cublasLtMatmulPreference_t> preference(lt_.MatmulPreferenceDestroy);
    ECAD_TRY(check(lt_.MatmulPreferenceCreate(preference.out()), "MatmulPreferenceCreate"));
    const auto prefer = [&](int attribute, auto value) { return check(lt_.MatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value), "MatmulPreferenceSetAttribute"); };
    ECAD_TRY(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMostWorkspace));
    ECAD_TRY(prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}));
    for (const int operand : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      ECAD_TRY(prefer(operand, uint32_t{16}));  // it assumes 256 unless told
    cublasLtMatmulHeuristicResult_t result = {};
    int count = 0;
    const cublasStatus_t code = lt_.MatmulAlgoGetHeuristic(handle_, desc_.get(), a_.get(), b_.get(), d_.get(), d_.get(), preference.get(), 1, &result, &count);
    *found = code == CUBLAS_STATUS_SUCCESS && count == 1 && result.state == CUBLAS_STATUS_SUCCESS;
    if (!*found) return code == CUBLAS_STATUS_NOT_SUPPORTED ? Status::ok() : check(code, "MatmulAlgoGetHeuristic");
    algo_ = result.algo;
    workspace_ = result.workspaceSize;
    return Status::ok();
  }

  const Functions& lt_;
  cublasLtHandle_t handle_;
  Owned<cublasLtMatmulDesc_t> desc_;
  Owned<cublasLtMatrixLayout_t> a_, b_, d_;
  cublasLtMatmulAlgo_t algo_ = {};
  size_t workspace_ = 0;
  const void* w_ = nullptr;
};

class Library final : public CublasLt {
 public:
  ~Library() override {
    if (handle_ != nullptr) (void)lt_.Destroy(handle_);
  }

  Status open() {
    std::string tried;
    void* library = nullptr;  // stays loaded: CUDA's own threads may be running in it
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
      library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library != nullptr) break;
      const char* why = dlerror();
      if (tried.empty() && why != nullptr) tried = why;
    }
    if (library == nullptr)
      return Status(ECAD_UNSUPPORTED, text("gemm cublaslt: cuBLASLt is not found (", tried, "): install cuBLAS of CUDA 13 or 12 where the loader looks, or use gemm auto"));
    bool complete = true;
    const auto find = [&](const char* name, auto* f) {
      *reinterpret_cast<void**>(f) = dlsym(library, name);
      complete = complete && *f != nullptr;
    };
#define ECAD_CUBLASLT_FIND(name, parameters) find("cublasLt" #name, &lt_.name);
    ECAD_EACH_CUBLASLT(ECAD_CUBLASLT_FIND)
#undef ECAD_CUBLASLT_FIND
    find("cublasLtGetVersion", &lt_.GetVersion);
    if (!complete) return Status(ECAD_UNSUPPORTED, "gemm cublaslt: the cuBLASLt that is found lacks a function: install that of CUDA 13 or 12, or use gemm auto");
    return check(lt_.Create(&handle_), "Create");
  }

  std::string version() const override {
    const size_t v = lt_.GetVersion();  // major * 10000 + minor * 100 + patch
    return text(v / 10000, ".", v / 100 % 100, ".", v % 100);
  }

  Status plan(const LtShape& shape, const void* w, const void* bias, std::unique_ptr<LtProduct>* out) override {
    out->reset();
    auto product = std::make_unique<Product>(lt_, handle_);
    bool found = false;
    ECAD_TRY(product->plan(shape, w, bias, &found));
    if (found) *out = std::move(product);
    return Status::ok();
  }

 private:
  Functions lt_;
  cublasLtHandle_t handle_ = nullptr;
};

}  // namespace

Status CublasLt::open(std::unique_ptr<CublasLt>* out) {
  auto library = std::make_unique<Library>();
  ECAD_TRY(library->open());
  *out = std::move(library);
  return Status::ok();
}

}  // namespace ecad::cuda
