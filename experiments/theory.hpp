// What theory says in numbers: integrals over normal scores. Nothing here draws a random number.
#pragma once

#include <cstdint>
#include <functional>

namespace surgeon::claims {

double density(double x);      // of N(0, 1)
double cumulative(double x);

// Of the gap between the two largest of n normals: its density at 0, n(n-1) int phi^2 Phi^(n-2), and its median.
double gap_density_at_zero(std::int64_t n);
double median_gap(std::int64_t n);

// Expectations over softmax rows p of n scores that are independent N(0, s^2), exact for every n and s:
//   1/Z^k = int_0^inf u^(k-1) e^(-uZ) du / (k-1)!, Z = sum_j e^(s_j),
// turns E[p_1^a p_2^b] into one integral of products of expectations over one normal each.
class RandomRow {
 public:
  RandomRow(double n, double s) : n_(n), s_(s) {}   // n may be as large as 1e100
  double moment(int a, int b) const;          // E[p_1^a p_2^b]; a >= 1, b >= 0
  double purity() const;                      // E[sum p^2]
  double jacobian_square() const;             // E ||J||_F^2, with ||J||^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2
  double lost_entropy() const;                // ln n - E[H]

 private:
  double factor(int a, double t) const;       // E[e^(a(s-t)) exp(-e^(s-t))], a >= 1
  double empty(double t, double keys) const;  // (E exp(-e^(s-t)))^keys
  double over_t(double step, const std::function<double(double)>& f) const;
  double n_, s_;
};

// The limit of E ||J||^2 for many keys and s = spread * sqrt(2 ln n): m (1 - m) / 3 with m = 1 / spread, 0 below 1.
double frozen_jacobian_square(double spread);

double over_normal(const std::function<double(double)>& f);                        // E f(x), x from N(0, 1); f smooth
double over_length(std::int64_t d, const std::function<double(double)>& f);        // E f(|q|), q from N(0, I_d)

}  // namespace surgeon::claims
