// The host side of a CUDA device: memory, one stream, events, graphs, tensor maps. Two implementations: runtime_cuda.cpp on the CUDA
// runtime, and runtime_emu.cpp, where device memory is host memory and work runs at once. A capture records launches with the parameters
// that they have then; a graph replays them, so a stale address is as wrong in the emulator as on a device.
//
// All functions belong to the thread that opened the device. Sizes are bytes. A Status carries the cudaError_t as device code.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "../core/status.h"
#include "tensor_map.h"

namespace ecad::cuda {

struct DeviceProperties {
  std::string name;           // "NVIDIA H200"
  std::string driver;         // newest CUDA version that the driver serves, "13.0"
  int32_t major = 0, minor = 0;
  int32_t multiprocessors = 0;
  int32_t smem_per_block = 0;  // largest dynamic shared memory of a block
  int32_t l2_bytes = 0;
  uint64_t memory_total = 0;
  int32_t arch() const { return major * 10 + minor; }
};

int32_t device_count(std::string* why);  // why: one line when there are none
Status open_device(int32_t ordinal, DeviceProperties*);  // makes it the calling thread's device (its primary context)
Status memory_free(uint64_t* bytes);

Status allocate(size_t bytes, void** out);  // device memory, aligned to 256; ECAD_OUT_OF_MEMORY
void release(void*);
Status allocate_pinned(size_t bytes, void** out);  // host memory that the device reads and writes at the same address; zeros
void release_pinned(void*);

// An instantiated graph.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

 private:
  friend class Stream;
  struct Impl;
  Impl* impl_ = nullptr;
};

class Stream {
 public:
  Stream() = default;
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  Status create();

  // In stream order, returning before they are done: host memory must be pinned and stay until then.
  Status upload(void* device, const void* host, size_t bytes);
  Status download(void* host, const void* device, size_t bytes);
  Status fill(void* device, int byte, size_t bytes);
  Status synchronize();

  Status begin_capture();
  Status end_capture(Graph* out);  // instantiates
  void abandon_capture();          // after a failed launch while capturing
  bool capturing() const;
  Status launch(const Graph&);

  // Work that another library puts on the stream: f is given native() and returns when it has. In the emulator f does the work itself, now or, under capture, at
  // each launch of the graph.
  Status call(std::function<Status(void* native)> f);

  void* native() const { return impl_; }  // launch.h's StreamHandle

 private:
  void* impl_ = nullptr;
};

class Event {
 public:
  Event() = default;
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  Status create(bool timing);
  Status record(Stream&);
  Status wait();  // on the host, until what was recorded is done; at once if nothing was
  // Between two recorded events that are done. Both must have been created with timing.
  static Status nanoseconds(const Event& from, const Event& to, uint64_t* out);

 private:
  void* impl_ = nullptr;
};

Status encode_tensor_map(const TensorMapDesc&, TensorMap* out);

}  // namespace ecad::cuda
