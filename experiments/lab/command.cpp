// The `surgeon` command: help, one experiment or all of them, and the exit code.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <new>

#include <fmt/format.h>

#include "experiments/lab/build_info.hpp"
#include "experiments/lab/words.hpp"
#include "framework/machine.hpp"

namespace surgeon {
namespace {

enum Exit { done = 0, failed = 1, usage = 2, aborted = 130 };

// ---- Help ----------------------------------------------------------------------------------------------------------
std::string option_lines(Options& options) {
  std::string text;
  for (const Options::Entry& e : options.entries()) {
    std::string left = "  " + e.name, right = e.help;
    const std::string value = e.text();
    if (!e.is_switch && !e.required && !value.empty()) right += fmt::format(" [{}]", value);
    if (!e.quick.empty()) right += fmt::format(" [quick: {}]", e.quick);
    left.resize(std::max<std::size_t>(left.size() + 2, 20), ' ');
    text += left + wrap(right, 20).substr(20) + "\n";
  }
  return text;
}

std::string help_of(const Experiment& e, Options& own, Options& common, const Paint& paint) {
  std::string positional;
  for (const Options::Entry& entry : own.entries())
    if (!entry.name.starts_with("-"))
      positional += (entry.required ? " " : " [") + entry.name + (entry.required ? "" : "]");
  std::string text = paint.bold(wrap(e.question)) + "\n\n" + wrap(e.help) + "\n\n";
  text += paint.bold("Usage: surgeon " + e.name + positional + " [options]") + "\n" + option_lines(own);
  text += "\n" + paint.bold("Common options") + "\n" + option_lines(common);
  text += "\n" + paint.bold("Examples") + "\n";
  for (const std::string& example : e.examples) text += "  " + example + "\n";
  text += "\n" +
          wrap(
              "Lists are written 16,64,256, ranges 16:4096:x4 and 0.1:0.5:0.1. Command line wins over --config, which "
              "wins over the preset.") +
          "\n";
  return text;
}

std::string list_text(const std::vector<Experiment>& experiments, const Paint& paint) {
  std::size_t widest = 0;
  for (const Experiment& e : experiments) widest = std::max(widest, e.name.size());
  std::string text;
  for (const Experiment& e : experiments) {
    std::string name = e.name;
    name.resize(widest, ' ');
    text += "  " + paint.bold(name) + "  " + wrap(e.question, widest + 4).substr(widest + 4) + "\n";
  }
  return text;
}

std::string general_help(const std::vector<Experiment>& experiments, Options& common, const Paint& paint) {
  return paint.bold("surgeon: opens up attention and measures its gradients") + "\n\n" +
         "  surgeon <experiment> [options]     run one\n"
         "  surgeon all [options]              run those of the notebook, one after another\n"
         "  surgeon <experiment> --help        what it asks, varies and measures\n"
         "  surgeon list                       the experiments, one line each\n"
         "  surgeon --version                  this build and the machine it runs on\n\n" +
         paint.bold("Experiments") + "\n" + list_text(experiments, paint) + "\n" + paint.bold("Common options") + "\n" +
         option_lines(common) + "\n" +
         wrap(
             "Each run leaves a folder with its numbers, figures and settings. Exit codes: 0 done, 1 it ran and failed "
             "or a check failed, 2 wrong usage, 130 interrupted.") +
         "\n";
}

std::string version_text() {
  return fmt::format("surgeon {} ({})\n{} on core {}, SIMD {}, {} thread{}\n", version(), git_hash(), blas_version(),
                     blas_core(), simd_level(), threads(), threads() == 1 ? "" : "s");
}

// ---- Running -------------------------------------------------------------------------------------------------------
bool colour(const std::string& choice, const std::ostream& stream, int descriptor) {
  if (choice != "auto") return choice == "always";
  const char *no = std::getenv("NO_COLOR"), *term = std::getenv("TERM");
  const bool terminal = (&stream == &std::cout || &stream == &std::cerr) && isatty(descriptor);
  return terminal && !(no && *no) && !(term && std::string(term) == "dumb");
}

Terminal terminal_for(const Settings& settings, std::ostream& out, std::ostream& err) {
  return {out, err, settings.json || settings.quiet, !settings.quiet && &err == &std::cerr && isatty(2) != 0,
          Paint{colour(settings.color, out, 1)}, Paint{colour(settings.color, err, 2)}};
}

void complain(const Terminal& terminal, const std::string& who, const std::string& what) {
  terminal.err << terminal.error_paint.red("surgeon" + who + ": " + what) << "\n" << std::flush;
}

// An experiment with its options set.
struct Prepared {
  const Experiment* experiment;
  Settings settings;
  Options own, common;
  std::function<void(Lab&)> body;
  Prepared(const Experiment& e, const Words& words, const Words& experiments) : experiment(&e) {
    settings.threads = threads();
    body = e.prepare(own);
    const bool has_seeds = std::any_of(own.entries().begin(), own.entries().end(),
                                       [](const Options::Entry& entry) { return entry.name == "--seeds"; });
    add_common(common, settings, !has_seeds);
    set_all({&own, &common}, settings, words, e.name, experiments);
  }
  Prepared(const Prepared&) = delete;
};

struct Outcome { int exit = done; std::string summary; };

Outcome run(Prepared& p, const Terminal& terminal, const std::string& typed, const std::filesystem::path& folder) {
  const ThreadsGuard threads_here(int(p.settings.threads));
  Session session(p.settings, terminal, {p.experiment->name, typed, values_of({&p.own, &p.common}), folder});
  for (const Options::Entry& e : p.common.entries())
    if (e.name == "--seeds" && e.given)
      session.lab().warn(p.experiment->name + " looks at one draw: --seeds changes nothing");
  std::string error, status = "done";
  int exit = done;
  try {
    p.body(session.lab());
    if (session.failed()) exit = failed, status = "failed", error = "a check failed";
  } catch (const Interrupted&) {
    exit = aborted, status = "aborted", error = "interrupted";
  } catch (const UsageError& e) {
    exit = usage, status = "failed", error = e.what();
  } catch (const std::bad_alloc&) {
    exit = failed, status = "failed", error = "out of memory";
  } catch (const std::exception& e) {
    exit = failed, status = "failed", error = e.what();
  }
  Outcome outcome{exit, session.finish(status, error)};
  if (!error.empty()) complain(terminal, " " + p.experiment->name, error);
  if (exit == usage) discard_folder(folder);   // what it was asked turned out to make no sense
  return outcome;
}

// A result that could not be written is a failed run.
int closed(int exit, const Terminal& terminal) {
  terminal.out << std::flush;
  if (terminal.out || exit != done) return exit;
  complain(terminal, "", "cannot write to stdout");
  return failed;
}

int run_one(const Experiment& e, const Words& words, const Words& experiments, std::ostream& out, std::ostream& err) {
  Prepared p(e, words, experiments);
  const Terminal terminal = terminal_for(p.settings, out, err);
  if (p.settings.help) {
    out << help_of(e, p.own, p.common, terminal.paint);
    return closed(done, terminal);
  }
  const auto folder = open_folder(p.settings, e.name);
  Words all_words = words;
  all_words.insert(all_words.begin(), e.name);
  const CatchInterrupt guard;
  const Outcome outcome = run(p, terminal, typed_line(all_words), folder);
  if (p.settings.json && outcome.exit != usage) out << outcome.summary;
  else if (!terminal.silent && outcome.exit != usage) out << "Results in " << folder.string() << "\n";
  return closed(outcome.exit, terminal);
}

// What was typed for `all`, as one experiment understands it: the folder is ours, --seeds only for those that have it.
Words words_for(const Experiment& e, const std::vector<Given>& typed) {
  Options own;
  e.prepare(own);
  const Words names = names_of({&own});
  const bool has_seeds = std::find(names.begin(), names.end(), "--seeds") != names.end();
  Words words;
  for (const auto& [entry, text] : typed)
    if (entry->name != "--out" && entry->name != "--force" && (entry->name != "--seeds" || has_seeds))
      words.push_back(entry->name + "=" + text);
  return words;
}

int run_all(const std::vector<Experiment>& experiments, const Words& words, const Words& names, std::ostream& out,
            std::ostream& err) {
  Settings settings;
  settings.threads = threads();
  Options common;
  add_common(common, settings, true);
  set_all({&common}, settings, words, "all", names);
  const Terminal terminal = terminal_for(settings, out, err);
  if (settings.help) {
    out << general_help(experiments, common, terminal.paint);
    return closed(done, terminal);
  }
  const std::vector<Given> typed_words = read_words({&common}, words);
  std::deque<Prepared> prepared;   // all of them first, so that a wrong word stops everything before it starts
  for (const Experiment& e : experiments)
    if (e.in_all) prepared.emplace_back(e, words_for(e, typed_words), names);
  const auto folder = open_folder(settings, "all");
  const CatchInterrupt guard;
  Words all_words = words;
  all_words.insert(all_words.begin(), "all");
  const std::string typed = typed_line(all_words);
  Session session(settings, terminal, {"all", typed, values_of({&common}), folder});
  int exit = done;
  Json results = Json::array();
  for (Prepared& p : prepared) {
    const std::string heading = wrap("== " + p.experiment->name + ": " + p.experiment->question);
    if (!terminal.silent) out << terminal.paint.bold(heading) << "\n\n";
    std::filesystem::create_directories(folder / p.experiment->name);
    const Outcome outcome = run(p, terminal, typed, folder / p.experiment->name);
    results.push_back(Json::parse(outcome.summary));
    exit = std::max(exit, outcome.exit);
    if (outcome.exit == aborted) break;
  }
  const char* status = exit == done ? "done" : exit == aborted ? "aborted" : "failed";
  const std::string summary = session.finish(status, "", {{"experiments", results}});
  if (settings.json) out << summary;
  else if (!terminal.silent) out << "Results and figures in " << folder.string() << "/*/figures\n";
  return closed(exit, terminal);
}

int dispatch(const std::vector<Experiment>& experiments, const Words& args, std::ostream& out, std::ostream& err) {
  Words names;
  for (const Experiment& e : experiments) names.push_back(e.name);
  if (args.empty()) throw UsageError("which experiment? `surgeon list` shows them, `surgeon --help` explains");
  const std::string& first = args[0];
  const Words rest(args.begin() + 1, args.end());
  for (const Experiment& e : experiments)
    if (e.name == first) return run_one(e, rest, names, out, err);
  if (first == "all") return run_all(experiments, rest, names, out, err);

  Settings settings;
  settings.threads = threads();
  Options common;
  add_common(common, settings, true);
  if (first == "--help" || first == "-h" || first == "help" || first == "--version" || first == "list") {
    set_all({&common}, settings, rest, "", names);
    const Terminal terminal = terminal_for(settings, out, err);
    if (first == "--version") out << version_text();
    else if (first == "list" && settings.json) {
      Json list = Json::array();
      for (const Experiment& e : experiments) list.push_back({{"name", e.name}, {"question", e.question}});
      out << json_text({{"experiments", list}});
    } else if (first == "list") out << list_text(experiments, terminal.paint);
    else out << general_help(experiments, common, terminal.paint);
    return closed(done, terminal);
  }
  if (first.starts_with("-"))
    throw UsageError(fmt::format("the experiment comes first: surgeon <experiment> {} ...", first));
  names.insert(names.end(), {"all", "list"});
  throw UsageError(
      fmt::format("unknown experiment \"{}\"{}; `surgeon list` shows them", first, did_you_mean(first, names)));
}

}  // namespace

int surgeon_command(const std::vector<Experiment>& experiments, const Words& args, std::ostream& out,
                    std::ostream& err) {
  const std::string who = !args.empty() && std::any_of(experiments.begin(), experiments.end(),
                                                       [&](const Experiment& e) { return e.name == args[0]; })
                              ? " " + args[0]
                              : "";
  const auto complain_here = [&](const std::string& what, int exit) {
    err << "surgeon" << who << ": " << what << "\n" << std::flush;
    return exit;
  };
  try {
    return dispatch(experiments, args, out, err);
  } catch (const UsageError& error) {
    return complain_here(error.what(), usage);
  } catch (const std::exception& error) {
    return complain_here(error.what(), failed);
  }
}

}  // namespace surgeon
