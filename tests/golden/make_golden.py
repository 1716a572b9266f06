#!/usr/bin/python3
"""Writes tests/golden/*.json: what PyTorch computes for every op, its gradients and its Hessian-vector products.

    /usr/bin/python3 tests/golden/make_golden.py        (Debian's python3-torch; rewrites the same files byte for byte)

A file is a JSON array with one case a line:

    op, options   as in OPS of reference.py; calls.cpp maps the names to our calls
    inputs        tensors {shape, values}: floating ones in the case's dtype, others {dtype: int64 | boolean};
                  long ones are {shape, seed, kind?}, numbers drawn by draw() of cases.py
    cotangent     of the first output y, made by draw(shape, seed): only its seed is kept
    vectors       seeds of one vector v per floating input, for Hessian-vector products
    float64, float32   what is expected in each dtype; no float32 where it is the same but for rounding; "any" when no
                       input is floating:
        outputs     every output
        gradients   of sum(y * cotangent) for each floating input, then for each further output (weights, scores)
        hvp         H v of L = sum(cotangent * (y + y^2 / 2)): the square keeps linear ops from being trivial

Numbers are decimals that round to the value within 1e-13 (float64) or 1e-8 (float32); "nan", "inf" and "-inf" are
strings. Long results keep every step-th number and the sum of all: {shape, step, values, sum}.
Where PyTorch's own answer is not the contract of ops.hpp (rows of -inf, masked nan) reference.py
writes the formula out.
"""
import json
import math
import os
import zlib

import torch

import cases
from cases import Draw, draw
from reference import OPS, check_against_torch_layers

LONG = 16   # tensors with more numbers than this are drawn and sampled instead of written out
torch.set_num_threads(1)


# ---- One case --------------------------------------------------------------------------------------------------------
def number(value, digits):
    if math.isnan(value) or math.isinf(value):
        return str(value)
    return int(value) if value == int(value) and abs(value) < 1e6 else float(f"%.{digits}g" % value)


def written(t, seed=0, drawn="", sample=False):
    kind = {torch.int64: {"dtype": "int64"}, torch.bool: {"dtype": "boolean"}}.get(t.dtype, {})
    if t.numel() > LONG and drawn in ("any", "positive", "small"):
        return {"shape": list(t.shape), "seed": seed} | ({} if drawn == "any" else {"kind": drawn})
    digits = 8 if t.dtype == torch.float32 else 13
    flat = t.detach().double().flatten().tolist() if t.is_floating_point() else t.flatten().int().tolist()
    made = kind | {"shape": list(t.shape)}
    if t.numel() > LONG and sample:
        step = max(1, t.numel() // 6 | 1)   # odd, so that samples wander over the columns
        total = number(math.fsum(flat) if t.is_floating_point() else sum(flat), digits)
        return made | {"step": step, "values": [number(v, digits) for v in flat[::step]], "sum": total}
    return made | {"values": [number(v, digits) for v in flat]}


def differentiable(t):
    return t.is_floating_point()


def evaluate(op, inputs, options, cotangent_seed, vector_seeds, grad):
    xs = [t.clone().requires_grad_(grad and differentiable(t)) for t in inputs]
    outputs = OPS[op](*xs, **options)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    y, expected = outputs[0], {"outputs": outputs}
    if not (grad and y.is_floating_point() and y.requires_grad):
        return expected
    floating = [x for x in xs if differentiable(x)]
    g = torch.tensor(draw(tuple(y.shape), cotangent_seed)).to(y.dtype)

    def gradients(value, targets, **more):
        found = [None] * len(targets)
        if value.requires_grad:
            found = torch.autograd.grad(value, targets, allow_unused=True, **more)
        return [torch.zeros_like(t) if d is None else d for t, d in zip(targets, found)]

    expected["gradients"] = gradients(y, floating + outputs[1:], grad_outputs=g, retain_graph=True)
    if vector_seeds:
        vectors = [torch.tensor(draw(tuple(x.shape), s)).to(x.dtype) for x, s in zip(floating, vector_seeds)]
        first = gradients((g * (y + y * y / 2)).sum(), floating, create_graph=True)
        expected["hvp"] = gradients(sum((d * v).sum() for d, v in zip(first, vectors)), floating)
    return expected


def same_but_for_rounding(found, wide):
    """Whether float32 results are the float64 ones to 2e-6 of each tensor's largest number."""
    def close(a, b):
        a, b = a.double(), b.double()
        scale = float(b.abs().max()) if b.numel() and bool(b.isfinite().all()) else 0.0
        return torch.allclose(a, b, rtol=2e-6, atol=2e-6 * (scale if scale > 1e-9 else 1), equal_nan=True)
    return all(close(a, b) for key in found for a, b in zip(found[key], wide[key]))


class Book:
    """The cases of one file."""
    def __init__(self, name):
        self.name, self.cases, self.seen = name, [], {}

    def __call__(self, op, *inputs, grad=True, hvp=False, exact=False, **options):
        """grad=False: values only. hvp: also a Hessian-vector product. exact: float32 expects the float64 results for
        the inputs rounded to float32, where PyTorch's own float32 is too coarse or overflows on the way."""
        shown = inputs[:1] if len(options.get("names", [])) > 3 else inputs
        shapes = " ".join(str(tuple(t.shape)) for t in shown)
        words = " ".join(f"{key}={value}" for key, value in options.items() if key != "names" or len(value) <= 3)
        name = f"{op} {shapes} {words}".strip()
        self.seen[name] = self.seen.get(name, 0) + 1
        if self.seen[name] > 1:
            name += f" #{self.seen[name]}"
        seed = zlib.crc32(name.encode()) % 1000000   # a case keeps its numbers when others are added
        kinds = [t.kind if isinstance(t, Draw) else "" for t in inputs]
        made = [t(seed + i) if isinstance(t, Draw) else t for i, t in enumerate(inputs)]
        floating = [t for t in made if differentiable(t)]
        plain = {key: str(v) if isinstance(v, float) and math.isinf(v) else v for key, v in options.items()}
        case = {"name": name, "op": op, "options": plain,
                "inputs": [written(t, seed + i, kinds[i]) for i, t in enumerate(made)],
                "cotangent": seed + 50}
        vectors = [seed + 60 + i for i in range(len(floating))] if hvp else []
        if vectors:
            case["vectors"] = vectors
        results = {}
        for dtype in ([torch.float64, torch.float32] if floating else [None]):
            typed = [t.to(dtype) if differentiable(t) else t for t in made]
            if exact and dtype == torch.float32:
                typed = [t.double() if differentiable(t) else t for t in typed]
            found = evaluate(op, typed, options, seed + 50, vectors, grad)
            if dtype == torch.float32:
                found = {k: [t.to(dtype) if differentiable(t) else t for t in ts] for k, ts in found.items()}
            if dtype == torch.float32 and same_but_for_rounding(found, results[torch.float64]):
                continue
            results[dtype] = found
            key = str(dtype)[6:] if dtype else "any"   # torch.float64 -> float64
            case[key] = {k: [written(t, sample=True) for t in ts] for k, ts in found.items()}
        self.cases.append(case)

    def write(self, folder):
        lines = [json.dumps(case, separators=(",", ":")) for case in self.cases]
        with open(os.path.join(folder, self.name + ".json"), "w") as file:
            file.write("[\n" + ",\n".join(lines) + "\n]\n")


def main():
    check_against_torch_layers()
    folder = os.path.dirname(os.path.abspath(__file__))
    os.makedirs(folder, exist_ok=True)
    for family in cases.FAMILIES:
        book = Book(family.__name__)
        family(book)
        book.write(folder)
        print(f"{book.name}: {len(book.cases)} cases")


if __name__ == "__main__":
    main()
