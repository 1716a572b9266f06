// Size classes: multiples of 64 bytes up to 1 KiB, then four to each doubling. A thread keeps what it frees, up to a
// limit, without locks; blocks may be freed on another thread than they were made on.
#include "framework/kernels/pool.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <new>
#include <utility>

namespace surgeon::kernels {
namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t small_limit = 1024;
constexpr std::size_t small_classes = small_limit / alignment;
constexpr std::size_t largest = std::size_t{1} << 32;          // larger blocks are not kept
constexpr std::size_t classes = small_classes + 4 * 22 + 1;
constexpr std::size_t keep_limit = std::size_t{1} << 30;       // bytes a thread may keep

std::size_t class_of(std::size_t bytes) {
  if (bytes <= small_limit) return bytes == 0 ? 0 : (bytes - 1) / alignment;
  const std::size_t doubling = std::size_t(std::bit_width(bytes - 1)) - 11;   // 0 for (1024, 2048]
  const std::size_t quarter = (bytes - 1) >> (doubling + 8) & 3;
  return small_classes + 4 * doubling + quarter;
}

std::size_t bytes_of(std::size_t index) {
  if (index < small_classes) return (index + 1) * alignment;
  const std::size_t doubling = (index - small_classes) / 4, quarter = (index - small_classes) % 4;
  return (std::size_t{1024} << doubling) + (quarter + 1) * (std::size_t{256} << doubling);
}

void* from_system(std::size_t bytes) {
  void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (!block) throw std::bad_alloc();
  return block;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool keeps = false;   // a kept block would hide use after free
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool keeps = false;
#else
constexpr bool keeps = true;
#endif
#else
constexpr bool keeps = true;
#endif

struct Kept {
  Kept* next;
};

struct Cache {
  std::array<Kept*, classes> heads{};
  std::size_t kept_bytes = 0;

  void trim(std::size_t target) noexcept {   // largest first
    for (std::size_t i = classes; i-- > 0 && kept_bytes > target;)
      while (heads[i] && kept_bytes > target) {
        std::free(std::exchange(heads[i], heads[i]->next));
        kept_bytes -= bytes_of(i);
      }
  }
  ~Cache();
};

// Tensors may outlive the thread's cache (statics): then blocks go straight to the system.
thread_local bool gone = false;
thread_local Cache cache;
Cache::~Cache() {
  trim(0);
  gone = true;
}

}  // namespace

void* allocate(std::size_t bytes) {
  if (!keeps || bytes > largest || gone) return from_system(std::max<std::size_t>(bytes, 1));
  const std::size_t index = class_of(bytes);
  if (Kept*& head = cache.heads[index]) {
    cache.kept_bytes -= bytes_of(index);
    return std::exchange(head, head->next);
  }
  return from_system(bytes_of(index));
}

void deallocate(void* block, std::size_t bytes) noexcept {
  if (!block) return;
  if (!keeps || bytes > largest || gone) return std::free(block);
  const std::size_t index = class_of(bytes);
  cache.heads[index] = new (block) Kept{cache.heads[index]};
  cache.kept_bytes += bytes_of(index);
  if (cache.kept_bytes > keep_limit) cache.trim(keep_limit / 2);
}

}  // namespace surgeon::kernels
