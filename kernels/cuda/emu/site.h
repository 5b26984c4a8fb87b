// The place in a kernel's source that called a wrapper: how the emulator tells accesses, collectives and faults apart.
#pragma once

namespace ecad::cuda::emu {

struct Site {
  const char* file;
  int line;
  bool operator==(const Site& o) const { return line == o.line && file == o.file; }
  bool operator!=(const Site& o) const { return !(*this == o); }
};

}  // namespace ecad::cuda::emu
