"""`surgeon scaling` in PyTorch, for its time: per seed and d_k, with and without 1/sqrt(d_k), the weights, the gradients
of Q and K and the numbers taken from them. argv: seeds."""
import math
import sys

import torch

T = 10
for d_k in (16, 64, 256, 1024):
    for seed in range(int(sys.argv[1])):
        generator = torch.Generator().manual_seed(seed)
        Q, K, V, G = (torch.randn(1, T, d_k, generator=generator) for _ in range(4))
        Q.requires_grad_(), K.requires_grad_()
        for scale in (1.0, 1.0 / math.sqrt(d_k)):
            scores = Q @ K.transpose(-2, -1) * scale
            weights = torch.softmax(scores, -1)
            dQ, dK, dS = torch.autograd.grad(((weights @ V) * G).sum(), (Q, K, scores))
            w = weights.detach()
            squares = (w * w).sum(-1)
            jacobian = (squares - 2 * (w * w * w).sum(-1) + squares * squares).clamp(min=0).sqrt()
            numbers = (w.max().item(), w.amax(-1).mean().item(), -(torch.xlogy(w, w)).sum(-1).mean().item(),
                       dQ.norm().item(), dK.norm().item(), dS.norm().item(), jacobian.mean().item(),
                       jacobian.median().item(), (jacobian < 1e-3).float().mean().item(),
                       scores.detach().var().item())
