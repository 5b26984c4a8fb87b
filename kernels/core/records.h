// The records of program bytes, read where they lie: nothing is copied but one record at a time, so a check of hostile bytes needs no memory
// that grows with them. Each reader checks the form of its record; what records say of each other is for validate_*.cpp.
#pragma once
#include <cstddef>
#include <string_view>

#include "program.h"
#include "status.h"

namespace ecad {

enum TableId { kBuffers, kTensors, kArgs, kOps, kSections, kIos, kSchedules, kItems, kTables };

struct ScheduleRange {
  std::string_view name;
  uint32_t first_item, num_items;
};

class Records {
 public:
  // Checks header, places of the tables, padding and checksum. The bytes stay with the caller, who keeps them until the last use of this.
  Status open(const uint8_t* bytes, size_t nbytes);

  uint32_t count(TableId t) const { return tables_[t].count; }
  uint32_t minor_version() const { return minor_; }
  uint32_t num_steps() const { return num_steps_; }
  uint64_t arena_bytes() const { return arena_bytes_; }
  std::string_view strings() const { return {reinterpret_cast<const char*>(bytes_ + strings_at_), string_bytes_}; }
  const uint8_t* constants() const { return bytes_ + constants_at_; }
  uint64_t constant_bytes() const { return nbytes_ - constants_at_; }
  const uint8_t* layout_hash() const { return bytes_ + 24; }
  const uint8_t* record(TableId t, uint32_t i) const { return bytes_ + tables_[t].at + uint64_t{i} * tables_[t].record_bytes; }

  // Names view the caller's bytes. in and out of an op get their full number of operands (PROGRAM.md lets the absent ones at the end be left
  // out); their memory is used again from call to call. An op's section, flops and bytes, a buffer's persistent_index are not set.
  Status buffer(uint32_t i, Buffer* out) const;
  Status tensor(uint32_t i, Tensor* out) const;
  Status op(uint32_t i, Op* out) const;
  Status section(uint32_t i, Section* out) const;
  Status io(uint32_t i, Io* out) const;
  Status schedule(uint32_t i, ScheduleRange* out) const;
  RunItem item(uint32_t i) const;
  // Args as the record has them, before absent ones are filled in.
  uint32_t first_arg(uint32_t op) const;
  uint32_t stored_args(uint32_t op) const;

 private:
  struct Table {
    const char* what;
    uint32_t count, record_bytes, limit;
    uint64_t at;
  };
  Status header();
  Status places();
  Status pad(uint64_t* at, uint64_t align) const;
  Status name(uint32_t at, uint32_t length, const char* what, uint32_t index, std::string_view* out) const;
  Status args(uint32_t op, uint32_t first, uint32_t count, std::vector<uint32_t>* out) const;

  const uint8_t* bytes_ = nullptr;
  size_t nbytes_ = 0;
  Table tables_[kTables] = {{"buffers", 0, 48, 1u << 20, 0},  {"tensors", 0, 96, 1u << 20, 0}, {"args", 0, 4, 1u << 22, 0},       {"ops", 0, 96, 1u << 20, 0},
                            {"sections", 0, 32, 1u << 16, 0}, {"ios", 0, 16, 1u << 16, 0},     {"schedules", 0, 16, 1u << 16, 0}, {"items", 0, 8, 1u << 20, 0}};
  uint32_t minor_ = 0, num_steps_ = 0, crc_ = 0;
  uint64_t arena_bytes_ = 0, string_bytes_ = 0, constant_bytes_ = 0, strings_at_ = 0, constants_at_ = 0;
};

}  // namespace ecad
