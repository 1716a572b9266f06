// A claim about attention's gradients: what theory predicts, beside what is measured.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "framework/random.hpp"

namespace surgeon::claims {

enum class Verdict { agrees, differs, out_of_range };

// One number. For an identity, `error` is what rounding allows, not a standard error.
struct Reading {
  std::string what;
  double predicted = 0, measured = 0, error = 0;
  bool is_bound = false;      // measured must be at most what is predicted
  double x = std::numeric_limits<double>::quiet_NaN();   // what varies along a curve of readings, such as d_k

  double z() const;           // (measured - predicted) / error; 0 for a bound that holds
  Reading at(double where) const { Reading r = *this; r.x = where; return r; }
  Verdict verdict() const;    // agrees: |z| < 4; out of range: there is nothing to compare
};

// Where the random numbers of a claim come from: each draw has its own stream, so that any thread may make it.
struct Draws {
  std::int64_t n = 2000;
  std::uint64_t seed = 42, stream = 0;

  std::vector<double> each(const std::function<double(Rng&)>& draw, std::uint64_t part = 0) const;
};

// ---- Readings ------------------------------------------------------------------------------------------------------
Reading mean_reading(std::string what, double predicted, const std::vector<double>& draws);
Reading root_mean_square_reading(std::string what, double predicted, const std::vector<double>& squares);
Reading median_reading(std::string what, double predicted, const std::vector<double>& draws);   // error: bootstrap
Reading ratio_reading(std::string what, double predicted, const std::vector<double>& above,
                      const std::vector<double>& below);                    // of the means of paired draws
Reading identity(std::string what, double predicted, double measured, double allowed);
Reading at_most(std::string what, double bound, double measured, double allowed);

// The slope of the least-squares line through (x, y of the draws at x), with its error by bootstrap over the draws.
double slope(const std::vector<double>& x, const std::vector<double>& y);
using Summary = std::function<double(const std::vector<double>&)>;          // of draws: ln of their mean, ...
Reading slope_reading(std::string what, double predicted, const std::vector<double>& x,
                      const std::vector<std::vector<double>>& draws, const Summary& y);
double log_mean(const std::vector<double>& draws);
double log_median(const std::vector<double>& draws);

// ---- Claims --------------------------------------------------------------------------------------------------------
struct Claim {
  int number;                 // for good; what is missing between them needs long training
  std::string says, source;   // "derived here" where no paper has it
  std::vector<Reading> (*measure)(const Draws& draws);
  std::string note = {};      // why it differs
  std::string x_label = {}, y_label = {};   // of the curve, if its readings have an x
};

// By theme; all() in the order of their numbers.
std::vector<Claim> saturation(), chain(), rules(), rounding();
std::vector<Claim> all();

}  // namespace surgeon::claims
