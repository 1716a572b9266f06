// The command: one experiment or all of them, and the exit code.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <new>

#include <fmt/format.h>

#include "experiments/lab/help.hpp"
#include "experiments/lab/words.hpp"
#include "framework/machine.hpp"

namespace surgeon {
namespace {

enum Exit { done = 0, failed = 1, usage = 2, found = 3, aborted = 130 };

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
  err << paint.red(printable(who + ": " + what)) << "\n" << std::flush;
}

// A result that could not be written is a failed run.
int closed(int exit, const Program& program, const Terminal& terminal) {
  terminal.out << std::flush;
  if (terminal.out || exit != done) return exit;
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
    add_common(common, settings, !has_seeds(own));
    set_all({&own, &common}, settings, words, e.name, names_of(program));
  }
  Prepared(const Prepared&) = delete;
};

struct Outcome { int exit = done; std::string status = "done", error = {}, summary = {}; };

Outcome outcome_of(Prepared& p, Session& session) {
  try {
    p.body(session.lab());
    if (session.failed()) return {failed, "failed", "a check failed"};
    return {};
  } catch (const Interrupted& e) {
    return {aborted, "aborted", e.what()};
  } catch (const Findings&) {
    return {session.failed() ? failed : found};
  } catch (const UsageError& e) {
    return {usage, "failed", e.what()};
  } catch (const std::bad_alloc&) {
    return {failed, "failed", "out of memory"};
  } catch (const std::exception& e) {
    return {failed, "failed", e.what()};
  }
}

Outcome run(const Program& program, Prepared& p, const Terminal& terminal, const std::string& typed,
            const std::filesystem::path& folder) {
  const ThreadsGuard threads_here(int(p.settings.threads));
  Session session(p.settings, terminal, {p.experiment->name, typed, values_of({&p.own, &p.common}), folder});
  for (const Options::Entry& e : p.common.entries())
    if (e.name == "--seeds" && e.given)
      session.lab().warn(p.experiment->name + " makes a single draw, so --seeds has no effect");
  Outcome outcome = outcome_of(p, session);
  outcome.summary = session.finish(outcome.status, outcome.error);
  if (!outcome.error.empty())
    complain(terminal.err, terminal.error_paint, program.name + " " + p.experiment->name, outcome.error);
  if (outcome.exit == usage) discard_folder(folder);   // what it was asked turned out to make no sense
  return outcome;
}

int run_one(const Program& program, const Experiment& e, const Words& words, std::ostream& out, std::ostream& err) {
  Prepared p(program, e, words);
  const Terminal terminal = terminal_for(p.settings, out, err);
  if (p.settings.help) {
    out << help_of(program, e, p.own, p.common, terminal.paint);
    return closed(done, program, terminal);
  }
  const auto folder = open_folder(p.settings, e.name);
  const CatchInterrupt guard;
  const Outcome outcome = run(program, p, terminal, typed_line(program, e.name, words), folder);
  if (outcome.exit == usage) return usage;
  if (p.settings.json) out << outcome.summary;
  else if (!terminal.silent) {
    if (std::filesystem::exists(folder / "figures")) out << "Figures in " << (folder / "figures").string() << "\n";
    out << "Results in " << folder.string() << "\n";
  }
  return closed(outcome.exit, program, terminal);
}

// ---- All of them ---------------------------------------------------------------------------------------------------
// What was typed for `all`, as one experiment understands it: the folder is ours, --seeds only for those that have it.
Words words_for(const Experiment& e, const std::vector<Given>& typed) {
  Options own;
  e.prepare(own);
  Words words;
  for (const auto& [entry, text] : typed)
    if (entry->name != "--out" && entry->name != "--force" && (entry->name != "--seeds" || has_seeds(own)))
      words.push_back(entry->name + "=" + text);
  return words;
}

// One after another, each in a folder of its name; the worst exit code, and what goes into the summary.
std::pair<int, Json> run_each(const Program& program, std::deque<Prepared>& prepared, const Terminal& terminal,
                              const std::string& typed, const std::filesystem::path& folder) {
  int exit = done;
  Json results = Json::array();
  for (Prepared& p : prepared) {
    const std::string heading = wrap("== " + p.experiment->name + ": " + p.experiment->question);
    if (!terminal.silent) terminal.out << terminal.paint.bold(heading) << "\n\n";
    std::filesystem::create_directories(folder / p.experiment->name);
    const Outcome outcome = run(program, p, terminal, typed, folder / p.experiment->name);
    results.push_back(Json::parse(outcome.summary));
    exit = std::max(exit, outcome.exit);
    if (outcome.exit == aborted) break;
  }
  return {exit, {{"experiments", results}}};
}

int run_all(const Program& program, const Words& words, std::ostream& out, std::ostream& err) {
  Settings settings;
  settings.threads = threads();
  Options common;
  add_common(common, settings, true);
  set_all({&common}, settings, words, "all", names_of(program));
  const Terminal terminal = terminal_for(settings, out, err);
  if (settings.help) {
    out << general_help(program, common, terminal.paint);
    return closed(done, program, terminal);
  }
  const std::vector<Given> given = read_words({&common}, words);
  std::deque<Prepared> prepared;   // all of them first, so that a wrong word stops everything before it starts
  for (const Experiment& e : program.experiments)
    if (e.in_all) prepared.emplace_back(program, e, words_for(e, given));
  const auto folder = open_folder(settings, "all");
  const CatchInterrupt guard;
  const std::string typed = typed_line(program, "all", words);
  Session session(settings, terminal, {"all", typed, values_of({&common}), folder});
  const auto [exit, results] = run_each(program, prepared, terminal, typed, folder);
  const char* status = exit == done ? "done" : exit == aborted ? "aborted" : "failed";
  const std::string summary = session.finish(status, "", results);
  if (settings.json) out << summary;
  else if (!terminal.silent)
    out << "Figures in " << folder.string() << "/*/figures\nResults in " << folder.string() << "\n";
  return closed(exit, program, terminal);
}

// ---- Which ---------------------------------------------------------------------------------------------------------
const Experiment* find(const Program& program, const std::string& name) {
  for (const Experiment& e : program.experiments)
    if (e.name == name) return &e;
  return nullptr;
}

// help, list, --version.
int inform(const Program& program, const std::string& what, const Words& words, std::ostream& out, std::ostream& err) {
  Settings settings;
  settings.threads = threads();
  Options common;
  add_common(common, settings, true);
  set_all({&common}, settings, words, "", names_of(program));
  const Terminal terminal = terminal_for(settings, out, err);
  if (settings.help || what == "help") out << general_help(program, common, terminal.paint);
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

}  // namespace

int surgeon_command(const std::vector<Experiment>& experiments, const Words& args, std::ostream& out, std::ostream& err,
                    const std::string& program_name) {
  const Program program{program_name, experiments};
  const std::string who = program_name + (!args.empty() && find(program, args[0]) ? " " + args[0] : "");
  try {
    return dispatch(program, args, out, err);
  } catch (const UsageError& error) {
    complain(err, {}, who, error.what());
    return usage;
  } catch (const std::exception& error) {
    complain(err, {}, who, error.what());
    return failed;
  }
}

}  // namespace surgeon
