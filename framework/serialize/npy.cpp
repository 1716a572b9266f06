// NumPy's .npy: a magic word, a header that is a Python dict, the numbers (numpy.lib.format).
#include <algorithm>
#include <charconv>
#include <numeric>

#include "framework/autograd.hpp"
#include "framework/detail/node.hpp"
#include "framework/ops.hpp"
#include "framework/serialize/file.hpp"

namespace surgeon {

using detail::bytes_of;
using detail::fail;
using detail::OldFile;
using detail::Region;

namespace {

constexpr std::string_view npy_magic = "\x93NUMPY";

struct NpyHeader {
  const detail::Format* format = nullptr;
  bool fortran_order = false;
  Shape shape;
};

// Reads the one dict that numpy writes: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class DictReader {
 public:
  DictReader(const std::filesystem::path& path, std::string_view text) : path_(path), left_(text) {}

  NpyHeader read() {
    NpyHeader header;
    bool seen[3] = {};
    expect("{");
    while (!take("}")) {
      const std::string_view key = text();
      expect(":");
      const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
      if (which == 3 || std::exchange(seen[which], true)) wrong();
      if (which == 0) header.format = format();
      if (which == 1) header.fortran_order = truth();
      if (which == 2) header.shape = tuple();
      if (!take(",") && left_.substr(0, 1) != "}") wrong();
    }
    skip_spaces();
    if (!left_.empty() || !seen[0] || !seen[1] || !seen[2]) wrong();
    return header;
  }

 private:
  [[noreturn]] void wrong() const { fail(path_, "the header is not in NumPy's format"); }

  void skip_spaces() { left_.remove_prefix(std::min(left_.find_first_not_of(" \n"), left_.size())); }
  bool take(std::string_view token) {
    skip_spaces();
    if (!left_.starts_with(token)) return false;
    left_.remove_prefix(token.size());
    skip_spaces();
    return true;
  }
  void expect(std::string_view token) {
    if (!take(token)) wrong();
  }

  std::string_view text() {
    if (left_.empty() || (left_.front() != '\'' && left_.front() != '"')) wrong();
    const std::size_t end = left_.find(left_.front(), 1);
    if (end == std::string_view::npos) wrong();
    const std::string_view found = left_.substr(1, end - 1);
    left_.remove_prefix(end + 1);
    return found;
  }
  const detail::Format* format() {
    if (take("[")) fail(path_, "holds records, not numbers");
    const std::string_view name = text();
    const detail::Format* found = detail::numpy_format(name);
    if (!found) fail(path_, "dtype ", std::string(name), " is not supported");
    return found;
  }
  bool truth() {
    if (take("True")) return true;
    expect("False");
    return false;
  }
  Shape tuple() {
    Shape shape;
    expect("(");
    while (!take(")")) {
      std::int64_t size = 0;
      const auto [end, error] = std::from_chars(left_.data(), left_.data() + left_.size(), size);
      if (error != std::errc() || size < 0) wrong();
      left_.remove_prefix(std::size_t(end - left_.data()));
      shape.push_back(size);
      if (!take(",") && left_.substr(0, 1) != ")") wrong();
    }
    return shape;
  }

  const std::filesystem::path& path_;
  std::string_view left_;
};

NpyHeader read_npy_header(Region& region) {
  constexpr std::uint32_t longest = 1 << 20;
  if (region.left() < 10 || region.text(6) != npy_magic) fail(region.path(), "is not a .npy file");
  const std::string version = region.text(2);
  if (version[0] < 1 || version[0] > 3) fail(region.path(), "has .npy version ", int(version[0]),
                                                      "; versions 1 to 3 can be read");
  std::uint32_t length = 0;
  region.read(&length, version[0] == 1 ? 2 : 4);
  if (length > longest) fail(region.path(), "the header is ", length, " bytes long; NumPy's are shorter");
  const std::string text = region.text(length);
  return DictReader(region.path(), text).read();
}

}  // namespace

namespace detail {

std::string npy_header(const Tensor& x) {
  require(x.rank() <= 32, "npy: ", x.shape(), " has ", x.rank(), " axes; NumPy's arrays have at most 32");
  std::string shape;
  for (std::int64_t size : x.shape()) shape += std::to_string(size) + ",";
  std::string dict = sentence("{'descr': '", detail::format_of(x.dtype()).numpy,
                              "', 'fortran_order': False, 'shape': (", shape, "), }");
  dict.resize((dict.size() + 1 + 10 + 63) / 64 * 64 - 11, ' ');   // the numbers begin at a multiple of 64
  dict += '\n';
  std::string text(npy_magic);
  text += {1, 0};   // the version
  text += {char(dict.size() & 255), char(dict.size() >> 8)};
  return text + dict;
}

Tensor read_npy(Region& region) {
  NpyHeader header = read_npy_header(region);
  std::int64_t elements = 0;
  try {
    elements = count(header.shape);
  } catch (const std::length_error& error) {
    fail(region.path(), error.what());
  }
  if (std::uint64_t(elements * header.format->bytes) != region.left())
    fail(region.path(), header.format->numpy, " ", header.shape, " does not fit the ", region.left(),
         " bytes of numbers");
  if (!header.fortran_order || header.shape.size() < 2) return read_tensor(region, *header.format, header.shape);
  std::reverse(header.shape.begin(), header.shape.end());
  std::vector<int> reversed(header.shape.size());
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  const NoRecord pause;
  return permute(read_tensor(region, *header.format, header.shape), reversed);
}

}  // namespace detail

void save_npy(const std::filesystem::path& path, const Tensor& x) {
  require_value("save_npy", x);
  detail::NewFile file(path);
  file.write(detail::npy_header(x));
  file.write(bytes_of(x));
  file.commit();
}

Tensor load_npy(const std::filesystem::path& path) {
  const OldFile file(path);
  Region region(file, 0, file.size());
  return detail::read_npy(region);
}

}  // namespace surgeon
