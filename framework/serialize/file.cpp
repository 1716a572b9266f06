// Bytes in and out of files: POSIX calls, CRC-32, number formats.
#include "framework/serialize/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "framework/detail/node.hpp"
#include "framework/serialize/deflate.hpp"

namespace surgeon::detail {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail_with_errno(const fs::path& path, const char* what) {
  fail(path, what, ": ", std::generic_category().message(errno));
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

}  // namespace

// ---- Writing -------------------------------------------------------------------------------------------------------

NewFile::NewFile(const fs::path& path) : NewFile() {
  path_ = path;
  std::error_code ignored;
  if (fs::is_symlink(path_, ignored)) path_ = fs::weakly_canonical(path_, ignored);   // replace what it points to
  const fs::file_status status = fs::status(path_, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status)) fail(path, "already exists and is not a regular file");
  if (!path_.has_filename()) fail(path, "is not a file name");
  temporary_ = folder_of(path_) / sentence(".", path_.filename().string(), ".tmp");
  open_temporary();
}

// The lock keeps a second writer out; a writer that was killed has lost it, and its temporary is taken over. Whoever
// waited may hold a file that was renamed or removed meanwhile: then once more.
void NewFile::open_temporary() {
  struct stat here, there;
  do {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) fail_with_errno(path_, "cannot be written");
    while (::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {}
  } while (::fstat(descriptor_, &here) != 0 || ::lstat(temporary_.c_str(), &there) != 0 || here.st_ino != there.st_ino);
  if (::ftruncate(descriptor_, 0) != 0) fail_with_errno(path_, "cannot be written");
}

NewFile::~NewFile() {
  if (descriptor_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(descriptor_);
}

void NewFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno(path_, "cannot be written");
    bytes.remove_prefix(std::size_t(written));
  }
}

void NewFile::commit(Sync sync) {
  if (sync == Sync::now && ::fsync(descriptor_) != 0) fail_with_errno(path_, "cannot be written");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno(path_, "cannot be replaced");
  ::close(std::exchange(descriptor_, -1));
  if (sync == Sync::now) sync_file(folder_of(path_));   // a rename is on the disk only when the folder is
}

// ---- Reading -------------------------------------------------------------------------------------------------------

OldFile::OldFile(const fs::path& path) : path_(path) {
  // Opening a pipe would wait for its writer: O_NONBLOCK does not, and means nothing for a regular file.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail_with_errno(path, "cannot be read");
  struct stat status;
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) {
    ::close(descriptor_);
    fail(path, "is not a regular file");
  }
  size_ = std::uint64_t(status.st_size);
}

OldFile::~OldFile() { ::close(descriptor_); }

std::size_t OldFile::read_some(std::uint64_t offset, void* into, std::size_t bytes) const {
  for (;;) {
    const ssize_t got = ::pread(descriptor_, into, bytes, off_t(offset));
    if (got >= 0) return std::size_t(got);
    if (errno != EINTR) fail_with_errno(path_, "cannot be read");
  }
}

void OldFile::read(std::uint64_t offset, void* into, std::size_t bytes) const {
  char* to = static_cast<char*>(into);
  while (bytes > 0) {
    const std::size_t got = read_some(offset, to, bytes);
    if (got == 0) fail(path_, "ends too early, at byte ", offset);
    to += got;
    offset += got;
    bytes -= got;
  }
}

Region::Region(const OldFile& file, std::uint64_t offset, std::uint64_t bytes, std::uint32_t before)
    : file_(file), offset_(offset), left_(bytes), crc_(before) {
  if (offset > file.size() || bytes > file.size() - offset)
    fail(file.path(), "ends too early, at byte ", file.size());
}

Region::Region(const OldFile& file, std::uint64_t bytes, std::unique_ptr<Unpacker> unpacker)
    : file_(file), offset_(0), left_(bytes), crc_(0), unpacker_(std::move(unpacker)) {}

Region::~Region() = default;

void Region::read(void* into, std::size_t bytes) {
  if (bytes > left_) fail(path(), "ends too early, at byte ", offset_ + left_);
  if (unpacker_) unpacker_->read(into, bytes);
  else file_.read(offset_, into, bytes);
  crc_ = crc32({static_cast<const char*>(into), bytes}, crc_);
  offset_ += bytes;
  left_ -= bytes;
}

std::string Region::text(std::size_t bytes) {
  if (bytes > left_) fail(path(), "ends too early, at byte ", offset_ + left_);   // before it is allocated
  std::string text(bytes, '\0');
  read(text.data(), bytes);
  return text;
}

std::uint32_t crc32(std::string_view bytes, std::uint32_t before) noexcept {
  return std::uint32_t(::crc32_z(before, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

std::string_view bytes_of(const Tensor& x) noexcept {
  return {static_cast<const char*>(x.node().data), std::size_t(x.size() * element_size(x.dtype()))};
}

// ---- Numbers -------------------------------------------------------------------------------------------------------

namespace {

template <class From, class To, class Convert>
bool convert(const std::byte* from, std::int64_t n, void* into, Convert one) {
  To* to = static_cast<To*>(into);
  for (std::int64_t i = 0; i < n; ++i) {
    From x;
    std::memcpy(&x, from + i * std::int64_t(sizeof x), sizeof x);
    to[i] = one(x);
  }
  return true;
}

template <class From>
bool widen_integer(const std::byte* from, std::int64_t n, void* into) {
  return convert<From, std::int64_t>(from, n, into, [](From x) { return std::int64_t(x); });
}

// IEEE 754 binary16: 1 sign, 5 exponent, 10 mantissa bits.
float widen_half(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) {   // zero and the subnormals: mantissa times 2^-24, exactly
    const float magnitude = float(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

bool widen_halves(const std::byte* from, std::int64_t n, void* into) {
  return convert<std::uint16_t, float>(from, n, into, widen_half);
}
bool widen_bfloats(const std::byte* from, std::int64_t n, void* into) {   // the upper half of a float32
  return convert<std::uint16_t, float>(from, n, into, [](std::uint16_t x) {
    return std::bit_cast<float>(std::uint32_t(x) << 16);
  });
}

// A bool that is neither 0 nor 1 must not come to life: the compiler relies on it.
bool check_bools(const std::byte* from, std::int64_t n, void* into) {
  if (std::any_of(from, from + n, [](std::byte b) { return b > std::byte{1}; })) return false;
  std::memcpy(into, from, std::size_t(n));
  return true;
}

constexpr Format formats[] = {
    {"F32", "<f4", 4, Dtype::float32, nullptr},
    {"F64", "<f8", 8, Dtype::float64, nullptr},
    {"I64", "<i8", 8, Dtype::int64, nullptr},
    {"BOOL", "|b1", 1, Dtype::boolean, check_bools},
    {"F16", "<f2", 2, Dtype::float32, widen_halves},
    {"BF16", nullptr, 2, Dtype::float32, widen_bfloats},
    {"I32", "<i4", 4, Dtype::int64, widen_integer<std::int32_t>},
    {"I16", "<i2", 2, Dtype::int64, widen_integer<std::int16_t>},
    {"I8", "|i1", 1, Dtype::int64, widen_integer<std::int8_t>},
    {"U32", "<u4", 4, Dtype::int64, widen_integer<std::uint32_t>},
    {"U16", "<u2", 2, Dtype::int64, widen_integer<std::uint16_t>},
    {"U8", "|u1", 1, Dtype::int64, widen_integer<std::uint8_t>},
};

const Format* find_format(std::string_view name, const char* Format::*column) {
  const auto found = std::find_if(std::begin(formats), std::end(formats),
                                  [&](const Format& f) { return f.*column && f.*column == name; });
  return found == std::end(formats) ? nullptr : found;
}

}  // namespace

const Format& format_of(Dtype dtype) {
  return *std::find_if(std::begin(formats), std::end(formats), [&](const Format& f) { return f.dtype == dtype; });
}
const Format* safetensors_format(std::string_view name) { return find_format(name, &Format::safetensors); }
const Format* numpy_format(std::string_view name) { return find_format(name, &Format::numpy); }

Tensor read_tensor(Region& region, const Format& format, const Shape& shape) try {
  if (!format.widen) {
    Tensor x = make(shape, format.dtype);
    region.read(x.node().data, std::size_t(x.size() * format.bytes));
    return x;
  }
  return read_tensor(region.text(std::size_t(count(shape) * format.bytes)), format, shape, region.path());
} catch (const std::bad_alloc&) {
  fail(region.path(), "a tensor of shape ", shape, " does not fit into memory");
}

Tensor read_tensor(std::string_view bytes, const Format& format, const Shape& shape, const std::filesystem::path& path) {
  Tensor x = make(shape, format.dtype);
  const auto* stored = reinterpret_cast<const std::byte*>(bytes.data());
  if (!format.widen) std::memcpy(x.node().data, stored, bytes.size());
  else if (!format.widen(stored, x.size(), x.node().data)) fail(path, "holds a bool that is neither 0 nor 1");
  return x;
}

}  // namespace surgeon::detail

void surgeon::sync_file(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) detail::fail_with_errno(path, "cannot be opened");
  const int failed = ::fsync(descriptor);
  const int why = errno;   // EINVAL: this one cannot
  ::close(descriptor);
  errno = why;
  if (failed && why != EINVAL) detail::fail_with_errno(path, "cannot be written");
}
