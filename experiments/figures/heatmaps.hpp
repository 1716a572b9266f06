// Matrices as heatmaps and as tables: what several experiments show of their weights.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "experiments/figures.hpp"
#include "experiments/lab.hpp"

namespace surgeon::experiments {

// Entry `index` of a tensor [n, rows, columns], or a matrix [rows, columns].
inline Heatmap heatmap_of(const Tensor& x, std::int64_t index = 0) {
  Heatmap map;
  map.x_label = "Key / Value";
  map.y_label = "Query";
  const Tensor values = x.to(Dtype::float64);
  const std::size_t rows = std::size_t(x.shape(-2)), columns = std::size_t(x.shape(-1));
  const double* first = values.values<double>().data() + std::size_t(index) * rows * columns;
  for (std::size_t r = 0; r < rows; ++r) map.values.emplace_back(first + r * columns, first + (r + 1) * columns);
  return map;
}

inline Table table_of(const Heatmap& map, const std::string& title) {
  Table table;
  table.title = title;
  table.header = {""};
  const std::size_t columns = map.values.empty() ? 0 : map.values.front().size();
  for (std::size_t c = 0; c < columns; ++c)
    table.header.push_back(c < map.x_ticks.size() ? map.x_ticks[c] : std::to_string(c));
  for (std::size_t r = 0; r < map.values.size(); ++r) {
    table.rows.push_back({r < map.y_ticks.size() ? map.y_ticks[r] : std::to_string(r)});
    for (double v : map.values[r]) table.rows.back().push_back(fixed(v, map.decimals < 0 ? 2 : map.decimals));
  }
  return table;
}

inline std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

}  // namespace surgeon::experiments
