// The laws, one key head of one sequence at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/doctor/rounding.hpp"

namespace surgeon::detail {

// How far two sides of a law are apart at its worst place, in units of what rounding allows: above 1 it is broken.
struct Measured {
  double found = 0, expected = 0, allowed = 0;
  std::int64_t query = -1;   // of the head's queries; -1: the place is no query's
  std::string place = {};   // "component 2", "key 3, component 2"
  double excess() const;
};

struct Law {
  std::string name, sentence, formula, needs, cure;
  // Nothing: the tensors it needs are not there. The second argument is reach_of(head, Errors::worst).
  std::optional<Measured> (*measure)(const Head&, const Reach&);
};
const std::vector<Law>& laws();

}   // namespace surgeon::detail
