// What the build knows of itself: for --version, meta.json, and the default of `train text`.
#pragma once

namespace surgeon {

const char* version() noexcept;             // "0.1.0"
const char* git_hash() noexcept;            // of HEAD when it was built; "unknown" outside a clone
const char* king_james_text() noexcept;     // the file that the set-up step writes; it may be missing

}  // namespace surgeon
