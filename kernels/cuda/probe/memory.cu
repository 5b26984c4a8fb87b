// Probes of loads, stores, atomics and cp.async.
#include "probe.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::Cache;
using ptx::f32;
using ptx::u16;
using ptx::u32;
using ptx::u64;

// Words 0..1023 of `in`, moved to `out` by each width and way in turn: 128 words each.
template <class T, Cache cache>
ECAD_DEVICE void move_global(const ProbeParams& p, u32 part) {
  const char* from = static_cast<const char*>(p.in) + 512 * part;
  char* to = reinterpret_cast<char*>(p.out) + 512 * part;
  for (u32 i = ptx::thread_id(); i < 512 / sizeof(T); i += ptx::block_threads())
    ptx::st_global<cache>(to + i * sizeof(T), part % 2 ? ptx::ld_global<T, cache>(from + i * sizeof(T)) : ptx::ld_global_nc<T, cache>(from + i * sizeof(T)));
}

ECAD_KERNEL global_moves(ECAD_PARAMS(ProbeParams) p) {
  move_global<u16, Cache::kDefault>(p, 0);
  move_global<u32, Cache::kDefault>(p, 1);
  move_global<u64, Cache::kDefault>(p, 2);
  move_global<ptx::u32x4, Cache::kDefault>(p, 3);
  move_global<ptx::u32x4, Cache::kStream>(p, 4);
  move_global<ptx::u32x4, Cache::kStream>(p, 5);
  move_global<ptx::f32x2, Cache::kNoL1>(p, 6);
  move_global<ptx::u32x2, Cache::kNoL1>(p, 7);
  move_global<u16, Cache::kStream>(p, 8);
  move_global<u16, Cache::kNoL1>(p, 9);
}

ECAD_KERNEL predicated_moves(ECAD_PARAMS(ProbeParams) p) {
  const u32 t = ptx::thread_id();
  const u32* in = static_cast<const u32*>(p.in);
  put(p, t, ptx::ld_global_if<u32>(in + t, t % 2 == 0));
  put(p, 64 + t, ptx::ld_global_nc_if<u32>(t % 4 ? nullptr : in + t, t % 4 == 0));
  put(p, 128 + t, 9u);
  ptx::st_global_if(p.out + 128 + t, t, t % 3 == 0);
}

template <class T>
ECAD_DEVICE void move_shared(const ProbeParams& p, u32 smem, u32 part) {
  const u32 t = ptx::thread_id();
  T v;
  if (t < 512 / sizeof(T)) {
    v = ptx::ld_global<T>(static_cast<const char*>(p.in) + 512 * part + t * sizeof(T));
    ptx::st_shared(smem + 512 * part + t * u32(sizeof(T)), v);
  }
}

ECAD_KERNEL shared_moves(ECAD_PARAMS(ProbeParams) p) {
  const u32 smem = ptx::smem_base(), t = ptx::thread_id();
  move_shared<u16>(p, smem, 0);
  move_shared<u32>(p, smem, 1);
  move_shared<u64>(p, smem, 2);
  move_shared<ptx::u32x4>(p, smem, 3);
  ptx::block_sync();
  if (t < 128) {  // each part is read back by another width
    const u32 low = ptx::ld_shared<u16>(smem + 512 + 4 * t), high = ptx::ld_shared<u16>(smem + 512 + 4 * t + 2);
    put(p, t, ptx::ld_shared<u32>(smem + 4 * t));
    put(p, 128 + t, low | high << 16);
  }
  if (t < 32) {
    ptx::st_global(p.out + 256 + 4 * t, ptx::ld_shared<ptx::u32x4>(smem + 1024 + 16 * t));
    ptx::st_global(p.out + 384 + 4 * t, ptx::ld_shared<ptx::u32x2>(smem + 1536 + 16 * t));
    ptx::st_global(p.out + 384 + 4 * t + 2, ptx::ld_shared<ptx::u32x2>(smem + 1536 + 16 * t + 8));
  }
}

ECAD_KERNEL atomics(ECAD_PARAMS(ProbeParams) p) {  // sums of whole numbers: any order gives the same
  u32* words = static_cast<u32*>(p.spare);
  const u32 t = ptx::block_x() * ptx::block_threads() + ptx::thread_id();
  ptx::atomic_add(words, t);             // from all ones, -1
  ptx::atomic_max(words + 1, 0xfffffff0u + t % 8);
  ptx::atomic_add(words + 2 + t % 4, 1u);
}

ECAD_KERNEL atomic_floats(ECAD_PARAMS(ProbeParams) p) {
  f32* sums = reinterpret_cast<f32*>(p.out);
  const u32 t = ptx::thread_id();
  if (t < 8) ptx::st_global(sums + t, 0.0f);
  ptx::block_sync();
  ptx::atomic_add(sums + t % 8, f32(t) * 0.25f);
}

ECAD_KERNEL async_copies(ECAD_PARAMS(ProbeParams) p) {
  const u32 smem = ptx::smem_base(), t = ptx::thread_id();
  const char* in = static_cast<const char*>(p.in);
  ptx::cp_async<16>(smem + 16 * t, in + 16 * t, t % 3 == 0 ? 16 : t % 3 == 1 ? 6 : 0);
  ptx::cp_async_commit();
  ptx::cp_async<8>(smem + 512 + 8 * t, in + 512 + 8 * t, t % 2 ? 8 : 2);
  ptx::cp_async_commit();
  ptx::cp_async<4>(smem + 768 + 4 * t, in + 768 + 4 * t, t % 5 ? 4 : 0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<2>();
  ptx::block_sync();
  const u32 first = ptx::ld_shared<u32>(smem + 16 * (31 - t));
  ptx::cp_async_wait<0>();
  ptx::block_sync();
  dump(p, smem, 224);
  put(p, 224 + t, first);
}

}  // namespace

void add_memory_probes(std::vector<Probe>* all) {
  all->push_back(exact<global_moves>("global loads and stores", Input::kCounting, 1280, {{1}, 128}));
  all->push_back(exact<predicated_moves>("predicated loads and stores", Input::kCounting, 192, {{1}, 64}));
  all->push_back(exact<shared_moves>("shared loads and stores", Input::kCounting, 512, {{1}, 256, 2048}));
  all->push_back({"atomics", Input::kCounting, 6, {{5}, 96}, false, 0, 0, start<atomics>, nullptr, true});
  all->push_back(exact<atomic_floats>("atomic float sums", Input::kCounting, 8, {{1}, 64}));
  all->push_back(exact<async_copies>("cp.async", Input::kCounting, 256, {{1}, 32, 1024}));
}

}  // namespace ecad::cuda::probe
