// Initial values of parameters. Names and formulas are torch.nn.init's; a weight [out, in] has fan_in = in and
// fan_out = out.
#pragma once

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

struct InitOptions {
  double gain = 1.0;         // Xavier
  double slope = 0.0;        // Kaiming: the slope of a leaky relu below 0; the gain is sqrt(2 / (1 + slope^2))
  bool fan_out = false;      // Kaiming: preserve the size of gradients rather than of values
  Dtype dtype = Dtype::float32;
};

// std = gain sqrt(2 / (fan_in + fan_out)); the uniform one lies in +-sqrt(3) std. Glorot & Bengio 2010.
// std::invalid_argument unless shape is [out, in] with both at least 1.
Tensor xavier_uniform(const Shape& shape, Rng& rng, const InitOptions& options = {});
Tensor xavier_normal(const Shape& shape, Rng& rng, const InitOptions& options = {});
// std = gain / sqrt(fan); the uniform one lies in +-sqrt(3) std. He 2015, arXiv 1502.01852. Errors as above.
Tensor kaiming_uniform(const Shape& shape, Rng& rng, const InitOptions& options = {});
Tensor kaiming_normal(const Shape& shape, Rng& rng, const InitOptions& options = {});
Tensor normal(const Shape& shape, double standard_deviation, Rng& rng, Dtype dtype = Dtype::float32);

// A rule for a whole model. gpt2: std 0.02, but 0.02 / sqrt(2 blocks) for the weights whose output is added to the
// residual stream (attention.W_o, feed_forward.linear2). Radford 2019, section 2.3. The others: the function of that
// name for each weight.
enum class Init { gpt2, xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal };

// Assigns new values in place: to weights of rank 2 by the rule, to biases 0. Gains and scales stay as they are.
void initialise(const Parameters& parameters, Init rule, Rng& rng);

}  // namespace surgeon
