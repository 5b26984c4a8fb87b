// What the linear-combination kernel is given.
#pragma once
#include "../launch.h"
#include "views.h"

namespace ecad::cuda {

constexpr int kMaxLincombTerms = 64, kLincombThreads = 256;

struct LincombOperand {
  Ref ref;
  int64_t strides[4];  // bytes
  Elem elem;
  int32_t pad;
};

struct LincombParams {
  Head head;
  Ref coefficients;  // float64 [n]
  LincombOperand y;
  double low, high;
  uint32_t dims[4], count;
  int32_t num_terms, clamp, pad;
  LincombOperand terms[kMaxLincombTerms];
};

Status launch_lincomb(StreamHandle, const LincombParams&);

}  // namespace ecad::cuda
