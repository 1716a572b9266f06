// inspect's figures, and its page: one HTML file that needs nothing else, with the figures in it as SVG.
#pragma once

#include <string>
#include <vector>

#include "experiments/inspect/measure.hpp"
#include "experiments/lab.hpp"

namespace surgeon::inspect {

// What the page says of one head, in the order of the table.
struct HeadRow {
  std::string name;
  double dead = 0;   // share of queries that see two keys or more, whose Jacobian norm is below 1e-3
  double zero = 0;   // share of queries whose gradient is exactly 0
  double jacobian = 0;   // median norm
  double entropy = 0;   // mean, over ln of the number of keys seen: 0 to 1
  double largest = 0;   // largest score of all
  double top = 0, gini = 0;   // of the squared gradients of the queries: share of the top tenth, inequality
  double sink = 0;   // the largest share that one value has of all squared gradients of values
  std::int64_t sink_at = 0;   // its place
  double sink_expected = 0;   // the share that the weights alone give it
  double output_rank = 0;
};
HeadRow row_of(const HeadMeasures& m);

struct Story {
  std::string title, facts;
  std::vector<std::string> sentences, notes;   // what was found; how it was measured
  std::vector<std::string> tokens;   // a label for each key; empty: numbers
  bool causal = false;
  Look look;
};

// Draws the figures into the run folder and writes report.html there. heads: the worst first, as are their rows.
void write_page(Lab& lab, const Story& story, const std::vector<HeadMeasures>& heads, const std::vector<HeadRow>& rows);

// What a causal mask alone, with equal weights, gives each value of the squared gradient: sum over i >= j of 1/i^2,
// over the sum of all, 1 + 1/2 + ... + 1/T.
Numbers causal_shares(std::int64_t T);

}  // namespace surgeon::inspect
