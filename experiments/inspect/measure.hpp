// What inspect measures of one head: numbers for each query and key, coarse maps, and no [Tq, Tk] of anything.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "framework/random.hpp"
#include "layers/specimen.hpp"

namespace surgeon::inspect {

using Numbers = std::vector<double>;
inline constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

// A map of queries against keys, made coarser: each cell holds the entry of largest size among those that fall into it.
struct CoarseMap {
  std::int64_t rows = 0, columns = 0, queries = 0, keys = 0;
  std::int64_t first = 0;   // the query and key of the first row and column
  std::vector<Numbers> cells = {};
  void take(const Tensor& block, std::int64_t first_query);   // [n, keys up to some], the rows from first_query on
};

struct HeadMeasures {
  std::string name;
  Numbers entropy = {}, largest = {}, jacobian = {};   // for each query
  Numbers seen = {};   // how many keys each query sees
  Numbers dQ = {}, dK = {}, dV = {};   // norms of the gradient of each query, key, value: root mean square over draws
  Numbers dV_expected = {};   // sum_i A_ij^2: what random upstream gradients give each value, squared
  double output_rank = 0;   // effective rank of the output, from 1 to min(Tq, d_v)
  CoarseMap weights = {}, dscores = {};
  // Largest difference over the largest number of ours, nan where nothing was given to compare with.
  double weights_off = nothing, output_off = nothing, dQ_off = nothing, dK_off = nothing, dV_off = nothing;
};

struct Look {
  std::int64_t cells = 40;   // of a coarse map, each way
  std::int64_t from = -1;   // >= 0: `cells` tokens from this one on, each as it is
  std::int64_t draws = 4;   // of random upstream gradients, where there is none
};

HeadMeasures measure(const Specimen& head, const std::string& name, const Look& look, Rng rng);

}  // namespace surgeon::inspect
