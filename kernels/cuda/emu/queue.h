// Where emulated launches go.
#pragma once
#include "../launch.h"

namespace ecad::emu {

struct Queue {
  virtual ~Queue() = default;
  virtual Status enqueue(const cuda::KernelEntry&, const cuda::LaunchShape&, const void* params, size_t bytes) = 0;
};

}  // namespace ecad::emu
