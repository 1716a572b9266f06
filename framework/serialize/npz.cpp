// NumPy's .npz: a zip archive of .npy files, as they are or packed.
#include "framework/serialize/deflate.hpp"
#include "framework/serialize/file.hpp"
#include "framework/serialize/zip.hpp"

namespace surgeon {

namespace zip = detail::zip;
using detail::bytes_of;
using detail::fail;
using detail::npy_header;
using zip::Member;

namespace {

// The members, but for where they lie; refuses, before anything is written, what would need zip64.
std::vector<Member> plan(const std::filesystem::path& path, const Parameters& tensors, Compression compression) {
  std::vector<Member> members;
  std::uint64_t end = 0;
  for (const auto& [name, x] : tensors) {
    require(x.defined(), "save_npz: ", name, " has no values");
    require(name.size() < 60000, "save_npz: a name is ", name.size(), " bytes long; below 60000 can be written");
    const std::string header = npy_header(x);
    Member member{.name = name + ".npy", .crc = detail::crc32(bytes_of(x), detail::crc32(header))};
    member.method = compression == Compression::deflate ? zip::deflated : zip::as_it_is;
    member.stored = member.bytes = header.size() + bytes_of(x).size();
    end += zip::header_size(member) + member.bytes;
    members.push_back(std::move(member));
    if (end > zip::limit - (1 << 27)) fail(path, "would exceed 4 GiB, which needs zip64; that is not supported");
  }
  if (members.size() >= 0xffff) fail(path, "would hold ", members.size(), " tensors; the limit is 65534");
  return members;
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
    const std::string small = member.method == zip::deflated ? detail::packed(header, bytes_of(x)) : "";
    member.header_begin = written;
    if (member.method == zip::deflated) member.stored = small.size();
    file.write(zip::local_header(member));
    if (member.method == zip::deflated) {
      file.write(small);
    } else {
      file.write(header);
      file.write(bytes_of(x));
    }
    written += zip::header_size(member) + member.stored;
  }
  file.write(zip::directory_of(members));
  file.commit();
}

Parameters load_npz(const std::filesystem::path& path) {
  const detail::OldFile file(path);
  Parameters tensors;
  for (const Member& member : zip::read_directory(file, ".npz")) {
    if (!member.name.ends_with(".npy")) fail(path, member.name, " is not a .npy file");
    detail::Region region = zip::region_of(file, member);
    const Tensor x = detail::read_npy(region);
    zip::check(region, member);
    const std::string name = member.name.substr(0, member.name.size() - std::string_view(".npy").size());
    if (tensors.contains(name)) fail(path, "has ", member.name, " twice");
    tensors.add(name, x);
  }
  return tensors;
}

}  // namespace surgeon
