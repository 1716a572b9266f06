// Deflate (RFC 1951), through zlib, as the members of a zip archive are packed.
#pragma once

#define ZLIB_CONST   // what zlib reads is const then
#include <zlib.h>

#include <array>
#include <string>
#include <string_view>

#include "framework/serialize/file.hpp"

namespace surgeon::detail {

// The parts, one after the other, packed.
std::string packed(std::string_view first, std::string_view second);

// Reads, from front to back, what the `stored` bytes of the file from `offset` unpack to. IoError where they cannot.
class Unpacker {
 public:
  Unpacker(const OldFile& file, std::uint64_t offset, std::uint64_t stored);
  ~Unpacker();
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;
  void read(void* into, std::size_t bytes);

  static constexpr std::uint64_t most = 1032;   // bytes that one packed byte can stand for

 private:
  void refill();

  const OldFile& file_;
  std::uint64_t offset_, left_;   // packed bytes still in the file
  std::array<unsigned char, 1 << 16> chunk_;
  z_stream stream_{};
};

}  // namespace surgeon::detail
