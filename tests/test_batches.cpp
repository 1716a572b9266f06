// Batches: every entry once in an epoch, another order in the next, the same for the same seed, from any position.
#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "framework/framework.hpp"
#include "tests/values.hpp"

using namespace surgeon;
using surgeon::tests::list;

namespace {

std::vector<double> epoch_of(Batches& batches) {
  std::vector<double> entries;
  for (std::int64_t i = 0; i < batches.per_epoch(); ++i)
    for (const double x : list(batches.next()[0])) entries.push_back(x);
  return entries;
}

std::vector<double> sorted(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

TEST_SUITE("batches") {

TEST_CASE("each epoch has every entry once, in an order of its own") {
  Batches batches({arange(10.0)}, {.size = 4});
  CHECK(batches.per_epoch() == 3);
  const std::vector<double> first = epoch_of(batches), second = epoch_of(batches);
  CHECK(sorted(first) == list(arange(10.0)));
  CHECK(sorted(second) == list(arange(10.0)));
  CHECK(first != second);
}

TEST_CASE("tensors are cut alike, whatever stands behind their first axis") {
  Batches batches({arange(6.0), reshape(arange(12.0), {6, 2}), arange(6.0).to(Dtype::int64)}, {.size = 4});
  const std::vector<Tensor> batch = batches.next();
  CHECK(batch[1].shape() == Shape{4, 2});
  CHECK(batch[2].dtype() == Dtype::int64);
  for (std::int64_t i = 0; i < 4; ++i) CHECK(batch[1].at({i, 0}) == 2 * batch[0].at({i}));
}

TEST_CASE("a run that goes on at a position sees what the first would have seen") {
  Batches whole({arange(11.0)}, {.size = 3, .seed = 7}), later({arange(11.0)}, {.size = 3, .seed = 7});
  for (int i = 0; i < 6; ++i) whole.next();
  later.seek(whole.position());
  for (int i = 0; i < 5; ++i) CHECK(list(whole.next()[0]) == list(later.next()[0]));
}

TEST_CASE("without shuffling the order is the data's; a short last batch may be left out") {
  Batches batches({arange(5.0)}, {.size = 2, .shuffle = false, .drop_last = true});
  CHECK(epoch_of(batches) == std::vector<double>{0, 1, 2, 3});
}

TEST_CASE("data that do not fit together are refused") {
  CHECK_THROWS_AS(Batches({}), std::invalid_argument);
  CHECK_THROWS_WITH_AS(Batches({ones({3}), ones({4})}),
                       "Batches: tensors of shapes [3] and [4] differ in their number of entries", std::invalid_argument);
  CHECK_THROWS_AS(Batches({ones({3})}, {.size = 0}), std::invalid_argument);
  CHECK_THROWS_AS(Batches({ones({3})}, {.size = 4, .drop_last = true}), std::invalid_argument);
}

}
