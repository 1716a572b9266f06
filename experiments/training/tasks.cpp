#include "experiments/training/tasks.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "experiments/format.hpp"
#include "experiments/lab.hpp"
#include "framework/serialize.hpp"

namespace surgeon {
namespace {

// T + 1 tokens: all but the last are read, all but the first can be asked.
using Sequence = std::vector<std::int64_t>;
constexpr std::int64_t not_asked = -100;

// One batch from sequences and from where in them the answers begin.
template <class Draw>
Batch batch_of(std::int64_t batch, std::int64_t T, const Draw& draw) {
  std::vector<std::int64_t> tokens, targets;
  tokens.reserve(static_cast<std::size_t>(batch * T));
  targets.reserve(static_cast<std::size_t>(batch * T));
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto [sequence, first] = draw();
    for (std::int64_t t = 0; t < T; ++t) {
      tokens.push_back(sequence[std::size_t(t)]);
      targets.push_back(t >= first ? sequence[std::size_t(t + 1)] : not_asked);
    }
  }
  return {tensor(tokens, {batch, T}), tensor(targets, {batch, T})};
}

struct Drawn { Sequence sequence; std::int64_t first; };

Task drawn_task(const std::string& name, std::int64_t symbols, std::int64_t T, bool separator,
                std::function<Drawn(Rng&)> one) {
  Task task{.name = name, .vocabulary = symbols + separator, .tokens = T};
  task.draw = [T, one](Rng& rng, std::int64_t batch) { return batch_of(batch, T, [&] { return one(rng); }); };
  task.draw_held_out = task.draw;   // of other random numbers, so new sequences
  task.show = [symbols](std::int64_t token) {
    if (token == symbols) return std::string("|");
    return symbols <= 26 ? std::string(1, char('a' + token)) : std::to_string(token) + " ";
  };
  return task;
}

Sequence symbols_of(Rng& rng, std::int64_t n, std::int64_t symbols) {
  Sequence x(static_cast<std::size_t>(n));
  for (std::int64_t& token : x) token = rng.below(symbols);
  return x;
}

// copy, reverse, sort: x, separator, f(x).
Task echo_task(const std::string& name, std::int64_t symbols, std::int64_t T) {
  if (T % 2 != 0)
    throw UsageError(fmt::format("--tokens: {} is odd, but {} reads one half and writes the other", T, name));
  return drawn_task(name, symbols, T, true, [=](Rng& rng) {
    Sequence x = symbols_of(rng, T / 2, symbols), y = x;
    if (name == "reverse") std::reverse(y.begin(), y.end());
    if (name == "sort") std::sort(y.begin(), y.end());
    x.push_back(symbols);
    x.insert(x.end(), y.begin(), y.end());
    return Drawn{x, T / 2};
  });
}

Task induction_task(std::int64_t symbols, std::int64_t T) {
  if (T < 4) throw UsageError(fmt::format("--tokens: {} is too few for a pattern to repeat; use at least 4", T));
  if (symbols < T / 2)
    throw UsageError(fmt::format("--symbols: {} is too few; induction over {} tokens needs at least {}", symbols, T,
                                 T / 2));
  return drawn_task("induction", symbols, T, false, [=](Rng& rng) {
    const std::int64_t period = T / 4 + rng.below(T / 2 - T / 4 + 1);
    const Sequence order = permutation(symbols, rng);
    Sequence x(order.begin(), order.begin() + period);
    while (std::ssize(x) < T + 1) x.push_back(x[x.size() - std::size_t(period)]);
    return Drawn{x, period};
  });
}

// The tokens that stand in x most often.
Sequence most_frequent(Sequence x) {
  std::sort(x.begin(), x.end());
  Sequence most;
  std::ptrdiff_t best = 0;
  for (auto begin = x.begin(); begin != x.end();) {
    const auto end = std::upper_bound(begin, x.end(), *begin);
    if (end - begin > best) most.clear(), best = end - begin;
    if (end - begin == best) most.push_back(*begin);
    begin = end;
  }
  return most;
}

Task majority_task(std::int64_t symbols, std::int64_t T) {
  if (T < 2) throw UsageError(fmt::format("--tokens: {} is too few for a majority; use at least 2", T));
  return drawn_task("majority", symbols, T, true, [=](Rng& rng) {
    Sequence x = symbols_of(rng, T - 1, symbols);
    const Sequence most = most_frequent(x);
    std::int64_t winner = most[0];
    if (most.size() > 1) {   // a tie: one of them takes the place of some other symbol
      winner = most[std::size_t(rng.below(std::ssize(most)))];
      std::vector<std::size_t> others;
      for (std::size_t t = 0; t < x.size(); ++t)
        if (x[t] != winner) others.push_back(t);
      x[others[std::size_t(rng.below(std::ssize(others)))]] = winner;
    }
    x.push_back(symbols);
    x.push_back(winner);
    return Drawn{x, T - 1};
  });
}

// ---- Text ----------------------------------------------------------------------------------------------------------
// The code points, or nothing when it is not UTF-8.
std::optional<std::u32string> decoded(const std::string& bytes) {
  std::u32string text;
  for (std::size_t i = 0; i < bytes.size();) {
    const std::optional<char32_t> c = next_character(bytes, i);
    if (!c) return {};
    text.push_back(*c);
  }
  return text;
}

std::string encoded(char32_t c) {
  if (c < 0x80) return {char(c)};
  std::string bytes;
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  bytes += char((more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0) | (c >> (6 * more)));
  for (int k = more - 1; k >= 0; --k) bytes += char(0x80 | ((c >> (6 * k)) & 0x3f));
  return bytes;
}

constexpr std::uint64_t longest_text = std::uint64_t{1} << 30;

std::string read_text(const std::string& asked) {
  const std::string path = asked.empty() ? king_james_text() : asked;
  if (asked.empty() && !std::filesystem::exists(path))
    throw UsageError(fmt::format("the King James text is not installed ({} is missing); name a text of your own with "
                                 "--file, or in a clone of the repository run ./experiments/run.sh, which makes it",
                                 path));
  std::string bytes;
  try {
    bytes = read_file(path, longest_text);
  } catch (const IoError& error) {
    throw UsageError(fmt::format("--file: {}", error.what()));
  }
  if (bytes.empty()) throw UsageError(fmt::format("--file: {} is empty", path));
  return bytes;
}

// A text as tokens: each different character is one, in the order of their code points.
struct Text {
  std::vector<std::string> letters = {};   // by token
  std::shared_ptr<const Sequence> tokens = {};
  bool as_bytes = false;                   // it is not UTF-8
};

Text text_of(const std::string& bytes) {
  Text text;
  std::optional<std::u32string> characters = decoded(bytes);
  text.as_bytes = !characters;
  if (text.as_bytes) {
    characters.emplace();
    for (const char c : bytes) characters->push_back(static_cast<unsigned char>(c));
  }
  std::map<char32_t, std::int64_t> places;
  for (const char32_t c : *characters) places.emplace(c, 0);
  for (auto& [c, place] : places) {
    place = std::ssize(text.letters);
    text.letters.push_back(text.as_bytes ? std::string(1, char(c)) : encoded(c));
  }
  Sequence tokens;
  tokens.reserve(characters->size());
  for (const char32_t c : *characters) tokens.push_back(places[c]);
  text.tokens = std::make_shared<const Sequence>(std::move(tokens));
  return text;
}

Task text_task(const std::string& asked, std::int64_t T) {
  const std::string path = asked.empty() ? king_james_text() : asked;
  const Text text = text_of(read_text(asked));
  const std::int64_t size = std::ssize(*text.tokens), held_out = std::max(size / 10, T + 1);
  if (size - held_out < T + 1)
    throw UsageError(fmt::format("--file: {} has {} characters; training and testing on {} tokens needs at least {}",
                                 path, size, T, 2 * (T + 1)));
  Task task{.name = "text", .vocabulary = std::ssize(text.letters), .tokens = T};
  if (text.as_bytes) task.note = path + " is not UTF-8; each byte is read as one character";
  const auto cut = [all = text.tokens, T](std::int64_t begin, std::int64_t end) {
    return [=](Rng& rng, std::int64_t batch) {
      return batch_of(batch, T, [&] {
        const auto at = all->begin() + begin + rng.below(end - begin - T);
        return Drawn{Sequence(at, at + T + 1), 0};
      });
    };
  };
  task.draw = cut(0, size - held_out);
  task.draw_held_out = cut(size - held_out, size);
  task.show = [letters = text.letters](std::int64_t token) { return letters[std::size_t(token)]; };
  return task;
}

}  // namespace

std::vector<std::string> task_names() { return {"copy", "reverse", "sort", "induction", "majority", "text"}; }

Task make_task(const std::string& name, const TaskOptions& options) {
  if (name == "text") return text_task(options.file, options.tokens);
  if (!options.file.empty()) throw UsageError("--file goes with the task text only");
  const std::int64_t symbols = options.symbols > 0 ? options.symbols : name == "majority" ? 4 : 32;
  if (name == "induction") return induction_task(symbols, options.tokens);
  if (name == "majority") return majority_task(symbols, options.tokens);
  return echo_task(name, symbols, options.tokens);
}

}  // namespace surgeon
