// Writes a small program to a file, for the C test.
#include <cstdio>

#include "corpus.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto bytes = corpus::small().bytes();
  std::FILE* f = std::fopen(argv[1], "wb");
  if (f == nullptr) return 1;
  const bool good = std::fwrite(bytes.data(), 1, bytes.size(), f) == bytes.size();
  return std::fclose(f) == 0 && good ? 0 : 1;
}
