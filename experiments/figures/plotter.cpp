// Runs gnuplot in the background. What it leaves behind is checked, because it can fail without a word.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "experiments/figures.hpp"
#include "experiments/figures/gnuplot.hpp"

extern char** environ;

namespace surgeon {

void Plotter::start(const Figure& figure, const std::filesystem::path& folder) {
  if (missing_) return;
  const auto hidden = [&](const char* end) { return folder / ("." + figure.name + end); };
  Job job{0, figure.name, hidden(".gp.tmp"), hidden(".log.tmp"), hidden(".svg.tmp"), hidden(".png.tmp")};
  std::ofstream(job.script) << gnuplot_script(figure, job.svg.string(), job.png.string());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, job.errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  std::string program = "gnuplot", script = job.script.string();
  char* arguments[] = {program.data(), script.data(), nullptr};
  const int error = posix_spawnp(&job.process, "gnuplot", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return jobs_.push_back(std::move(job));
  missing_ = true;
  std::error_code ignored;
  for (const auto& path : {job.script, job.errors}) std::filesystem::remove(path, ignored);
}

std::string Plotter::collect(const Job& job) {
  int status = 0;
  while (waitpid(job.process, &status, 0) < 0 && errno == EINTR) {}
  std::ifstream log(job.errors);
  std::string said{std::istreambuf_iterator<char>(log), {}};
  std::replace(said.begin(), said.end(), '\n', ' ');
  std::error_code error;
  bool whole = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  for (const auto& path : {job.svg, job.png}) whole = whole && std::filesystem::file_size(path, error) > 0 && !error;
  if (whole)
    for (const auto& path : {job.svg, job.png})
      std::filesystem::rename(path, path.parent_path() / (job.name + path.stem().extension().string()), error);
  for (const auto& path : {job.script, job.errors, job.svg, job.png}) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
  if (whole && !error) return "";
  return fmt::format("figure {}: gnuplot failed{}{}", job.name, said.empty() ? "" : ": ", said.substr(0, 300));
}

std::vector<std::string> Plotter::finish() {
  std::vector<std::string> failures;
  for (const Job& job : jobs_)
    if (std::string failure = collect(job); !failure.empty()) failures.push_back(std::move(failure));
  jobs_.clear();
  return failures;
}

Plotter::~Plotter() { finish(); }

}  // namespace surgeon
