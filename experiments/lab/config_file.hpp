// The file of --config: TOML 1.0, keys at the top or under [EXPERIMENT].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace surgeon {

// One key: its value as one would type it, a list with commas. The section is empty at the top.
struct Setting { std::string section, name, text; std::int64_t line; };

// In the order of the lines. UsageError, with the line, for what is not TOML, and for values that no option takes.
std::vector<Setting> read_config_file(const std::string& path);

}  // namespace surgeon
