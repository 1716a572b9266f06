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
#include "experiments/figures/text.hpp"
#include "framework/errors.hpp"

extern char** environ;

namespace surgeon {

namespace {

const char* ending_of(FigureFormat format) {
  return format == FigureFormat::svg ? ".svg" : format == FigureFormat::png ? ".png" : ".pdf";
}

}  // namespace

void Plotter::start(const Figure& figure, const std::filesystem::path& folder) {
  if (missing_) return;
  if (!std::filesystem::is_directory(folder))
    throw IoError(fmt::format("{}: no such folder to draw figure {} in", folder.string(), figure.name));
  const auto hidden = [&](const char* end) { return folder / fmt::format(".{}{}.tmp", figure.name, end); };
  Job job{0, figure.name, hidden(".gp"), hidden(".log"), {}};
  std::vector<std::pair<FigureFormat, std::string>> files;
  for (const FigureFormat format : drawing_.formats) {
    const char* end = ending_of(format);
    job.outputs.push_back({hidden(end), folder / (figure.name + end)});
    files.emplace_back(format, job.outputs.back().hidden.string());
  }
  const std::set<char32_t> without_font = letters_without_font(figure);
  not_in_fonts_.insert(without_font.begin(), without_font.end());
  std::ofstream script_file(job.script);
  script_file << gnuplot_script(figure, drawing_.size, files, without_font) << std::flush;
  if (!script_file) throw IoError(fmt::format("{}: cannot write figure {} to it", folder.string(), figure.name));
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
  for (const Output& out : job.outputs)
    whole = whole && std::filesystem::file_size(out.hidden, error) > 0 && !error;
  std::error_code ignored;
  for (const Output& out : job.outputs) {
    if (whole && !error) std::filesystem::rename(out.hidden, out.final, error);
    std::filesystem::remove(out.hidden, ignored);
  }
  for (const auto& path : {job.script, job.errors}) std::filesystem::remove(path, ignored);
  if (whole && !error) return "";
  return fmt::format("figure {}: gnuplot failed{}{}", job.name, said.empty() ? "" : ": ", said.substr(0, 300));
}

std::vector<std::string> Plotter::finish() {
  std::vector<std::string> failures;
  const auto shown = std::min<std::ptrdiff_t>(std::ssize(not_in_fonts_), 8);
  for (const Job& job : jobs_)
    if (std::string failure = collect(job); !failure.empty()) failures.push_back(std::move(failure));
  jobs_.clear();
  if (!not_in_fonts_.empty())
    failures.push_back(fmt::format("no font has {}{}: � stands for what is missing in the PNG and PDF figures",
                                   utf8_of({not_in_fonts_.begin(), std::next(not_in_fonts_.begin(), shown)}),
                                   shown < std::ssize(not_in_fonts_) ? " and more" : ""));
  not_in_fonts_.clear();
  return failures;
}

Plotter::~Plotter() { finish(); }

}  // namespace surgeon
