// What the chain kernel is given.
#pragma once
#include "../../core/program.h"
#include "../launch.h"
#include "views.h"

namespace ecad::cuda {

constexpr int kMaxChainTerms = 256;  // of one launch

struct ChainTerm {
  TokenView slot;
  SampleView gate;
};

// terms come last: parameters of fewer terms are a prefix of those of more.
template <int kTerms>
struct ChainParams {
  Head head;
  TokenView x, sum, y;
  SampleView scale, shift, weight, bias;
  Norm norm;
  float eps;
  int32_t tokens, cols, width, groups, wide, num_terms;
  ChainTerm terms[kTerms];
};

constexpr int kFewChainTerms = 16, kManyChainTerms = 96;  // 84: every component of PixArt reused

// How a chain is cut into threads.
struct ChainShape {
  int32_t batch, tokens_per_thread;  // 1 or 4
  bool fast;                         // every operand wide, every slot bfloat16
};
// p.width and p.groups are set here.
Status launch_chain(StreamHandle, const ChainShape&, ChainParams<kMaxChainTerms>& p);

}  // namespace ecad::cuda
