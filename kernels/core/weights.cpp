#include "weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dtype.h"
#include "text.h"

namespace ecad {
namespace {

template <class... Args>
Status bad_weights(const Args&... args) { return Status(ECAD_BAD_WEIGHTS, text("weights: ", args...)); }


std::string shape_text(const int64_t* dims, size_t rank) {
  std::string s = "[";
  for (size_t i = 0; i < rank; ++i) s += text(i ? "," : "", dims[i]);
  return s + "]";
}

// dims without those of 1; the number that are left, 5 for more than four.
uint8_t squeeze(const int64_t* dims, size_t rank, int64_t out[4]) {
  uint8_t kept = 0;
  for (int i = 0; i < 4; ++i) out[i] = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (dims[i] == 1) continue;
    if (kept == 4) return 5;
    out[kept++] = dims[i];
  }
  return kept;
}

Status check_desc(const ecad_tensor_desc& d, size_t index) {
  if (d.name == nullptr || d.name[0] == 0) return Status(ECAD_INVALID_ARGUMENT, text("weights: tensor ", index, " has no name"));
  if (d.dtype < ECAD_FLOAT32 || d.dtype > ECAD_UINT8) return Status(ECAD_INVALID_ARGUMENT, text("weights: ", d.name, ": dtype ", d.dtype, " is not known"));
  if (d.rank < 0 || d.rank > 4) return Status(ECAD_INVALID_ARGUMENT, text("weights: ", d.name, ": rank ", d.rank, " is outside 0..4"));
  uint64_t bytes = dtype_size(static_cast<DType>(d.dtype));
  for (int32_t i = 0; i < d.rank; ++i) {
    if (d.dims[i] < 0) return Status(ECAD_INVALID_ARGUMENT, text("weights: ", d.name, ": dim ", i, " is ", d.dims[i]));
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(d.dims[i]), &bytes)) return Status(ECAD_INVALID_ARGUMENT, text("weights: ", d.name, ": its shape overflows"));
  }
  if (bytes != d.nbytes) return Status(ECAD_SHAPE_MISMATCH, text("weights: ", d.name, ": has ", d.nbytes, " bytes, its shape needs ", bytes));
  if (d.data == nullptr && bytes > 0) return Status(ECAD_INVALID_ARGUMENT, text("weights: ", d.name, ": data is NULL"));
  return Status::ok();
}

}  // namespace

void TensorTable::reserve(size_t tensors, size_t name_bytes) {
  tensors_.reserve(tensors);
  names_.reserve(name_bytes);
}

void TensorTable::add(std::string_view name, DType dtype, const int64_t* dims, size_t rank, const unsigned char* data, uint64_t nbytes) {
  StoredTensor t{};
  t.name_at = static_cast<uint32_t>(names_.size());
  t.name_length = static_cast<uint32_t>(name.size());
  t.index = static_cast<uint32_t>(tensors_.size());
  t.dtype = dtype;
  t.rank = squeeze(dims, rank, t.dims);
  t.full_rank = static_cast<uint8_t>(std::min<size_t>(rank, 255));
  for (size_t i = 0; i < std::min<size_t>(rank, 4); ++i) t.ones = static_cast<uint8_t>(t.ones | (dims[i] == 1) << i);
  t.data = data;
  t.nbytes = nbytes;
  names_.append(name);
  tensors_.push_back(t);
}

void TensorTable::sort_by_place() {
  std::sort(tensors_.begin(), tensors_.end(), [](const StoredTensor& a, const StoredTensor& b) { return a.data != b.data ? a.data < b.data : a.nbytes < b.nbytes; });
}

Status TensorTable::sort() {
  std::sort(tensors_.begin(), tensors_.end(), [this](const StoredTensor& a, const StoredTensor& b) { return name(a) < name(b); });
  for (size_t i = 1; i < tensors_.size(); ++i) {
    if (name(tensors_[i - 1]) == name(tensors_[i])) return bad_weights("two tensors are called \"", name(tensors_[i]), "\"");
  }
  return Status::ok();
}

const StoredTensor* TensorTable::find(std::string_view wanted) const {
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), wanted, [this](const StoredTensor& t, std::string_view n) { return name(t) < n; });
  return it != tensors_.end() && name(*it) == wanted ? &*it : nullptr;
}

void MappedFile::let_go(const unsigned char* data, uint64_t nbytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t from = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page, to = (reinterpret_cast<uintptr_t>(data) + nbytes) / page * page;
  if (from < to) (void)madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);  // a hint: without it the pages stay
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<unsigned char*>(data_), size_);
}

Status MappedFile::open(const char* path, const char* what, ecad_status empty) {
  const auto io_error = [&](const char* problem, int code) {
    return Status(ECAD_IO_ERROR, text(what, ": ", path, ": ", problem, ": ", std::strerror(code))).with_device_code(code);
  };
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return io_error("cannot be opened", errno);
  struct stat info;
  void* data = MAP_FAILED;
  int code = 0;
  const char* problem = "cannot be mapped";
  if (fstat(fd, &info) != 0) {
    code = errno;
  } else if (!S_ISREG(info.st_mode)) {
    problem = "is no regular file";
    code = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
  } else if (info.st_size == 0) {
    close(fd);
    return Status(empty, text(what, ": ", path, ": is empty"));
  } else {
    data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) code = errno;
  }
  close(fd);
  if (data == MAP_FAILED) return io_error(problem, code);
  data_ = static_cast<const unsigned char*>(data);
  size_ = static_cast<uint64_t>(info.st_size);
  return Status::ok();
}

Status Weights::create(std::shared_ptr<Device> device, const ecad_tensor_desc* descs, size_t count, const ecad_weights_source* source, std::shared_ptr<Weights>* out) {
  std::shared_ptr<Weights> weights(new Weights(std::move(device)));
  size_t name_bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    ECAD_TRY(check_desc(descs[i], i));
    name_bytes += std::strlen(descs[i].name);
  }
  if (count > 0xffffffu || name_bytes > 0xffffffffu) return Status(ECAD_INVALID_ARGUMENT, text("weights: ", count, " tensors are too many"));
  weights->table_.reserve(count, name_bytes);
  for (size_t i = 0; i < count; ++i) {
    const ecad_tensor_desc& d = descs[i];
    weights->table_.add(d.name, static_cast<DType>(d.dtype), d.dims, static_cast<size_t>(d.rank), static_cast<const unsigned char*>(d.data), d.nbytes);
  }
  ECAD_TRY(weights->table_.sort());
  weights->holds_.resize(count);
  if (source != nullptr) weights->source_ = *source;  // last: until here a failure leaves it to the caller
  *out = std::move(weights);
  return Status::ok();
}

Status Weights::open(std::shared_ptr<Device> device, const char* path, std::shared_ptr<Weights>* out) {
  std::shared_ptr<Weights> weights(new Weights(std::move(device)));
  ECAD_TRY(weights->file_.open(path, "weights", ECAD_BAD_WEIGHTS));
  ECAD_TRY(read_safetensors(path, weights->file_.data(), weights->file_.size(), &weights->table_));
  weights->holds_.resize(weights->table_.size());
  *out = std::move(weights);
  return Status::ok();
}

Weights::~Weights() {
  if (cache_ != nullptr) {
    (void)device_->call([this] {
      cache_.reset();
      device_->note_memory();
      return Status::ok();
    });
  }
  if (source_.release != nullptr) source_.release(source_.user);
}

WeightCache* Weights::cache() {
  if (cache_ == nullptr) {
    cache_ = device_->backend().new_weight_cache();
    if (cache_ != nullptr) cache_->bytes = this;
  }
  return cache_.get();
}

Status Weights::hold(uint32_t id) {
  const StoredTensor& t = table_.at(id);
  if (holds_[id] == 0 && source_.need != nullptr && source_.need(source_.user, t.index) != 0)
    return Status(ECAD_IO_ERROR, text("weights: tensor \"", table_.name(t), "\": its source cannot provide it"));
  ++holds_[id];
  return Status::ok();
}

void Weights::let_go(uint32_t id) {
  if (--holds_[id] > 0) return;
  const StoredTensor& t = table_.at(id);
  if (source_.drop != nullptr) source_.drop(source_.user, t.index);
  if (file_.data() != nullptr) MappedFile::let_go(t.data, t.nbytes);
}

Status Weights::find(std::string_view name, const Tensor& t, WeightView* out) const {
  const StoredTensor* stored = table_.find(name);
  if (stored == nullptr) return bad_weights("tensor \"", name, "\" is missing");
  int64_t dims[4];
  const uint8_t rank = squeeze(t.dims.data(), t.rank, dims);
  const bool filter = stored->rank == 2 && rank > 2 && dims[0] == stored->dims[0] && t.count() / dims[0] == stored->dims[1];
  if (!filter && (stored->rank != rank || !std::equal(dims, dims + 4, stored->dims))) {
    const std::string have = stored->rank > 4 ? "of more than four dims" : shape_text(stored->dims, stored->rank);
    return bad_weights("tensor \"", name, "\" is ", have, " (dims of 1 left out), the program needs ", dims_text(t));
  }
  if (!is_float(stored->dtype)) return bad_weights("tensor \"", name, "\" is no float32, float16, bfloat16 or float64");
  *out = WeightView{&t, stored->dtype, stored->data, table_.id(stored)};
  return Status::ok();
}

Status Weights::describe(const char* name, ecad_tensor_desc* out) const {
  const StoredTensor* stored = table_.find(name);
  if (stored == nullptr) return bad_weights("tensor \"", name, "\" is missing");
  if (stored->full_rank > 4 || stored->dtype == DType::kAny) {
    return Status(ECAD_UNSUPPORTED, text("weights: tensor \"", name, "\" has ", stored->full_rank > 4 ? "more than four dimensions" : "a dtype that ecad.h does not list"));
  }
  *out = ecad_tensor_desc{name, static_cast<int32_t>(stored->dtype), stored->full_rank, {1, 1, 1, 1}, stored->data, stored->nbytes};
  for (int32_t i = 0, kept = 0; i < out->rank; ++i) out->dims[i] = (stored->ones >> i & 1) != 0 ? 1 : stored->dims[kept++];
  return Status::ok();
}

}  // namespace ecad
