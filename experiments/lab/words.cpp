// From words to options. CLI11 reads the command line and the TOML file; which word wins, and what the error says when
// one is wrong, is decided here.
#include "experiments/lab/words.hpp"

#include <algorithm>
#include <cctype>
#include <deque>
#include <filesystem>
#include <fstream>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace surgeon {
namespace {

// "--d-k" and "d-k" and "d_k" are one key in files and in JSON.
std::string key_of(const std::string& name) {
  std::string key = name.substr(name.starts_with("--") ? 2 : 0);
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

std::string in_quotes(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_of(" \t\n'\"\\$*?&;|<>()#~`!{}[]") == std::string::npos;
  if (plain) return word;
  std::string text = "'";
  for (char c : word) text += c == '\'' ? "'\\''" : std::string(1, c);
  return text + "'";
}

}  // namespace

std::string typed_line(const Program& program, const std::string& first, const Words& rest) {
  std::string line = program.name + " " + first;
  for (const std::string& word : rest) line += " " + in_quotes(word);
  return line;
}

void add_common(Options& o, Settings& s, bool with_seeds) {
  o.add("--seed", s.seed, "seed for all random numbers", {.low = 0});
  if (with_seeds)
    o.add("--seeds", s.seeds, "number of draws, for experiments that average over draws", {.low = 1, .high = 1e9});
  o.add("--dtype", s.dtype, "number type of the tensors", {.choices = {"float32", "float64"}});
  o.add("--threads", s.threads, "number of threads to use", {.low = 1, .high = 1024});
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

// What the file gives to this experiment: keys at the top, and those under [its name], which win.
std::vector<Given> read_file(const std::vector<Options*>& all, const std::string& path, const std::string& experiment,
                             const Words& experiments) {
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path)) throw UsageError(fmt::format("--config: cannot read {}", path));
  std::vector<CLI::ConfigItem> items;
  try {
    items = CLI::ConfigTOML().from_config(file);
  } catch (const std::exception& error) {
    throw UsageError(fmt::format("--config: {}: {}", path, error.what()));
  }
  std::vector<Given> top, own;
  for (const CLI::ConfigItem& item : items) {
    const std::string section = item.parents.empty() ? "" : item.parents.front();
    if (!section.empty() && section != "all" &&
        std::find(experiments.begin(), experiments.end(), section) == experiments.end())
      throw UsageError(
          fmt::format("--config: {}: unknown section [{}]{}", path, section, did_you_mean(section, experiments)));
    if (item.name == "++" || item.name == "--" || (!section.empty() && section != experiment)) continue;
    Options::Entry* entry = nullptr;
    for (Options* options : all)
      for (Options::Entry& e : options->entries())
        if (key_of(e.name) == key_of(item.name)) entry = &e;
    if (!entry) {
      // At the top it may be meant for another experiment; a name that none of ours resembles is let pass there.
      const std::string near = did_you_mean("--" + item.name, names_of(all));
      if (section.empty() && near.empty()) continue;
      throw UsageError(fmt::format("--config: {}: unknown option {}{}", path, item.name, near));
    }
    std::string text;
    for (const std::string& input : item.inputs) text += (text.empty() ? "" : ",") + input;
    (section.empty() ? top : own).push_back({entry, text});
  }
  top.insert(top.end(), own.begin(), own.end());
  return top;
}

}  // namespace

// Later wins: default, quick preset, file, command line.
void set_all(const std::vector<Options*>& all, Settings& settings, const Words& words, const std::string& experiment,
             const Words& experiments) {
  const std::vector<Given> typed = read_words(all, words);
  for (const Given& g : typed)
    if (g.entry->name == "--config" || g.entry->name == "--preset" || g.entry->name == "--help") g.entry->set(g.text);
  if (settings.help) return;
  std::vector<Given> filed;
  if (!settings.config.empty()) filed = read_file(all, settings.config, experiment, experiments);
  const bool preset_typed =
      std::any_of(typed.begin(), typed.end(), [](const Given& g) { return g.entry->name == "--preset"; });
  for (const Given& g : filed)
    if (g.entry->name == "--preset" && !preset_typed) g.entry->set(g.text);
  if (settings.preset == "quick")
    for (Options* options : all)
      for (Options::Entry& e : options->entries())
        if (!e.quick.empty()) e.set(e.quick);
  for (const std::vector<Given>& list : {filed, typed})
    for (const Given& g : list) {
      g.entry->set(g.text);
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
