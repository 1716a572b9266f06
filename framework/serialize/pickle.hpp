// Python's pickle, as far as tensors need it: dicts, lists, tuples, numbers, text, and PyTorch's words for a tensor. It is
// read as a description; nothing in it is ever called. Whatever else it asks for is refused by name.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace surgeon::detail::pickle {

struct Value {
  // sequence: a list or a tuple. dict: keys and values in turn. global: "module.name". storage: its persistent id,
  // ("storage", global, key, place, elements). tensor: (storage, offset, shape, strides, ...).
  enum class Kind { nothing, boolean, integer, real, text, sequence, dict, global, storage, tensor };
  Kind kind = Kind::nothing;
  std::int64_t integer = 0;
  std::string_view text = {};
  std::vector<Value>* items = nullptr;   // owned by the Pickle: Python's lists may hold themselves
};

class Pickle {
 public:
  // IoError for what is no pickle, or asks for more than the above, or makes more than 4,000,000 values.
  Pickle(const std::filesystem::path& path, std::string text);
  Pickle(const Pickle&) = delete;
  Pickle& operator=(const Pickle&) = delete;
  const Value& root() const noexcept { return root_; }

 private:
  struct Reader;
  std::string text_;
  std::deque<std::string> names_;                // of globals
  std::deque<std::vector<Value>> containers_;
  Value root_;
};

}  // namespace surgeon::detail::pickle
