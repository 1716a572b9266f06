// Learning-rate schedules: the learning rate of step t = 0, 1, ...
#pragma once

#include <cstdint>
#include <functional>

namespace surgeon {

// The closed forms of torch.optim.lr_scheduler; t is the number of steps already done. A negative rate, 0 steps or a
// negative t is std::invalid_argument.
using Schedule = std::function<double(std::int64_t t)>;

namespace schedule {
Schedule constant(double lr);
Schedule step(double lr, std::int64_t every, double gamma = 0.1);   // lr gamma^floor(t / every)           StepLR
Schedule exponential(double lr, double gamma);                      // lr gamma^t                          ExponentialLR
// low + (lr - low) (1 + cos(pi t / steps)) / 2. Like CosineAnnealingLR, it rises again after `steps`.
Schedule cosine(double lr, std::int64_t steps, double low = 0.0);
// lr (start + (1 - start) min(t, steps) / steps): LinearLR with start_factor = start.
Schedule linear_warmup(double lr, std::int64_t steps, double start = 1.0 / 3);
// linear_warmup for `warmup` steps, then cosine down to `low` at t = steps, and `low` from then on.
Schedule warmup_cosine(double lr, std::int64_t warmup, std::int64_t steps, double low = 0.0, double start = 0.01);
}  // namespace schedule

}  // namespace surgeon
