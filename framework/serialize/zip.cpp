#include "framework/serialize/zip.hpp"

#include <algorithm>

#include "framework/serialize/deflate.hpp"

namespace surgeon::detail::zip {
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

constexpr std::uint32_t local_signature = 0x04034b50, central_signature = 0x02014b50, end_signature = 0x06054b50,
                        end64_signature = 0x06064b50, locator_signature = 0x07064b50;
constexpr std::size_t local_size = 30, central_size = 46, end_size = 22, end64_size = 56, locator_size = 20;
constexpr std::uint16_t names_are_utf8 = 1 << 11, encrypted = 1, first_day = 1 << 5 | 1;   // 1 January 1980
constexpr std::uint16_t extra64 = 1;   // the id of the extra field with numbers beyond 32 bits

// ---- Reading -------------------------------------------------------------------------------------------------------

// The central directory: where it begins, how long it is and how many members it lists.
struct Directory {
  std::uint64_t begin = 0, bytes = 0, members = 0;
};

// The end of a zip64 archive, when its locator stands right before the plain end; its numbers take precedence.
bool find_end64(const OldFile& file, std::uint64_t end, Directory& found, std::uint64_t& directory_end) {
  if (end < locator_size) return false;
  const std::string locator = Region(file, end - locator_size, locator_size).text(locator_size);
  if (number_at<std::uint32_t>(locator, 0) != locator_signature) return false;
  const auto place = number_at<std::uint64_t>(locator, 8);
  if (place > file.size() || file.size() - place < end64_size) return false;
  const std::string text = Region(file, place, end64_size).text(end64_size);
  if (number_at<std::uint32_t>(text, 0) != end64_signature) return false;
  found = {number_at<std::uint64_t>(text, 48), number_at<std::uint64_t>(text, 40), number_at<std::uint64_t>(text, 32)};
  directory_end = place;
  return true;
}

Directory find_directory(const OldFile& file, const char* kind) {
  if (file.size() < end_size) fail(file.path(), "is not a ", kind, " file: it is too short");
  const std::uint64_t tail_size = std::min<std::uint64_t>(file.size(), end_size + 0xffff);   // with the longest comment
  const std::string tail = Region(file, file.size() - tail_size, tail_size).text(tail_size);
  for (std::size_t place = tail.size() - end_size + 1; place-- > 0;) {
    const std::string_view end = std::string_view(tail).substr(place);
    if (number_at<std::uint32_t>(end, 0) != end_signature || number_at<std::uint16_t>(end, 20) != end.size() - end_size)
      continue;
    Directory found{number_at<std::uint32_t>(end, 16), number_at<std::uint32_t>(end, 12),
                    number_at<std::uint16_t>(end, 10)};
    std::uint64_t directory_end = file.size() - tail_size + place;
    const bool is64 = find_end64(file, directory_end, found, directory_end);
    if (number_at<std::uint32_t>(end, 4) != 0 || (!is64 && number_at<std::uint16_t>(end, 8) != found.members) ||
        found.begin > directory_end || found.bytes != directory_end - found.begin)
      fail(file.path(), "is not a ", kind, " file: its end contradicts itself");
    return found;
  }
  fail(file.path(), "is not a ", kind, " file: it has no end of a zip archive");
}

// Numbers that did not fit 32 bits stand in an extra field, in this order.
void read_extra64(const OldFile& file, std::string_view extra, Member& member) {
  while (extra.size() >= 4) {
    const std::size_t size = number_at<std::uint16_t>(extra, 2);
    if (extra.size() - 4 < size) break;
    if (number_at<std::uint16_t>(extra, 0) == extra64) {
      std::size_t place = 4;
      for (std::uint64_t* number : {&member.bytes, &member.stored, &member.header_begin}) {
        if (*number != limit) continue;
        if (place + 8 > 4 + size) fail(file.path(), "the directory of the archive is damaged");
        *number = number_at<std::uint64_t>(extra, place);
        place += 8;
      }
    }
    extra.remove_prefix(4 + size);
  }
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
  read_extra64(file, header.substr(central_size + name, extra), member);
  if (number_at<std::uint16_t>(header, 8) & encrypted) fail(file.path(), member.name, " is encrypted");
  const std::uint16_t method = number_at<std::uint16_t>(header, 10);
  if (method != as_it_is && method != deflated)
    fail(file.path(), member.name, " is compressed by method ", method, "; only deflate can be read");
  member.method = Method(method);
  if (method == as_it_is ? member.stored != member.bytes : member.bytes / Unpacker::most > member.stored)
    fail(file.path(), member.name, " cannot have ", member.bytes, " bytes: ", member.stored, " are stored");
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

// Members that shared bytes could make a small file a huge one.
void refuse_overlaps(const OldFile& file, std::vector<Member> members, std::uint64_t directory) {
  std::sort(members.begin(), members.end(),
            [](const Member& a, const Member& b) { return a.header_begin < b.header_begin; });
  std::uint64_t end = 0;
  for (const Member& member : members) {
    if (member.header_begin < end) fail(file.path(), member.name, " overlaps the member before it");
    if (member.begin > directory || member.stored > directory - member.begin)
      fail(file.path(), "the directory of the archive overlaps its members");
    end = member.begin + member.stored;
  }
}

// ---- Writing -------------------------------------------------------------------------------------------------------

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

}  // namespace

std::vector<Member> read_directory(const OldFile& file, const char* kind) {
  const Directory where = find_directory(file, kind);
  const std::string directory = Region(file, where.begin, where.bytes).text(where.bytes);
  std::vector<Member> members;
  std::size_t place = 0;
  for (std::uint64_t i = 0; i < where.members; ++i) {
    members.push_back(read_central(file, directory, place));
    find_bytes(file, members.back());
  }
  if (place != directory.size()) fail(file.path(), "the directory of the archive is damaged");
  refuse_overlaps(file, members, where.begin);
  return members;
}

Region region_of(const OldFile& file, const Member& member) {
  if (member.method == as_it_is) return Region(file, member.begin, member.bytes);
  return Region(file, member.bytes, std::make_unique<Unpacker>(file, member.begin, member.stored));
}

void check(const Region& region, const Member& member) {
  if (region.left() != 0 || region.crc() != member.crc)
    fail(region.path(), member.name, " is damaged: its checksum does not match");
}

std::uint64_t header_size(const Member& member) { return local_size + member.name.size(); }

std::string local_header(const Member& member) {
  std::string text;
  put_number(text, local_signature);
  put_common(text, member);
  return text + member.name;
}

std::string directory_of(const std::vector<Member>& members) {
  std::string directory;
  for (const Member& member : members) directory += central_header(member);
  const std::uint64_t begin = members.empty() ? 0 : members.back().header_begin + header_size(members.back()) +
                                                        members.back().stored;
  return directory + end_of_archive(members.size(), begin, directory.size());
}

}  // namespace surgeon::detail::zip
