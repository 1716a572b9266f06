#include "experiments/lab/help.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "experiments/lab/build_info.hpp"
#include "framework/machine.hpp"

namespace surgeon {
namespace {

std::string option_lines(Options& options) {
  std::string text;
  for (const Options::Entry& e : options.entries()) {
    std::string left = "  " + e.name + (e.short_name.empty() ? "" : ", " + e.short_name), right = e.help;
    const std::string value = e.text();
    if (!e.is_switch && !e.required && !value.empty()) right += fmt::format(" [{}]", value);
    if (!e.quick.empty()) right += fmt::format(" [quick: {}]", e.quick);
    left.resize(std::max<std::size_t>(left.size() + 2, 20), ' ');
    text += left + wrap(right, 20).substr(20) + "\n";
  }
  return text;
}

std::string section(const std::string& heading, const std::string& body, const Paint& paint) {
  return fmt::format("\n{}\n{}", paint.bold(heading), body);
}

}  // namespace

std::string help_of(const Program& program, const Experiment& e, Options& own, Options& common, const Paint& paint) {
  std::string usage = "Usage: " + program.name + " " + e.name;
  for (const Options::Entry& entry : own.entries())
    if (!entry.name.starts_with("-")) usage += entry.required ? " " + entry.name : " [" + entry.name + "]";
  std::string examples;
  for (const std::string& example : e.examples) examples += "  " + example + "\n";
  const std::string text = paint.bold(wrap(e.question)) + "\n\n" + wrap(e.help) + "\n" +
                           section(usage + " [options]", option_lines(own), paint) +
                           section("Common options", option_lines(common), paint) +
                           section("Examples", examples, paint);
  return text + "\n" +
         wrap("Values in square brackets are the defaults. A list is written 16,64,256 and a range 16:4096:x4 or "
              "0.1:0.5:0.1. The command line wins over the --config file, and the file wins over the preset.") +
         "\n";
}

std::string list_text(const Program& program, const Paint& paint) {
  std::size_t widest = 0;
  for (const Experiment& e : program.experiments) widest = std::max(widest, e.name.size());
  std::string text;
  for (const Experiment& e : program.experiments) {
    std::string name = e.name;
    name.resize(widest, ' ');
    text += "  " + paint.bold(name) + "  " + wrap(e.question, widest + 4).substr(widest + 4) + "\n";
  }
  return text;
}

std::string list_json(const Program& program) {
  Json list = Json::array();
  for (const Experiment& e : program.experiments) list.push_back({{"name", e.name}, {"question", e.question}});
  return json_text({{"experiments", list}});
}

std::string general_help(const Program& program, Options& common, const Paint& paint) {
  const std::pair<const char*, const char*> uses[] = {{"<experiment> [options]", "run one experiment"},
                                                      {"all [options]", "run the main experiments, one after another"},
                                                      {"help <experiment>", "its question, options and examples"},
                                                      {"list", "list the experiments"},
                                                      {"--version", "show this build and the machine it runs on"}};
  const std::string title = program.name == "surgeon" ? "surgeon: opens up attention and measures its gradients"
                                                      : program.name + ": experiments with Attention Surgeon";
  std::string text = paint.bold(title) + "\n\n";
  for (const auto& [use, what] : uses) text += fmt::format("  {} {:<24}  {}\n", program.name, use, what);
  text += section("Experiments", list_text(program, paint), paint);
  text += section("Common options", option_lines(common), paint);
  return text + "\n" +
         wrap("Each run leaves a folder with its numbers, figures and settings. Exit codes: 0 done; 1 the run failed "
              "or one of its checks did; 2 wrong usage; 3 done, and it found what it looks for (compare: a "
              "difference); 130 interrupted (143 by SIGTERM, 129 by SIGHUP).") +
         "\n";
}

std::string version_text(const Program& program) {
  return fmt::format("{} {} ({})\n{} on core {}, SIMD {}, {} thread{}\n", program.name, version(), git_hash(),
                     blas_version(), blas_core(), simd_level(), threads(), threads() == 1 ? "" : "s");
}

}  // namespace surgeon
