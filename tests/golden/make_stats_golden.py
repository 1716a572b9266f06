#!/usr/bin/env python3
"""Writes tests/golden/stats.json: what PyTorch (python3-torch, float64) says of rows of attention scores and of the
derivatives of those numbers. Inputs follow a formula, value(), so that the file holds results alone."""
import json
import math
import pathlib

import torch

torch.set_default_dtype(torch.float64)
B, H, TQ, TK, D = 2, 2, 5, 6, 4
OPTIONS = [{}, {"causal": True}, {"window": 2}, {"causal": True, "window": 3, "bias": True}, {"mask": True},
           {"scale": 3.0}, {"scale": 40.0, "mask": True}, {"soft_cap": 1.5, "bias": True}]


def value(shape, place):
    i = torch.arange(math.prod(shape))
    return torch.sin(0.37 * i * (1 + 0.1 * place) + 1.3 * place).reshape(shape)


def visible(o):
    back = torch.arange(TQ)[:, None] + TK - TQ - torch.arange(TK)[None, :]
    seen = torch.ones(TQ, TK, dtype=torch.bool)
    if o.get("causal"):
        seen &= back >= 0
    if "window" in o:
        seen &= back.abs() < o["window"]
    if o.get("mask"):
        seen &= (torch.arange(TQ * TK).reshape(TQ, TK) % 3 != 1)
        seen[2] = False   # a query that sees nothing
    return seen


def statistics(q, k, o):
    s = q @ k.transpose(-1, -2) * o.get("scale", D ** -0.5)
    if "soft_cap" in o:
        s = torch.tanh(s / o["soft_cap"]) * o["soft_cap"]
    if o.get("bias"):
        s = s + value((TQ, TK), 7)
    seen = visible(o)
    dead = ~seen.any(-1)
    s = s.masked_fill(~seen, -math.inf)
    safe = s.masked_fill(dead[:, None], 0.0)   # dead rows are written over below
    p = safe.softmax(-1)
    jacobian = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    entropy = torch.distributions.Categorical(probs=p).entropy()
    live = [safe.max(-1).values, safe.logsumexp(-1), entropy, torch.linalg.matrix_norm(jacobian)]
    fill = [-math.inf, -math.inf, 0.0, 0.0]
    return [x.masked_fill(dead, f) for x, f in zip(live, fill)], dead


def case(o):
    q, k = (value((B, H, t, D), place).requires_grad_() for t, place in ((TQ, 1), (TK, 2)))
    found, dead = statistics(q, k, o)
    total = sum((x.masked_fill(dead, 0.0) * value(x.shape, 3 + i)).sum() for i, x in enumerate(found))
    dq, dk = torch.autograd.grad(total, (q, k))
    flat = lambda x: [None if math.isinf(v) else v for v in x.flatten().tolist()]
    return {"options": o, "stats": [flat(x) for x in found], "dQ": flat(dq), "dK": flat(dk)}


path = pathlib.Path(__file__).parent / "stats.json"
path.write_text("[\n" + ",\n".join(json.dumps(case(o)) for o in OPTIONS) + "\n]\n")
