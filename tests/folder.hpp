// For tests that write files: a folder of their own, bytes in and out, and tensors compared bit by bit.
#pragma once

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "framework/parameters.hpp"

namespace surgeon::tests {

std::filesystem::path source_folder();   // the root of the repository

// A folder of its own for each case, gone afterwards; in memory where there is such a place, since every save waits for
// the disk otherwise, and a busy one keeps us waiting for minutes.
struct Folder {
  Folder() {
    char memory[] = "/dev/shm/surgeon_test_XXXXXX", disk[] = "/tmp/surgeon_test_XXXXXX";
    const char* made = ::mkdtemp(memory);
    path = made ? made : ::mkdtemp(disk);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path operator/(const std::string& name) const { return path / name; }
  std::size_t files() const { return std::size_t(std::distance(std::filesystem::directory_iterator(path), {})); }
  std::filesystem::path path;
};

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::string raw(const Tensor& x) {
  const auto bytes = [](auto values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  };
  switch (x.dtype()) {
    case Dtype::float32: return bytes(x.values<float>());
    case Dtype::float64: return bytes(x.values<double>());
    case Dtype::int64: return bytes(x.values<std::int64_t>());
    default: return bytes(x.values<bool>());
  }
}
// Equal names, order, shapes, dtypes and bits.
inline bool equal(const Parameters& a, const Parameters& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.shape() == y.second.shape() && x.second.dtype() == y.second.dtype() &&
           raw(x.second) == raw(y.second);
  });
}

}  // namespace surgeon::tests
