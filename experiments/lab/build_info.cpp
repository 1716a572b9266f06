// CMake defines the version; git_hash() is in a file that cmake/git_hash.cmake writes.
#include "experiments/lab/build_info.hpp"

#include <filesystem>
#include <system_error>

#include "experiments/lab.hpp"

namespace surgeon {

const char* version() noexcept { return SURGEON_VERSION; }

// Beside the program, wherever it was built or installed: build/release/surgeon looks in build/share/..., and
// /usr/bin/surgeon in /usr/share/...
std::string king_james_text() {
  std::error_code unknown;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", unknown);
  return (program.parent_path().parent_path() / "share/attention_surgeon/king_james.txt").string();
}

}  // namespace surgeon
