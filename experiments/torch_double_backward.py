#!/usr/bin/env python3
"""PyTorch with double backward through fused attention on the CPU, which it has not itself: a torch.autograd.Function
on surgeon.py. Run it to see a gradient penalty, whose gradient needs second derivatives."""
import torch

import surgeon

OPTIONS = dict(causal=True)


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, Q, K, V):
        ctx.save_for_backward(Q, K, V)
        return torch.from_numpy(surgeon.attention(Q, K, V, **OPTIONS)["output"])

    @staticmethod
    def backward(ctx, dO):
        return AttentionBackward.apply(*ctx.saved_tensors, dO.contiguous())


class AttentionBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, Q, K, V, dO):
        ctx.save_for_backward(Q, K, V, dO)
        return tuple(map(torch.from_numpy, surgeon.attention_vjp(Q, K, V, dO, **OPTIONS).values()))

    @staticmethod
    def backward(ctx, *v):   # of <v, (dQ, dK, dV)>: by Q, K, V the Hessian's product, by dO the derivative along v
        Q, K, V, dO = ctx.saved_tensors
        v = [x.contiguous() for x in v]
        h = surgeon.attention_hvp(Q, K, V, dO, *v, **OPTIONS)
        g = surgeon.attention_jvp(Q, K, V, *v, **OPTIONS)
        return tuple(map(torch.from_numpy, (*h.values(), *g.values())))


if __name__ == "__main__":
    torch.manual_seed(0)
    Q, K, V = (torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    loss = (Attention.apply(Q, K, V) ** 2).sum()
    (dQ,) = torch.autograd.grad(loss, Q, create_graph=True)
    penalty = (dQ ** 2).sum()
    penalty.backward()
    print(f"gradient penalty {penalty.item():.6f}, |its gradient by V| {V.grad.norm().item():.6f}")
    assert torch.autograd.gradcheck(Attention.apply, (Q, K, V)), "first derivatives"
    assert torch.autograd.gradgradcheck(Attention.apply, (Q, K, V)), "second derivatives"
    print("gradcheck and gradgradcheck: agreed")
