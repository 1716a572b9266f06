// The lab: what every experiment gets for nothing. Options, seeds, a run folder, rows, tables, figures, progress, exit
// codes. An experiment says what it asks, adds its options and runs with a Lab; a program of your own may have some:
//
//   struct Knobs { std::int64_t draws = 1000; };
//   void options(Options& o, Knobs& k) { o.add("--draws", k.draws, "numbers to draw", {.low = 1}); }
//   void run(Lab& lab, const Knobs& k) {
//     Rng rng = lab.rng();
//     const double found = mean(randn({k.draws}, rng)).item();
//     lab.row({{"draws", k.draws}, {"mean", found}});
//     lab.verdict("The mean of " + std::to_string(k.draws) + " draws is " + number(found) + ".");
//   }
//   int main(int count, char** words) {
//     const Experiment draws{"draws", "How far from 0 is a mean?", "Varied: the number of draws. Measured: the mean.",
//                            {"mine draws --draws 100"}, knobs<Knobs>(options, run)};
//     return surgeon_command({draws}, {words + 1, words + count}, std::cout, std::cerr, "mine");
//   }
//
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "experiments/format.hpp"
#include "framework/random.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

// ---- Errors: each is one line on stderr and an exit code -----------------------------------------------------------
struct UsageError : std::invalid_argument { using std::invalid_argument::invalid_argument; };   // exit 2
struct Interrupted : std::runtime_error { Interrupted() : std::runtime_error("interrupted") {} };   // 130, 143, 129
// Anything else that leaves an experiment, and a failed Lab::check: exit 1.
// Not an error: what an experiment throws last when it found what it looks for (compare: a difference). The run is
// done, with exit 3 and no line on stderr.
struct Findings : std::exception {};

// ---- Options -------------------------------------------------------------------------------------------------------
struct Limits {
  double low = -std::numeric_limits<double>::infinity();    // the smallest and the largest number allowed
  double high = std::numeric_limits<double>::infinity();
  std::string quick = {};                  // the default under --preset quick, as the user would type it
  std::vector<std::string> choices = {};   // the texts allowed; empty: any
  bool required = false;
};

// The options of one experiment. A name is "--d-k", or "task" for one that is given by position. What the variable
// holds when it is added is the default. It is set before the experiment runs, from the default, the quick preset, the
// configuration file and the command line; later ones win.
class Options {
 public:
  void add(const std::string& name, bool& value, const std::string& help);   // a switch
  void add(const std::string& name, std::int64_t& value, const std::string& help, const Limits& = {});
  void add(const std::string& name, double& value, const std::string& help, const Limits& = {});
  void add(const std::string& name, std::string& value, const std::string& help, const Limits& = {});
  // Lists: 16,64,256, never empty. Numbers also as ranges, which include both ends: 16:4096:x4, 0.1:0.5:0.1, 1:5.
  void add(const std::string& name, std::vector<std::int64_t>& values, const std::string& help, const Limits& = {});
  void add(const std::string& name, std::vector<double>& values, const std::string& help, const Limits& = {});
  void add(const std::string& name, std::vector<std::string>& values, const std::string& help, const Limits& = {});
  // Once all are set: `act` may set options that were not given from others that were, as --resume does. Acts run in
  // the order in which they were added, before what require() asks for, and may throw UsageError.
  void before_check(std::function<void()> act);
  // What must hold between options, before anything is written; `otherwise` is the error. `holds` changes nothing.
  void require(std::function<bool()> holds, const std::string& otherwise);

  struct Entry {
    std::string name, short_name, help, quick;
    bool is_switch = false, required = false;
    std::function<void(const std::string&)> set;   // throws UsageError
    std::function<std::string()> json;             // the value, as JSON
    std::function<std::string()> text;             // the value, as one would type it
    bool given = false;                            // on the command line or in the configuration file
  };
  std::vector<Entry>& entries() { return entries_; }
  void check();                                    // missing ones, then before_check(), then require(); UsageError

 private:
  Entry& entry(const std::string& name, const std::string& help, const Limits& limits);
  std::vector<Entry> entries_;
  std::vector<std::function<void()>> before_check_;
  std::vector<std::pair<std::function<bool()>, std::string>> required_;
};

// ---- Rows and tables -----------------------------------------------------------------------------------------------
using Value = std::variant<std::nullptr_t, bool, std::int64_t, double, std::string>;   // nan and inf are null in JSON
using Row = std::vector<std::pair<std::string, Value>>;                                // column, value

// Summary of one number per seed. se is the standard deviation / sqrt(n), nan for n = 1; percentiles interpolate
// linearly, as NumPy's do; geomean is 0 when a value is 0 and nan when one is negative.
struct Statistics {
  std::int64_t n = 0;
  double mean = 0, se = 0, median = 0, geomean = 0, p05 = 0, p95 = 0;
};
Statistics statistics(std::span<const double> values);
Row operator+(Row row, const Statistics& s);   // appends n, mean, se, median, geomean, p05, p95
Row operator+(Row row, const Row& more);

// Printed in 80 columns: words and the first column flush left, numbers flush right.
struct Table {
  std::string title = {};
  std::vector<std::string> header = {};
  std::vector<std::vector<std::string>> rows = {};
};
struct Figure;    // figures.hpp
struct Heatmap;
Table table_of(const Heatmap& map, const std::string& title);   // the same ticks and numbers

// ---- The lab -------------------------------------------------------------------------------------------------------

class Lab {
 public:
  // From the common options.
  std::uint64_t seed() const noexcept { return seed_; }
  Dtype dtype() const noexcept { return dtype_; }
  Rng rng(std::uint64_t stream = 0) const { return Rng(seed_, stream); }

  // One measurement, written at once to metrics.csv and metrics.jsonl, and at the end to summary.json. Rows may have
  // different columns. Nothing that depends on the clock belongs here: with the same seed and number of threads,
  // metrics.csv is byte-equal.
  void row(Row row);
  void result(const std::string& key, Value value);              // an entry of "result" in summary.json and --json

  // For the reader, on stdout; silent with --json and --quiet. Control characters are shown, not obeyed.
  void say(const std::string& text);                             // wrapped to 80 columns
  void show(const Table& table);
  void print(const std::string& text);                           // as it is
  // A command that the reader may copy, such as "surgeon train --resume 'my run'": the program's name, these words as
  // they are, and a path, in quotes where a shell needs them. For print().
  std::string command(const std::string& words, const std::filesystem::path& path) const;
  void verdict(const std::string& sentence);                     // what it all means; also in summary.json
  // A claim of the experiment about its own numbers. One that fails is reported and makes the exit code 1.
  bool check(bool holds, const std::string& claim);
  // A warning on stderr and in run.log; the same text is shown only once, and on stderr no more than twenty.
  void warn(const std::string& text);

  // Writes figures/<name>.svg, .png, .pdf and their data as .csv. Without gnuplot only the data.
  void draw(const Figure& figure);

  // Calls body(i) for i in [0, n), in no particular order, on as many threads as the user allows. Each call must write
  // to a place of its own, so that results do not depend on the number of threads; row() and the texts above are for
  // afterwards. Shows progress as `what`. Stops on Ctrl-C (Interrupted) and on the first exception, which it rethrows.
  void for_each(std::int64_t n, const std::string& what, const std::function<void(std::int64_t)>& body);
  // Progress of long work, on stderr when that is a terminal: "what  done/total  time left  note".
  void progress(const std::string& what, std::int64_t done, std::int64_t total, const std::string& note = {});
  // SIGINT (Ctrl-C), SIGTERM or SIGHUP came; a second one ends the process.
  static bool interrupted() noexcept;
  static void stop_if_interrupted();                             // throws Interrupted

  // The run folder. file() is a path in it, whose folders it makes; write() writes a file whole or not at all.
  const std::filesystem::path& folder() const noexcept { return folder_; }
  std::filesystem::path file(const std::string& name) const;
  void write(const std::string& name, const std::string& text);
  void settle();   // waits until the disk has the rows so far, which then survive a power cut: for checkpoints

  ~Lab();

 private:
  friend class Session;
  Lab();
  std::uint64_t seed_ = 42;
  Dtype dtype_ = Dtype::float32;
  std::filesystem::path folder_;
  struct State;
  std::unique_ptr<State> state_;
};

// ---- An experiment -------------------------------------------------------------------------------------------------
struct Experiment {
  std::string name;                    // as it is typed
  std::string question;                // in one line
  std::string help;                    // what is varied, what is measured, which numbers to look at
  std::vector<std::string> examples;   // command lines that run as they are
  std::function<std::function<void(Lab&)>(Options&)> prepare;   // adds the options and returns what runs; see knobs()
  bool in_all = true;                  // part of `surgeon all`
};

// From two functions and a struct of default values: see the example at the top.
template <class Knobs>
std::function<std::function<void(Lab&)>(Options&)> knobs(void (*options)(Options&, Knobs&),
                                                         void (*run)(Lab&, const Knobs&)) {
  return [=](Options& o) -> std::function<void(Lab&)> {
    auto values = std::make_shared<Knobs>();
    options(o, *values);
    return [=](Lab& lab) { run(lab, *values); };
  };
}

// Whether the process that makes this run folder is still there. A run that says "running" without it was aborted.
bool run_is_going_on(const std::filesystem::path& folder);

// Where the King James text lies, the default of `train text`: ../share/attention_surgeon, seen from the program. The
// set-up step writes it, and the installation brings it; it may be missing.
std::string king_james_text();

// The whole command. `args` comes without the program's name, which is shown in help and errors. Returns the exit code:
// 0 done, 1 failed, 2 wrong usage, 3 done with Findings, 130 interrupted (143, 129: by SIGTERM, SIGHUP). Progress and
// colour appear only where `out` and `err` are std::cout and std::cerr on a terminal.
int surgeon_command(const std::vector<Experiment>& experiments, const std::vector<std::string>& args, std::ostream& out,
                    std::ostream& err, const std::string& program = "surgeon");

}  // namespace surgeon
