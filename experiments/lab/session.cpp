// Run folders, made whole or not at all and closed with a summary; and Ctrl-C.
#include "experiments/lab/session.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <set>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "experiments/lab/build_info.hpp"
#include "framework/machine.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

namespace fs = std::filesystem;

std::atomic<bool> interrupt_seen{false};   // lock-free, so a handler may set it
struct sigaction before_interrupt;

void on_interrupt(int) {
  interrupt_seen = true;
  signal(SIGINT, SIG_DFL);   // the second one ends the process
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm time{};
  localtime_r(&now, &time);
  return time;
}

// What was typed need not be UTF-8.
std::string indented(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

std::string timestamp() { return fmt::format("{:%Y-%m-%dT%H:%M:%S%z}", local_time()); }

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  return "unknown";
}

// The folders made on the way to one, so that they can go again.
struct Made {
  std::vector<fs::path> paths;
  void make(const fs::path& path) {
    std::vector<fs::path> missing;
    for (fs::path p = path; !p.empty() && !fs::exists(p); p = p.parent_path()) {
      missing.push_back(p);
      if (p == p.parent_path()) break;
    }
    for (auto p = missing.rbegin(); p != missing.rend(); ++p)
      if (fs::create_directory(*p)) paths.push_back(*p);
  }
  void unmake() {
    std::error_code ignored;
    for (auto p = paths.rbegin(); p != paths.rend(); ++p) fs::remove(*p, ignored);
    paths.clear();
  }
};

[[noreturn]] void cannot_write(const fs::path& folder, const std::string& why) {
  throw std::runtime_error(fmt::format("--out: cannot write to {}: {}", folder.string(), why));
}

fs::path fresh_name(const std::string& experiment) {
  const fs::path runs = "runs";
  const std::string stem = fmt::format("{:%Y-%m-%d_%H-%M-%S}_{}", local_time(), experiment);
  fs::path path = runs / stem;
  for (int i = 2; fs::exists(fs::symlink_status(path)); ++i) path = runs / fmt::format("{}_{}", stem, i);
  return path;
}

void point_latest_at(const fs::path& folder) {
  const fs::path link = folder.parent_path() / "latest",
                 temporary = folder.parent_path() / fmt::format(".latest.{}", getpid());
  std::error_code ignored;   // a file system without links is no reason to fail
  fs::create_directory_symlink(folder.filename(), temporary, ignored);
  if (!ignored) fs::rename(temporary, link, ignored);
  if (ignored) fs::remove(temporary, ignored);
}

Drawing drawing_of(const Settings& settings) {
  Drawing drawing{settings.figure_size == "slide"    ? FigureSize::slide
                  : settings.figure_size == "column" ? FigureSize::column
                                                     : FigureSize::screen, {}};
  const std::set<std::string> formats(settings.figure_formats.begin(), settings.figure_formats.end());   // each once
  for (const std::string& format : formats)
    drawing.formats.push_back(format == "svg"   ? FigureFormat::svg
                              : format == "png" ? FigureFormat::png
                                                : FigureFormat::pdf);
  return drawing;
}

}  // namespace

bool Lab::interrupted() noexcept { return interrupt_seen; }

void Lab::stop_if_interrupted() {
  if (interrupted()) throw Interrupted();
}

CatchInterrupt::CatchInterrupt() {
  interrupt_seen = false;
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &before_interrupt);
}

CatchInterrupt::~CatchInterrupt() {
  sigaction(SIGINT, &before_interrupt, nullptr);
  interrupt_seen = false;
}

fs::path open_folder(const Settings& settings, const std::string& experiment) {
  const fs::path folder = settings.out.empty() ? fresh_name(experiment) : fs::path(settings.out).lexically_normal();
  Made made;
  try {
    if (fs::exists(folder)) {
      if (!fs::is_directory(folder)) cannot_write(folder, "it is a file");
      if (!fs::is_empty(folder) && !settings.force)
        throw UsageError(fmt::format("--out: {} is not empty; add --force to write into it all the same",
                                     folder.string()));
    }
    made.make(folder);
    write_file(folder / ".probe", "", Sync::later);
    fs::remove(folder / ".probe");
  } catch (const UsageError&) {
    throw;
  } catch (const fs::filesystem_error& error) {
    made.unmake();
    cannot_write(folder, error.code().message());
  } catch (const std::runtime_error& error) {
    made.unmake();
    const std::string what = error.what();
    if (what.starts_with("--out")) throw;
    cannot_write(folder, what.substr(what.rfind(": ") + 2));
  }
  if (settings.out.empty()) point_latest_at(folder);
  return folder;
}

void discard_folder(const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : {"config.json", "meta.json", "metrics.csv", "metrics.jsonl", "run.log", "summary.json"})
    fs::remove(folder / name, ignored);
  const fs::path latest = folder.parent_path() / "latest";
  if (!fs::remove(folder, ignored) || ignored) return;
  if (fs::is_symlink(latest) && fs::read_symlink(latest, ignored) == folder.filename()) fs::remove(latest, ignored);
}

std::string json_text(const Json& object) {
  const auto dump = [](const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  std::string text = "{";
  for (const auto& [key, value] : object.items()) {
    text += (text.size() > 1 ? ",\n" : "\n") + dump(key) + ": ";
    if (!value.is_array() || value.empty()) {
      text += dump(value);
      continue;
    }
    for (std::size_t i = 0; i < value.size(); ++i) text += (i ? ",\n  " : "[\n  ") + dump(value[i]);
    text += "\n]";
  }
  return text + "\n}\n";
}

Session::Session(const Settings& settings, const Terminal& terminal, Plan plan) : settings_(settings) {
  lab_.seed_ = std::uint64_t(settings.seed);
  lab_.dtype_ = settings.dtype == "float64" ? Dtype::float64 : Dtype::float32;
  lab_.folder_ = plan.folder;
  lab_.state_.reset(new Lab::State(terminal, std::move(plan), drawing_of(settings)));
  Lab::State& s = *lab_.state_;
  s.started = timestamp();
  Json config = {{"experiment", s.plan.experiment}, {"typed", s.plan.typed}, {"options", s.plan.config}};
  lab_.write("config.json", indented(config));
  lab_.write("meta.json", indented(meta("running", "")));
  for (const auto& [file, name] : {std::pair{&s.csv, "metrics.csv"}, std::pair{&s.jsonl, "metrics.jsonl"},
                                   std::pair{&s.log, "run.log"}}) {
    lab_.write(name, "");
    file->open(lab_.folder() / name, std::ios::app);
  }
  s.log_line(fmt::format("{}  {}", s.started, s.plan.typed));
}

Json Session::meta(const std::string& status, const std::string& error) const {
  const Lab::State& s = *lab_.state_;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - s.start).count();
  Json m = {{"experiment", s.plan.experiment}, {"status", status}, {"version", version()}, {"git_hash", git_hash()},
            {"command", s.plan.typed}, {"seed", settings_.seed}, {"dtype", settings_.dtype}, {"threads", threads()}};
  m["machine"] = {
      {"processor", processor()}, {"simd", simd_level()}, {"blas", blas_version()}, {"blas_core", blas_core()}};
  m["start"] = s.started;
  m["end"] = status == "running" ? Json() : Json(timestamp());
  m["seconds"] = status == "running" ? Json() : Json(std::round(seconds * 1000) / 1000);
  if (!error.empty()) m["error"] = error;
  return m;
}

std::string Session::finish(const std::string& status, const std::string& error, const Json& more) {
  Lab::State& s = *lab_.state_;
  s.clear_progress();
  for (const std::string& failure : s.plotter.finish()) lab_.warn(failure);
  if (s.plotter.missing())
    lab_.warn("gnuplot is not installed, so no figures were drawn; their data is in " +
              (lab_.folder() / "figures").string());
  Json summary = {{"experiment", s.plan.experiment}, {"config", s.plan.config}, {"result", s.result}, {"rows", s.rows},
                  {"checks", s.checks}, {"verdict", s.verdicts}, {"status", status}};
  summary.update(more);
  const std::string text = json_text(summary);
  lab_.write("summary.json", text);
  s.log_line(fmt::format("{}  {}{}{}", timestamp(), status, error.empty() ? "" : ": ", error));
  lab_.write("meta.json", indented(meta(status, error)));
  return text;
}

}  // namespace surgeon
