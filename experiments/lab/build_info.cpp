// The one file that is compiled again with every commit; CMakeLists.txt gives it its names.
#include "experiments/lab/build_info.hpp"

namespace surgeon {

const char* version() noexcept { return SURGEON_VERSION; }
const char* git_hash() noexcept { return SURGEON_GIT_HASH; }
const char* king_james_text() noexcept { return SURGEON_TEXT_FILE; }

}  // namespace surgeon
