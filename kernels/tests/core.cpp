// Conversions, checksums, text.
#include <random>

#include "../core/crc32c.h"
#include "../core/dtype.h"
#include "../core/sha256.h"
#include "../core/text.h"
#include "../core/view.h"
#include "check.h"

using namespace ecad;

namespace {

std::string hex(const std::array<uint8_t, 32>& d) {
  std::string s;
  for (uint8_t b : d) {
    char t[3];
    std::snprintf(t, sizeof t, "%02x", b);
    s += t;
  }
  return s;
}

std::string sha(const std::string& s, size_t chunk) {
  Sha256 h;
  for (size_t i = 0; i < s.size(); i += chunk) h.update(s.data() + i, std::min(chunk, s.size() - i));
  return hex(h.finish());
}

// Nearest representable value by trying both neighbours: slow and independent of the bit tricks.
template <class Widen>
uint16_t nearest(double d, uint16_t most, Widen widen) {
  const double a = std::fabs(d);
  uint32_t low = 0, high = most;  // most: the encoding of infinity
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (static_cast<double>(widen(static_cast<uint16_t>(middle))) <= a ? low : high) = middle;
  }
  const double below = static_cast<double>(widen(static_cast<uint16_t>(low)));
  // What infinity stands for when rounding: one step past the largest number.
  const double above = high == most ? below + (below - static_cast<double>(widen(static_cast<uint16_t>(low - 1)))) : static_cast<double>(widen(static_cast<uint16_t>(high)));
  const bool up = a - below > above - a || (a - below == above - a && (low & 1u));
  return static_cast<uint16_t>((up ? high : low) | (std::signbit(d) ? 0x8000u : 0u));
}

}  // namespace

TEST(half_formats_round_trip) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const auto u = static_cast<uint16_t>(h);
    const float f = f16_to_float(u), b = bf16_to_float(u);
    if (std::isnan(f)) CHECK(std::isnan(f16_to_float(float_to_f16(f))));
    else CHECK_EQ(float_to_f16(f), u);
    if (std::isnan(b)) CHECK(std::isnan(bf16_to_float(float_to_bf16(b))));
    else CHECK_EQ(float_to_bf16(b), u);
  }
  CHECK_EQ(f16_to_float(0x3c00), 1.0f);
  CHECK_EQ(f16_to_float(0x7bff), 65504.0f);
  CHECK_EQ(f16_to_float(0x0001), 0x1p-24f);
  CHECK_EQ(f16_to_float(0xc000), -2.0f);
  CHECK_EQ(bf16_to_float(0x4049), 3.140625f);
  CHECK(std::isinf(f16_to_float(float_to_f16(65520.0f))));
  CHECK_EQ(f16_to_float(float_to_f16(65519.9f)), 65504.0f);
}

TEST(narrowing_rounds_once_to_nearest_even) {
  std::mt19937_64 random(7);
  std::vector<double> values;
  for (int i = 0; i < 20000; ++i) {
    const uint64_t u = random();
    double d;
    std::memcpy(&d, &u, 8);
    if (!std::isnan(d)) values.push_back(d);  // mostly far out of range
    values.push_back(std::ldexp(static_cast<double>(static_cast<int64_t>(random())), -80 + static_cast<int>(random() % 50)));
  }
  for (uint32_t h = 1; h < 0x7c00; h += 7) {  // ties of float16, and just beside them
    const double tie = (static_cast<double>(f16_to_float(static_cast<uint16_t>(h))) + static_cast<double>(f16_to_float(static_cast<uint16_t>(h - 1)))) / 2;
    for (double d : {tie, std::nextafter(tie, 0.0), std::nextafter(tie, 1e9)}) values.push_back(d);
  }
  for (uint32_t h = 1; h < 0x7f80; h += 31) {
    const double tie = (static_cast<double>(bf16_to_float(static_cast<uint16_t>(h))) + static_cast<double>(bf16_to_float(static_cast<uint16_t>(h - 1)))) / 2;
    for (double d : {tie, std::nextafter(tie, 0.0), std::nextafter(tie, 1e300)}) values.push_back(-d);
  }
  for (double d : values) {
    if (std::isinf(d)) continue;
    uint16_t f16, bf16;
    store_element(&f16, DType::kF16, 0, d);
    store_element(&bf16, DType::kBF16, 0, d);
    CHECK_EQ(f16, nearest(d, 0x7c00, f16_to_float));
    CHECK_EQ(bf16, nearest(d, 0x7f80, bf16_to_float));
    if (check::failures() > 20) return;
  }
}

TEST(checksums) {
  CHECK_EQ(crc32c("123456789", 9), 0xE3069283u);
  const std::vector<uint8_t> zeros(32, 0), ones(32, 0xff);
  CHECK_EQ(crc32c(zeros.data(), 32), 0x8A9136AAu);  // RFC 3720 B.4
  CHECK_EQ(crc32c(ones.data(), 32), 0x62A8AB43u);
  CHECK_EQ(crc32c("", 0), 0u);
  CHECK_EQ(sha("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQ(sha("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  for (size_t chunk : {1, 3, 55, 56, 64}) CHECK_EQ(sha(two, chunk), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK_EQ(sha(std::string(1000000, 'a'), 977), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(utf8) {
  for (const char* s : {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) CHECK(is_utf8(s));
  for (const char* s : {"\x80", "\xc0\x80", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "a\xff", "\xe2\x82", "\xc3("}) CHECK(!is_utf8(s));
}

// may_share against a byte map, for many small views.
TEST(views_share_bytes) {
  std::mt19937 random(3);
  const auto pick = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1)); };
  int disjoint = 0, missed = 0;
  for (int round = 0; round < 20000; ++round) {
    const uint32_t steps = static_cast<uint32_t>(pick(1, 3));
    Tensor t[2];
    std::vector<uint8_t> touched[2];
    for (int k = 0; k < 2; ++k) {
      const int64_t cols = pick(1, 4), gap = pick(0, 8), rows = pick(1, 4);
      t[k] = Tensor{0, pick(0, 1) ? DType::kF32 : DType::kBF16, 3, {pick(1, 2), rows, cols, 1}, {(cols + gap) * rows, cols + gap, 1, 0}, static_cast<uint64_t>(pick(0, 12)), pick(0, 3) ? 0 : pick(0, 20)};
      touched[k].assign(4096, 0);
      for (uint32_t s = 0; s < steps; ++s) {
        for (int64_t a = 0; a < t[k].dims[0]; ++a) {
          for (int64_t b = 0; b < rows; ++b) {
            for (int64_t c = 0; c < cols; ++c) {
              const int64_t at = static_cast<int64_t>(t[k].offset) + t[k].step_stride * s + a * t[k].strides[0] + b * t[k].strides[1] + c;
              const int64_t size = static_cast<int64_t>(dtype_size(t[k].dtype));
              for (int64_t i = 0; i < size; ++i) touched[k][static_cast<size_t>(at * size + i)] = 1;
            }
          }
        }
      }
    }
    bool share = false;
    for (size_t i = 0; i < touched[0].size(); ++i) share = share || (touched[0][i] && touched[1][i]);
    if (share) CHECK(may_share(t[0], t[1], steps));  // never denied
    else if (++disjoint && may_share(t[0], t[1], steps)) ++missed;
  }
  CHECK(disjoint > 1000);
  CHECK(missed < disjoint / 2);
  // Columns of one buffer, as attention's q, k and v are.
  Tensor q{0, DType::kF32, 3, {2, 4, 8, 1}, {96, 24, 1, 0}, 0, 0}, v = q;
  v.offset = 16;
  CHECK(!may_share(q, v, 1));
  v.offset = 7;
  CHECK(may_share(q, v, 1));
}

CHECK_MAIN()
