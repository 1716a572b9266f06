// Learning-rate schedules.
#include "framework/schedules.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "framework/errors.hpp"

namespace surgeon {

namespace schedule {

namespace {

void check(const char* name, const char* argument, double value) {
  require(std::isfinite(value) && value >= 0.0, "schedule::", name, ": ", argument,
          " must be a finite number of at least 0, not ", value);
}
void check_steps(const char* name, std::int64_t steps) {
  require(steps >= 1, "schedule::", name, ": the number of steps must be at least 1, not ", steps);
}

template <class Formula>
Schedule of_step(Formula formula) {
  return [formula](std::int64_t t) -> double {
    require(t >= 0, "schedule: the step must be at least 0, not ", t);
    return formula(t);
  };
}

double cosine_at(double lr, double low, std::int64_t t, std::int64_t steps) {
  return low + (lr - low) * (1.0 + std::cos(std::numbers::pi * double(t) / double(steps))) / 2.0;
}
double warmup_at(double lr, double start, std::int64_t t, std::int64_t steps) {
  return lr * (start + (1.0 - start) * double(std::min(t, steps)) / double(steps));
}

}  // namespace

Schedule constant(double lr) {
  check("constant", "lr", lr);
  return of_step([=](std::int64_t) { return lr; });
}

Schedule step(double lr, std::int64_t every, double gamma) {
  check("step", "lr", lr);
  check("step", "gamma", gamma);
  check_steps("step", every);
  return of_step([=](std::int64_t t) { return lr * std::pow(gamma, double(t / every)); });
}

Schedule exponential(double lr, double gamma) {
  check("exponential", "lr", lr);
  check("exponential", "gamma", gamma);
  return of_step([=](std::int64_t t) { return lr * std::pow(gamma, double(t)); });
}

Schedule cosine(double lr, std::int64_t steps, double low) {
  check("cosine", "lr", lr);
  check("cosine", "low", low);
  check_steps("cosine", steps);
  return of_step([=](std::int64_t t) { return cosine_at(lr, low, t, steps); });
}

Schedule linear_warmup(double lr, std::int64_t steps, double start) {
  check("linear_warmup", "lr", lr);
  check("linear_warmup", "start", start);
  check_steps("linear_warmup", steps);
  return of_step([=](std::int64_t t) { return warmup_at(lr, start, t, steps); });
}

Schedule warmup_cosine(double lr, std::int64_t warmup, std::int64_t steps, double low, double start) {
  check("warmup_cosine", "lr", lr);
  check("warmup_cosine", "low", low);
  check("warmup_cosine", "start", start);
  require(warmup >= 0 && warmup < steps, "schedule::warmup_cosine: a warm-up of ", warmup,
          " steps does not fit into ", steps);
  return of_step([=](std::int64_t t) {
    if (t < warmup) return warmup_at(lr, start, t, warmup);
    return cosine_at(lr, low, std::min(t, steps) - warmup, steps - warmup);
  });
}

}  // namespace schedule

}  // namespace surgeon
