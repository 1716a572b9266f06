// safetensors: eight bytes with the length of the header, the header in JSON, the numbers. The header is text from
// anywhere: every claim in it is checked against the file's size before anything is allocated for it.
#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "framework/detail/node.hpp"
#include "framework/serialize/file.hpp"

namespace surgeon {

using detail::fail;
using detail::Format;
using detail::OldFile;
using detail::Region;
using nlohmann::json;

namespace {

constexpr std::uint64_t longest_header = 100'000'000;   // the format's own limit
constexpr std::string_view checksum_key = "surgeon.crc32";
constexpr std::string_view no_checksum = "00000000";    // in its place while it is computed

std::string hexadecimal(std::uint32_t number) {
  std::string text;
  for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[number >> shift & 15];
  return text;
}

// The text as a JSON string; refuses what is not UTF-8.
std::string json_text(std::string_view text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    throw std::invalid_argument("save_safetensors: a name or a text in the metadata is not UTF-8");
  }
}

// ---- The header: reading -------------------------------------------------------------------------------------------

struct Entry {
  std::string name;
  const Format* format;
  Shape shape;
  std::uint64_t begin, end;   // in the bytes after the header
};

struct Header {
  std::string text;
  std::vector<Entry> entries;   // in the order of the text
  Metadata metadata;
  std::uint64_t size() const { return 8 + text.size(); }
};

std::string read_text(const OldFile& file) {
  std::uint64_t length = 0;
  Region(file, 0, 8).read(&length, 8);
  if (length > longest_header) fail(file.path(), "the header is ", length, " bytes long; the format allows ",
                                    longest_header);
  return Region(file, 8, length).text(length);
}

// The names in the order of the text, which json itself forgets. It would also keep the last of equal names in silence.
json parse(const OldFile& file, const std::string& text, std::vector<std::string>& names) {
  constexpr int deepest = 3;   // header, tensor, shape
  std::unordered_set<std::string> seen[deepest + 1];
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > deepest) fail(file.path(), "the header is nested too deeply");
    if (event == json::parse_event_t::object_start) seen[std::min(depth + 1, deepest)].clear();
    if (event == json::parse_event_t::key) {
      const auto& name = value.get_ref<const std::string&>();
      if (!seen[depth].insert(name).second) fail(file.path(), "the header has ", json_text(name), " twice");
      if (depth == 1) names.push_back(name);
    }
    return true;
  };
  if (text.empty() || text.front() != '{') fail(file.path(), "the header does not begin with {");
  try {
    return json::parse(text, watch);
  } catch (const json::parse_error& error) {
    fail(file.path(), "the header is not JSON in UTF-8: see its byte ", error.byte);
  } catch (const json::exception&) {   // a number past what a double holds
    fail(file.path(), "the header holds a number that is out of range");
  }
}

std::vector<std::uint64_t> whole_numbers(const OldFile& file, const json& entry, const char* key, const Entry& of) {
  const auto list = entry.find(key);
  const auto fits = [](const json& n) {
    return n.is_number_unsigned() && n.get<std::uint64_t>() <= std::uint64_t(std::numeric_limits<std::int64_t>::max());
  };
  if (list == entry.end() || !list->is_array() || !std::all_of(list->begin(), list->end(), fits))
    fail(file.path(), "tensor ", json_text(of.name), ": its ", key, " must be a list of whole numbers");
  return list->get<std::vector<std::uint64_t>>();
}

Entry read_entry(const OldFile& file, const std::string& name, const json& value) {
  Entry entry{name, nullptr, {}, 0, 0};
  const auto wrong = [&](const auto&... parts) { fail(file.path(), "tensor ", json_text(name), ": ", parts...); };
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value["dtype"].is_string())
    wrong("must be described by dtype, shape and data_offsets alone");
  const std::string dtype = value["dtype"];
  entry.format = detail::safetensors_format(dtype);
  if (!entry.format) wrong("dtype ", json_text(dtype), " is not supported");
  for (std::uint64_t size : whole_numbers(file, value, "shape", entry)) entry.shape.push_back(std::int64_t(size));
  const std::vector<std::uint64_t> offsets = whole_numbers(file, value, "data_offsets", entry);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) wrong("its data_offsets must be a begin and an end");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  try {
    if (std::uint64_t(count(entry.shape) * entry.format->bytes) != entry.end - entry.begin)
      wrong(dtype, " ", entry.shape, " does not fit the ", entry.end - entry.begin, " bytes it is given");
  } catch (const std::length_error& error) {
    wrong(error.what());
  }
  return entry;
}

Metadata read_metadata(const OldFile& file, const json& value) {
  Metadata metadata;
  if (!value.is_object()) fail(file.path(), "__metadata__ must be an object");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) fail(file.path(), "__metadata__ holds a value that is not a string");
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

Header read_header(const OldFile& file) {
  Header header{read_text(file), {}, {}};
  std::vector<std::string> names;
  const json parsed = parse(file, header.text, names);
  for (const std::string& name : names) {
    if (name == "__metadata__") header.metadata = read_metadata(file, parsed[name]);
    else header.entries.push_back(read_entry(file, name, parsed[name]));
  }
  return header;
}

// ---- The numbers: reading ------------------------------------------------------------------------------------------

// The entries in the order of their bytes, which they must share out without gap or overlap, to the end of the file.
std::vector<std::size_t> order_of_bytes(const OldFile& file, const Header& header) {
  const std::vector<Entry>& entries = header.entries;
  std::vector<std::size_t> order(entries.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(entries[a].begin, entries[a].end) < std::pair(entries[b].begin, entries[b].end);
  });
  std::uint64_t end = 0;
  for (std::size_t i : order) {
    if (entries[i].begin != end)
      fail(file.path(), "tensor ", json_text(entries[i].name), " begins at byte ", entries[i].begin,
           " of the numbers, but the one before it ends at ", end);
    end = entries[i].end;
  }
  if (end != file.size() - header.size())
    fail(file.path(), "the header describes ", end, " bytes of numbers, but the file has ",
         file.size() - header.size());
  return order;
}

// The CRC-32 of the header with zeros in place of the checksum; to be continued over the numbers.
std::uint32_t checksum_of_header(const std::string& text, std::size_t place) {
  std::uint32_t crc = detail::crc32(std::string_view(text).substr(0, place));
  crc = detail::crc32(no_checksum, crc);
  return detail::crc32(std::string_view(text).substr(place + no_checksum.size()), crc);
}

// Where the header of a file of ours has its checksum; npos where it is not written as we write it.
std::size_t place_of_checksum(const std::string& text) {
  const std::string pattern = json_text(checksum_key) + ":\"";
  const std::size_t key = text.find(pattern);
  const bool fits = key != std::string::npos && text.size() - key >= pattern.size() + no_checksum.size();
  return fits ? key + pattern.size() : std::string::npos;
}

// All tensors, in the order of their bytes; the checksum is compared when the last is read.
std::vector<Tensor> read_numbers(const OldFile& file, const Header& header) {
  const auto stored = header.metadata.find(std::string(checksum_key));
  const std::size_t place = place_of_checksum(header.text);
  const bool ours = stored != header.metadata.end();
  if (ours && place == std::string::npos) fail(file.path(), "the checksum is not where it should be");
  Region numbers(file, header.size(), file.size() - header.size(), ours ? checksum_of_header(header.text, place) : 0);
  std::vector<Tensor> tensors(header.entries.size());
  for (std::size_t i : order_of_bytes(file, header))
    tensors[i] = detail::read_tensor(numbers, *header.entries[i].format, header.entries[i].shape);
  if (ours && hexadecimal(numbers.crc()) != stored->second)
    fail(file.path(), "is damaged, or was changed by another program: its checksum is ", hexadecimal(numbers.crc()),
         ", not ", json_text(stored->second));
  return tensors;
}

// ---- Writing -------------------------------------------------------------------------------------------------------

// The order the numbers are written in: wide ones first, so that each is aligned in the file.
std::vector<Tensor> by_width(const Parameters& tensors) {
  std::vector<Tensor> sorted = tensors.tensors();
  std::stable_sort(sorted.begin(), sorted.end(), [](const Tensor& a, const Tensor& b) {
    return element_size(a.dtype()) > element_size(b.dtype());
  });
  return sorted;
}

std::string metadata_text(const Metadata& metadata) {
  std::string text = "{";
  for (const auto& [key, value] : metadata) text += json_text(key) + ":" + json_text(value) + ",";
  return text + json_text(checksum_key) + ":" + json_text(no_checksum) + "}";
}

std::string header_text(const Parameters& tensors, const Metadata& metadata) {
  // A tensor may have two names, and then two places: the places are dealt out in the order by_width() writes.
  std::map<std::int64_t, std::uint64_t> next;   // by width: where its next tensor begins
  for (const auto& [name, x] : tensors)
    for (std::int64_t width : {1, 4, 8})
      if (width < element_size(x.dtype())) next[width] += std::uint64_t(x.size() * element_size(x.dtype()));
  std::string text = "{\"__metadata__\":" + metadata_text(metadata);
  for (const auto& [name, x] : tensors) {
    std::uint64_t& begin = next[element_size(x.dtype())];
    const std::uint64_t end = begin + std::uint64_t(x.size() * element_size(x.dtype()));
    text += sentence(",", json_text(name), ":{\"dtype\":\"", detail::format_of(x.dtype()).safetensors,
                     "\",\"shape\":", json(x.shape()).dump(), ",\"data_offsets\":[", begin, ",", end, "]}");
    begin = end;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

void save_safetensors(const std::filesystem::path& path, const Parameters& tensors, const Metadata& metadata) {
  for (const auto& [name, x] : tensors)
    require(x.defined() && name != "__metadata__", "save_safetensors: \"", name, "\" ",
            x.defined() ? "is a reserved name" : "has no values");
  require(!metadata.contains(std::string(checksum_key)), "save_safetensors: the metadata key ", checksum_key,
          " is reserved");
  std::string header = header_text(tensors, metadata);
  require(header.size() <= longest_header, "save_safetensors: the header would be ", header.size(),
          " bytes long; the format allows ", longest_header);
  const std::vector<Tensor> numbers = by_width(tensors);
  const std::size_t place = place_of_checksum(header);
  std::uint32_t crc = checksum_of_header(header, place);
  for (const Tensor& x : numbers) crc = detail::crc32(detail::bytes_of(x), crc);
  header.replace(place, no_checksum.size(), hexadecimal(crc));

  detail::NewFile file(path);
  const std::uint64_t length = header.size();
  file.write({reinterpret_cast<const char*>(&length), 8});
  file.write(header);
  for (const Tensor& x : numbers) file.write(detail::bytes_of(x));
  file.commit();
}

TensorFile load_safetensors(const std::filesystem::path& path) {
  const OldFile file(path);
  Header header = read_header(file);
  TensorFile loaded;
  const std::vector<Tensor> tensors = read_numbers(file, header);
  for (std::size_t i = 0; i < tensors.size(); ++i) loaded.tensors.add(header.entries[i].name, tensors[i]);
  header.metadata.erase(std::string(checksum_key));
  loaded.metadata = std::move(header.metadata);
  return loaded;
}

Metadata load_metadata(const std::filesystem::path& path) {
  Metadata metadata = read_header(OldFile(path)).metadata;
  metadata.erase(std::string(checksum_key));
  return metadata;
}

}  // namespace surgeon
