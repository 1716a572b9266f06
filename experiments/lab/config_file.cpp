// toml++ knows TOML; which of it are options is decided here.
#include "experiments/lab/config_file.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "experiments/lab.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

constexpr std::uint64_t largest = 1 << 20;

[[noreturn]] void refuse(const std::string& path, const toml::source_region& place, const std::string& why) {
  throw UsageError(fmt::format("--config: {}, line {}: {}", path, place.begin.line, why));
}

// A number, a truth value or a text.
std::string text_of(const std::string& path, const std::string& name, const toml::node& node) {
  if (const auto* text = node.as_string()) {
    if (text->get().find('\0') != std::string::npos) refuse(path, node.source(), name + " holds the character U+0000");
    return text->get();
  }
  if (const auto* whole = node.as_integer()) return fmt::format("{}", whole->get());
  if (const auto* real = node.as_floating_point()) return fmt::format("{}", real->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  refuse(path, node.source(), name + " is neither a number nor a text, true, false or a list of these");
}

std::string list_of(const std::string& path, const std::string& name, const toml::array& list) {
  std::string text;
  for (const toml::node& entry : list) {
    const std::string one = text_of(path, name, entry);
    if (entry.is_string() && one.find(',') != std::string::npos)
      refuse(path, entry.source(), name + ": an entry of a list has a comma");
    text += (text.empty() ? "" : ",") + one;
  }
  return text;
}

void add_keys(const std::string& path, const std::string& section, const toml::table& table,
              std::vector<Setting>& settings) {
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (name.find('\0') != std::string::npos) refuse(path, node.source(), "a name holds the character U+0000");
    const toml::table* inner = node.as_table();
    if (inner && !section.empty()) refuse(path, node.source(), "a section inside [" + section + "]");
    if (inner) add_keys(path, name, *inner, settings);
    else {
      const toml::array* list = node.as_array();
      settings.push_back({section, name, list ? list_of(path, name, *list) : text_of(path, name, node),
                          std::int64_t(node.source().begin.line)});
    }
  }
}

}  // namespace

std::vector<Setting> read_config_file(const std::string& path) {
  std::vector<Setting> settings;
  try {
    add_keys(path, "", toml::parse(read_file(path, largest)), settings);
  } catch (const IoError& error) {
    throw UsageError(fmt::format("--config: {}", error.what()));
  } catch (const toml::parse_error& error) {
    refuse(path, error.source(), std::string(error.description()));
  }
  std::stable_sort(settings.begin(), settings.end(),
                   [](const Setting& a, const Setting& b) { return a.line < b.line; });
  return settings;
}

}  // namespace surgeon
