// One's own data in batches: shuffled anew in each epoch, the same for the same seed, and able to go on where a run stopped.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/tensor.hpp"

namespace surgeon {

struct BatchOptions {
  std::int64_t size = 32;
  bool shuffle = true;
  bool drop_last = false;    // leave out a last batch that is smaller than the others
  std::uint64_t seed = 42;   // of the order; epoch e is shuffled by Rng(seed, e)
};

// Batches batches({inputs, targets}, {.size = 64});
// for (...) { const std::vector<Tensor> batch = batches.next(); ... batch[0] ... batch[1] ... }
// The tensors share their first axis, from which entries are drawn without replacement; any shape and dtype behind it.
// std::invalid_argument for no tensors, no entries, first axes that differ, or a size below 1 or, with drop_last, above
// the number of entries.
class Batches {
 public:
  explicit Batches(std::vector<Tensor> data, const BatchOptions& options = {});

  std::vector<Tensor> next();                      // one tensor for each of the data, [size, ...]
  std::int64_t per_epoch() const noexcept;         // batches
  std::int64_t position() const noexcept { return position_; }   // batches given since the start, over all epochs
  void seek(std::int64_t position);                // next() gives that one; for a run that goes on
  std::int64_t epoch() const noexcept { return position_ / per_epoch(); }   // of the next batch

 private:
  std::vector<Tensor> data_;
  BatchOptions options_;
  std::int64_t entries_ = 0, position_ = 0;
  std::int64_t ordered_epoch_ = -1;                // the epoch that order_ belongs to
  std::vector<std::int64_t> order_;
};

}  // namespace surgeon
