// fuzz_seeds DIR: writes the seed inputs of the fuzz targets into DIR/program, DIR/safetensors and DIR/api.
#include <sys/stat.h>

#include "../tests/corpus.h"

namespace {

void save(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::FILE* f = std::fopen(path.c_str(), "wb");
  if (f == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), f) != bytes.size() || std::fclose(f) != 0) {
    std::perror(path.c_str());
    std::exit(1);
  }
}

std::vector<uint8_t> safetensors(const std::string& header, size_t data_bytes) {
  std::vector<uint8_t> b;
  for (int i = 0; i < 8; ++i) b.push_back(static_cast<uint8_t>(header.size() >> (8 * i)));
  b.insert(b.end(), header.begin(), header.end());
  b.resize(b.size() + data_bytes, 0x3e);
  return b;
}

// Every weight of corpus::every_op, so that the whole way to a loaded program is open.
std::vector<uint8_t> whole_weights() {
  std::string header = "{";
  uint64_t at = 0;
  for (const ecad_tensor_desc& d : corpus::tensors()) {
    header += (at > 0 ? ",\"" : "\"") + std::string(d.name) + R"(":{"dtype":"F32","shape":[)";
    for (int32_t i = 0; i < d.rank; ++i) header += (i > 0 ? "," : "") + std::to_string(d.dims[i]);
    header += R"(],"data_offsets":[)" + std::to_string(at) + "," + std::to_string(at + d.nbytes) + "]}";
    at += d.nbytes;
  }
  return safetensors(header + "}", at);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string to = argc > 1 ? argv[1] : ".";
  for (const char* name : {"", "/program", "/safetensors", "/api"}) (void)mkdir((to + name).c_str(), 0755);
  save(to + "/program/small", corpus::small().bytes());
  save(to + "/program/every_op", corpus::every_op().bytes());
  save(to + "/program/joint", corpus::joint().bytes());
  save(to + "/program/empty", writer::Program().bytes());
  save(to + "/safetensors/whole", whole_weights());
  save(to + "/safetensors/empty", safetensors("{}", 0));
  save(to + "/safetensors/odd", safetensors(R"({"__metadata__":{"a":"b\n"}, "\u0061\ud83d\ude00" : {"data_offsets":[4,6],"shape":[1,1],"dtype":"BF16"},"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   )", 6));
  // Load a program, make a state, write its input, run it, fork, run, read; then with checks, times, a callback and a cancel.
  save(to + "/api/life", {2, 0, 1, 1, 0, 1, 0, 9, 9, 4, 0, 0, 9, 9, 6, 1, 1, 2, 0, 1, 2, 9, 9, 9, 9, 16, 0, 0, 1, 1, 0, 9, 9, 5, 0, 0, 9, 9, 9, 9, 31, 0, 0, 0, 1, 1, 0, 9, 9, 8, 1, 2, 0, 1, 2, 9, 9, 9});
  save(to + "/api/weights", {1, 0, 1, 1, 1, 0, 9, 2, 1, 1, 1, 0, 0, 0, 9, 9, 4, 0, 0, 9, 9, 12, 13, 1, 0, 11, 1, 1, 0, 0, 0, 15, 0, 0, 15, 3, 0});
}
