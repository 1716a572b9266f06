// The one file compiled with the place of the sources, so that all others give the same object wherever they lie.
#include "tests/folder.hpp"

std::filesystem::path surgeon::tests::source_folder() { return SURGEON_SOURCE_DIR; }
