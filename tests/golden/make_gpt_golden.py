#!/usr/bin/env python3
"""Writes tests/golden/gpt.json: the loss of two-layer GPTs and every gradient, by PyTorch in float64 (python3-torch).

Parameters follow a formula (see value()), so that the file holds three numbers for each gradient and none for the
weights: its sum, its norm, and its product with a wave that tells the elements apart.
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
VOCABULARY, CONTEXT, LAYERS, D, HEADS, HIDDEN = 11, 6, 2, 8, 2, 12
TOKENS = torch.tensor([[1, 5, 2, 10, 0, 3], [7, 7, 4, 9, 6, 8]])
TARGETS = torch.tensor([[5, 2, 10, 0, 3, 1], [7, 4, 9, 6, 8, -100]])


def value(shape, place):
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = 0.5 * torch.sin(0.37 * i * (1 + 0.1 * place) + 1.3 * place)
    return (wave + (1.0 if len(shape) == 1 and place % 2 == 0 else 0.0)).reshape(shape)


def linear(p, name, x):
    return F.linear(x, p[name + ".weight"], p[name + ".bias"])


def norm(p, name, x, kind):
    if kind == "layer":
        return F.layer_norm(x, (D,), p[name + ".weight"], p[name + ".bias"], 1e-5)
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * p[name + ".weight"]


def attention(p, name, x, scaled):
    split = lambda y: y.reshape(*y.shape[:2], HEADS, D // HEADS).transpose(1, 2)
    q, k, v = (split(linear(p, f"{name}.W_{part}", x)) for part in "qkv")
    scores = q @ k.transpose(-1, -2) * ((D // HEADS) ** -0.5 if scaled else 1.0)
    T = x.shape[1]
    scores = scores.masked_fill(~torch.tril(torch.ones(T, T)).bool(), -math.inf)
    y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
    return linear(p, f"{name}.W_o", y)


def feed_forward(p, name, x, activation):
    inner = linear(p, name + ".linear1", x)
    if activation == "swiglu":
        inner = F.silu(linear(p, name + ".gate", x)) * inner
    else:
        inner = F.gelu(inner) if activation == "gelu" else F.relu(inner)
    return linear(p, name + ".linear2", inner)


def gpt(p, o):
    x = p["embedding.weight"][TOKENS] + p["positions.weight"][: TOKENS.shape[1]]
    for i in range(LAYERS):
        b = f"blocks.{i}"
        if o["norm_place"] == "pre":
            x = x + attention(p, b + ".attention", norm(p, b + ".norm1", x, o["norm"]), o["scale"])
            x = x + feed_forward(p, b + ".feed_forward", norm(p, b + ".norm2", x, o["norm"]), o["activation"])
        else:
            x = norm(p, b + ".norm1", x + attention(p, b + ".attention", x, o["scale"]), o["norm"])
            x = norm(p, b + ".norm2", x + feed_forward(p, b + ".feed_forward", x, o["activation"]), o["norm"])
    if o["norm_place"] == "pre":
        x = norm(p, "norm", x, o["norm"])
    logits = F.linear(x, p["embedding.weight"] if o["tied"] else p["head.weight"])
    return F.cross_entropy(logits.reshape(-1, VOCABULARY), TARGETS.reshape(-1), ignore_index=-100)


def shapes(o):
    yield "embedding.weight", (VOCABULARY, D)
    yield "positions.weight", (CONTEXT, D)

    def norm_shapes(name):
        yield name + ".weight", (D,)
        if o["norm"] == "layer":
            yield name + ".bias", (D,)

    def linear_shapes(name, out, into):
        yield name + ".weight", (out, into)
        yield name + ".bias", (out,)

    for i in range(LAYERS):
        b = f"blocks.{i}"
        yield from norm_shapes(b + ".norm1")
        for part in "qkvo":
            yield from linear_shapes(f"{b}.attention.W_{part}", D, D)
        yield from norm_shapes(b + ".norm2")
        yield from linear_shapes(b + ".feed_forward.linear1", HIDDEN, D)
        yield from linear_shapes(b + ".feed_forward.linear2", D, HIDDEN)
        if o["activation"] == "swiglu":
            yield from linear_shapes(b + ".feed_forward.gate", HIDDEN, D)
    if o["norm_place"] == "pre":
        yield from norm_shapes("norm")
    if not o["tied"]:
        yield "head.weight", (VOCABULARY, D)


def main():
    cases = []
    for options in (
        dict(norm_place="pre", norm="layer", activation="gelu", tied=True, scale=True),
        dict(norm_place="pre", norm="layer", activation="gelu", tied=True, scale=False),
        dict(norm_place="post", norm="layer", activation="relu", tied=False, scale=True),
        dict(norm_place="pre", norm="rms", activation="swiglu", tied=False, scale=True),
    ):
        p = {name: value(shape, i).requires_grad_() for i, (name, shape) in enumerate(shapes(options))}
        loss = gpt(p, options)
        loss.backward()
        gradients = {}
        for name, parameter in p.items():
            g = parameter.grad.flatten()
            wave = torch.cos(0.61 * torch.arange(g.numel(), dtype=torch.float64))
            gradients[name] = [g.sum().item(), g.norm().item(), (g * wave).sum().item()]
        cases.append({"options": options, "loss": loss.item(), "gradients": gradients})
    path = pathlib.Path(__file__).parent / "gpt.json"
    path.write_text(json.dumps(cases, indent=1) + "\n")


main()
