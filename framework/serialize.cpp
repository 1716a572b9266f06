// Whole files of text or any bytes.
#include "framework/serialize.hpp"

#include <algorithm>

#include "framework/serialize/file.hpp"

namespace surgeon {

void write_file(const std::filesystem::path& path, std::string_view bytes, Sync sync) {
  detail::NewFile file(path);
  file.write(bytes);
  file.commit(sync);
}

std::string read_file(const std::filesystem::path& path, std::uint64_t most) {
  const detail::OldFile file(path);
  const auto check = [&](std::uint64_t size) {
    if (size > most) detail::fail(path, "has more than ", most, " bytes");
  };
  check(file.size());
  // One byte more than expected, to see the end; sizes may be said too small, as in /proc, or change meanwhile.
  std::string bytes(std::size_t(file.size()) + 1, '\0');
  std::size_t have = 0;
  while (const std::size_t got = file.read_some(have, &bytes[have], bytes.size() - have)) {
    have += got;
    check(have);
    if (have == bytes.size()) bytes.resize(std::size_t(std::min<std::uint64_t>(2 * have + 4096, most + 1)));
  }
  bytes.resize(have);
  return bytes;
}

}  // namespace surgeon
