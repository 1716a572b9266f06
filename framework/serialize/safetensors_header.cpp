// The header's text comes from anywhere. It is read event by event: nlohmann's tree with a callback takes quadratic
// time.
#include "framework/serialize/safetensors_header.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>

#include <nlohmann/json.hpp>

namespace surgeon::detail {

using nlohmann::json;

std::string json_text(std::string_view text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    throw std::invalid_argument("save_safetensors: a name or a text in the metadata is not UTF-8");
  }
}

namespace {

using Numbers = std::vector<std::uint64_t>;

// The events of {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}.
class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const OldFile& file) : file_(file) {}

  std::vector<SafetensorsEntry> take_entries() {
    std::sort(names_.begin(), names_.end());
    const auto twin = std::adjacent_find(names_.begin(), names_.end());
    if (twin != names_.end()) twice(*twin);
    return std::move(entries_);
  }
  // Sorted first: a million keys in any order, put into a map one by one, would miss the cache at every step.
  Metadata take_metadata() {
    if (!std::is_sorted(texts_.begin(), texts_.end())) std::sort(texts_.begin(), texts_.end());
    const auto twin = std::adjacent_find(texts_.begin(), texts_.end(),
                                         [](const auto& a, const auto& b) { return a.first == b.first; });
    if (twin != texts_.end()) twice(twin->first);
    return {std::move_iterator(texts_.begin()), std::move_iterator(texts_.end())};
  }

  bool start_object(std::size_t) override {
    if (depth_ == 1 && place_ == Place::metadata) in_metadata_ = true;
    else if (depth_ == 1) parts_ = {};
    else if (depth_ != 0) wrong_value();
    ++depth_;
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1) {
      if (!std::exchange(in_metadata_, false)) finish_entry();
      place_ = Place::none;
    }
    return true;
  }
  bool key(std::string& key) override {
    if (key.size() > longest_name)
      fail(file_.path(), "the header has a name of ", key.size(), " bytes; at most ", longest_name, " are read");
    if (depth_ == 1) begin_name(key);
    else if (in_metadata_) texts_.emplace_back(std::move(key), "");
    else begin_part(key);
    return true;
  }
  bool string(std::string& text) override {
    if (in_metadata_ && depth_ == 2) texts_.back().second = std::move(text);
    else if (depth_ == 2 && place_ == Place::dtype) parts_.dtype = std::move(text);
    else wrong_value();
    return true;
  }
  bool start_array(std::size_t) override {
    if (in_list_ || (depth_ == 2 && in_metadata_)) too_deep();
    if (depth_ != 2 || (place_ != Place::shape && place_ != Place::offsets)) wrong_value();
    in_list_ = true;
    list().emplace();
    return true;
  }
  bool end_array() override {
    in_list_ = false;
    return true;
  }
  bool number_unsigned(std::uint64_t number) override {
    if (!in_list_ || number > std::uint64_t(std::numeric_limits<std::int64_t>::max())) wrong_value();
    if (list()->size() >= highest_rank) wrong("its ", place_name(), " has more than ", highest_rank, " numbers");
    list()->push_back(number);
    return true;
  }
  bool number_integer(std::int64_t) override { wrong_value(); }
  bool number_float(double, const std::string&) override { wrong_value(); }
  bool boolean(bool) override { wrong_value(); }
  bool null() override { wrong_value(); }
  bool binary(json::binary_t&) override { wrong_value(); }
  bool parse_error(std::size_t place, const std::string&, const json::exception& error) override {
    if (error.id == 406) fail(file_.path(), "the header holds a number that is out of range");   // out_of_range
    fail(file_.path(), "the header is not JSON in UTF-8: see its byte ", place);
  }

 private:
  enum class Place { metadata, none, dtype, shape, offsets };
  struct Parts {
    std::optional<std::string> dtype = {};
    std::optional<Numbers> shape = {}, offsets = {};
  };

  void begin_name(std::string& key) {
    if (names_.size() > most_tensors) fail(file_.path(), "the header has more than ", most_tensors, " tensors");
    names_.push_back(key);
    place_ = key == "__metadata__" ? Place::metadata : Place::none;
    if (place_ == Place::none) entries_.push_back({std::move(key)});
  }
  void begin_part(const std::string& key) {
    place_ = key == "dtype"          ? Place::dtype
             : key == "shape"        ? Place::shape
             : key == "data_offsets" ? Place::offsets
                                     : Place::none;
    if (place_ == Place::none) not_described();
    if (place_ == Place::dtype ? parts_.dtype.has_value() : list().has_value()) twice(key);
  }
  std::optional<Numbers>& list() { return place_ == Place::shape ? parts_.shape : parts_.offsets; }
  const char* place_name() const { return place_ == Place::shape ? "shape" : "data_offsets"; }

  void finish_entry() {
    if (!parts_.dtype || !parts_.shape || !parts_.offsets) not_described();
    SafetensorsEntry& entry = entries_.back();
    entry.format = safetensors_format(*parts_.dtype);
    if (!entry.format) wrong("dtype ", json_text(*parts_.dtype), " is not supported");
    entry.shape.assign(parts_.shape->begin(), parts_.shape->end());
    if (parts_.offsets->size() != 2 || (*parts_.offsets)[0] > (*parts_.offsets)[1])
      wrong("its data_offsets must be a begin and an end");
    entry.begin = (*parts_.offsets)[0];
    entry.end = (*parts_.offsets)[1];
    try {
      if (std::uint64_t(count(entry.shape) * entry.format->bytes) != entry.end - entry.begin)
        wrong(*parts_.dtype, " ", entry.shape, " does not fit the ", entry.end - entry.begin, " bytes it is given");
    } catch (const std::length_error& error) {
      wrong(error.what());
    }
  }

  template <class... Parts_>
  [[noreturn]] void wrong(const Parts_&... parts) const {
    fail(file_.path(), "tensor ", json_text(entries_.back().name), ": ", parts...);
  }
  [[noreturn]] void not_described() const { wrong("must be described by dtype, shape and data_offsets alone"); }
  [[noreturn]] void twice(const std::string& key) const {
    fail(file_.path(), "the header has ", json_text(key), " twice");
  }
  [[noreturn]] void too_deep() const { fail(file_.path(), "the header is nested too deeply"); }
  // A value of the wrong kind where the header stands now.
  [[noreturn]] void wrong_value() const {
    if (depth_ == 0) fail(file_.path(), "the header does not begin with {");
    if (in_list_ || place_ == Place::shape || place_ == Place::offsets)
      wrong("its ", place_name(), " must be a list of whole numbers");
    if (in_metadata_) fail(file_.path(), "__metadata__ holds a value that is not a string");
    if (place_ == Place::metadata) fail(file_.path(), "__metadata__ must be an object");
    if (depth_ > 2) too_deep();
    not_described();
  }

  const OldFile& file_;
  std::vector<SafetensorsEntry> entries_;
  std::vector<std::string> names_;
  std::vector<std::pair<std::string, std::string>> texts_;   // of the metadata
  Parts parts_;
  Place place_ = Place::none;
  int depth_ = 0;
  bool in_metadata_ = false, in_list_ = false;
};

std::string read_text(const OldFile& file) {
  std::uint64_t length = 0;
  Region(file, 0, 8).read(&length, 8);
  if (length > longest_header)
    fail(file.path(), "the header is ", length, " bytes long; the format allows ", longest_header);
  return Region(file, 8, length).text(length);
}

}  // namespace

SafetensorsHeader read_safetensors_header(const OldFile& file) {
  SafetensorsHeader header{read_text(file), {}, {}};
  if (header.text.empty() || header.text.front() != '{') fail(file.path(), "the header does not begin with {");
  HeaderReader reader(file);
  json::sax_parse(header.text, &reader);
  header.entries = reader.take_entries();
  header.metadata = reader.take_metadata();
  return header;
}

}  // namespace surgeon::detail
