// The header of a safetensors file: what it says of each tensor, checked claim by claim.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/serialize.hpp"
#include "framework/serialize/file.hpp"

namespace surgeon::detail {

constexpr std::uint64_t longest_header = 100'000'000;   // bytes: the format's own limit
constexpr std::size_t highest_rank = 64;
constexpr std::size_t longest_name = 65'535;            // bytes
constexpr std::size_t most_tensors = 1'000'000;

struct SafetensorsEntry {
  std::string name;
  const Format* format = nullptr;
  Shape shape = {};
  std::uint64_t begin = 0, end = 0;   // in the bytes after the header
};

struct SafetensorsHeader {
  std::string text;
  std::vector<SafetensorsEntry> entries;   // in the order of the text
  Metadata metadata;
  std::uint64_t size() const { return 8 + text.size(); }
};

// In one pass over the text; memory is a few times its length. Throws IoError for whatever is not as it must be.
SafetensorsHeader read_safetensors_header(const OldFile& file);

std::string json_text(std::string_view text);   // as a JSON string; std::invalid_argument when it is not UTF-8

}  // namespace surgeon::detail
