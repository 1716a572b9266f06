// NumPy's .npz: a zip archive of .npy files, as they are or packed by deflate (PKWARE's APPNOTE, 4.3 and 4.4).
#include <algorithm>

#include "framework/serialize/deflate.hpp"
#include "framework/serialize/file.hpp"

namespace surgeon {

using detail::bytes_of;
using detail::fail;
using detail::npy_header;
using detail::OldFile;
using detail::Region;
using detail::Unpacker;

namespace {

template <class T>
void put_number(std::string& text, T number) {
  text.append(reinterpret_cast<const char*>(&number), sizeof number);
}

// A number of the zip format at this place of the text, which the caller knows to be long enough.
template <class T>
T number_at(std::string_view text, std::size_t place) {
  T number;
  std::copy_n(text.data() + place, sizeof number, reinterpret_cast<char*>(&number));
  return number;
}

constexpr std::uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, end_signature = 0x06054b50;
constexpr std::size_t local_size = 30, central_size = 46, end_size = 22;
constexpr std::uint64_t zip_limit = 0xffffffff;   // 4 GiB: what lies beyond would need zip64
constexpr std::uint16_t names_are_utf8 = 1 << 11, encrypted = 1, first_day = 1 << 5 | 1;   // 1 January 1980

enum Method : std::uint16_t { as_it_is = 0, deflated = 8 };

struct Member {
  std::string name;
  Method method = as_it_is;
  std::uint32_t crc = 0;
  std::uint64_t header_begin = 0, begin = 0;   // begin: of the member's own bytes
  std::uint64_t stored = 0, bytes = 0;         // in the archive, and unpacked
};

// What the local header and the central one have in common, from "version needed" to "length of the extra field".
void put_common(std::string& text, const Member& member) {
  for (std::uint16_t half : {std::uint16_t(20), names_are_utf8, std::uint16_t(member.method), std::uint16_t(0), first_day})
    put_number(text, half);   // version 2.0, flags, method, time, date
  put_number(text, member.crc);
  put_number(text, std::uint32_t(member.stored));
  put_number(text, std::uint32_t(member.bytes));
  put_number(text, std::uint16_t(member.name.size()));
  put_number(text, std::uint16_t(0));
}

std::string local_header(const Member& member) {
  std::string text;
  put_number(text, local_signature);
  put_common(text, member);
  return text + member.name;
}

std::string central_header(const Member& member) {
  std::string text;
  put_number(text, central_signature);
  put_number(text, std::uint16_t(20));   // made by version 2.0
  put_common(text, member);
  text.append(10, '\0');                 // no comment, disk 0, no attributes
  put_number(text, std::uint32_t(member.header_begin));
  return text + member.name;
}

std::string end_of_archive(std::size_t members, std::uint64_t begin, std::uint64_t bytes) {
  std::string text;
  put_number(text, end_signature);
  put_number(text, std::uint32_t(0));    // disks
  put_number(text, std::uint16_t(members));
  put_number(text, std::uint16_t(members));
  put_number(text, std::uint32_t(bytes));
  put_number(text, std::uint32_t(begin));
  put_number(text, std::uint16_t(0));    // no comment
  return text;
}

// The members, but for where they lie; refuses, before anything is written, what would need zip64.
std::vector<Member> plan(const std::filesystem::path& path, const Parameters& tensors, Compression compression) {
  std::vector<Member> members;
  std::uint64_t end = 0;
  for (const auto& [name, x] : tensors) {
    require(x.defined(), "save_npz: ", name, " has no values");
    require(name.size() < 60000, "save_npz: a name is ", name.size(), " bytes long; below 60000 can be written");
    const std::string header = npy_header(x);
    Member member{.name = name + ".npy", .crc = detail::crc32(bytes_of(x), detail::crc32(header))};
    member.method = compression == Compression::deflate ? deflated : as_it_is;
    member.stored = member.bytes = header.size() + bytes_of(x).size();
    end += local_size + member.name.size() + member.bytes;
    members.push_back(std::move(member));
    if (end > zip_limit - (1 << 27)) fail(path, "would exceed 4 GiB, which needs zip64; that is not supported");
  }
  if (members.size() >= 0xffff) fail(path, "would hold ", members.size(), " tensors; the limit is 65534");
  return members;
}

// The central directory: where it begins, how long it is and how many members it lists.
struct Directory {
  std::uint64_t begin = 0, bytes = 0, members = 0;
};

Directory find_directory(const OldFile& file) {
  if (file.size() < end_size) fail(file.path(), "is not a .npz file: it is too short");
  const std::uint64_t tail_size = std::min<std::uint64_t>(file.size(), end_size + 0xffff);   // with the longest comment
  const std::string tail = Region(file, file.size() - tail_size, tail_size).text(tail_size);
  for (std::size_t place = tail.size() - end_size + 1; place-- > 0;) {
    const std::string_view end = std::string_view(tail).substr(place);
    if (number_at<std::uint32_t>(end, 0) != end_signature || number_at<std::uint16_t>(end, 20) != end.size() - end_size)
      continue;
    const Directory found{number_at<std::uint32_t>(end, 16), number_at<std::uint32_t>(end, 12),
                          number_at<std::uint16_t>(end, 10)};
    if (found.begin == zip_limit || found.bytes == zip_limit || found.members == 0xffff)
      fail(file.path(), "is in zip64 format, which is not supported");
    if (number_at<std::uint32_t>(end, 4) != 0 || number_at<std::uint16_t>(end, 8) != found.members ||
        found.begin + found.bytes != file.size() - tail_size + place)
      fail(file.path(), "is not a .npz file: its end contradicts itself");
    return found;
  }
  fail(file.path(), "is not a .npz file: it has no end of a zip archive");
}

// The next member of the central directory; `place` moves on.
Member read_central(const OldFile& file, std::string_view directory, std::size_t& place) {
  const std::string_view header = directory.substr(place);
  if (header.size() < central_size || number_at<std::uint32_t>(header, 0) != central_signature)
    fail(file.path(), "the directory of the archive is damaged");
  const std::size_t name = number_at<std::uint16_t>(header, 28);
  const std::size_t extra = number_at<std::uint16_t>(header, 30), comment = number_at<std::uint16_t>(header, 32);
  const std::size_t all = central_size + name + extra + comment;
  if (header.size() < all) fail(file.path(), "the directory of the archive is damaged");
  Member member{.name = std::string(header.substr(central_size, name)),
                .crc = number_at<std::uint32_t>(header, 16),
                .header_begin = number_at<std::uint32_t>(header, 42),
                .stored = number_at<std::uint32_t>(header, 20),
                .bytes = number_at<std::uint32_t>(header, 24)};
  if (number_at<std::uint16_t>(header, 8) & encrypted) fail(file.path(), member.name, " is encrypted");
  const std::uint16_t method = number_at<std::uint16_t>(header, 10);
  if (method != as_it_is && method != deflated)
    fail(file.path(), member.name, " is compressed by method ", method, "; only deflate can be read");
  member.method = Method(method);
  if (member.bytes == zip_limit || member.stored == zip_limit || member.header_begin == zip_limit)
    fail(file.path(), "is in zip64 format, which is not supported");
  if (method == as_it_is ? member.stored != member.bytes : member.bytes / Unpacker::most > member.stored)
    fail(file.path(), member.name, " cannot have ", member.bytes, " bytes: ", member.stored, " are stored");
  if (!member.name.ends_with(".npy")) fail(file.path(), member.name, " is not a .npy file");
  place += all;
  return member;
}

// Looks up where the member's bytes begin: its local header may be longer than the central one says.
void find_bytes(const OldFile& file, Member& member) {
  Region region(file, member.header_begin, file.size() - std::min(member.header_begin, file.size()));
  const std::string header = region.text(local_size);
  const std::size_t name = number_at<std::uint16_t>(header, 26), extra = number_at<std::uint16_t>(header, 28);
  if (number_at<std::uint32_t>(header, 0) != local_signature || region.text(name) != member.name)
    fail(file.path(), member.name, " is not where the directory says");
  member.begin = member.header_begin + local_size + name + extra;
}

std::vector<Member> read_directory(const OldFile& file) {
  const Directory where = find_directory(file);
  const std::string directory = Region(file, where.begin, where.bytes).text(where.bytes);
  std::vector<Member> members;
  std::size_t place = 0;
  for (std::uint64_t i = 0; i < where.members; ++i) {
    members.push_back(read_central(file, directory, place));
    find_bytes(file, members.back());
  }
  if (place != directory.size()) fail(file.path(), "the directory of the archive is damaged");
  // Members that shared bytes could make a small file a huge one.
  std::vector<Member> sorted = members;
  std::sort(sorted.begin(), sorted.end(),
            [](const Member& a, const Member& b) { return a.header_begin < b.header_begin; });
  std::uint64_t end = 0;
  for (const Member& member : sorted) {
    if (member.header_begin < end) fail(file.path(), member.name, " overlaps the member before it");
    end = member.begin + member.stored;
  }
  if (end > where.begin) fail(file.path(), "the directory of the archive overlaps its members");
  return members;
}

Region region_of(const OldFile& file, const Member& member) {
  if (member.method == as_it_is) return Region(file, member.begin, member.bytes);
  return Region(file, member.bytes, std::make_unique<Unpacker>(file, member.begin, member.stored));
}

}  // namespace

void save_npz(const std::filesystem::path& path, const Parameters& tensors, Compression compression) {
  std::vector<Member> members = plan(path, tensors, compression);
  detail::NewFile file(path);
  std::uint64_t written = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Tensor& x = (tensors.begin() + std::ptrdiff_t(i))->second;
    Member& member = members[i];
    const std::string header = npy_header(x);
    const std::string small = member.method == deflated ? detail::packed(header, bytes_of(x)) : "";
    member.header_begin = written;
    if (member.method == deflated) member.stored = small.size();
    file.write(local_header(member));
    if (member.method == deflated) {
      file.write(small);
    } else {
      file.write(header);
      file.write(bytes_of(x));
    }
    written += local_size + member.name.size() + member.stored;
  }
  std::string directory;
  for (const Member& member : members) directory += central_header(member);
  file.write(directory);
  file.write(end_of_archive(members.size(), written, directory.size()));
  file.commit();
}

Parameters load_npz(const std::filesystem::path& path) {
  const OldFile file(path);
  Parameters tensors;
  for (const Member& member : read_directory(file)) {
    Region region = region_of(file, member);
    const Tensor x = detail::read_npy(region);
    if (region.crc() != member.crc) fail(path, member.name, " is damaged: its checksum does not match");
    const std::string name = member.name.substr(0, member.name.size() - std::string_view(".npy").size());
    if (tensors.contains(name)) fail(path, "has ", member.name, " twice");
    tensors.add(name, x);
  }
  return tensors;
}

}  // namespace surgeon
