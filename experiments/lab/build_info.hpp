// What the build knows of itself: for --version and meta.json.
#pragma once

namespace surgeon {

const char* version() noexcept;             // "0.1.0"
const char* git_hash() noexcept;            // of HEAD when it was built; "unknown" outside a clone

}  // namespace surgeon
