// What the build knows about itself, for --version and meta.json.
#pragma once

namespace surgeon {

const char* version() noexcept;             // "0.1.0"
// HEAD when it was built, with "-dirty" where files had been changed; "unknown" outside a clone.
const char* git_hash() noexcept;

}  // namespace surgeon
