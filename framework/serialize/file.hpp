// Bytes in and out of files for serialize.hpp: whole-or-nothing writing, checked reading, CRC-32, and how numbers are
// stored there. What the bytes mean is in safetensors.cpp, npy.cpp, npz.cpp; deflate.hpp packs and unpacks them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "framework/errors.hpp"
#include "framework/serialize.hpp"

namespace surgeon::detail {

class Unpacker;   // in deflate.hpp

// Throws IoError "FILE: parts".
template <class... Parts>
[[noreturn]] void fail(const std::filesystem::path& path, const Parts&... parts) {
  throw IoError(sentence(path.string(), ": ", parts...));
}

// The CRC-32 of zip and gzip; `before` is that of what came before.
std::uint32_t crc32(std::string_view bytes, std::uint32_t before = 0) noexcept;
std::string_view bytes_of(const Tensor& x) noexcept;   // its numbers as they lie in memory

// Becomes the file on commit(); without it nothing is left behind. One writer of a name at a time: others wait.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  void write(std::string_view bytes);
  void commit(Sync sync = Sync::now);

 private:
  NewFile() = default;   // what the constructor starts from, so that a throw in it cleans up
  void open_temporary();
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

// A regular file that is read.
class OldFile {
 public:
  explicit OldFile(const std::filesystem::path& path);
  ~OldFile();
  OldFile(const OldFile&) = delete;
  OldFile& operator=(const OldFile&) = delete;
  std::uint64_t size() const noexcept { return size_; }
  const std::filesystem::path& path() const noexcept { return path_; }
  void read(std::uint64_t offset, void* into, std::size_t bytes) const;
  std::size_t read_some(std::uint64_t offset, void* into, std::size_t bytes) const;   // 0 at the end

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

// The bytes [offset, offset + bytes) of a file, read from front to back, with the CRC-32 of `before` and those read.
class Region {
 public:
  Region(const OldFile& file, std::uint64_t offset, std::uint64_t bytes, std::uint32_t before = 0);
  // `bytes` bytes that the file holds packed, as `unpacker` reads them.
  Region(const OldFile& file, std::uint64_t bytes, std::unique_ptr<Unpacker> unpacker);
  ~Region();
  void read(void* into, std::size_t bytes);   // IoError when they are not there
  std::string text(std::size_t bytes);
  std::uint64_t left() const noexcept { return left_; }
  std::uint32_t crc() const noexcept { return crc_; }
  const std::filesystem::path& path() const noexcept { return file_.path(); }

 private:
  const OldFile& file_;
  std::uint64_t offset_, left_;
  std::uint32_t crc_;
  std::unique_ptr<Unpacker> unpacker_;   // null where the bytes are stored as they are
};

// How numbers are stored in a file, and what they become.
struct Format {
  const char* safetensors;   // "F32"; null where there is none
  const char* numpy;         // "<f4"
  std::int64_t bytes;        // of one number in the file
  Dtype dtype;               // that it becomes
  bool (*widen)(const std::byte* from, std::int64_t n, void* into);   // null: as it is; false: no such number
};
const Format& format_of(Dtype dtype);
const Format* safetensors_format(std::string_view name);   // null when unknown
const Format* numpy_format(std::string_view name);
// A tensor from the next bytes. They must be there: compare count(shape) * bytes with left() before.
Tensor read_tensor(Region& region, const Format& format, const Shape& shape);
// The same from memory, with as many bytes as the shape needs; `path` is for errors.
Tensor read_tensor(std::string_view bytes, const Format& format, const Shape& shape, const std::filesystem::path& path);

// The bytes of a .npy before its numbers; and the tensor of a .npy that fills the region.
std::string npy_header(const Tensor& x);
Tensor read_npy(Region& region);

static_assert(std::endian::native == std::endian::little, "these files are little-endian, and so must the machine be");

}  // namespace surgeon::detail
