// SmallList: a vector whose first N elements live inside it, so that for most ops it allocates nothing.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace surgeon {

template <class T, std::size_t N>
class SmallList {
 public:
  template <std::convertible_to<T>... Items>
    requires(sizeof...(Items) <= N)
  SmallList(Items&&... items) : inline_{T(std::forward<Items>(items))...}, size_(sizeof...(Items)) {}
  explicit SmallList(std::span<const T> items) { for (const T& item : items) push_back(item); }

  void push_back(T item) {
    if (size_ < N) inline_[size_] = std::move(item);
    else {
      if (size_ == N) spill();
      heap_.push_back(std::move(item));
    }
    ++size_;
  }
  std::size_t size() const { return size_; }
  T* begin() { return size_ > N ? heap_.data() : inline_; }
  const T* begin() const { return size_ > N ? heap_.data() : inline_; }
  T* end() { return begin() + size_; }
  const T* end() const { return begin() + size_; }
  T& operator[](std::size_t i) { return begin()[i]; }
  const T& operator[](std::size_t i) const { return begin()[i]; }
  operator std::span<const T>() const { return {begin(), size_}; }

 private:
  void spill() {
    for (T& item : inline_) heap_.push_back(std::move(item));
  }
  T inline_[N] = {};
  std::vector<T> heap_;
  std::size_t size_ = 0;
};

}  // namespace surgeon
