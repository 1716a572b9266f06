// The lab at work: rows go to files as they come, words to the terminal, bodies to threads.
#include "experiments/lab.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "experiments/lab/session.hpp"
#include "framework/machine.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

using Clock = std::chrono::steady_clock;

Json as_json(const Value& value) {
  return std::visit([](const auto& v) { return Json(v); }, value);   // nan and inf become null when they are written
}

std::string as_csv(const Value& value) {
  if (std::holds_alternative<std::nullptr_t>(value)) return "";
  if (const bool* b = std::get_if<bool>(&value)) return *b ? "true" : "false";
  if (const std::int64_t* i = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *i);
  if (const double* d = std::get_if<double>(&value)) return fmt::format("{}", *d);
  return csv_field(std::get<std::string>(value));
}

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string csv_line(const std::vector<std::string>& columns, const Row& row) {
  std::string line;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    if (c) line += ",";
    for (const auto& [name, value] : row)
      if (name == columns[c]) line += as_csv(value);
  }
  return line + "\n";
}

Value as_value(const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  return nullptr;
}

std::string duration(double seconds) {
  const auto s = std::int64_t(std::ceil(seconds));
  return s < 60 ? fmt::format("{} s", s) : s < 3600 ? fmt::format("{}:{:02} min", s / 60, s % 60)
                                                    : fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

}  // namespace

Lab::Lab() = default;
Lab::~Lab() = default;

// ---- Rows ----------------------------------------------------------------------------------------------------------
void Lab::State::write_csv_again(const std::filesystem::path& folder) {
  std::string text;
  for (const std::string& column : columns) text += as_csv(column) + ",";
  if (!text.empty()) text.back() = '\n';
  for (const Json& json : rows) {
    Row row;
    for (const auto& [name, value] : json.items()) row.emplace_back(name, as_value(value));
    text += csv_line(columns, row);
  }
  csv.close();
  write_file(folder / "metrics.csv", text, Sync::later);
  csv.open(folder / "metrics.csv", std::ios::app);
}

void Lab::row(Row row) {
  State& s = *state_;
  Json json = Json::object();
  bool new_column = false;
  for (auto& [name, value] : row) {
    if (double* d = std::get_if<double>(&value); d && !std::isfinite(*d)) value = nullptr;   // as in the JSON
    json[name] = as_json(value);
    if (std::find(s.columns.begin(), s.columns.end(), name) != s.columns.end()) continue;
    s.columns.push_back(name);
    new_column = true;
  }
  if (new_column) s.write_csv_again(folder_);
  s.csv << csv_line(s.columns, row) << std::flush;
  s.jsonl << dump(json) << "\n" << std::flush;
  s.rows.push_back(std::move(json));
  if (!s.csv || !s.jsonl) throw std::runtime_error("cannot write to " + (folder_ / "metrics.csv").string());
}

void Lab::result(const std::string& key, Value value) { state_->result[key] = as_json(value); }

// ---- Words ---------------------------------------------------------------------------------------------------------
void Lab::State::clear_progress() {
  const std::lock_guard guard(progress_lock);
  if (progress_line) terminal.err << "\r\x1b[K" << std::flush;
  progress_line = false;
}

void Lab::State::log_line(const std::string& text) { log << text << (text.ends_with('\n') ? "" : "\n") << std::flush; }

void Lab::State::tell(const std::string& text, const std::string& painted) {
  clear_progress();
  log_line(text);
  if (!terminal.silent) terminal.out << painted << std::flush;
}

void Lab::print(const std::string& text) {
  const std::string shown = printable_lines(text);
  state_->tell(shown, shown);
}

std::string Lab::command(const std::string& words, const std::filesystem::path& path) const {
  const bool like_option = path.string().starts_with("-");
  return state_->plan.program + " " + words + " " + shell_word((like_option ? "./" : "") + path.string());
}

void Lab::say(const std::string& text) { print(wrap(text) + "\n"); }

void Lab::show(const Table& table) {
  state_->tell(render(table, {}), render(table, state_->terminal.paint) + "\n");
}

void Lab::verdict(const std::string& sentence) {
  state_->verdicts.push_back(sentence);
  const std::string shown = printable_lines(sentence);
  state_->tell(shown, bold_numbers(wrap(shown), state_->terminal.paint) + "\n\n");
}

bool Lab::check(bool holds, const std::string& claim) {
  state_->checks.push_back({{"claim", claim}, {"holds", holds}});
  if (holds) {
    say("ok: " + claim);
    return true;
  }
  state_->failed = true;
  const std::string shown = printable_lines("FAILED: " + claim);
  state_->clear_progress();
  state_->log_line(shown);
  state_->terminal.err << state_->terminal.error_paint.red(wrap(shown)) << "\n" << std::flush;
  return false;
}

void Lab::warn(const std::string& text) {
  constexpr std::size_t most = 20;   // on the terminal
  if (!state_->warned.insert(text).second) return;
  const auto as_line = [](const std::string& sentence) {
    return shortened(printable("warning: " + sentence), longest_line);
  };
  state_->clear_progress();
  state_->log_line(as_line(text));
  const std::size_t so_far = state_->warned.size();
  if (so_far > most + 1) return;
  const std::string more = "more warnings are in " + (folder_ / "run.log").string();
  state_->terminal.err << wrap(as_line(so_far > most ? more : text)) << "\n" << std::flush;
}

// ---- Figures and files ---------------------------------------------------------------------------------------------
void Lab::draw(const Figure& figure) {
  write("figures/" + figure.name + ".csv", figure_data(figure));
  state_->figures.push_back(figure.name);
  state_->plotter.start(figure, folder_ / "figures");
}

std::filesystem::path Lab::file(const std::string& name) const {
  const std::filesystem::path path = folder_ / name;
  std::filesystem::create_directories(path.parent_path());
  return path;
}

void Lab::write(const std::string& name, const std::string& text) { write_file(file(name), text, Sync::later); }

void Lab::settle() {
  for (const char* name : {"metrics.csv", "metrics.jsonl"}) sync_file(folder_ / name);
  sync_file(folder_);
  sync_file(folder_.has_parent_path() ? folder_.parent_path() : ".");   // where the folder itself has its name
}

// ---- Long work -----------------------------------------------------------------------------------------------------
void Lab::progress(const std::string& what, std::int64_t done, std::int64_t total, const std::string& note) {
  State& s = *state_;
  if (!s.terminal.progress) return;
  const std::lock_guard guard(s.progress_lock);
  const Clock::time_point now = Clock::now();
  if (what != s.progress_what) {
    s.progress_what = what;
    s.progress_start = s.progress_shown = now;
    return;   // short work shows nothing
  }
  if (now - s.progress_shown < std::chrono::milliseconds(100)) return;
  s.progress_shown = now;
  const double seconds = std::chrono::duration<double>(now - s.progress_start).count();
  std::string line = fmt::format("{}  {}/{}", what, done, total);
  if (done > 0) line += fmt::format("  {} left", duration(seconds * double(total - done) / double(done)));
  if (!note.empty()) line += "  " + note;
  s.terminal.err << "\r\x1b[K" << line.substr(0, 79) << std::flush;
  s.progress_line = true;
}

void Lab::for_each(std::int64_t n, const std::string& what, const std::function<void(std::int64_t)>& body) {
  // Kernels stay on one thread while bodies run on several, so that results do not depend on how many.
  const std::int64_t workers = threads();
  const ThreadsGuard serial(1);
  std::atomic<std::int64_t> next{0}, done{0};
  std::atomic<bool> stop{false};
  std::mutex lock;
  std::exception_ptr first;
  auto work = [&](bool shows) {
    try {
      for (std::int64_t i; !stop && (i = next++) < n;) {
        stop_if_interrupted();
        body(i);
        ++done;
        if (shows) progress(what, done, n);
      }
    } catch (...) {
      const std::lock_guard guard(lock);
      if (!first) first = std::current_exception();
      stop = true;
    }
  };
  std::vector<std::thread> helpers;
  for (std::int64_t i = 1; i < std::min(workers, n); ++i) {
    try {
      helpers.emplace_back(work, false);
    } catch (const std::system_error&) {
      break;   // no more threads to be had: those we have do the work
    }
  }
  work(true);
  for (std::thread& helper : helpers) helper.join();
  state_->clear_progress();
  if (first) std::rethrow_exception(first);
}

}  // namespace surgeon
