// The safetensors reader against good, odd and hostile files.
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "../core/device.h"
#include "../core/weights.h"
#include "corpus.h"
#include "fixture.h"

namespace {

// Bytes of a file with this header and data.
std::string file_of(const std::string& header, size_t data_bytes) {
  std::string s;
  for (int i = 0; i < 8; ++i) s.push_back(static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i)));
  s += header;
  for (size_t i = 0; i < data_bytes; ++i) s.push_back(static_cast<char>(i));
  return s;
}

// An exact copy on the heap, so that reads past the end are seen.
ecad::Status read(const std::string& bytes, ecad::TensorTable* table) {
  std::unique_ptr<unsigned char[]> exact(new unsigned char[bytes.size() + 1]);
  std::copy(bytes.begin(), bytes.end(), exact.get());
  const ecad::Status s = ecad::read_safetensors("f", exact.get(), bytes.size(), table);
  if (s.is_ok()) {
    for (const char* name : {"a", "b", "a\xc3\xa9\n"}) {
      if (const auto* t = table->find(name)) {
        for (uint64_t i = 0; i < t->nbytes; ++i) CHECK(static_cast<uint64_t>(t->data - exact.get()) + i < bytes.size());
      }
    }
  }
  return s;
}

void refused(const std::string& header, size_t data_bytes, const char* want) {
  ecad::TensorTable table;
  const ecad::Status s = read(file_of(header, data_bytes), &table);
  check::report(s.code() == ECAD_BAD_WEIGHTS && s.message().find(want) != std::string::npos, __FILE__, __LINE__, header + ": got " + s.message() + "; want " + want);
}

const std::string kGood = R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1,3],"data_offsets":[0,24]}, "b" : {"data_offsets":[24,28],"shape":[2],"dtype":"BF16"}}   )";

class File {
 public:
  explicit File(const std::string& content) {
    std::FILE* f = fdopen(mkstemp(path), "wb");
    std::fwrite(content.data(), 1, content.size(), f);
    std::fclose(f);
  }
  ~File() { unlink(path); }
  char path[32] = "/tmp/ecad_test_XXXXXX";
};

}  // namespace

TEST(tensors_by_name) {
  auto device = open_device();
  const File file(file_of(R"({"a":{"dtype":"F32","shape":[1,2,1,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},)"
                          R"("c":{"dtype":"I64","shape":[1],"data_offsets":[26,34]},"d":{"dtype":"U8","shape":[1,1,1,1,2],"data_offsets":[34,36]}})", 36));
  ecad_weights* w = nullptr;
  CHECK_OK(ecad_weights_open(device.get(), file.path, &w, &err));
  const Handle<ecad_weights> weights(w);
  ecad_tensor_desc t{};
  CHECK_OK(ecad_weights_find(w, "a", &t, &err));
  CHECK(t.dtype == ECAD_FLOAT32 && t.rank == 4 && t.dims[0] == 1 && t.dims[1] == 2 && t.dims[2] == 1 && t.dims[3] == 3 && t.nbytes == 24);
  CHECK_EQ(static_cast<const unsigned char*>(t.data)[23], 23);
  CHECK_OK(ecad_weights_find(w, "b", &t, &err));
  CHECK(t.dtype == ECAD_BFLOAT16 && t.rank == 0 && t.dims[0] == 1 && t.nbytes == 2);
  CHECK_FAILS(ecad_weights_find(w, "c", &t, &err), ECAD_UNSUPPORTED, "\"c\" has a dtype");
  CHECK_FAILS(ecad_weights_find(w, "d", &t, &err), ECAD_UNSUPPORTED, "\"d\" has more than four dimensions");
  CHECK_FAILS(ecad_weights_find(w, "e", &t, &err), ECAD_BAD_WEIGHTS, "\"e\" is missing");
}

TEST(programs_from_files) {
  auto device = open_device();
  const auto bytes = corpus::small().bytes();
  const File good(std::string(bytes.begin(), bytes.end())), bad("ECADPROG"), empty("");
  ecad_program* p = nullptr;
  CHECK_OK(ecad_program_open(device.get(), nullptr, good.path, &p, &err));
  ecad_program_release(p);
  CHECK_FAILS(ecad_program_open(device.get(), nullptr, bad.path, &p, &err), ECAD_BAD_PROGRAM, bad.path);
  CHECK_FAILS(ecad_program_open(device.get(), nullptr, empty.path, &p, &err), ECAD_BAD_PROGRAM, "is empty");
  CHECK_FAILS(ecad_program_open(device.get(), nullptr, "/nonexistent/p", &p, &err), ECAD_IO_ERROR, "program: /nonexistent/p: cannot be opened");
  CHECK_FAILS(ecad_program_open(device.get(), nullptr, "/", &p, &err), ECAD_IO_ERROR, "is no regular file");
  CHECK(p == nullptr);
}

TEST(good_files) {
  ecad::TensorTable table;
  CHECK(read(file_of(kGood, 28), &table).is_ok());
  CHECK_EQ(table.size(), 2u);
  REQUIRE(table.find("a") != nullptr);
  CHECK_EQ(static_cast<int>(table.find("a")->rank), 2);
  CHECK_EQ(table.find("a")->dims[1], 3);
  CHECK(table.find("b")->dtype == ecad::DType::kBF16);
  CHECK(table.find("c") == nullptr);
  for (const char* header : {"{}", "{ }  ", R"({"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})", R"({"z":{"dtype":"F64","shape":[0,5],"data_offsets":[0,0]}})",
                             R"({"a\u00e9\n":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", R"({"\ud83d\ude00":{"dtype":"BOOL","shape":[1,1,1,1,1,1],"data_offsets":[0,1]}})"}) {
    ecad::TensorTable t;
    const std::string h = header;
    const size_t data = h.find("[0,8]") != std::string::npos ? 8 : h.find("[0,1]") != std::string::npos ? 1 : 0;
    const ecad::Status s = read(file_of(h, data), &t);
    check::report(s.is_ok(), __FILE__, __LINE__, s.message());
  }
}

TEST(hostile_headers) {
  refused("", 0, "does not start with '{'");
  refused(" {}", 0, "does not start with '{'");
  refused("{", 0, "");
  refused("{}x", 0, "text follows");
  refused("{\"\xff\":1}", 0, "not UTF-8");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},})", 4, "'\"' expected");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]} "b":1})", 4, "',' expected");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "two tensors are called \"a\"");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "two tensors");
  refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "two __metadata__");
  refused(R"({"__metadata__":{"a":1}})", 0, "'\"' expected");
  refused(R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4, "dtype \"F33\" is not known");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "is not the 8 bytes of its shape");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "hole or overlap at data byte 0");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})", 6, "hole or overlap");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "hole or overlap");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5, "1 bytes after the last tensor");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3, "lies outside the file's 3 bytes");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "lies outside");
  refused(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "overflows");
  refused(R"({"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,0]}})", 0, "over 2^64-1");
  refused(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}})", 0, "whole number expected");
  refused(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,0]}})", 0, "',' expected");
  refused(R"({"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}})", 4, "starts with 0");
  refused(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4, "more than 16");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,5]}})", 4, "more than 2");
  refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "two data_offsets");
  refused(R"({"a":{"dtype":"F32","dtype":"F32","data_offsets":[0,4]}})", 4, "each once");
  refused(R"({"a":{"dtype":"F32","shape":[1],"offsets":[0,4]}})", 4, "member \"offsets\" is not known");
  refused(R"({"a\x":1})", 0, "bad escape");
  refused(R"({"\ud800":1})", 0, "surrogate");
  refused(R"({"\udc00":1})", 0, "surrogate");
  refused(R"({"\u00g0":1})", 0, "bad \\u");
  refused("{\"a\nb\":1}", 0, "control character");
  ecad::TensorTable t;
  CHECK(read(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}"), &t).message().find("says its header has 18446744073709551615") != std::string::npos);
  CHECK(read("1234567", &t).message().find("too few") != std::string::npos);
}

TEST(truncated_and_damaged) {
  const std::string good = file_of(kGood, 28);
  for (size_t n = 0; n < good.size(); ++n) {
    ecad::TensorTable t;
    CHECK(read(good.substr(0, n), &t).code() == ECAD_BAD_WEIGHTS);
  }
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string b = good;
      b[at] = static_cast<char>(b[at] ^ (1 << bit));
      ecad::TensorTable t;
      const ecad::Status s = read(b, &t);
      CHECK(s.is_ok() || (s.code() == ECAD_BAD_WEIGHTS && !s.message().empty()));
    }
  }
}

TEST(files) {
  auto device = open_device();
  ecad_weights* w = nullptr;
  {
    ecad_error err = ECAD_ERROR_INIT;
    CHECK_EQ(ecad_weights_open(device.get(), "/no/such/file.safetensors", &w, &err), ECAD_IO_ERROR);
    CHECK_EQ(err.device_code, ENOENT);
    CHECK(std::strstr(err.message, "/no/such/file.safetensors: cannot be opened: No such file") != nullptr);
  }
  CHECK_FAILS(ecad_weights_open(device.get(), "/tmp", &w, &err), ECAD_IO_ERROR, "no regular file");
  const File empty("");
  CHECK_FAILS(ecad_weights_open(device.get(), empty.path, &w, &err), ECAD_BAD_WEIGHTS, "is empty");

  // Weights at an odd address, run through the whole library.
  const float values[6] = {1, 2, 3, 4, 5, 6};
  std::string bytes = file_of(R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}} )", 0);
  REQUIRE(bytes.size() % 4 != 0);
  bytes.append(reinterpret_cast<const char*>(values), sizeof values);
  const File file(bytes);
  CHECK_OK(ecad_weights_open(device.get(), file.path, &w, &err));
  Handle<ecad_weights> weights(w);
  writer::Program p;
  const uint32_t x = p.persistent("x", writer::kF32, {1, 3}), y = p.persistent("y", writer::kF32, {1, 2});
  p.op(writer::kLinear, {x, p.weight("w", {2, 3})}, {y}, {1, 1, 0});
  p.io("x", x, 1);
  p.io("y", y, 2);
  p.schedule("s", {{0, 0}});
  auto program = load(device.get(), weights.get(), p);
  weights.reset();  // the program keeps the mapping
  auto state = new_state(program.get());
  write(state.get(), "x", {1, 1, 2});
  CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, nullptr, &err));
  const auto got = read(state.get(), "y", 2);
  CHECK(got == std::vector<float>({9, 21}));
}

CHECK_MAIN()
