// What a model is trained on: sequences that are generated, or cut from a text. A batch is a function of the random
// numbers it is given and of nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "framework/random.hpp"
#include "framework/tensor.hpp"

namespace surgeon {

struct Batch {
  Tensor tokens;    // int64 [batch, T]
  Tensor targets;   // int64 [batch, T]: the next token, or -100 where it is not asked for
};

struct Task {
  std::string name = {};
  std::int64_t vocabulary = 0;
  std::int64_t tokens = 0;   // T
  std::function<Batch(Rng& rng, std::int64_t batch)> draw = {};
  std::function<Batch(Rng& rng, std::int64_t batch)> draw_held_out = {};
  std::function<std::string(std::int64_t token)> show = {};   // a token as text
  std::string note = {};     // what the user should know about the data
};

struct TaskOptions {
  std::int64_t tokens = 32;
  std::int64_t symbols = 0;   // how many distinct ones; 0: the task's default
  std::string file = {};      // for text; empty: the King James Bible
};

std::vector<std::string> task_names();
// copy, reverse, sort: n = T/2 symbols, a separator, then the same symbols in the same, reversed or sorted order.
// induction: distinct symbols for a random while, then the same again; asked as soon as a symbol returns.
//   Olsson et al. 2022, arXiv 2209.11895.
// majority: T - 1 symbols and a separator, where the most frequent symbol is asked. Ties are broken in the data: one of
//   the tied symbols replaces another symbol.
// text: T characters of a file; the last tenth of it is held out.
// UsageError for what is impossible: an odd T for copy, a file that is empty, unreadable or too short.
Task make_task(const std::string& name, const TaskOptions& options);

}  // namespace surgeon
