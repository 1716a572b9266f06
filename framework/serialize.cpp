// Whole files of text or any bytes.
#include "framework/serialize.hpp"

#include "framework/serialize/file.hpp"

namespace surgeon {

void write_file(const std::filesystem::path& path, std::string_view bytes, Sync sync) {
  detail::NewFile file(path);
  file.write(bytes);
  file.commit(sync);
}

}  // namespace surgeon
