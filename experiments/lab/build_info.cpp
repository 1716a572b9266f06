// The one file that is compiled again after every commit; CMakeLists.txt defines what it returns.
#include "experiments/lab.hpp"
#include "experiments/lab/build_info.hpp"

namespace surgeon {

const char* version() noexcept { return SURGEON_VERSION; }
const char* git_hash() noexcept { return SURGEON_GIT_HASH; }
std::string king_james_text() { return SURGEON_TEXT_FILE; }

}  // namespace surgeon
