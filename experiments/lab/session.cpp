// What a run writes about itself: its options and its machine at the start, a summary at the end.
#include "experiments/lab/session.hpp"

#include <unistd.h>

#include <cmath>
#include <ctime>
#include <set>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "experiments/lab/build_info.hpp"
#include "framework/errors.hpp"
#include "framework/machine.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

namespace fs = std::filesystem;

// What was typed need not be UTF-8.
std::string indented(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

std::string timestamp() { return fmt::format("{:%Y-%m-%dT%H:%M:%S%z}", local_time()); }

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  return "unknown";
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

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm time{};
  localtime_r(&now, &time);
  return time;
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
  write_file(lab_.file("config.json"), indented(config));
  lab_.write("meta.json", indented(meta("running", "")));
  for (const char* name : {"metrics.csv", "metrics.jsonl"}) lab_.write(name, "");
  for (const auto& [file, name] : {std::pair{&s.csv, "metrics.csv"}, std::pair{&s.jsonl, "metrics.jsonl"},
                                   std::pair{&s.log, "run.log"}})
    file->open(lab_.folder() / name, std::ios::app);
  s.log_line(fmt::format("{}  {}", s.started, s.plan.typed));
}

Json Session::meta(const std::string& status, const std::string& error) const {
  const Lab::State& s = *lab_.state_;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - s.start).count();
  Json m = {{"experiment", s.plan.experiment}, {"status", status}, {"version", version()}, {"git_hash", git_hash()},
            {"command", s.plan.typed}, {"seed", settings_.seed}, {"dtype", settings_.dtype}, {"threads", threads()}};
  m["machine"] = {
      {"processor", processor()}, {"simd", simd_level()}, {"blas", blas_version()}, {"blas_core", blas_core()}};
  m["pid"] = getpid();
  m["start"] = s.started;
  m["end"] = status == "running" ? Json() : Json(timestamp());
  m["seconds"] = status == "running" ? Json() : Json(std::round(seconds * 1000) / 1000);
  if (!error.empty()) m["error"] = error;
  return m;
}

void Session::finish_figures() {
  Lab::State& s = *lab_.state_;
  s.clear_progress();
  for (const std::string& failure : s.plotter.finish(Lab::interrupted)) lab_.warn(failure);
  if (s.plotter.missing())
    lab_.warn("gnuplot is not installed, so no figures were drawn; their data is in " +
              (lab_.folder() / "figures").string());
}

std::string Session::finish(const std::string& status, const std::string& error, const Json& more) {
  Lab::State& s = *lab_.state_;
  s.clear_progress();
  Json summary = {{"experiment", s.plan.experiment}, {"config", s.plan.config}, {"result", s.result}, {"rows", s.rows},
                  {"checks", s.checks}, {"verdict", s.verdicts}, {"status", status}};
  summary.update(more);
  const std::string text = json_text(summary);
  try {
    lab_.settle();
    write_file(lab_.file("summary.json"), text);
  } catch (const IoError& failure) {
    try {   // a full disk may have room for this
      write_file(lab_.file("meta.json"), indented(meta("failed", error.empty() ? failure.what() : error)));
    } catch (const std::exception&) {   // or the folder is gone
    }
    throw;
  }
  s.log_line(fmt::format("{}  {}{}{}", timestamp(), status, error.empty() ? "" : ": ", printable(error)));
  write_file(lab_.file("meta.json"), indented(meta(status, error)));   // last: what it says is there
  return text;
}

std::string Session::figures() const {
  const fs::path folder = lab_.folder() / "figures";
  std::string names;
  for (const std::string& name : lab_.state_->figures)
    for (const char* end : {".svg", ".png", ".pdf"})
      if (fs::exists(folder / (name + end))) {
        names += (names.empty() ? " " : ", ") + name;
        break;
      }
  return names.empty() ? "" : wrap(printable("Figures in " + folder.string() + ":" + names)) + "\n";
}

}  // namespace surgeon
