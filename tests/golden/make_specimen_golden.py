#!/usr/bin/env python3
"""Writes tests/golden/specimen.json: what `surgeon inspect` must say of one attention, by PyTorch (python3-torch) in
float64. Inputs follow a formula, value(), so that the file holds results alone."""
import json
import math
import pathlib

import torch

torch.set_default_dtype(torch.float64)
B, H, T, D = 2, 3, 7, 4


def value(shape, place):
    i = torch.arange(math.prod(shape))
    return torch.sin(0.37 * i * (1 + 0.1 * place) + 1.3 * place).reshape(shape)


def case(causal, scale):
    q, k, v = (value((B, H, T, D), place).requires_grad_() for place in (1, 2, 3))
    s = q @ k.transpose(-1, -2) * scale
    if causal:
        s = s.masked_fill(~torch.tril(torch.ones(T, T)).bool(), -math.inf)
    p = s.softmax(-1)
    o = p @ v
    dq, dk, dv = torch.autograd.grad(o, (q, k, v), value(o.shape, 4))
    jacobian = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    sigma = torch.linalg.svdvals(o)
    sigma = sigma / sigma.sum(-1, keepdim=True)
    squares = (p * p).sum(-2)
    one = lambda x: x[1].detach().tolist()   # the second sequence
    return {"causal": causal, "scale": scale, "dQ": one(dq.norm(dim=-1)), "dK": one(dk.norm(dim=-1)),
            "dV": one(dv.norm(dim=-1)), "entropy": one(torch.special.entr(p).sum(-1)),
            "largest_score": one(s.max(-1).values), "jacobian": one(torch.linalg.matrix_norm(jacobian)),
            "value_share_by_weights": one(squares / squares.sum(-1, keepdim=True)),
            "output_rank": one(torch.special.entr(sigma).sum(-1).exp())}


path = pathlib.Path(__file__).parent / "specimen.json"
path.write_text("[\n" + ",\n".join(json.dumps(case(c, s)) for c in (False, True) for s in (0.5, 4.0)) + "\n]\n")
