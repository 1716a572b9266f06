// From words to options. CLI11 reads the command line, config_file the TOML file; which word wins, and what the error
// says when one is wrong, is decided here.
#include "experiments/lab/words.hpp"

#include <algorithm>
#include <cctype>
#include <deque>
#include <map>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "experiments/lab/config_file.hpp"
#include "framework/machine.hpp"

namespace surgeon {
namespace {

// "--d-k" and "d-k" and "d_k" are one key in files and in JSON.
std::string key_of(const std::string& name) {
  std::string key = name.substr(name.starts_with("--") ? 2 : 0);
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

}  // namespace

std::string typed_line(const Program& program, const std::string& first, const Words& rest) {
  std::string line = program.name + " " + first;
  for (const std::string& word : rest) line += " " + shell_word(word);
  return line;
}

void add_seeds(Options& o, Settings& s) {
  o.add("--seeds", s.seeds, "number of draws, for experiments that average over draws", {.low = 1, .high = 1e9});
}

void add_common(Options& o, Settings& s) {
  o.add("--seed", s.seed, "seed for all random numbers", {.low = 0});
  o.add("--dtype", s.dtype, "number type of the tensors", {.choices = {"float32", "float64"}});
  o.add("--threads", s.threads, "number of threads to use", {.low = 1, .high = double(most_threads())});
  o.add("--out", s.out, "run folder (default: a new one under runs/)");
  o.add("--force", s.force, "write into --out even if it is not empty");
  o.add("--config", s.config, "TOML file that sets any of these options");
  o.add("--preset", s.preset, "how much to compute by default", {.choices = {"quick", "full"}});
  o.add("--figure-size", s.figure_size, "what figures are for: as large as they need, 16:9, or 3.4 inches wide",
        {.choices = {"screen", "slide", "column"}});
  o.add("--figure-formats", s.figure_formats, "files of each figure", {.choices = {"svg", "png", "pdf"}});
  o.add("--json", s.json, "print one JSON object to stdout and nothing else");
  o.add("--quiet", s.quiet, "print nothing to stdout");
  o.add("--color", s.color, "when to use colours", {.choices = {"auto", "always", "never"}});
  o.add("--help", s.help, "show this help");
  o.entries().back().short_name = "-h";
}

Words names_of(const std::vector<Options*>& all) {
  Words names;
  for (Options* options : all)
    for (const Options::Entry& e : options->entries()) names.push_back(e.name);
  return names;
}

Words names_of(const Program& program) {
  Words names;
  for (const Experiment& e : program.experiments) names.push_back(e.name);
  return names;
}

// What the command line gives, in the order of the options.
std::vector<Given> read_words(const std::vector<Options*>& all, const Words& words) {
  CLI::App app;
  app.set_help_flag("");
  app.allow_extras();
  std::deque<std::pair<Options::Entry*, CLI::Option*>> known;
  std::deque<std::string> texts;
  for (Options* options : all)
    for (Options::Entry& e : options->entries()) {
      const std::string names = e.short_name.empty() ? e.name : e.short_name + "," + e.name;
      CLI::Option* option = e.is_switch ? app.add_flag(names) : app.add_option(names, texts.emplace_back());
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
      known.emplace_back(&e, option);
    }
  try {
    app.parse(Words(words.rbegin(), words.rend()));   // CLI11 takes them from the back
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string what = error.what();
    throw UsageError(what.substr(0, what.find(':')) + " needs a value");
  } catch (const CLI::ParseError& error) {
    const std::string what = error.what();
    throw UsageError(what.substr(0, what.find('\n')));
  }
  for (const std::string& word : app.remaining()) {
    if (word.size() > 1 && word[0] == '-' && !std::isdigit(static_cast<unsigned char>(word[1]))) {
      const std::string name = word.substr(0, word.find('='));
      throw UsageError("unknown option " + as_typed(name) + did_you_mean(name, names_of(all)));
    }
    throw UsageError(fmt::format("unexpected \"{}\"; a list is written with commas, as in 16,64,256", as_typed(word)));
  }
  std::vector<Given> given;
  for (auto& [entry, option] : known)
    if (option->count() > 0) given.push_back({entry, option->results().back()});
  return given;
}

namespace {

// Whether some experiment has this option, so that it may stand at the top of a file for all.
bool known_to_some(const Program& program, const std::string& key) {
  for (const Experiment& e : program.experiments) {
    Options own;
    e.prepare(own);
    for (const Options::Entry& entry : own.entries())
      if (key_of(entry.name) == key) return true;
  }
  return false;
}

Options::Entry* find(const std::vector<Options*>& all, const std::string& key) {
  for (Options* options : all)
    for (Options::Entry& e : options->entries())
      if (key_of(e.name) == key) return &e;
  return nullptr;
}

void check_section(const Setting& setting, const std::string& where, const Words& experiments) {
  const std::string& section = setting.section;
  if (section.empty() || section == "all" ||
      std::find(experiments.begin(), experiments.end(), section) != experiments.end())
    return;
  throw UsageError(
      fmt::format("{}unknown section [{}]{}", where, as_typed(section), did_you_mean(section, experiments)));
}

// What the file gives to this experiment: keys at the top, and those under [its name], which win.
std::vector<Given> read_file(const std::vector<Options*>& all, const std::string& path, const std::string& experiment,
                             const Program& program) {
  std::vector<Given> top, own;
  std::map<std::pair<std::string, std::string>, std::int64_t> seen;   // section and key; the line
  for (const Setting& setting : read_config_file(path)) {
    const std::string where = fmt::format("--config: {}, line {}: ", path, setting.line), key = key_of(setting.name);
    check_section(setting, where, names_of(program));
    const auto [first, fresh] = seen.emplace(std::pair{setting.section, key}, setting.line);
    if (!fresh)
      throw UsageError(fmt::format("{}{} has a value already, in line {}", where, as_typed(setting.name),
                                   first->second));
    if (!setting.section.empty() && setting.section != experiment) continue;
    if (key == "config" || key == "help") throw UsageError(where + key + " belongs on the command line");
    Options::Entry* entry = find(all, key);
    if (entry) (setting.section.empty() ? top : own).push_back({entry, setting.text, where});
    else if (!setting.section.empty() || !known_to_some(program, key))
      throw UsageError(fmt::format("{}unknown option {}{}", where, as_typed(setting.name),
                                   did_you_mean("--" + setting.name, names_of(all))));
  }
  top.insert(top.end(), own.begin(), own.end());
  return top;
}

void set(const Given& given) {
  try {
    given.entry->set(given.text);
  } catch (const UsageError& error) {
    throw UsageError(given.where + error.what());
  }
}

}  // namespace

// Later wins: default, quick preset, file, command line.
void set_all(const std::vector<Options*>& all, Settings& settings, const Words& words, const std::string& experiment,
             const Program& program) {
  const std::vector<Given> typed = read_words(all, words);
  for (const Given& g : typed)
    if (g.entry->name == "--config" || g.entry->name == "--preset" || g.entry->name == "--help") g.entry->set(g.text);
  if (settings.help) return;
  std::vector<Given> filed;
  if (!settings.config.empty()) filed = read_file(all, settings.config, experiment, program);
  const bool preset_typed =
      std::any_of(typed.begin(), typed.end(), [](const Given& g) { return g.entry->name == "--preset"; });
  for (const Given& g : filed)
    if (g.entry->name == "--preset" && !preset_typed) set(g);
  if (settings.preset == "quick")
    for (Options* options : all)
      for (Options::Entry& e : options->entries())
        if (!e.quick.empty()) e.set(e.quick);
  for (const std::vector<Given>& list : {filed, typed})
    for (const Given& g : list) {
      set(g);
      g.entry->given = true;
    }
  for (Options* options : all) options->check();
}

Json values_of(const std::vector<Options*>& all) {
  static const Words not_numbers = {"--help", "--json", "--quiet", "--color", "--config", "--force", "--out"};
  Json config = Json::object();
  for (Options* options : all)
    for (const Options::Entry& e : options->entries())
      if (std::find(not_numbers.begin(), not_numbers.end(), e.name) == not_numbers.end())
        config[key_of(e.name)] = Json::parse(e.json());
  return config;
}
}  // namespace surgeon
