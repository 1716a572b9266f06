// One run of one experiment: the common options, the terminal, and what a Lab keeps behind its door.
#pragma once

#include <chrono>
#include <fstream>
#include <mutex>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "experiments/figures.hpp"
#include "experiments/lab/text.hpp"

namespace surgeon {

using Json = nlohmann::ordered_json;

struct Settings {
  std::int64_t seed = 42, seeds = 1, threads = 1;
  std::string dtype = "float32", out = {}, config = {}, color = "auto", preset = "full", figure_size = "screen";
  std::vector<std::string> figure_formats = {"svg", "png", "pdf"};
  bool force = false, json = false, quiet = false, help = false;
};

// The command as it was started: its name, and what it can run.
struct Program {
  std::string name;
  const std::vector<Experiment>& experiments;
};

struct Terminal {
  std::ostream& out;
  std::ostream& err;
  bool silent = false;      // nothing for the reader on out: --json or --quiet
  bool progress = false;
  Paint paint = {}, error_paint = {};
};

// What a run is, before it starts.
struct Plan {
  std::string program;
  std::string experiment;
  std::string typed;                 // the command line, as one could type it again
  Json config;                       // every option with its value
  std::filesystem::path folder;      // of a NewFolder
};

struct Lab::State {
  State(const Terminal& t, Plan p, Drawing d) : terminal(t), plan(std::move(p)), plotter(std::move(d)) {}
  Terminal terminal;
  Plan plan;
  std::ofstream csv, jsonl, log;
  std::vector<std::string> columns;
  Json rows = Json::array(), result = Json::object(), checks = Json::array(), verdicts = Json::array();
  bool failed = false;
  std::set<std::string> warned;
  std::vector<std::string> figures;  // names of those begun
  Plotter plotter;
  std::string started;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  std::mutex progress_lock;
  std::chrono::steady_clock::time_point progress_start = start, progress_shown = start;
  std::string progress_what;
  bool progress_line = false;        // there is one on the terminal now

  void clear_progress();
  void log_line(const std::string& text);
  void tell(const std::string& text, const std::string& painted);   // into run.log, and to the reader
  void write_csv_again(const std::filesystem::path& folder);
};

class Session {
 public:
  // Makes the files of a run folder that exists. Throws std::runtime_error when it cannot write.
  Session(const Settings& settings, const Terminal& terminal, Plan plan);
  Lab& lab() { return lab_; }
  void finish_figures();   // waits for them, though not long once a signal came
  // status: "done", "failed", "aborted". Writes summary.json and meta.json; what --json prints.
  // `more` is added to the summary.
  std::string finish(const std::string& status, const std::string& error, const Json& more = Json::object());
  bool failed() const { return lab_.state_->failed; }
  std::string figures() const;   // once finished: a line that names those drawn; empty when there are none

 private:
  Json meta(const std::string& status, const std::string& error) const;
  Settings settings_;
  Lab lab_;
};

std::tm local_time();
std::string json_text(const Json& object);   // one line for each entry, one for each row

}  // namespace surgeon
