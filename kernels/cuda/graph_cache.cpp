#include "executor.h"

namespace ecad::cuda {

const Graph* GraphCache::find(const Key& key, uint64_t stamp) {
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (!(it->key == key)) continue;
    if (it->stamp != stamp) {  // captured with addresses that are no more
      entries_.erase(it);
      return nullptr;
    }
    entries_.splice(entries_.begin(), entries_, it);
    return &entries_.front().graph;
  }
  return nullptr;
}

Graph* GraphCache::add(const Key& key, uint64_t stamp) {
  while (entries_.size() >= kMost) entries_.pop_back();
  entries_.emplace_front();
  entries_.front().key = key;
  entries_.front().stamp = stamp;
  return &entries_.front().graph;
}

void GraphCache::measured(uint64_t nanoseconds, uint64_t bytes) {
  ++captured_;
  nanoseconds_ += nanoseconds;
  entries_.front().bytes = bytes;
}

void GraphCache::forget(const CudaExecutor* owner) {
  entries_.remove_if([owner](const Entry& e) { return e.key.owner == owner; });
}

void GraphCache::forget(const Key& key) {
  entries_.remove_if([&key](const Entry& e) { return e.key == key; });
}

GraphStats GraphCache::stats() const {
  GraphStats s{captured_, 0, nanoseconds_};
  for (const Entry& e : entries_) s.bytes += e.bytes;
  return s;
}

}  // namespace ecad::cuda
