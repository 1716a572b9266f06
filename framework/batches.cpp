// The order of an epoch is a function of the seed and its number alone, so a position is all there is to remember.
#include "framework/batches.hpp"

#include <algorithm>
#include <numeric>

#include "framework/autograd.hpp"
#include "framework/errors.hpp"
#include "framework/ops.hpp"
#include "framework/random.hpp"

namespace surgeon {

Batches::Batches(std::vector<Tensor> data, const BatchOptions& options) : data_(std::move(data)), options_(options) {
  require(!data_.empty(), "Batches: no tensors were given");
  for (const Tensor& x : data_) {
    require_value("Batches", x);
    require(x.rank() >= 1, "Batches: a tensor of shape ", x.shape(), " has no axis of entries");
    require(x.shape(0) == data_.front().shape(0), "Batches: tensors of shapes ", data_.front().shape(), " and ", x.shape(),
            " differ in their number of entries");
  }
  entries_ = data_.front().shape(0);
  require(entries_ >= 1, "Batches: the data have no entries: ", data_.front().shape());
  require(options_.size >= 1, "Batches: size = ", options_.size, "; at least 1 is needed");
  require(!options_.drop_last || options_.size <= entries_, "Batches: size = ", options_.size, " with drop_last, but only ",
          entries_, " entries");
}

std::int64_t Batches::per_epoch() const noexcept {
  return options_.drop_last ? entries_ / options_.size : (entries_ + options_.size - 1) / options_.size;
}

void Batches::seek(std::int64_t position) {
  require(position >= 0, "Batches: position ", position, " is before the first batch");
  position_ = position;
}

std::vector<Tensor> Batches::next() {
  const NoRecord pause;
  if (epoch() != ordered_epoch_) {
    ordered_epoch_ = epoch();
    order_.resize(std::size_t(entries_));
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    if (options_.shuffle) {
      Rng rng(options_.seed, std::uint64_t(ordered_epoch_));
      order_ = permutation(entries_, rng);
    }
  }
  const std::int64_t first = position_ % per_epoch() * options_.size, n = std::min(options_.size, entries_ - first);
  const Tensor places = tensor(std::vector<std::int64_t>(order_.begin() + first, order_.begin() + first + n), {n});
  std::vector<Tensor> batch;
  for (const Tensor& x : data_) batch.push_back(take(x, places, 0).detach());
  ++position_;
  return batch;
}

}  // namespace surgeon
