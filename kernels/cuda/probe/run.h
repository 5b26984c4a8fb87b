// Runs probes on the device of this build: a GPU, or the emulator.
#pragma once
#include <string>

#include "../runtime.h"
#include "probe.h"

namespace ecad::cuda::probe {

// Device memory and a stream for one probe after another.
class Runner {
 public:
  Runner() = default;
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  Status open(int32_t ordinal);
  const DeviceProperties& device() const { return device_; }
  bool can_run(const Probe& p) const { return !p.sm90 || device_.arch() == 90; }  // sm_90a code runs on nothing else
  Status run(const Probe&, std::vector<uint32_t>* out);

 private:
  DeviceProperties device_;
  Stream stream_;
  void *in_ = nullptr, *out_ = nullptr, *spare_ = nullptr, *map_ = nullptr, *host_ = nullptr;
};

// Words that differ by more than the probe allows; `first` describes the first of them.
size_t differences(const Probe&, const std::vector<uint32_t>& got, const std::vector<uint32_t>& expected, std::string* first);

}  // namespace ecad::cuda::probe
