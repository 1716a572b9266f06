#include "experiments/lab/folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "framework/serialize.hpp"

namespace surgeon {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void cannot_write(const fs::path& folder, const std::string& why) {
  throw std::runtime_error(fmt::format("--out: cannot write to {}: {}", folder.string(), why));
}

[[noreturn]] void not_empty(const fs::path& folder) {
  throw UsageError(fmt::format("--out: {} is not empty; add --force to write into it all the same", folder.string()));
}

std::string reason() { return std::generic_category().message(errno); }

// Whether this call made it, on the way to `asked`; not when it was there already.
bool make_folder(const fs::path& path, const fs::path& asked) {
  if (::mkdir(path.c_str(), 0777) == 0) return true;
  if (errno == EEXIST || errno == EISDIR) return false;
  cannot_write(asked, reason());
}

std::string dated(const std::string& experiment) {
  return fmt::format("{:%Y-%m-%d_%H-%M-%S}_{}", local_time(), experiment);
}

// ---- What killed runs leave behind ---------------------------------------------------------------------------------
bool is_temporary(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with(".") && name.ends_with(".tmp");
}

void remove_temporaries(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::path& place : {folder, folder / "figures", folder / "checkpoints"})
    for (const auto& entry : fs::directory_iterator(place, ignored))
      if (is_temporary(entry.path())) fs::remove(entry.path(), ignored);
}

const std::string running = "\"status\": \"running\"", aborted = "\"status\": \"aborted\"";   // as Session writes it

std::string meta_of(const fs::path& folder) {
  try {
    return read_file(folder / "meta.json", 1 << 16);
  } catch (const IoError&) {
    return {};
  }
}

// Whether it ended before it had a meta.json: a start takes no minute.
bool died_early(const fs::path& folder) {
  std::error_code unknown;
  const auto born = fs::last_write_time(folder / "run.log", unknown);
  return !unknown && fs::file_time_type::clock::now() - born > std::chrono::minutes(1);
}

// Closes a run whose process is gone: its meta.json says aborted, its temporary files are removed.
void sweep(const fs::path& folder) {
  const std::string first = meta_of(folder);
  if (first.empty() ? !died_early(folder) : first.find(running) == std::string::npos) return;
  const int lock = ::open((folder / "run.log").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (lock < 0) return;
  if (::flock(lock, LOCK_EX | LOCK_NB) == 0) {
    std::string meta = meta_of(folder);   // again: it may have ended well meanwhile
    const std::size_t at = meta.find(running);
    try {
      if (at != std::string::npos)
        write_file(folder / "meta.json", meta.replace(at, running.size(), aborted), Sync::later);
      remove_temporaries(folder);
    } catch (const IoError&) {   // somebody else's folder
    }
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored))   // of `all`
      if (entry.is_directory(ignored) && !entry.is_symlink(ignored)) sweep(entry.path());
  }
  ::close(lock);
}

// The newest ones: looking at thousands would delay each start.
void sweep_newest(const fs::path& runs) {
  constexpr std::size_t most = 50;
  std::vector<fs::path> folders;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(runs, ignored))
    if (!entry.is_symlink(ignored)) folders.push_back(entry.path());
  std::sort(folders.rbegin(), folders.rend());
  if (folders.size() > most) folders.resize(most);
  for (const fs::path& folder : folders) sweep(folder);
}

// The link is made in the new folder, which nobody else writes to, and then replaces the old one at once. A file system
// without links is no reason to fail.
void point_latest_at(const fs::path& target, const fs::path& link, const fs::path& temporary) {
  std::error_code failed;
  fs::create_directory_symlink(target, temporary, failed);
  if (!failed) fs::rename(temporary, link, failed);
  if (failed) fs::remove(temporary, failed);
}

}  // namespace

bool run_is_going_on(const fs::path& folder) {
  const int lock = ::open((folder / "run.log").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (lock < 0) return false;
  const bool held = ::flock(lock, LOCK_SH | LOCK_NB) != 0;
  ::close(lock);
  return held;
}

// ---- A new one -----------------------------------------------------------------------------------------------------
NewFolder::NewFolder(const Settings& settings, const std::string& experiment)
    : path_(fs::path(settings.out).lexically_normal()), dated_(settings.out.empty()) {
  if (!path_.has_filename()) path_ = path_.parent_path();   // a slash at the end
  open(experiment, settings.force);
}

void NewFolder::make_dated(const std::string& experiment) {
  const fs::path runs = "runs";
  const std::string name = dated(experiment);
  path_ = runs;
  make();
  sweep_newest(runs);
  path_ = runs / name;
  for (int i = 2; !make_folder(path_, path_); ++i) path_ = runs / fmt::format("{}_{}", name, i);   // mkdir decides
  made_.push_back(path_);
}

NewFolder::NewFolder(const NewFolder& all, const std::string& experiment, const Settings& settings)
    : path_(all.path() / experiment) {
  open(experiment, settings.force);
}

NewFolder::~NewFolder() {
  if (!begun_) discard();
  if (lock_ >= 0) ::close(lock_);
}

void NewFolder::open(const std::string& experiment, bool force) try {
  if (dated_) make_dated(experiment);
  make();
  claim(force);
} catch (...) {
  if (lock_ >= 0) ::close(std::exchange(lock_, -1));
  std::error_code ignored;
  for (auto p = made_.rbegin(); p != made_.rend(); ++p) fs::remove(*p, ignored);
  throw;
}

// The folder and those above it.
void NewFolder::make() {
  std::vector<fs::path> missing;
  std::error_code unknown;
  for (fs::path p = path_; !p.empty() && !fs::exists(p, unknown) && p != p.root_path(); p = p.parent_path()) {
    if (fs::is_symlink(fs::symlink_status(p, unknown)))
      cannot_write(path_, (p == path_ ? "it" : p.string()) + " is a link to nothing");
    missing.push_back(p);
  }
  for (auto p = missing.rbegin(); p != missing.rend(); ++p)
    if (make_folder(*p, path_)) made_.push_back(*p);
  if (fs::exists(path_, unknown) && !fs::is_directory(path_, unknown)) cannot_write(path_, "it is a file");
}

// Whoever makes run.log has the folder.
void NewFolder::claim(bool force) {
  std::error_code failed;
  const bool empty = fs::is_empty(path_, failed);
  if (failed) cannot_write(path_, failed.message());
  if (!empty && !force) not_empty(path_);
  others_ = !empty;
  const fs::path log = path_ / "run.log";
  lock_ = ::open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (force ? 0 : O_EXCL), 0666);
  if (lock_ < 0 && errno == EEXIST) not_empty(path_);
  if (lock_ < 0) cannot_write(path_, reason());
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    throw UsageError(fmt::format("--out: another run is writing into {}", path_.string()));
  if (::ftruncate(lock_, 0) != 0) cannot_write(path_, reason());
  if (force) remove_temporaries(path_);
}

void NewFolder::begun() {
  begun_ = true;
  if (!dated_) return;
  std::error_code none;
  const fs::path link = path_.parent_path() / "latest";
  latest_before_ = fs::read_symlink(link, none);
  point_latest_at(path_.filename(), link, path_ / ".latest.tmp");
}

void NewFolder::discard() {
  begun_ = true;
  if (others_) return;
  std::error_code ignored;
  for (const char* name : {"config.json", "meta.json", "metrics.csv", "metrics.jsonl", "run.log", "summary.json"})
    fs::remove(path_ / name, ignored);
  const fs::path link = path_.parent_path() / "latest";
  if (dated_ && fs::read_symlink(link, ignored) == path_.filename()) {
    if (latest_before_.empty()) fs::remove(link, ignored);
    else point_latest_at(latest_before_, link, path_ / ".latest.tmp");
  }
  for (auto p = made_.rbegin(); p != made_.rend(); ++p) fs::remove(*p, ignored);
}

}  // namespace surgeon
