# Writes FILE, which says of which commit TREE is, and whether it was changed since: "0123456789ab-dirty". GIT runs it.
set(hash unknown)
if(GIT)
  execute_process(COMMAND ${GIT} describe --always --dirty --abbrev=12 --exclude=* WORKING_DIRECTORY ${TREE}
                  RESULT_VARIABLE failed OUTPUT_VARIABLE answer OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT failed)
    set(hash ${answer})
  endif()
endif()
set(text "// Written by cmake/git_hash.cmake.
#include \"experiments/lab/build_info.hpp\"

namespace surgeon {
const char* git_hash() noexcept { return \"${hash}\"; }
}  // namespace surgeon
")
if(EXISTS ${FILE})
  file(READ ${FILE} before)
endif()
if(NOT text STREQUAL before)
  file(WRITE ${FILE} "${text}")
endif()
