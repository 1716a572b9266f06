// Matrices as heatmaps.
#include "experiments/figures.hpp"

namespace surgeon {

Heatmap heatmap_of(const Tensor& x, std::int64_t index) {
  Heatmap map;
  map.x_label = "Key / Value";
  map.y_label = "Query";
  const Tensor values = x.to(Dtype::float64);
  const std::size_t rows = std::size_t(x.shape(-2)), columns = std::size_t(x.shape(-1));
  const double* first = values.values<double>().data() + std::size_t(index) * rows * columns;
  for (std::size_t r = 0; r < rows; ++r) map.values.emplace_back(first + r * columns, first + (r + 1) * columns);
  return map;
}

}  // namespace surgeon
