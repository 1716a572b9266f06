// PyTorch's .pt: a zip archive of one pickle, data.pkl, that says where each tensor lies in which of the members data/0,
// data/1, ... (torch/serialization.py).
#include <algorithm>
#include <cstring>
#include <map>

#include "framework/detail/node.hpp"
#include "framework/ops.hpp"
#include "framework/serialize/pickle.hpp"
#include "framework/serialize/zip.hpp"

namespace surgeon {
namespace {

using detail::fail;
using detail::OldFile;
using detail::Region;
using detail::pickle::Value;
using detail::zip::Member;
using Kind = Value::Kind;

constexpr std::size_t longest_name = 65535, longest_pickle = 256 << 20;
constexpr int deepest = 64;

// "FloatStorage" -> the format that safetensors calls F32.
const detail::Format* format_of_storage(std::string_view global) {
  static const std::map<std::string_view, std::string_view> names = {
      {"torch.FloatStorage", "F32"},     {"torch.DoubleStorage", "F64"}, {"torch.HalfStorage", "F16"},
      {"torch.BFloat16Storage", "BF16"}, {"torch.LongStorage", "I64"},   {"torch.IntStorage", "I32"},
      {"torch.ShortStorage", "I16"},     {"torch.CharStorage", "I8"},    {"torch.ByteStorage", "U8"},
      {"torch.BoolStorage", "BOOL"}};
  const auto found = names.find(global);
  return found == names.end() ? nullptr : detail::safetensors_format(found->second);
}

class Archive {
 public:
  explicit Archive(const std::filesystem::path& path) : file_(path) {
    for (Member& member : detail::zip::read_directory(file_, ".pt")) {
      const std::string name = member.name;
      if (name == "data.pkl" || name.ends_with("/data.pkl")) folder_ = name.substr(0, name.size() - 8);
      members_.emplace(name, std::move(member));
    }
    if (!members_.contains(folder_ + "data.pkl")) fail(path, "is not a .pt file: it has no data.pkl");
    if (const auto order = members_.find(folder_ + "byteorder"); order != members_.end())
      if (text(order->second, 16) != "little") fail(path, "was written on a big-endian machine");
  }

  std::string pickle() const { return text(members_.at(folder_ + "data.pkl"), longest_pickle); }

  // The tensor that `made`, of Value's kind tensor, describes.
  Tensor tensor(const Value& made, const std::string& name) {
    const std::vector<Value>& parts = *made.items;
    const Storage& storage = storage_of(*parts[0].items, name);
    const Shape shape = sizes(parts[2], name), strides = sizes(parts[3], name);
    const std::int64_t offset = parts[1].integer;
    if (shape.size() != strides.size() || shape.size() > 64)
      fail(file_.path(), name, ": ", strides.size(), " strides for the shape ", shape);
    check_within(shape, strides, offset, storage.numbers.size(), name);
    if (offset == 0 && count(shape) == storage.numbers.size() && is_contiguous(shape, strides))
      return detail::share(storage.numbers, shape);
    spend(double(count(shape)) * double(storage.bytes));
    return copied(storage.numbers, shape, strides, offset);
  }

 private:
  std::string text(const Member& member, std::uint64_t longest) const {
    if (member.bytes > longest) fail(file_.path(), member.name, " is ", member.bytes, " bytes long; the limit is ", longest);
    Region region = detail::zip::region_of(file_, member);
    std::string read = region.text(member.bytes);
    detail::zip::check(region, member);
    return read;
  }

  struct Storage {
    Tensor numbers;
    std::int64_t bytes = 0;   // of one number in the file
  };

  // It is read once, however many tensors share it.
  const Storage& storage_of(const std::vector<Value>& id, const std::string& name) {
    const std::string key = std::string(id[1].text) + " " + std::string(id[2].text);
    if (const auto known = storages_.find(key); known != storages_.end()) return known->second;
    const detail::Format* format = format_of_storage(id[1].text);
    if (!format) fail(file_.path(), name, ": numbers of ", std::string(id[1].text), " are not supported");
    const auto member = members_.find(folder_ + "data/" + std::string(id[2].text));
    if (member == members_.end())
      fail(file_.path(), name, ": its numbers, data/", std::string(id[2].text), ", are missing");
    const std::int64_t elements = id[4].integer;
    if (elements < 0 || std::uint64_t(elements) != member->second.bytes / std::uint64_t(format->bytes))
      fail(file_.path(), name, ": ", elements, " numbers in ", member->second.bytes, " bytes");
    spend(double(member->second.bytes));
    Region region = detail::zip::region_of(file_, member->second);
    const Tensor read = detail::read_tensor(region, *format, {elements});
    detail::zip::check(region, member->second);
    return storages_.emplace(key, Storage{read, format->bytes}).first->second;
  }

  // A small file may describe many tensors that share their numbers, each to be copied.
  void spend(double bytes) {
    budget_ -= bytes;
    if (budget_ < 0) fail(file_.path(), "its tensors are more than four times as large as the file");
  }

  Shape sizes(const Value& list, const std::string& name) const {
    Shape read;
    for (const Value& size : *list.items) {
      if (size.kind != Kind::integer || size.integer < 0)
        fail(file_.path(), name, ": a shape or a stride that is not a number from 0 up");
      read.push_back(size.integer);
    }
    return read;
  }

  void check_within(const Shape& shape, const Shape& strides, std::int64_t offset, std::int64_t elements,
                    const std::string& name) const {
    double last = double(offset), numbers = 1;
    bool any = true;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      last += double(shape[axis] - 1) * double(strides[axis]);
      numbers *= double(std::max<std::int64_t>(shape[axis], 1));
      any = any && shape[axis] > 0;
    }
    if (numbers > 0x1p53 || (any && (offset < 0 || last >= double(elements))))
      fail(file_.path(), name, ": shape ", shape, " reaches beyond its ", elements, " numbers");
  }

  static bool is_contiguous(const Shape& shape, const Shape& strides) {
    std::int64_t step = 1;
    for (std::size_t axis = shape.size(); axis-- > 0; step *= shape[axis])
      if (shape[axis] != 1 && strides[axis] != step) return false;
    return true;
  }

  static Tensor copied(const Tensor& storage, const Shape& shape, const Shape& strides, std::int64_t offset) {
    const Tensor made = detail::make(shape, storage.dtype());
    const std::size_t size = std::size_t(element_size(storage.dtype()));
    const auto* from = static_cast<const std::byte*>(storage.node().data);
    auto* to = static_cast<std::byte*>(made.node().data);
    Shape index(shape.size(), 0);
    for (std::int64_t i = 0, place = offset; i < made.size(); ++i) {
      std::memcpy(to + std::size_t(i) * size, from + std::size_t(place) * size, size);
      for (std::size_t axis = shape.size(); axis-- > 0;) {   // the next index, and where it lies
        place += strides[axis];
        if (++index[axis] < shape[axis]) break;
        place -= shape[axis] * strides[axis];
        index[axis] = 0;
      }
    }
    return made;
  }

  OldFile file_;
  std::string folder_;
  std::map<std::string, Member> members_;
  std::map<std::string, Storage> storages_;
  double budget_ = 4.0 * double(file_.size()) + (1 << 20);   // bytes, as stored, that may still be made
};

// The tensors below a value, named by the way there.
class Walk {
 public:
  Walk(const std::filesystem::path& path, Archive& archive) : path_(path), archive_(archive) {}

  void visit(const Value& value, const std::string& name, int depth) {
    if (depth > deepest) fail(path_, name.substr(0, 60), " is nested more than ", deepest, " deep");
    if (name.size() > longest_name) fail(path_, "a name is longer than ", longest_name, " bytes");
    if (++visited_ > 4'000'000) fail(path_, "holds more than 4000000 values");
    if (value.kind == Kind::tensor) {
      if (found.contains(name)) fail(path_, "has the tensor ", name, " twice");
      found.add(name, archive_.tensor(value, name));
    }
    const auto below = [&](std::string_view key) { return name.empty() ? std::string(key) : name + "." + std::string(key); };
    if (value.kind == Kind::sequence)
      for (std::size_t i = 0; i < value.items->size(); ++i)
        visit((*value.items)[i], below(std::to_string(i)), depth + 1);
    if (value.kind == Kind::dict)
      for (std::size_t i = 0; i + 1 < value.items->size(); i += 2) {
        const Value& key = (*value.items)[i];
        if (key.kind == Kind::text) visit((*value.items)[i + 1], below(key.text), depth + 1);
        else if (key.kind == Kind::integer) visit((*value.items)[i + 1], below(std::to_string(key.integer)), depth + 1);
      }
  }

  Parameters found = {};

 private:
  const std::filesystem::path& path_;
  Archive& archive_;
  std::size_t visited_ = 0;
};

}  // namespace

Parameters load_pt(const std::filesystem::path& path) {
  Archive archive(path);
  const detail::pickle::Pickle pickle(path, archive.pickle());
  Walk walk(path, archive);
  walk.visit(pickle.root(), "", 0);
  return std::move(walk.found);
}

}  // namespace surgeon
