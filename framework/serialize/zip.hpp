// Zip archives (PKWARE's APPNOTE, 4.3 to 4.5): what .npz and PyTorch's .pt files are. Members as they are or packed by
// deflate; zip64 is read, not written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/serialize/file.hpp"

namespace surgeon::detail::zip {

enum Method : std::uint16_t { as_it_is = 0, deflated = 8 };

struct Member {
  std::string name;
  Method method = as_it_is;
  std::uint32_t crc = 0;
  std::uint64_t header_begin = 0, begin = 0;   // begin: of the member's own bytes
  std::uint64_t stored = 0, bytes = 0;         // in the archive, and unpacked
};

// The members in the directory's order; IoError for an archive that contradicts itself, is encrypted, or packed in
// another way. `kind` is what the file should be, for the message: ".npz".
std::vector<Member> read_directory(const OldFile& file, const char* kind);
Region region_of(const OldFile& file, const Member& member);
void check(const Region& region, const Member& member);   // IoError unless all was read and the checksum fits

// What is written before a member's bytes, and after all members.
inline constexpr std::uint64_t limit = 0xffffffff;   // 4 GiB: what lies beyond would need zip64
std::uint64_t header_size(const Member& member);
std::string local_header(const Member& member);
std::string directory_of(const std::vector<Member>& members);

}  // namespace surgeon::detail::zip
