// Training checkpoints on top of safetensors: what goes under which name.
#include "framework/checkpoints.hpp"

#include <charconv>

#include "framework/serialize.hpp"

namespace surgeon {

namespace {

template <class... Parts>
[[noreturn]] void fail(const std::filesystem::path& path, const Parts&... parts) {
  throw IoError(sentence(path.string(), ": ", parts...));
}

constexpr const char* version = "1";   // of what a checkpoint holds and how it is named
constexpr std::string_view optimizer_prefix = "optimizer/", extra_prefix = "extra/", generator_prefix = "generator/";

void add_all(Parameters& tensors, std::string_view prefix, const Parameters& more) {
  for (const auto& [name, tensor] : more) tensors.add(std::string(prefix) + name, tensor);
}

// A checkpoint's tensors, told apart by their names again.
struct Parts {
  Parameters weights, optimizer, extra;
};

Parts take_apart(const Parameters& tensors) {
  Parts parts;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(optimizer_prefix)) parts.optimizer.add(name.substr(optimizer_prefix.size()), tensor);
    else if (name.starts_with(extra_prefix)) parts.extra.add(name.substr(extra_prefix.size()), tensor);
    else parts.weights.add(name, tensor);
  }
  return parts;
}

// Whole numbers separated by single spaces: exactly as many as asked for.
template <class Number>
std::vector<Number> read_numbers(const std::filesystem::path& path, const std::string& key, const std::string& text,
                                 std::size_t many) {
  std::vector<Number> numbers;
  const char *next = text.data(), *end = next + text.size();
  while (numbers.size() < many) {
    if (!numbers.empty() && (next == end || *next++ != ' ')) break;
    Number number{};
    const auto [after, error] = std::from_chars(next, end, number);
    if (error != std::errc()) break;
    numbers.push_back(number);
    next = after;
  }
  if (numbers.size() != many || next != end) fail(path, "\"", text, "\" is not a valid value for ", key);
  return numbers;
}

const std::string& text_at(const std::filesystem::path& path, const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) fail(path, "is not a checkpoint: its metadata has no ", key);
  return found->second;
}

void check_version(const std::filesystem::path& path, const Metadata& metadata) {
  const std::string& found = text_at(path, metadata, "checkpoint");
  if (found != version) fail(path, "is a checkpoint of version ", found, "; this program reads version ", version);
}

Progress read_progress(const std::filesystem::path& path, const Metadata& metadata, Parameters extra) {
  check_version(path, metadata);
  Progress progress;
  progress.extra = std::move(extra);
  progress.config = text_at(path, metadata, "config");
  progress.step = read_numbers<std::int64_t>(path, "step", text_at(path, metadata, "step"), 1)[0];
  progress.cursor = read_numbers<std::int64_t>(path, "cursor", text_at(path, metadata, "cursor"), 1)[0];
  for (const auto& [key, text] : metadata) {
    if (!key.starts_with(generator_prefix)) continue;
    const std::vector<std::uint64_t> numbers = read_numbers<std::uint64_t>(path, key, text, 3);
    Rng rng(numbers[0], numbers[1]);
    rng.seek(numbers[2]);
    progress.generators.emplace(key.substr(generator_prefix.size()), rng);
  }
  return progress;
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Parameters& parameters, const Optimizer& optimizer,
                     const Progress& progress) {
  Parameters tensors = parameters;
  add_all(tensors, optimizer_prefix, optimizer.state());
  add_all(tensors, extra_prefix, progress.extra);
  Metadata metadata{{"format", "pt"},   // without which some of PyTorch's ecosystem refuses a file
                    {"checkpoint", version},
                    {"config", progress.config},
                    {"step", std::to_string(progress.step)},
                    {"cursor", std::to_string(progress.cursor)}};
  for (const auto& [name, rng] : progress.generators)
    metadata.emplace(std::string(generator_prefix) + name,
                     sentence(rng.seed(), " ", rng.stream(), " ", rng.position()));
  save_safetensors(path, tensors, metadata);
}

Progress load_checkpoint(const std::filesystem::path& path, const Parameters& parameters, Optimizer& optimizer) {
  const TensorFile file = load_safetensors(path);
  Parts parts = take_apart(file.tensors);
  Progress progress = read_progress(path, file.metadata, std::move(parts.extra));
  try {   // the last step that may fail is the optimizer's, which checks before it changes anything
    require_alike("checkpoint", parameters, parts.weights);
    optimizer.restore(parts.optimizer);
    assign_all(parameters, parts.weights);
  } catch (const std::invalid_argument& error) {
    fail(path, error.what());
  }
  return progress;
}

void load_weights(const std::filesystem::path& path, const Parameters& parameters) {
  const TensorFile file = load_safetensors(path);
  try {
    assign_all(parameters, take_apart(file.tensors).weights);
  } catch (const std::invalid_argument& error) {
    fail(path, error.what());
  }
}

std::string checkpoint_config(const std::filesystem::path& path) {
  const Metadata metadata = load_metadata(path);
  check_version(path, metadata);
  return text_at(path, metadata, "config");
}

}  // namespace surgeon
