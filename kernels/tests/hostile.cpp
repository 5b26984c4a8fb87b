// What damaged and hostile files cost: refusing one allocates at most as much as the file is long, plus 1 MiB, however it is made.
#include <unistd.h>

#include <functional>

#include "../core/weights.h"
#include "allocations.h"
#include "corpus.h"

namespace {

using namespace writer;

constexpr int64_t kSlack = 1 << 20;
constexpr uint32_t kMany = 1u << 17;

// Runs `body` on an exact copy of the bytes; the most memory that it held at once must stay within the bytes' own number and kSlack.
void bounded(const std::string& what, const std::vector<uint8_t>& bytes, const std::function<void(const uint8_t*)>& body) {
  std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size() + 1]);
  std::copy(bytes.begin(), bytes.end(), exact.get());
  const int64_t before = allocations::bytes();
  allocations::reset_peak();
  body(exact.get());
  const int64_t most = allocations::peak() - before;
  check::report(most <= static_cast<int64_t>(bytes.size()) + kSlack, __FILE__, __LINE__, what + ": " + std::to_string(bytes.size()) + " bytes took " + std::to_string(most));
}

void refused_program(const std::string& what, const Program& p, const char* want) {
  const auto bytes = p.bytes();
  for (const bool load : {false, true}) {
    auto device = open_device();
    bounded(what, bytes, [&](const uint8_t* b) {
      ecad_error err = ECAD_ERROR_INIT;
      ecad_program* out = nullptr;
      const ecad_status s = load ? ecad_program_load(device.get(), nullptr, b, bytes.size(), &out, &err) : ecad_program_check(b, bytes.size(), &err);
      check::report(s == ECAD_BAD_PROGRAM && std::strstr(err.message, want) != nullptr, __FILE__, __LINE__, what + ": got " + err.message + "; want " + want);
    });
  }
}

std::string numbered(uint32_t i) {
  char s[12];
  std::snprintf(s, sizeof s, "%x", i);
  return s;
}

std::vector<uint8_t> safetensors(const std::string& header, size_t data_bytes) {
  std::vector<uint8_t> b;
  for (int i = 0; i < 8; ++i) b.push_back(static_cast<uint8_t>(static_cast<uint64_t>(header.size()) >> (8 * i)));
  b.insert(b.end(), header.begin(), header.end());
  b.resize(b.size() + data_bytes);
  return b;
}

void refused_weights(const std::string& what, const std::string& header, size_t data_bytes, const char* want) {
  const auto bytes = safetensors(header, data_bytes);
  bounded(what, bytes, [&](const uint8_t* b) {
    ecad::TensorTable table;
    const ecad::Status s = ecad::read_safetensors("f", b, bytes.size(), &table);
    check::report(s.code() == ECAD_BAD_WEIGHTS && s.message().find(want) != std::string::npos, __FILE__, __LINE__, what + ": got " + s.message() + "; want " + want);
  });
}

}  // namespace

TEST(programs_of_many_records) {
  {
    Program p;
    for (uint32_t i = 0; i < kMany; ++i) p.add_buffer(kWeight, 0, numbered(i));
    p.add_buffer(kWeight, 0, numbered(5));
    refused_program("weight buffers", p, "another weight buffer has this name");
  }
  {
    Program p;
    for (uint32_t i = 0; i < kMany; ++i) p.add_buffer(kPersistent, 4, "p");
    p.add_buffer(kPersistent, 4, "");
    refused_program("persistent buffers", p, "has no name");
  }
  {
    Program p;
    const uint32_t x = p.persistent("x", kF32, {4});
    for (uint32_t i = 0; i < kMany; ++i) p.view(x, {4}, {1});
    p.view(x, {5}, {1});
    refused_program("tensors", p, "ends at element 5");
  }
  {
    Program p;
    const uint32_t x = p.persistent("x", kF32, {4});
    for (uint32_t i = 0; i < (1u << 16); ++i) p.io(i + 1 < (1u << 16) ? numbered(i) : numbered(7), x, 1);
    refused_program("ios", p, "another io has this name");
  }
  {
    Program p;
    for (uint32_t i = 0; i < (1u << 16); ++i) p.section(1, "");
    for (uint32_t i = 0; i < (1u << 16); ++i) p.schedule("", {{i, 0}});
    p.schedules.back().items[0].second = 1;
    refused_program("sections and schedules", p, "step 1 does not exist");
  }
  {
    Program p;
    p.section(1, "");
    std::vector<std::pair<uint32_t, uint32_t>> items(1u << 20, {0, 0});
    items.back().first = 1;
    p.schedule("", items);
    refused_program("items", p, "section 1 does not exist");
  }
}

TEST(programs_of_many_ops) {
  Program p;
  const uint32_t x = p.persistent("x", kF32, {16});
  for (uint32_t i = 0; i < kMany / 2; ++i) p.op(kCopy, {x}, {p.arena(kF32, {16})}, {}, {}, "");
  Program late = p;
  late.op(kCopy, {p.arena(kF32, {16})}, {x});
  refused_program("ops", late, "does not exist");
  // All of them alive until the last op, which writes where the first one is still needed.
  Program alive = p;
  std::vector<uint32_t> all;
  for (uint32_t i = 0; i < 60000; ++i) all.push_back(i + 1);
  alive.op(kLincomb, all, {alive.arena(kF32, {16})}, {60000});
  refused_program("args of one op", alive, "terms");
  alive.ops.pop_back();
  --alive.sections.back().ops;
  const uint32_t last = alive.arena(kF32, {16});
  alive.buffers.back().offset = alive.buffers[1].offset;
  alive.op(kCopy, {x}, {last}, {}, {}, "");
  for (uint32_t i = 0; i < kMany / 2; i += 2000) {
    std::vector<uint32_t> terms;
    for (uint32_t k = i; k < std::min(i + 2000, kMany / 2); ++k) terms.push_back(k + 1);
    const auto n = static_cast<int32_t>(terms.size());
    terms.push_back(alive.constant(kF64, {n}, std::vector<double>(terms.size(), 1.0).data()));
    alive.op(kLincomb, terms, {x}, {n}, {}, "");
  }
  refused_program("arena buffers alive", alive, "in the same arena bytes");
}

TEST(programs_that_lie_about_sizes) {
  for (size_t field = 0; field < 8; ++field) {
    for (const uint32_t count : {0xffffu, 0xfffffu, 0x3fffffu, 0x7fffffffu, 0xffffffffu}) {
      auto bytes = corpus::small().bytes();
      std::memcpy(bytes.data() + 60 + 4 * field, &count, 4);
      bounded("a count", bytes, [&](const uint8_t* b) { CHECK_EQ(ecad_program_check(b, bytes.size(), nullptr), ECAD_BAD_PROGRAM); });
    }
  }
  for (const size_t field : {96, 104}) {
    for (const uint64_t size : {uint64_t{1} << 24, uint64_t{1} << 32, uint64_t{1} << 63, UINT64_MAX}) {
      auto bytes = corpus::small().bytes();
      std::memcpy(bytes.data() + field, &size, 8);
      bounded("a size", bytes, [&](const uint8_t* b) { CHECK_EQ(ecad_program_check(b, bytes.size(), nullptr), ECAD_BAD_PROGRAM); });
    }
  }
}

TEST(weights_of_many_tensors_and_long_names) {
  std::string many = "{";
  for (uint32_t i = 0; i < 32767; ++i) many += "\"" + numbered(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
  refused_weights("equal names at the end", many + R"("7":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "two tensors are called \"7\"");
  refused_weights("too many", many + R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "more than 32768 tensors");
  const std::string large(4 << 20, 'n');
  refused_weights("a long name", "{\"" + large + "\\n" + large + R"(":{}})", 0, "more than 65536 bytes");
  refused_weights("a long dtype", R"({"a":{"dtype":")" + large + "\"}}", 0, "more than 65536 bytes");
  refused_weights("long metadata", R"({"__metadata__":{"a":")" + large + "\\n" + large + "\",\"" + large + R"(":1}})", 0, "'\"' expected");
  refused_weights("a hole after many", many + R"("z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "hole or overlap");
}

TEST(weights_larger_than_memory) {
  for (const char* shape : {"[9223372036854775808]", "[9223372036854775807]", "[4294967296,4294967296]", "[2,9223372036854775807]", "[18446744073709551615]"}) {
    refused_weights(shape, std::string(R"({"a":{"dtype":"F32","shape":)") + shape + R"(,"data_offsets":[0,18446744073709551615]}})", 8, "tensor \"a\"");
  }
  std::vector<uint8_t> bytes = safetensors("{}", 0);
  for (const uint64_t size : {uint64_t{100'000'001}, uint64_t{1} << 63, UINT64_MAX}) {
    std::memcpy(bytes.data(), &size, 8);
    bounded("a header length", bytes, [&](const uint8_t* b) {
      ecad::TensorTable table;
      CHECK_EQ(ecad::read_safetensors("f", b, bytes.size(), &table).code(), ECAD_BAD_WEIGHTS);
    });
  }
}

CHECK_MAIN()
