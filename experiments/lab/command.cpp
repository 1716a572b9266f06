// The command: one experiment or all of them, and the exit code.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <new>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "experiments/lab/folder.hpp"
#include "experiments/lab/help.hpp"
#include "experiments/lab/signals.hpp"
#include "experiments/lab/words.hpp"
#include "framework/machine.hpp"

namespace surgeon {
namespace {

enum Exit { done = 0, failed = 1, usage = 2, found = 3 };   // and 128 + the signal that stopped it

// ---- The terminal --------------------------------------------------------------------------------------------------
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

// One line on stderr: "surgeon scaling: what went wrong".
void complain(std::ostream& err, const Paint& paint, const std::string& who, const std::string& what) {
  err << paint.red(shortened(printable(who + ": " + what), longest_line)) << "\n" << std::flush;
}

// What went wrong, without the words of a library.
std::string reason_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) || dynamic_cast<const std::length_error*>(&error))
    return "out of memory";
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
    return file->path1().string() + ": " + file->code().message();
  return error.what();
}

// Whoever read our output has gone, as `head` does: nothing to complain about.
bool reader_has_gone(const std::ostream& out) {
  pollfd stdout_now{1, POLLOUT, 0};
  return &out == &std::cout && poll(&stdout_now, 1, 0) == 1 && (stdout_now.revents & POLLERR);
}

// A result that could not be written is a failed run.
int closed(int exit, const Program& program, const Terminal& terminal) {
  terminal.out << std::flush;
  if (terminal.out || exit != done || reader_has_gone(terminal.out)) return exit;
  complain(terminal.err, terminal.error_paint, program.name, "cannot write to stdout");
  return failed;
}

// ---- One experiment ------------------------------------------------------------------------------------------------
bool has_seeds(Options& options) {
  const Words names = names_of({&options});
  return std::find(names.begin(), names.end(), "--seeds") != names.end();
}

// An experiment with its options set.
struct Prepared {
  const Experiment* experiment;
  Settings settings;
  Options own, common;
  std::function<void(Lab&)> body;
  Prepared(const Program& program, const Experiment& e, const Words& words) : experiment(&e) {
    settings.threads = threads();
    body = e.prepare(own);
    add_common(common, settings);
    set_all({&own, &common}, settings, words, e.name, program);
  }
  Prepared(const Prepared&) = delete;
};

// The options of what is no single experiment: `all`, help, list.
struct Common {
  Settings settings;
  Options options;
  Common(const Program& program, const Words& words, const std::string& name) {
    settings.threads = threads();
    add_common(options, settings);
    add_seeds(options, settings);
    set_all({&options}, settings, words, name, program);
  }
  Common(const Common&) = delete;
};

struct Outcome {
  int exit = done;
  std::string status = "done", error = {}, summary = {}, figures = {};
};

Outcome outcome_of(Prepared& p, Session& session) {
  try {
    p.body(session.lab());
    if (session.failed()) return {failed, "failed", "a check failed"};
    return {};
  } catch (const Interrupted& e) {
    return {exit_of_signal(), "aborted", e.what()};
  } catch (const Findings&) {
    return {session.failed() ? failed : found};
  } catch (const UsageError& e) {
    return {usage, "failed", e.what()};
  } catch (const std::exception& e) {
    return {failed, "failed", reason_of(e)};
  }
}

Outcome run(const Program& program, Prepared& p, const Terminal& terminal, const std::string& typed,
            NewFolder& folder) {
  const ThreadsGuard threads_here(int(p.settings.threads));
  Session session(p.settings, terminal,
                  {program.name, p.experiment->name, typed, values_of({&p.own, &p.common}), folder.path()});
  folder.begun();
  Outcome outcome = outcome_of(p, session);
  session.finish_figures();
  if (Lab::interrupted() && outcome.exit == done) outcome = {exit_of_signal(), "aborted", "interrupted"};
  outcome.summary = session.finish(outcome.status, outcome.error);
  outcome.figures = session.figures();
  if (!outcome.error.empty())
    complain(terminal.err, terminal.error_paint, program.name + " " + p.experiment->name, outcome.error);
  if (outcome.exit == usage) folder.discard();   // what it was asked turned out to make no sense
  return outcome;
}

// Before anything is written: what would otherwise go wrong in the middle.
void require_resources_for(const Settings& settings) {
  const ThreadsGuard threads_here(int(settings.threads));
  try {
    require_resources();
  } catch (const std::bad_alloc&) {
    throw std::runtime_error(fmt::format("out of memory: no room for the buffers of {} thread{}{}", settings.threads,
                                         settings.threads == 1 ? "" : "s",
                                         settings.threads == 1 ? "" : "; try --threads 1"));
  }
}

int run_one(const Program& program, const Experiment& e, const Words& words, std::ostream& out, std::ostream& err) {
  Prepared p(program, e, words);
  const Terminal terminal = terminal_for(p.settings, out, err);
  if (p.settings.help) {
    out << help_of(program, e, p.own, p.common, terminal.paint);
    return closed(done, program, terminal);
  }
  require_resources_for(p.settings);
  const CatchSignals guard;
  NewFolder folder(p.settings, e.name);
  const Outcome outcome = run(program, p, terminal, typed_line(program, e.name, words), folder);
  if (outcome.exit == usage) return usage;
  if (p.settings.json) out << outcome.summary;
  else if (!terminal.silent) out << outcome.figures << "Results in " << printable(folder.path().string()) << "\n";
  return closed(outcome.exit, program, terminal);
}

// ---- All of them ---------------------------------------------------------------------------------------------------
// What was typed for `all`, as one experiment understands it: the folder is ours, --seeds only for those that have it.
Words words_for(const Experiment& e, const std::vector<Given>& typed) {
  Options own;
  e.prepare(own);
  Words words;
  for (const Given& g : typed)
    if (g.entry->name != "--out" && g.entry->name != "--force" && (g.entry->name != "--seeds" || has_seeds(own)))
      words.push_back(g.entry->name + "=" + g.text);
  return words;
}

// Of all of them together: the worst exit code, what goes into the summary, the lines that name the figures.
struct Together { int exit = done; Json results = Json::array(); std::string figures = {}; };

// One after another, each in a folder of its name.
Together run_each(const Program& program, std::deque<Prepared>& prepared, const Terminal& terminal,
                  const std::string& typed, const Settings& settings, const NewFolder& all) {
  Together together;
  for (Prepared& p : prepared) {
    const std::string heading = wrap("== " + p.experiment->name + ": " + p.experiment->question);
    if (!terminal.silent) terminal.out << terminal.paint.bold(heading) << "\n\n";
    NewFolder folder(all, p.experiment->name, settings);
    const Outcome outcome = run(program, p, terminal, typed, folder);
    together.results.push_back(Json::parse(outcome.summary));
    together.exit = std::max(together.exit, outcome.exit);
    together.figures += outcome.figures;
    if (Lab::interrupted()) together.exit = exit_of_signal();
    if (Lab::interrupted()) break;
  }
  return together;
}

// The checks of all experiments, and the first thing that each found.
void sum_up(const Terminal& terminal, const Json& results) {
  std::string text;
  for (const Json& one : results)
    for (const Json& check : one["checks"])
      text += wrap((check["holds"] ? "ok: " : "FAILED: ") + check["claim"].get<std::string>()) + "\n";
  for (const Json& one : results)
    if (!one["verdict"].empty())
      text += "\n" + wrap(one["experiment"].get<std::string>() + ": " + one["verdict"][0].get<std::string>()) + "\n";
  terminal.out << terminal.paint.bold("== In short") << "\n\n" << bold_numbers(text, terminal.paint) << "\n";
}

int run_all(const Program& program, const Words& words, std::ostream& out, std::ostream& err) {
  Common common(program, words, "all");
  const Settings& settings = common.settings;
  const Terminal terminal = terminal_for(settings, out, err);
  if (settings.help) {
    out << general_help(program, common.options, terminal.paint);
    return closed(done, program, terminal);
  }
  const std::vector<Given> given = read_words({&common.options}, words);
  std::deque<Prepared> prepared;   // all of them first, so that a wrong word stops everything before it starts
  for (const Experiment& e : program.experiments)
    if (e.in_all) prepared.emplace_back(program, e, words_for(e, given));
  require_resources_for(settings);
  const CatchSignals guard;
  NewFolder folder(settings, "all");
  const std::string typed = typed_line(program, "all", words);
  Session session(settings, terminal, {program.name, "all", typed, values_of({&common.options}), folder.path()});
  folder.begun();
  const Together all = run_each(program, prepared, terminal, typed, settings, folder);
  const char* status = all.exit == done ? "done" : Lab::interrupted() ? "aborted" : "failed";
  const std::string summary = session.finish(status, "", {{"experiments", all.results}});
  if (settings.json) out << summary;
  else if (!terminal.silent) {
    sum_up(terminal, all.results);
    out << all.figures << "Results in " << printable(folder.path().string()) << "\n";
  }
  return closed(all.exit, program, terminal);
}

// ---- Which ---------------------------------------------------------------------------------------------------------
const Experiment* find(const Program& program, const std::string& name) {
  for (const Experiment& e : program.experiments)
    if (e.name == name) return &e;
  return nullptr;
}

// help, list, --version.
int inform(const Program& program, const std::string& what, const Words& words, std::ostream& out, std::ostream& err) {
  Common common(program, words, "");
  const Settings& settings = common.settings;
  const Terminal terminal = terminal_for(settings, out, err);
  if (settings.help || what == "help") out << general_help(program, common.options, terminal.paint);
  else if (what == "--version") out << version_text(program);
  else out << (settings.json ? list_json(program) : list_text(program, terminal.paint));
  return closed(done, program, terminal);
}

int dispatch(const Program& program, const Words& args, std::ostream& out, std::ostream& err) {
  if (args.empty())
    throw UsageError(fmt::format("no experiment given; `{0} list` names them, `{0} --help` explains", program.name));
  const std::string first = args[0] == "--help" || args[0] == "-h" ? "help" : args[0];
  Words rest(args.begin() + 1, args.end());
  if (first == "help" && !rest.empty() && !rest[0].starts_with("-")) {   // help scaling = scaling --help
    rest.push_back("--help");
    return dispatch(program, rest, out, err);
  }
  if (const Experiment* e = find(program, first)) return run_one(program, *e, rest, out, err);
  if (first == "all") return run_all(program, rest, out, err);
  if (first == "help" || first == "--version" || first == "list") return inform(program, first, rest, out, err);
  if (first.starts_with("-"))
    throw UsageError(fmt::format("the experiment comes first: {} <experiment> {} ...", program.name, as_typed(first)));
  Words names = names_of(program);
  names.insert(names.end(), {"all", "help", "list"});
  throw UsageError(fmt::format("unknown experiment \"{}\"{}; `{} list` shows them all", as_typed(first),
                               did_you_mean(first, names), program.name));
}

void check_environment() {
  const char* asked = std::getenv("SURGEON_SIMD");
  const std::vector<std::string> levels = simd_levels();
  if (!asked || !*asked || std::find(levels.begin(), levels.end(), asked) != levels.end()) return;
  throw UsageError(fmt::format("SURGEON_SIMD must be one of {}, not \"{}\"{}", fmt::join(levels, ", "),
                               as_typed(asked), did_you_mean(asked, levels)));
}

}  // namespace

int surgeon_command(const std::vector<Experiment>& experiments, const Words& args, std::ostream& out, std::ostream& err,
                    const std::string& program_name) {
  const Program program{program_name, experiments};
  const std::string who = program_name + (!args.empty() && find(program, args[0]) ? " " + args[0] : "");
  try {
    check_environment();
    return dispatch(program, args, out, err);
  } catch (const UsageError& error) {
    complain(err, {}, who, error.what());
    return usage;
  } catch (const std::exception& error) {
    complain(err, {}, who, reason_of(error));
    return failed;
  }
}

}  // namespace surgeon
