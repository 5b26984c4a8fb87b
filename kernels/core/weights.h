// A checkpoint's tensors in host memory, by name, and what a backend packed from them.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device.h"

namespace ecad {

// dims without those of 1, which is how shapes are compared. rank 5: more than four dims are left; no program can use it.
// full_rank and ones (bit i: dim i is 1) give back the shape as it was, if that had at most four dims.
struct StoredTensor {
  uint32_t name_at, name_length;  // in the table's names
  uint32_t index;                 // its place among the tensors as they were given
  DType dtype;                    // kAny: a type that programs cannot use
  uint8_t rank, full_rank, ones;
  int64_t dims[4];
  const unsigned char* data;
  uint64_t nbytes;
};

// Tensors sorted by name.
class TensorTable {
 public:
  void reserve(size_t tensors, size_t name_bytes);
  // dims: as stored, any rank.
  void add(std::string_view name, DType, const int64_t* dims, size_t rank, const unsigned char* data, uint64_t nbytes);
  void sort_by_place();  // for checks of the data; find needs the other order
  Status sort();         // refuses equal names
  size_t size() const { return tensors_.size(); }
  const StoredTensor& at(size_t i) const { return tensors_[i]; }
  const StoredTensor* find(std::string_view name) const;  // null: none
  uint32_t id(const StoredTensor* t) const { return static_cast<uint32_t>(t - tensors_.data()); }
  const StoredTensor& at(uint32_t id) const { return tensors_[id]; }
  std::string_view name(const StoredTensor& t) const { return std::string_view(names_).substr(t.name_at, t.name_length); }

 private:
  std::vector<StoredTensor> tensors_;
  std::string names_;
};

// A file mapped for reading. A file that is cut while it is mapped ends the process (SIGBUS), as with every mapped file.
class MappedFile {
 public:
  MappedFile() = default;
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  // what ("weights", "program") begins messages; empty is the code of a file without bytes.
  Status open(const char* path, const char* what, ecad_status empty);
  const unsigned char* data() const { return data_; }
  uint64_t size() const { return size_; }
  // Gives the memory of whole pages inside these bytes back; reading them again reads the file.
  static void let_go(const unsigned char* data, uint64_t nbytes);

 private:
  const unsigned char* data_ = nullptr;
  uint64_t size_ = 0;
};

// Reads the header of a safetensors file (hostile until proven otherwise) into a sorted table of views into data.
Status read_safetensors(const char* path, const unsigned char* data, uint64_t size, TensorTable* out);

class Weights final : private WeightBytes {
 public:
  // source: null when the tensors' bytes are always there. Weights that were made own it.
  static Status create(std::shared_ptr<Device>, const ecad_tensor_desc*, size_t count, const ecad_weights_source* source, std::shared_ptr<Weights>* out);
  static Status open(std::shared_ptr<Device>, const char* path, std::shared_ptr<Weights>* out);
  ~Weights() override;

  const std::shared_ptr<Device>& device() const { return device_; }
  // The tensor that a program calls `name` with the shape of `t`. id is its place in the table.
  Status find(std::string_view name, const Tensor& t, WeightView* out) const;
  bool packed() const { return cache_ != nullptr; }  // a program has been bound to it
  Status describe(const char* name, ecad_tensor_desc* out) const;
  // On the device's thread.
  WeightCache* cache();  // made when first asked for
  Status hold(uint32_t id) override;
  void let_go(uint32_t id) override;

 private:
  explicit Weights(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  std::shared_ptr<Device> device_;
  MappedFile file_;
  TensorTable table_;
  ecad_weights_source source_ = ECAD_WEIGHTS_SOURCE_INIT;
  std::vector<uint32_t> holds_;  // by id
  std::unique_ptr<WeightCache> cache_;
};

}  // namespace ecad
