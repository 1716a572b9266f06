// What a model is trained on: sequences that are drawn, or cut from a text. A batch is a function of the random numbers
// it is given and of nothing else.
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
  Tensor targets;   // int64 [batch, T]: what comes next, or -100 where that is not asked
};

struct Task {
  std::string name = {};
  std::int64_t vocabulary = 0;
  std::int64_t tokens = 0;   // T
  std::function<Batch(Rng& rng, std::int64_t batch)> draw = {};
  std::function<Batch(Rng& rng, std::int64_t batch)> draw_held_out = {};
  std::function<std::string(std::int64_t token)> show = {};   // a token as text
  std::string note = {};     // what the reader should know about the data
};

struct TaskOptions {
  std::int64_t tokens = 32;
  std::int64_t symbols = 0;   // how many different ones; 0: the task's own number
  std::string file = {};      // of text
};

std::vector<std::string> task_names();
// copy, reverse, sort: n = T/2 symbols, a separator, then the same symbols as they were, backwards, in order.
// induction: symbols without repetition for a random while, then the same again; asked as soon as a symbol returns.
//   Olsson et al. 2022, arXiv 2209.11895.
// majority: T - 1 symbols and a separator, where the most frequent one is asked.
// text: T characters of a file; the last tenth of it is held out.
// UsageError for what cannot be: an odd T to copy, a file that is empty, unreadable or too short.
Task make_task(const std::string& name, const TaskOptions& options);

}  // namespace surgeon
