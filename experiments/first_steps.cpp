// From data to a trained model in forty lines: a Transformer learns to repeat what it has read.
#include <cstdio>

#include "framework/framework.hpp"
#include "framework/optim.hpp"
#include "layers/layers.hpp"

using namespace surgeon;

int main() {
  constexpr std::int64_t batch = 32, length = 8, symbols = 16, steps = 200;
  Rng weights(1), data(2);

  TransformerConfig config{.vocabulary = symbols, .context = 2 * length, .layers = 2};
  config.block = {.d_model = 64, .heads = 4};
  config.attention = {.scale = true};   // false: without 1/sqrt(d_k)
  const Transformer model(config, weights);

  AdamW optimizer(model.parameters(), {.lr = 2e-3}, {no_decay_on_vectors()});
  const Schedule rate = schedule::warmup_cosine(2e-3, 50, steps);

  for (std::int64_t step = 0; step < steps; ++step) {
    const Tensor once = randint(0, symbols, {batch, length}, data);
    const Tensor twice = concat({once, once}, 1);                        // [batch, 2 * length]
    const Tensor logits = model(slice(twice, 1, 0, -1));                 // each position predicts what comes next
    const Tensor answers = slice(logits, 1, length - 1);                 // only the second half is predictable
    const Tensor targets = slice(twice, 1, length);

    const Tensor loss = cross_entropy(answers, targets);
    std::vector<Tensor> gradients = grad(loss, optimizer.parameters().tensors());
    clip_grad_norm(gradients, 1.0);
    optimizer.set_lr(rate(step));
    optimizer.step(gradients);

    if (step % 50 == 49) {
      const double accuracy = mean((argmax(answers, -1) == targets).to(Dtype::float32)).item();
      std::printf("step %3ld  loss %.4f  accuracy %5.1f %%\n", long(step + 1), loss.item(), 100 * accuracy);
    }
  }
}
