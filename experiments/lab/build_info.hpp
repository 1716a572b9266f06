// What the build knows about itself, for --version and meta.json.
#pragma once

namespace surgeon {

const char* version() noexcept;             // "0.1.0"
const char* git_hash() noexcept;            // HEAD when it was built, with "-dirty" where files were changed; "unknown" outside a clone

}  // namespace surgeon
