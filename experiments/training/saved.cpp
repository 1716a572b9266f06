// What a checkpoint says of its run, "name=value" on each line, and the run made from it again.
#include <map>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

#include "experiments/training.hpp"
#include "framework/checkpoints.hpp"
#include "framework/machine.hpp"

namespace surgeon {

namespace fs = std::filesystem;

// What a run is told anew each time stays out.
bool travels(const std::string& name) { return name != "--resume" && name != "--stop-after"; }

std::string kernels_here() { return fmt::format("{}, {} {}", simd_level(), blas_version(), blas_core()); }

std::string config_text(Options& o, std::uint64_t seed, Dtype dtype) {
  std::string text = fmt::format("seed={}\ndtype={}\nthreads={}\nkernels={}\n", seed, to_string(dtype), threads(),
                                 kernels_here());
  for (const Options::Entry& e : o.entries())
    if (travels(e.name)) text += e.name + "=" + e.text() + "\n";
  return text;
}

std::string config_text(TrainKnobs knobs, std::uint64_t seed, Dtype dtype) {
  Options o;
  add_run_options(o, knobs);
  return config_text(o, seed, dtype);
}

fs::path checkpoint_in(const std::string& asked) {
  std::error_code unknown;
  if (!fs::exists(asked, unknown)) throw UsageError(fmt::format("{} does not exist", asked));
  if (!fs::is_directory(asked, unknown)) return fs::canonical(asked);
  const fs::path last = fs::path(asked) / "checkpoints" / "last.safetensors";
  if (!fs::exists(last, unknown)) throw UsageError(fmt::format("{} has no checkpoint", asked));
  return fs::canonical(last);
}

// A value from a checkpoint is checked as one that is typed.
void set_from(const SavedRun& saved, Options::Entry& entry) {
  const auto found = saved.options.find(entry.name);
  if (found == saved.options.end()) return;
  try {
    entry.set(found->second);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}: {}", saved.checkpoint.string(), error.what()));
  }
}

SavedRun read_saved(const fs::path& checkpoint) {
  SavedRun saved{.checkpoint = checkpoint};
  std::istringstream lines(checkpoint_config(checkpoint));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find('=');
    if (at != std::string::npos) saved.options[line.substr(0, at)] = line.substr(at + 1);
  }
  for (const char* name : {"seed", "dtype", "threads", "task"})
    if (!saved.options.contains(name))
      throw UsageError(fmt::format("{} is not a checkpoint of surgeon train", checkpoint.string()));
  std::string dtype;
  Options of_run;
  of_run.add("seed", saved.seed, "", {.low = 0});
  of_run.add("threads", saved.threads, "", {.low = 1, .high = double(most_threads())});
  of_run.add("dtype", dtype, "", {.choices = {"float32", "float64"}});
  of_run.add("kernels", saved.kernels, "");
  for (Options::Entry& entry : of_run.entries()) set_from(saved, entry);
  saved.dtype = dtype == "float64" ? Dtype::float64 : Dtype::float32;
  return saved;
}

std::unique_ptr<Trainer> trainer_of(const SavedRun& saved) {
  TrainKnobs k;
  Options o;
  add_run_options(o, k);
  for (Options::Entry& entry : o.entries()) set_from(saved, entry);
  o.check();
  const Task task = make_task(k);
  check_memory(model_config(k, task, saved.dtype), k.batch);
  auto trainer = std::make_unique<Trainer>(k, task, std::uint64_t(saved.seed), saved.dtype);
  trainer->load(saved.checkpoint);
  return trainer;
}

}  // namespace surgeon
