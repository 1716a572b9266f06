// The laws, one head of one sequence at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/doctor.hpp"

namespace surgeon::detail {

// A head in float64 with what laws need of it. P: the weights given, or those of the formula that explains the rest.
struct Head {
  Specimen s;   // tensors 2-D; empty where not given
  Tensor visible = {};   // [Tq, Tk]; empty: everything
  Tensor P = {};   // [Tq, Tk]
  double factor = 1;   // c: scores = c Q K^T
  double u = 0;   // unit roundoff
  bool explained = false;   // whether P and factor are known to be those that were used
};

// How far two sides of a law are apart at its worst place, in units of what rounding allows: above 1 it is broken.
struct Measured {
  double found = 0, expected = 0, allowed = 0;
  std::string place = {};   // "query 5", "component 2 of key 3"
  double excess() const;
};

struct Law {
  std::string name, sentence, needs, cure;
  std::optional<Measured> (*measure)(const Head&);   // nothing: the tensors it needs are not there
};
const std::vector<Law>& laws();

// What is lost where numbers become too small for the format, at the end of the chain: its smallest normal number
// (fp16: its smallest number), times the largest factors that may still come.
double underflow_of(const Head& head);

// 2^-53, 2^-24, 2^-11 or 2^-8: the coarsest format in which a tensor's numbers can be written. 0 when there are too few
// digits to tell.
double unit_of(const Tensor& x);

}  // namespace surgeon::detail
