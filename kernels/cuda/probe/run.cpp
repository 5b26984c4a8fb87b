#include "run.h"

#include <cmath>
#include <cstdio>
#include <cstring>

namespace ecad::cuda::probe {
namespace {

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
double unit(uint64_t x) { return static_cast<double>(mix(x) >> 11) * 0x1p-53; }  // [0, 1)
uint32_t bits_of(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}
uint16_t bf16_of(float f) { return static_cast<uint16_t>((bits_of(f) + 0x7fffu + (bits_of(f) >> 16 & 1u)) >> 16); }

void fill(Input input, void* to) {
  auto* halves = static_cast<uint16_t*>(to);
  auto* words = static_cast<uint32_t*>(to);
  for (uint32_t i = 0; i < kInBytes / 2; ++i) {
    const double sum = unit(4 * i + 1) + unit(4 * i + 2) + unit(4 * i + 3) - 1.5;  // variance 1/4
    if (input == Input::kCounting) halves[i] = static_cast<uint16_t>(i);
    if (input == Input::kIntegers) halves[i] = bf16_of(static_cast<float>(static_cast<int>(mix(i + 1) % 9) - 4));
    if (input == Input::kRandom) halves[i] = bf16_of(static_cast<float>(2 * sum));
  }
  const uint32_t special[] = {0x00000000u, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00001u, 0xffc12345u, 0x7f7fffffu, 0x00000001u, 0x807fffffu, 0x3f808000u, 0x3f818000u, 0x7f7f8000u};
  for (uint32_t i = 0; i < kInBytes / 4; ++i) {
    if (input == Input::kFloats) words[i] = i % 16 < 12 && i < 512 ? special[i % 16] : static_cast<uint32_t>(mix(i + 7));
    if (input == Input::kPositive) words[i] = bits_of(static_cast<float>(std::exp2(40 * unit(i + 1) - 20)));
    if (input == Input::kSmall) words[i] = bits_of(static_cast<float>(16 * unit(i + 1) - 8));
  }
}

}  // namespace

Runner::~Runner() {
  for (void* p : {in_, out_, spare_, map_}) release(p);
  release_pinned(host_);
}

Status Runner::open(int32_t ordinal) {
  ECAD_TRY(open_device(ordinal, &device_));
  ECAD_TRY(stream_.create());
  ECAD_TRY(allocate(kInBytes, &in_));
  ECAD_TRY(allocate(kOutWords * 4, &out_));
  ECAD_TRY(allocate(kInBytes, &spare_));
  ECAD_TRY(allocate(sizeof(TensorMap), &map_));
  return allocate_pinned(kInBytes, &host_);
}

Status Runner::run(const Probe& probe, std::vector<uint32_t>* out) {
  ProbeParams p = {};
  p.in = in_;
  p.out = static_cast<uint32_t*>(out_);
  p.spare = spare_;
  p.map_in_memory = static_cast<const TensorMap*>(map_);
  if (probe.map_of) {
    ECAD_TRY(encode_tensor_map(probe.map_of(in_, spare_), &p.map));
    std::memcpy(host_, &p.map, sizeof(TensorMap));
    ECAD_TRY(stream_.upload(map_, host_, sizeof(TensorMap)));
    ECAD_TRY(stream_.synchronize());
  }
  fill(probe.input, host_);
  ECAD_TRY(stream_.upload(in_, host_, kInBytes));
  ECAD_TRY(stream_.fill(out_, 0xff, kOutWords * 4));
  ECAD_TRY(stream_.fill(spare_, 0xff, kInBytes));
  ECAD_TRY(probe.launch(stream_.native(), probe.shape, p));
  ECAD_TRY(stream_.synchronize());
  const size_t bytes = probe.out_words * size_t{4};
  ECAD_TRY(stream_.download(host_, probe.spare_is_out ? spare_ : out_, bytes));
  ECAD_TRY(stream_.synchronize());
  out->assign(static_cast<const uint32_t*>(host_), static_cast<const uint32_t*>(host_) + probe.out_words);
  return Status::ok();
}

size_t differences(const Probe& probe, const std::vector<uint32_t>& got, const std::vector<uint32_t>& expected, std::string* first) {
  if (got.size() != expected.size()) {
    *first = std::to_string(got.size()) + " words, expected " + std::to_string(expected.size());
    return 1;
  }
  size_t count = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == expected[i]) continue;
    float a, b;
    std::memcpy(&a, &got[i], 4);
    std::memcpy(&b, &expected[i], 4);
    if (probe.absolute + probe.relative > 0 && std::fabs(a - b) <= probe.absolute + probe.relative * std::fabs(b)) continue;
    if (count++) continue;
    char text[160];
    std::snprintf(text, sizeof text, "word %zu is %08x (%.9g), expected %08x (%.9g)", i, got[i], static_cast<double>(a), expected[i], static_cast<double>(b));
    *first = text;
  }
  return count;
}

}  // namespace ecad::cuda::probe
