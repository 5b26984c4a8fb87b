// The runtime on a device: the CUDA runtime API, linked statically. It finds the driver by itself, so a process starts without one.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>

#include "../core/text.h"
#include "runtime.h"

namespace ecad::cuda {
namespace {

// Errors of one call; what is left in the runtime's own record is cleared, so that it does not turn up elsewhere.
Status check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return Status::ok();
  (void)cudaGetLastError();
  const ecad_status status = code == cudaErrorMemoryAllocation ? ECAD_OUT_OF_MEMORY : ECAD_DEVICE_ERROR;
  return Status(status, text("cuda: ", what, ": ", cudaGetErrorName(code), ": ", cudaGetErrorString(code))).with_device_code(static_cast<int32_t>(code));
}

cudaStream_t stream_of(void* impl) { return static_cast<cudaStream_t>(impl); }
cudaEvent_t event_of(void* impl) { return static_cast<cudaEvent_t>(impl); }

}  // namespace

int32_t device_count(std::string* why) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();
  int driver = 0;
  (void)cudaDriverGetVersion(&driver);
  if (driver == 0) *why = "there is no NVIDIA driver (libcuda.so.1 is not found)";
  else if (driver < CUDART_VERSION && code == cudaErrorInsufficientDriver) *why = text("the NVIDIA driver serves CUDA ", driver / 1000, ".", driver % 1000 / 10, ", this build needs ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10);
  else *why = code == cudaSuccess ? "the driver reports no device" : text("cuda: ", cudaGetErrorName(code), ": ", cudaGetErrorString(code));
  return 0;
}

Status open_device(int32_t ordinal, DeviceProperties* out) {
  ECAD_TRY(check(cudaSetDevice(ordinal), "the device cannot be opened"));
  cudaDeviceProp p;
  ECAD_TRY(check(cudaGetDeviceProperties(&p, ordinal), "device properties"));
  int driver = 0;
  ECAD_TRY(check(cudaDriverGetVersion(&driver), "driver version"));
  out->name = p.name;
  out->driver = text(driver / 1000, ".", driver % 1000 / 10);
  out->major = p.major;
  out->minor = p.minor;
  out->multiprocessors = p.multiProcessorCount;
  out->smem_per_block = static_cast<int32_t>(p.sharedMemPerBlockOptin);
  out->l2_bytes = p.l2CacheSize;
  out->memory_total = p.totalGlobalMem;
  if (p.major < 8) return Status(ECAD_UNSUPPORTED, text("cuda: ", p.name, " is of compute capability ", p.major, ".", p.minor, ": 8.0 or newer is needed"));
  return Status::ok();
}

Status memory_free(uint64_t* bytes) {
  size_t free = 0, total = 0;
  ECAD_TRY(check(cudaMemGetInfo(&free, &total), "free memory"));
  *bytes = free;
  return Status::ok();
}

Status allocate(size_t bytes, void** out) {
  *out = nullptr;
  return check(cudaMalloc(out, bytes), "device memory");
}

void release(void* p) {
  if (p != nullptr) (void)check(cudaFree(p), "free");
}

Status allocate_pinned(size_t bytes, void** out) {
  *out = nullptr;
  ECAD_TRY(check(cudaHostAlloc(out, bytes, cudaHostAllocMapped | cudaHostAllocPortable), "pinned memory"));
  std::memset(*out, 0, bytes);
  return Status::ok();
}

void release_pinned(void* p) {
  if (p != nullptr) (void)check(cudaFreeHost(p), "free");
}

// ---- graphs and streams -----------------------------------------------------------------------------------------

struct Graph::Impl {
  cudaGraphExec_t exec = nullptr;
};

Graph::~Graph() {
  if (impl_ != nullptr) (void)check(cudaGraphExecDestroy(impl_->exec), "graph");
  delete impl_;
}

Stream::~Stream() {
  if (impl_ != nullptr) (void)check(cudaStreamDestroy(stream_of(impl_)), "stream");
}

// Not the legacy default stream's equal: work of other streams in the process does not wait for ours.
Status Stream::create() {
  cudaStream_t s = nullptr;
  ECAD_TRY(check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "stream"));
  impl_ = s;
  return Status::ok();
}

Status Stream::upload(void* device, const void* host, size_t bytes) { return check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_of(impl_)), "copy to the device"); }
Status Stream::download(void* host, const void* device, size_t bytes) { return check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_of(impl_)), "copy from the device"); }
Status Stream::fill(void* device, int byte, size_t bytes) { return check(cudaMemsetAsync(device, byte, bytes, stream_of(impl_)), "fill"); }
Status Stream::synchronize() { return check(cudaStreamSynchronize(stream_of(impl_)), "the device failed"); }

Status Stream::begin_capture() { return check(cudaStreamBeginCapture(stream_of(impl_), cudaStreamCaptureModeThreadLocal), "capture"); }

Status Stream::end_capture(Graph* out) {
  cudaGraph_t graph = nullptr;
  ECAD_TRY(check(cudaStreamEndCapture(stream_of(impl_), &graph), "capture"));
  cudaGraphExec_t exec = nullptr;
  const Status status = check(cudaGraphInstantiate(&exec, graph, 0), "graph");
  (void)cudaGraphDestroy(graph);
  ECAD_TRY(status);
  if (out->impl_ != nullptr) (void)check(cudaGraphExecDestroy(out->impl_->exec), "graph");
  else out->impl_ = new Graph::Impl;
  out->impl_->exec = exec;
  return Status::ok();
}

void Stream::abandon_capture() {
  if (!capturing()) return;
  cudaGraph_t graph = nullptr;
  (void)cudaStreamEndCapture(stream_of(impl_), &graph);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
}

bool Stream::capturing() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return impl_ != nullptr && cudaStreamIsCapturing(stream_of(impl_), &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
}

Status Stream::launch(const Graph& graph) {
  if (graph.impl_ == nullptr) return Status(ECAD_INTERNAL, "no graph");
  return check(cudaGraphLaunch(graph.impl_->exec, stream_of(impl_)), "graph launch");
}

Status Stream::call(std::function<Status(void*)> f) { return f(impl_); }

// ---- events --------------------------------------------------------------------------------------------------------

Event::~Event() {
  if (impl_ != nullptr) (void)check(cudaEventDestroy(event_of(impl_)), "event");
}

Status Event::create(bool timing) {
  cudaEvent_t e = nullptr;
  ECAD_TRY(check(cudaEventCreateWithFlags(&e, timing ? cudaEventDefault : cudaEventDisableTiming), "event"));
  impl_ = e;
  return Status::ok();
}

Status Event::record(Stream& stream) { return check(cudaEventRecord(event_of(impl_), stream_of(stream.native())), "event"); }
Status Event::wait() { return check(cudaEventSynchronize(event_of(impl_)), "the device failed"); }

Status Event::nanoseconds(const Event& from, const Event& to, uint64_t* out) {
  float ms = 0;
  ECAD_TRY(check(cudaEventElapsedTime(&ms, event_of(from.impl_), event_of(to.impl_)), "event"));
  *out = static_cast<uint64_t>(static_cast<double>(ms) * 1e6);
  return Status::ok();
}

// ---- tensor maps: the one driver function that the runtime does not wrap ---------------------------------------------

namespace {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                                 CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

Status find_encode(EncodeTiled* out) {
  void* f = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  ECAD_TRY(check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &found), "tensor maps"));
  if (found != cudaDriverEntryPointSuccess) return Status(ECAD_UNSUPPORTED, "cuda: the driver has no tensor maps");
  *out = reinterpret_cast<EncodeTiled>(f);
  return Status::ok();
}

}  // namespace

Status encode_tensor_map(const TensorMapDesc& d, TensorMap* out) {
  static_assert(sizeof(CUtensorMap) == sizeof(TensorMap), "a tensor map is 128 bytes");
  EncodeTiled encode = nullptr;
  ECAD_TRY(find_encode(&encode));
  const CUtensorMapSwizzle swizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  const cuuint32_t ones[5] = {1, 1, 1, 1, 1};
  cuuint64_t dims[5], strides[4];
  cuuint32_t box[5];
  for (uint32_t i = 0; i < 5; ++i) {
    dims[i] = d.dims[i];
    box[i] = d.box[i];
    if (i < 4) strides[i] = d.strides[i];
  }
  const CUresult code = encode(reinterpret_cast<CUtensorMap*>(out), d.type == MapType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32, d.rank,
                               const_cast<void*>(d.base), dims, strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzles[static_cast<uint32_t>(d.swizzle)],
                               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code != CUDA_SUCCESS) {
    return Status(ECAD_INTERNAL, text("cuda: a tensor map of rank ", d.rank, ", dims ", d.dims[0], ",", d.dims[1], ",", d.dims[2], ", box ", d.box[0], ",", d.box[1], " is refused"))
        .with_device_code(static_cast<int32_t>(code));
  }
  return Status::ok();
}

}  // namespace ecad::cuda
