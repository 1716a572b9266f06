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

#include "experiments/figures.hpp"
#include "experiments/figures/gnuplot.hpp"
#include "experiments/format.hpp"

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
  sigaddset(&usual, SIGPIPE);   // which we ignore
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

// Whether all of it is there; then under its own name.
bool in_place(const std::vector<fs::path>& drawn, const std::string& name) {
  std::error_code error;
  for (const fs::path& path : drawn)
    if (fs::file_size(path, error) == 0 || error) return false;
  for (const fs::path& path : drawn) {
    fs::rename(path, path.parent_path() / (name + path.stem().extension().string()), error);
    if (error) return false;
  }
  return true;
}

}  // namespace

void Plotter::start(const Figure& figure, const fs::path& folder) {
  if (missing_) return;
  const auto hidden = [&](const char* end) { return folder / ("." + figure.name + end); };
  Job job{0, figure.name, hidden(".gp.tmp"), hidden(".log.tmp"), hidden(".svg.tmp"), hidden(".png.tmp")};
  std::ofstream(job.script) << gnuplot_script(figure, job.svg.string(), job.png.string());
  int error = spawn(job.process, job.script, job.errors);
  if ((error == EAGAIN || error == ENOMEM) && !jobs_.empty()) {   // there is room when the others are done
    failures_ = finish();
    error = spawn(job.process, job.script, job.errors);
  }
  if (error == 0) return jobs_.push_back(std::move(job));
  missing_ = error == ENOENT;
  if (!missing_)
    failures_.push_back(fmt::format("figure {}: gnuplot could not be started: {}", job.name,
                                    std::generic_category().message(error)));
  std::error_code ignored;
  for (const auto& path : {job.script, job.errors}) fs::remove(path, ignored);
}

std::vector<std::string> Plotter::finish(const std::function<bool()>& hurry) {
  Clock::time_point until = Clock::now() + patience_;
  for (const Job& job : jobs_) {
    int status = 0;
    const bool ended = wait_for(job.process, status, until, hurry);
    if (!ended) stop(job.process);
    const bool well = ended && WIFEXITED(status) && WEXITSTATUS(status) == 0 && in_place({job.svg, job.png}, job.name);
    const std::string said = text_of(job.errors);
    for (const auto& path : {job.script, job.errors, job.svg, job.png}) {
      std::error_code ignored;
      fs::remove(path, ignored);
    }
    if (!ended) failures_.push_back(fmt::format("figure {}: gnuplot took too long and was stopped", job.name));
    else if (!well)
      failures_.push_back(fmt::format("figure {}: gnuplot failed{}{}", job.name, said.empty() ? "" : ": ", said));
  }
  jobs_.clear();
  return std::exchange(failures_, {});
}

Plotter::~Plotter() { finish(); }

}  // namespace surgeon
