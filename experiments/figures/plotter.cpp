// Runs gnuplot in the background. What it leaves behind is checked, because it can fail without a word.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "experiments/figures.hpp"
#include "experiments/figures/gnuplot.hpp"
#include "experiments/figures/text.hpp"
#include "experiments/format.hpp"
#include "framework/errors.hpp"

extern char** environ;

namespace surgeon {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// 0, or the error. gnuplot has a process group of its own, so that all of it can be stopped, also where it is a script.
int spawn(int& process, const fs::path& script, const fs::path& errors) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t usual;
  sigemptyset(&usual);
  for (const int ignored : {SIGPIPE, SIGXFSZ}) sigaddset(&usual, ignored);   // by us
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::error_code unknown;
  std::string program = "gnuplot", text = fs::absolute(script, unknown).string();   // -a/b.gp would be an option
  char* arguments[] = {program.data(), text.data(), nullptr};
  const int error = posix_spawnp(&process, "gnuplot", &actions, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

// Until it ends or the time is up, which `hurry` may bring nearer. Without SIGCHLD nobody learns how it ended: as 0.
bool wait_for(int process, int& status, Clock::time_point& until, const std::function<bool()>& hurry) {
  for (bool hurried = false;;) {
    const int ended = waitpid(process, &status, WNOHANG);
    if (ended < 0 && errno == EINTR) continue;
    if (ended < 0) status = 0;
    if (ended != 0) return true;
    if (!hurried && hurry && hurry()) hurried = true, until = std::min(until, Clock::now() + std::chrono::seconds(2));
    if (Clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void stop(int process) {
  int status = 0;
  kill(-process, SIGKILL);
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {}
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::string text(301, '\0');
  file.read(text.data(), 301);
  text.resize(std::size_t(file.gcount()));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return shortened(text, 300);
}

const char* ending_of(FigureFormat format) {
  return format == FigureFormat::svg ? ".svg" : format == FigureFormat::png ? ".png" : ".pdf";
}

}  // namespace

void Plotter::write_script(const Figure& figure, const fs::path& folder, Job& job) {
  std::vector<std::pair<FigureFormat, std::string>> files;
  for (const FigureFormat format : drawing_.formats) {
    const char* end = ending_of(format);
    job.outputs.push_back({folder / fmt::format(".{}{}.tmp", figure.name, end), folder / (figure.name + end)});
    files.emplace_back(format, job.outputs.back().hidden.string());
  }
  const std::set<char32_t> without_font = letters_without_font(figure);
  not_in_fonts_.insert(without_font.begin(), without_font.end());
  std::ofstream script(job.script);
  script << gnuplot_script(figure, drawing_.size, files, without_font) << std::flush;
  if (script) return;
  std::error_code ignored;
  fs::remove(job.script, ignored);
  throw IoError(fmt::format("{}: cannot write figure {} to it", folder.string(), figure.name));
}

void Plotter::start(const Figure& figure, const fs::path& folder) {
  if (missing_) return;
  if (!fs::is_directory(folder))
    throw IoError(fmt::format("{}: no such folder to draw figure {} in", folder.string(), figure.name));
  const auto hidden = [&](const char* end) { return folder / fmt::format(".{}{}.tmp", figure.name, end); };
  Job job{0, figure.name, hidden(".gp"), hidden(".log"), {}};
  write_script(figure, folder, job);
  int error = spawn(job.process, job.script, job.errors);
  if ((error == EAGAIN || error == ENOMEM) && !jobs_.empty()) {   // there is room when the others are done
    failures_ = finish();
    error = spawn(job.process, job.script, job.errors);
  }
  if (error == 0) return jobs_.push_back(std::move(job));
  std::error_code ignored;
  missing_ = error == ENOENT && fs::exists(job.errors, ignored);   // else it is our folder that has gone
  if (!missing_)
    failures_.push_back(fmt::format("figure {}: gnuplot could not be started: {}", job.name,
                                    std::generic_category().message(error)));
  for (const auto& path : {job.script, job.errors}) fs::remove(path, ignored);
}

// What went wrong, "" when nothing did: then the figure is in place, all of it; or when gnuplot was stopped.
std::string Plotter::outcome_of(const Job& job, bool ended, int status) const {
  const std::string said = text_of(job.errors);
  std::error_code error, ignored;
  bool whole = ended && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  for (const Output& out : job.outputs) whole = whole && fs::file_size(out.hidden, error) > 0 && !error;
  for (const Output& out : job.outputs) {
    if (whole && !error) fs::rename(out.hidden, out.final, error);
    fs::remove(out.hidden, ignored);
  }
  for (const auto& path : {job.script, job.errors}) fs::remove(path, ignored);
  if (!ended || (whole && !error)) return "";
  return fmt::format("figure {}: gnuplot failed{}{}", job.name, said.empty() ? "" : ": ", said);
}

std::vector<std::string> Plotter::finish(const std::function<bool()>& hurry) {
  Clock::time_point until = Clock::now() + patience_;
  std::vector<std::string> stopped;   // in one line: where one hangs, all do
  for (const Job& job : jobs_) {
    int status = 0;
    const bool ended = wait_for(job.process, status, until, hurry);
    if (!ended) stop(job.process), stopped.push_back(job.name);
    if (std::string failure = outcome_of(job, ended, status); !failure.empty()) failures_.push_back(std::move(failure));
  }
  jobs_.clear();
  if (!stopped.empty())
    failures_.push_back(fmt::format("figure{} {}: gnuplot {}was stopped", stopped.size() == 1 ? "" : "s",
                                    fmt::join(stopped, ", "), hurry && hurry() ? "" : "took too long and "));
  const auto shown = std::min<std::ptrdiff_t>(std::ssize(not_in_fonts_), 8);
  if (!not_in_fonts_.empty())
    failures_.push_back(fmt::format("no font has {}{}: � stands for what is missing in the PNG and PDF figures",
                                    utf8_of({not_in_fonts_.begin(), std::next(not_in_fonts_.begin(), shown)}),
                                    shown < std::ssize(not_in_fonts_) ? " and more" : ""));
  not_in_fonts_.clear();
  return std::exchange(failures_, {});
}

Plotter::~Plotter() { finish(); }

}  // namespace surgeon
