// How parameters start. Names and formulas are torch.nn.init's; fan_in and fan_out are those of a weight [out, in].
#pragma once

#include "framework/framework.hpp"
#include "framework/parameters.hpp"

namespace surgeon {

struct InitOptions {
  double gain = 1.0;         // Xavier
  double slope = 0.0;        // Kaiming: of a leaky relu below 0; the gain is sqrt(2 / (1 + slope^2))
  bool fan_out = false;      // Kaiming: keep the size of gradients, not of values
  Dtype dtype = Dtype::float32;
};

// std = gain sqrt(2 / (fan_in + fan_out)), uniform in +-sqrt(3) std. Glorot & Bengio 2010.
Tensor xavier_uniform(const Shape& shape, Rng& rng, const InitOptions& options = {});
Tensor xavier_normal(const Shape& shape, Rng& rng, const InitOptions& options = {});
// std = gain / sqrt(fan), uniform in +-sqrt(3) std. He 2015, arXiv 1502.01852.
Tensor kaiming_uniform(const Shape& shape, Rng& rng, const InitOptions& options = {});
Tensor kaiming_normal(const Shape& shape, Rng& rng, const InitOptions& options = {});
Tensor normal(const Shape& shape, double standard_deviation, Rng& rng, Dtype dtype = Dtype::float32);

// For a whole model. `gpt2`: N(0, 0.02), and for what is added to the residual stream (attention.W_o, feed_forward.
// linear2) 0.02 / sqrt(2 blocks): Radford 2019, section 2.3. The others: the function of that name for each weight.
enum class Init { gpt2, xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal };

// Assigns to the parameters in place: weights of rank 2 by the rule, biases 0; gains and scales stay as they are.
void initialise(const Parameters& parameters, Init rule, Rng& rng);

}  // namespace surgeon
