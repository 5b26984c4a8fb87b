#include "chain.cuh"

#include <cstring>

namespace ecad::cuda {
namespace {

template <class Config>
Status run(StreamHandle stream, const ChainShape& shape, const ChainParams<kMaxChainTerms>& all) {
  ChainParams<Config::kTerms> p;
  std::memcpy(&p, &all, sizeof p);
  const auto rows = static_cast<uint32_t>(p.groups * Config::kTokens), threads = static_cast<uint32_t>((p.width * p.groups + 31) / 32 * 32);
  const auto blocks = (static_cast<uint32_t>(p.tokens) + rows - 1) / rows;
  return launch<chain_kernel<Config>>(stream, LaunchShape{{blocks, static_cast<uint32_t>(shape.batch)}, threads, Config::smem_bytes(p.width, p.groups)}, p);
}

template <int kTerms>
Status run_terms(StreamHandle stream, const ChainShape& shape, const ChainParams<kMaxChainTerms>& p) {
  if (!shape.fast) return run<ChainConfig<1, false, kTerms>>(stream, shape, p);
  return shape.tokens_per_thread == 1 ? run<ChainConfig<1, true, kTerms>>(stream, shape, p) : run<ChainConfig<4, true, kTerms>>(stream, shape, p);
}

}  // namespace

Status launch_chain(StreamHandle stream, const ChainShape& shape, ChainParams<kMaxChainTerms>& p) {
  constexpr int32_t kThreads = 256;  // what a block has at least, where the rows suffice
  p.width = (p.cols + kVector - 1) / kVector;
  p.width = (p.width + 15) / 16 * 16;
  const int32_t rows = (p.tokens + shape.tokens_per_thread - 1) / shape.tokens_per_thread;
  p.groups = (kThreads + p.width - 1) / p.width;
  if (p.groups > rows) p.groups = rows;
  if (p.num_terms <= kFewChainTerms) return run_terms<kFewChainTerms>(stream, shape, p);
  return p.num_terms <= kManyChainTerms ? run_terms<kManyChainTerms>(stream, shape, p) : run_terms<kMaxChainTerms>(stream, shape, p);
}

}  // namespace ecad::cuda
