// Memory for tensors: 64-byte aligned blocks, kept by size class for the next tensor, since fresh pages cost more than
// the arithmetic done in them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace surgeon::kernels {

void* allocate(std::size_t bytes);                           // std::bad_alloc; never null, also for 0 bytes
void deallocate(void* block, std::size_t bytes) noexcept;    // bytes as asked for

// Scratch memory inside a kernel, freed at the end of the scope.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t n) : bytes_(sizeof(T) * std::size_t(n)), data_(static_cast<T*>(allocate(bytes_))) {}
  ~Scratch() { deallocate(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() { return data_; }
  T& operator[](std::int64_t i) { return data_[i]; }

 private:
  std::size_t bytes_;
  T* data_;
};

}  // namespace surgeon::kernels
