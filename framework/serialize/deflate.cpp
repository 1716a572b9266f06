#include "framework/serialize/deflate.hpp"

#include <algorithm>
#include <limits>
#include <new>

namespace surgeon::detail {
namespace {

constexpr int window = -15;   // the largest, and no zlib header around it

// zlib counts in 32 bits.
uInt at_once(std::uint64_t bytes) {
  return uInt(std::min<std::uint64_t>(bytes, std::numeric_limits<uInt>::max()));
}

void pack(z_stream& stream, std::string_view bytes, int flush, std::string& into) {
  std::array<char, 1 << 16> chunk;
  stream.next_in = reinterpret_cast<const Bytef*>(bytes.data());
  do {
    stream.avail_in = at_once(bytes.size());
    bytes.remove_prefix(stream.avail_in);
    do {
      stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
      stream.avail_out = uInt(chunk.size());
      ::deflate(&stream, bytes.empty() ? flush : Z_NO_FLUSH);
      into.append(chunk.data(), chunk.size() - stream.avail_out);
    } while (stream.avail_out == 0);
  } while (!bytes.empty());
}

}  // namespace

std::string packed(std::string_view first, std::string_view second) {
  z_stream stream{};
  if (::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::bad_alloc();
  const std::unique_ptr<z_stream, int (*)(z_stream*)> guard(&stream, ::deflateEnd);
  std::string into;
  pack(stream, first, Z_NO_FLUSH, into);
  pack(stream, second, Z_FINISH, into);
  return into;
}

Unpacker::Unpacker(const OldFile& file, std::uint64_t offset, std::uint64_t stored)
    : file_(file), offset_(offset), left_(stored) {
  if (::inflateInit2(&stream_, window) != Z_OK) throw std::bad_alloc();
}

Unpacker::~Unpacker() { ::inflateEnd(&stream_); }

void Unpacker::refill() {
  const std::size_t bytes = std::size_t(std::min<std::uint64_t>(left_, chunk_.size()));
  file_.read(offset_, chunk_.data(), bytes);
  offset_ += bytes;
  left_ -= bytes;
  stream_.next_in = chunk_.data();
  stream_.avail_in = uInt(bytes);
}

void Unpacker::read(void* into, std::size_t bytes) {
  stream_.next_out = static_cast<Bytef*>(into);
  while (bytes > 0) {
    if (stream_.avail_in == 0 && left_ > 0) refill();
    const uInt asked = at_once(bytes);
    stream_.avail_out = asked;
    const int answer = ::inflate(&stream_, Z_NO_FLUSH);
    const uInt got = asked - stream_.avail_out;
    bytes -= got;
    if (answer == Z_MEM_ERROR) throw std::bad_alloc();
    if ((answer != Z_OK && answer != Z_STREAM_END) || (got == 0 && stream_.avail_in == 0 && left_ == 0) ||
        (answer == Z_STREAM_END && bytes > 0))
      fail(file_.path(), "is damaged: its packed bytes do not unpack");
  }
}

}  // namespace surgeon::detail
