#!/usr/bin/python3
"""Writes tests/golden/*.json: what PyTorch computes for every op, its gradients and its Hessian-vector products.

    /usr/bin/python3 tests/make_golden.py        (Debian's python3-torch; rewrites the same files byte for byte)

A file is a JSON array with one case a line:

    op, options   as in OPS below; tests/test_golden.cpp maps the same names to our calls
    inputs        tensors {shape, values}: floating ones in the case's dtype, others {dtype: int64 | boolean};
                  long ones are {shape, seed, kind?}, numbers drawn by draw() below
    cotangent     of the first output y, made by draw(shape, seed): only its seed is kept
    vectors       seeds of one vector v per floating input, for Hessian-vector products
    float64, float32   what is expected in each dtype; no float32 where it is the same but for rounding; "any" when no
                       input is floating:
        outputs     every output
        gradients   of sum(y * cotangent) for each floating input, then for each further output (weights, scores)
        hvp         H v of L = sum(cotangent * (y + y^2 / 2)): the square keeps linear ops from being trivial

Numbers are decimals that round to the value within 1e-13 (float64) or 1e-8 (float32); "nan", "inf" and "-inf" are
strings. Long results keep every step-th number and the sum of all: {shape, step, values, sum}.
Where PyTorch's own answer is not the contract of ops.hpp (rows of -inf, masked nan) the formula is written out here.
"""
import json
import math
import os
import zlib

import numpy as np
import torch
import torch.nn.functional as F

LONG = 30   # tensors with more numbers than this are drawn and sampled instead of written out
torch.set_num_threads(1)


# ---- Numbers ---------------------------------------------------------------------------------------------------------
def draw(shape, seed, kind="any"):
    """Three-decimal numbers in [-2, 2]; positive: in [0.3, 2.3]; small: a quarter. tests/golden.cpp draws the same."""
    h = (np.arange(math.prod(shape), dtype=np.uint64) * 2654435761 + seed) % 2**32
    h = (h ^ (h >> np.uint64(15))) * 2246822519 % 2**32
    h = (h ^ (h >> np.uint64(13))) * 3266489917 % 2**32
    h ^= h >> np.uint64(16)
    values = (h % 4001).astype(np.float64) / 1000 - 2
    values = np.round(np.abs(values) + 0.3 if kind == "positive" else values, 3)
    return (values / 4 if kind == "small" else values).reshape(shape)


class Draw:
    """An input to be drawn once the case's seed is known."""
    def __init__(self, kind, shape, high=0):
        self.kind, self.shape, self.high = kind, shape, high

    def __call__(self, seed):
        values = draw(self.shape, seed, self.kind)
        if self.kind == "index":
            return torch.tensor(np.round((values + 2) * 1000).astype(np.int64) % self.high)
        return torch.as_tensor(np.asarray(values > -0.5 if self.kind == "boolean" else values))


def N(*shape): return Draw("any", shape)
def P(*shape): return Draw("positive", shape)
def S(*shape): return Draw("small", shape)
def B(*shape): return Draw("boolean", shape)        # about 5 of 8 are true
def I(high, *shape): return Draw("index", shape, high)
def V(*values): return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64)
def L(*values): return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.int64)
def M(*rows): return torch.tensor(rows, dtype=torch.bool)


inf, nan = math.inf, math.nan


# ---- The ops, by the names of ops.hpp --------------------------------------------------------------------------------
def axes_of(x, axes):
    return tuple(axes) if axes else tuple(range(x.dim()))


def clean_softmax(x, axis):
    """A slice of -inf gives zeros with zero gradients."""
    alive = (x != -inf).any(axis, keepdim=True)
    return torch.where(alive, torch.softmax(torch.where(alive, x, torch.zeros_like(x)), axis), torch.zeros_like(x))


def clean_log_softmax(x, axis):
    alive = (x != -inf).any(axis, keepdim=True)
    return torch.where(alive, torch.log_softmax(torch.where(alive, x, torch.zeros_like(x)), axis), x.detach())


def clean_logsumexp(x, axes=(), keepdims=False):
    axes = axes_of(x, axes)
    if not axes:
        return x * 1
    alive = (x != -inf).sum(axes, keepdim=True) > 0
    y = torch.logsumexp(torch.where(alive, x, torch.zeros_like(x)), axes, keepdim=True)
    y = torch.where(alive, y, torch.full_like(y, -inf))
    return y if keepdims else y.sum(axes)


def centred(x, axes):
    """x - mean, twice: torch.var and F.layer_norm lose five digits at an offset of 1e6 even in float64."""
    x = x - x.mean(axes, keepdim=True)
    return x - x.mean(axes, keepdim=True)


def two_pass_var(x, axes=(), keepdims=False, correction=1):
    axes = axes_of(x, axes)
    n = math.prod(x.shape[a] for a in axes)
    return (centred(x, axes) ** 2).sum(axes, keepdim=keepdims) / (n - correction)


def two_pass_layer_norm(x, gamma, beta, eps=1e-5):
    d = centred(x, (-1,))
    return d / torch.sqrt((d * d).mean(-1, keepdim=True) + eps) * gamma + beta


def python_slice(x, axis, start, stop=None, step=1):
    kept = range(*slice(start, stop, step).indices(x.shape[axis]))
    return x.index_select(axis, torch.tensor(list(kept), dtype=torch.int64))


def swapped(x, swap):
    return x.transpose(-1, -2) if swap else x


def cross_entropy(x, target, **options):
    """[..., C] with [...], where torch wants the classes on axis 1."""
    if "reduction" in options and options["reduction"] == "none":
        return F.cross_entropy(x.reshape(-1, x.shape[-1]), target.reshape(-1), **options).reshape(target.shape)
    return F.cross_entropy(x.reshape(-1, x.shape[-1]), target.reshape(-1), **options)


def masked_attention(Q, K, V, mask=None, scale=True):
    """Softmax attention in which what is masked out is left out, so that no nan there reaches anything."""
    factor = {True: 1 / math.sqrt(Q.shape[-1]), False: 1.0}[scale] if isinstance(scale, bool) else scale
    allowed = torch.ones(Q.shape[:-1] + (K.shape[-2],), dtype=torch.bool)
    if mask is not None:
        while Q.dim() == 4 and mask.dim() == 3:
            mask = mask.unsqueeze(1)
        allowed = (mask.bool() & allowed)
    nothing = torch.zeros((), dtype=Q.dtype)

    def seen(x):   # [..., Tq, Tk, d]; finite numbers stay: their weight is 0, but the weight's gradient is not
        return torch.where(allowed.unsqueeze(-1) | x.isfinite().all(-1, keepdim=True), x, nothing)

    seen_queries, seen_keys, seen_values = seen(Q.unsqueeze(-2)), seen(K.unsqueeze(-3)), seen(V.unsqueeze(-3))
    scores = (seen_queries * seen_keys).sum(-1) * factor
    scores = torch.where(allowed, scores, torch.full((), -inf, dtype=Q.dtype))
    weights = clean_softmax(scores, -1)
    return (weights.unsqueeze(-1) * seen_values).sum(-2), weights, scores


def attention(Q, K, V, mask=None, **options):
    return masked_attention(Q, K, V, mask, **options)


def multi_head_attention(x, Wq, bq, Wk, bk, Wv, bv, Wo, bo, mask=None, heads=1, **options):
    batch, T, d_model = x.shape

    def split(y):   # [B, T, d_model] -> [B * heads, T, d_k]
        return y.reshape(batch, T, heads, d_model // heads).transpose(1, 2).reshape(batch * heads, T, d_model // heads)

    if mask is not None and mask.dim() == 3:
        mask = mask.repeat_interleave(heads, 0)
    mixed, weights, scores = masked_attention(split(F.linear(x, Wq, bq)), split(F.linear(x, Wk, bk)),
                                              split(F.linear(x, Wv, bv)), mask, **options)
    joined = mixed.reshape(batch, heads, T, d_model // heads).transpose(1, 2).reshape(batch, T, d_model)
    return F.linear(joined, Wo, bo), weights, scores


OPS = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
    "add_number": lambda x, value: x + value, "number_add": lambda x, value: value + x,
    "sub_number": lambda x, value: x - value, "number_sub": lambda x, value: value - x,
    "mul_number": lambda x, value: x * value, "number_mul": lambda x, value: value * x,
    "div_number": lambda x, value: x / value, "number_div": lambda x, value: value / x,
    "neg": torch.neg, "equal": torch.eq, "not_equal": torch.ne, "less": torch.lt, "less_equal": torch.le,
    "greater": torch.gt, "greater_equal": torch.ge, "not": torch.logical_not, "isnan": torch.isnan,
    "equal_number": lambda x, value: x == value, "not_equal_number": lambda x, value: x != value,
    "less_number": lambda x, value: x < value, "less_equal_number": lambda x, value: x <= value,
    "greater_number": lambda x, value: x > value, "greater_equal_number": lambda x, value: x >= value,
    "abs": torch.abs, "sign": torch.sign, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
    "pow": lambda x, p: torch.pow(x, p), "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu,
    "silu": F.silu, "softplus": lambda x: F.softplus(x, threshold=40), "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "erf": torch.erf, "sin": torch.sin, "cos": torch.cos,
    "clamp": lambda x, low, high: torch.clamp(x, low, high),
    "maximum": torch.maximum, "minimum": torch.minimum, "where": torch.where,
    "masked_fill": lambda x, mask, value: x.masked_fill(mask.bool(), value),
    "dropout": lambda x, p: x * 1 if p == 0 else torch.where(torch.tensor(False), x, torch.zeros_like(x)),
    "to": lambda x, dtype: x.to(getattr(torch, dtype)),

    "sum": lambda x, axes=(), keepdims=False: x.sum(axes_of(x, axes), keepdim=keepdims),
    "mean": lambda x, axes=(), keepdims=False: x.mean(axes_of(x, axes), keepdim=keepdims),
    "max": lambda x, axes=(), keepdims=False: x.amax(axes_of(x, axes), keepdim=keepdims),
    "min": lambda x, axes=(), keepdims=False: x.amin(axes_of(x, axes), keepdim=keepdims),
    "var": two_pass_var,
    "logsumexp": clean_logsumexp,
    "argmax": lambda x, axis: x.argmax(axis), "cumsum": lambda x, axis: x.cumsum(axis),
    "softmax": lambda x, axis=-1: clean_softmax(x, axis), "log_softmax": lambda x, axis=-1: clean_log_softmax(x, axis),

    "reshape": lambda x, shape: x.reshape(shape), "transpose": lambda x, a, b: x.transpose(a, b),
    "permute": lambda x, order: x.permute(order), "slice": python_slice,
    "concat": lambda *ts, axis: torch.cat(ts, axis), "stack": lambda *ts, axis: torch.stack(ts, axis),
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "tril": lambda x, diagonal=0: torch.tril(x, diagonal), "triu": lambda x, diagonal=0: torch.triu(x, diagonal),

    "gather": lambda x, index, axis: torch.gather(x, axis, index),
    "scatter_add": lambda source, index, shape, axis:
        torch.zeros(shape, dtype=source.dtype).scatter_add(axis, index, source),
    "embedding": lambda weight, index: weight[index],
    "one_hot": lambda index, classes: F.one_hot(index, classes),

    "matmul": lambda a, b, transpose_a=False, transpose_b=False:
        torch.matmul(swapped(a, transpose_a), swapped(b, transpose_b)),
    "linear": F.linear,

    "layer_norm": lambda x, gamma, beta, eps=1e-5: F.layer_norm(x, x.shape[-1:], gamma, beta, eps),
    "layer_norm_two_pass": two_pass_layer_norm,
    "rms_norm": lambda x, gamma, eps=1e-6: x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * gamma,
    "cross_entropy": cross_entropy, "mse_loss": lambda x, target, reduction="mean": F.mse_loss(x, target, reduction=reduction),

    "attention": attention,
    "attention_weights": lambda *inputs, **options: attention(*inputs, **options)[1],
    "attention_scores": lambda *inputs, **options: attention(*inputs, **options)[2],
    "multi_head_attention": multi_head_attention,
}


# ---- One case --------------------------------------------------------------------------------------------------------
def number(value, digits):
    if math.isnan(value) or math.isinf(value):
        return str(value)
    return int(value) if value == int(value) and abs(value) < 1e6 else float(f"%.{digits}g" % value)


def written(t, seed=None, drawn="any", sample=False):
    kind = {torch.int64: {"dtype": "int64"}, torch.bool: {"dtype": "boolean"}}.get(t.dtype, {})
    if t.numel() > LONG and seed is not None:
        return {"shape": list(t.shape), "seed": seed} | ({} if drawn == "any" else {"kind": drawn})
    digits = 8 if t.dtype == torch.float32 else 13
    flat = t.detach().double().flatten().tolist() if t.is_floating_point() else t.flatten().int().tolist()
    made = kind | {"shape": list(t.shape)}
    if t.numel() > LONG and sample:
        step = max(1, t.numel() // 8 | 1)   # odd, so that samples wander over the columns
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
        shapes = " ".join(str(tuple(t.shape)) for t in inputs)
        words = " ".join(f"{key}={value}" for key, value in options.items())
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
                "inputs": [written(t, seed + i if kinds[i] in ("any", "positive", "small") else None, kinds[i]) for i, t in enumerate(made)],
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
            case[str(dtype)[6:] if dtype else "any"] = {k: [written(t, sample=True) for t in ts] for k, ts in found.items()}
        self.cases.append(case)

    def write(self, folder):
        lines = [json.dumps(case, separators=(",", ":")) for case in self.cases]
        with open(os.path.join(folder, self.name + ".json"), "w") as file:
            file.write("[\n" + ",\n".join(lines) + "\n]\n")


# ---- The cases -------------------------------------------------------------------------------------------------------
PAIRS = [((), ()), ((2, 3), ()), ((), (2, 3)), ((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 3), (2, 1)),
         ((1, 3), (2, 3)), ((2, 1), (1, 3)), ((2, 1), (3,)), ((1,), ()), ((1, 1), (3,)), ((2, 2, 3), (2, 1)),
         ((2, 1, 3), (1, 2, 1)), ((3,), (2, 1, 1)), ((2, 1, 2, 1), (3, 1, 2)), ((0,), (1,)), ((2, 0), ()),
         ((0, 3), (3,)), ((2, 0, 3), (1, 3)), ((1, 0), (2, 1))]
LONG_PAIRS = [((37, 53), (37, 53)), ((37, 53), (53,)), ((37, 53), (37, 1)), ((37, 1), (53,)), ((5, 17, 9), (17, 1)),
              ((9,), (5, 17, 9)), ((2000,), ()), ((5, 1, 19), (1, 21, 1))]
SMOOTH = ["exp", "tanh", "sigmoid", "silu", "softplus", "gelu", "gelu_tanh", "erf", "sin", "cos", "neg"]
KINKED = ["abs", "sign", "relu"]
BIG = V(-1e30, -1e4, -100, -30, -1e-30, 0, 1e-30, 30, 100, 1e4, 1e30)
ODD = V(nan, inf, -inf, 0, -1, 2)


def elementwise(case):
    for op in ["add", "sub", "mul", "div", "maximum", "minimum"]:
        second = P if op == "div" else N
        for a, b in PAIRS + LONG_PAIRS:
            case(op, N(*a), second(*b), hvp=op not in ("maximum", "minimum") and len(a) < 4)
        case(op, V(1e30, 1e4, -1e30, 3, 3, -2), V(2, 1e4, 1e30, 3, -3, -2))                     # ties and magnitudes
        case(op, V(nan, 1, inf, -inf, nan, 2), V(1, nan, 1, 2, nan, -inf), grad=False)
    case("div", V(1, -1, 0, 2), V(0, 0, 3, -4))
    case("mul", L(2, -3, 4), L([[5], [-6]]))
    case("add", L(2, -3, 4), L([[5], [-6]]))
    case("sub", L(2, -3, 4), L(7))
    for op in ["add", "sub", "mul", "div"]:
        for order in [op + "_number", "number_" + op]:
            for value in [2.0, -0.3]:
                case(order, P(2, 3), value=value, hvp=True)
            case(order, P(), value=1.5)
            case(order, P(2, 0), value=1.5)
            case(order, P(41, 23), value=3.7)
    for op in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]:
        case(op, V(1, 2, 3, nan, inf, -inf, 0, nan), V(1, 3, 2, nan, inf, inf, -0.0, 1))
        case(op, V([[1.0], [2.0]]), V(1, 2, 3))
        case(op, N(31, 11), N(31, 11))
        case(op, L(1, 2, 3), L([[1], [3]]))
        case(op, V(1, 0.1, 3, nan, inf), V(0.1))
        case(op + "_number", V(1, 0.1, 3, nan, inf, -inf, 0), value=0.1)
        case(op + "_number", L(1, 2, 3), value=2.0)
    case("not", M([True, False], [False, True]))
    case("isnan", V(1, nan, inf, -inf, 0))

    for op in SMOOTH + KINKED:
        for shape in [(), (3,), (2, 3), (1,), (2, 0), (2, 3, 2)]:
            case(op, N(*shape), hvp=op in SMOOTH)
        case(op, N(23, 29), hvp=op in SMOOTH)
        case(op, BIG, exact=op == "gelu_tanh")
    for op in ["exp", "tanh", "sigmoid", "relu", "neg", "erf"]:
        case(op, ODD)
    case("abs", ODD, grad=False)
    case("sign", V(inf, -inf, 0, -0.0))
    for op in ["silu", "softplus", "gelu", "gelu_tanh", "sin", "cos"]:
        case(op, V(nan, 0, -1, 2), grad=False)
    for op in ["softplus", "relu", "sigmoid", "silu", "gelu", "gelu_tanh"]:
        case(op, V(-60, -20.5, -19.5, -9, -5, -3, 3, 5, 9, 19.5, 20.5, 60))
    case("tanh", V(-60, -20, -3, 3, 20, 60))
    for op in ["log", "sqrt"]:
        for shape in [(), (3,), (2, 3), (2, 0), (2, 3, 2), (23, 29)]:
            case(op, P(*shape), hvp=True)
        case(op, V(0, 1e-30, 1e-4, 1, 1e4, 1e30, inf))
        case(op, V(-1, nan, -inf), grad=False)
    for p in [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.7, 2.0, 3.0, 4.0]:
        case("pow", P(2, 3), p=p, hvp=True)
        case("pow", P(23, 29), p=p)
    for p in [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]:
        case("pow", V(-2, -0.5, 1.5), p=p, hvp=True)
    for p in [0.0, 1.0, 2.0, 3.0, 4.0]:
        case("pow", V(0, 1), p=p, hvp=True)
    for p in [-1.0, 0.5, 1.5]:
        case("pow", V(0, 1, 4), p=p)
    case("pow", V(-2, nan, inf), p=2.5, grad=False)
    case("pow", V(1e4, 1e-4, 1e10), p=3.0)
    case("clamp", N(2, 3), low=-0.5, high=0.7)
    case("clamp", N(23, 29), low=-0.5, high=0.7)
    case("clamp", V(-1, -0.5, 0.2, 0.75, 0.75, 3, 1e30, -1e30), low=-0.5, high=0.75)
    case("clamp", V(nan, inf, -inf), low=-0.5, high=0.75, grad=False)
    case("clamp", N(), low=-inf, high=0.0)
    for condition, a, b in [((2, 3), (2, 3), (2, 3)), ((3,), (2, 3), ()), ((2, 1), (3,), (2, 3)), ((), (2,), (2,)),
                            ((2, 1, 1), (3, 1), (2,)), ((0, 2), (2,), (1, 2)), ((31, 17), (17,), (31, 1)), ((2, 3), (), ())]:
        case("where", B(*condition), N(*a), N(*b), hvp=True)
    case("where", M(True, False, True, False), V(1, nan, 2, inf), V(nan, 3, inf, 4))            # nan not chosen: gradient 0
    case("where", M(True, False), L(1, 2), L(3, 4))
    for mask in [(2, 3), (3,), (2, 1), (), (1, 3)]:
        case("masked_fill", N(2, 3), B(*mask), value=-2.5, hvp=True)
    case("masked_fill", N(2, 3, 4), B(3, 4), value=-inf, grad=True)
    case("masked_fill", V(nan, 1, inf, nan), M(True, False, True, False), value=0.0, grad=False)
    case("masked_fill", V(nan, 1, inf, 2), M(True, False, True, False), value=0.0)
    case("masked_fill", N(31, 17), B(31, 17), value=1e30)
    case("masked_fill", N(0, 3), B(3), value=1.0)
    for p in [0.0, 1.0]:
        case("dropout", N(2, 3), p=p)
        case("dropout", N(23, 29), p=p)
    case("to", N(2, 3), dtype="float64")
    case("to", N(2, 3), dtype="float32", exact=True)


def reductions(case):
    smooth = ["sum", "mean", "var", "logsumexp"]
    for op in ["sum", "mean", "max", "min", "var", "logsumexp"]:
        for axes in [[], [0], [1], [-1], [-3], [0, 2], [1, -1], [2, 0], [0, 1, 2]]:
            case(op, N(2, 3, 4), axes=axes, hvp=op in smooth)
        for axes in [[], [1], [-1, 0]]:
            case(op, N(2, 3, 4), axes=axes, keepdims=True, hvp=op in smooth)
        case(op, N(5), axes=[0])
        case(op, N(2, 2), keepdims=True)
        if op != "var":
            case(op, N())
            case(op, N(2, 1, 3), axes=[1], hvp=op in smooth)
        case(op, N(0, 3), axes=[1])
        case(op, N(2, 0, 3), axes=[-1], keepdims=True)
        for shape, axes in [((3, 1000), [1]), ((1000, 3), [0]), ((5, 40, 7), [1]), ((5, 40, 7), [0, 2]), ((6, 7, 8, 9), [1, 3]),
                            ((67, 33), []), ((4, 257), [-1])]:
            case(op, N(*shape), axes=axes)
        case(op, V([[1e30, -1e29, 1], [1e4, 1e4 - 1, -1e4]]), axes=[1], grad=op != "var", exact=op in ("mean", "sum"))
        if op not in ("max", "min", "logsumexp"):
            case(op, V([nan, 1.0], [inf, 1.0], [inf, -inf]), axes=[1], grad=False)
    for op in ["sum", "cumsum"]:
        where = {"axes": [0]} if op == "sum" else {"axis": 0}
        case(op, N(0, 3), **where)
        case(op, N(2, 0), **(where | ({"axes": [1]} if op == "sum" else {"axis": 1})))
    case("sum", N(0))
    case("sum", L([1, 2], [3, 4]), axes=[0])
    case("sum", M([True, False], [True, True]))
    for op in ["max", "min"]:
        case(op, V([1.0, 3, 3, -2, -2], [0, 0, 0, 0, 0]), axes=[1])                             # ties share the gradient
        case(op, V([1.0, 3], [3, 1]))
        case(op, V([[5.0, 5], [1, 5]], [[5, 1], [1, 1]]), axes=[0, 2], keepdims=True)
        case(op, V([nan, 1.0], [1.0, nan], [inf, 1.0], [-inf, inf]), axes=[1], grad=False)
        case(op, V([inf, 1.0], [1.0, -inf], [-inf, -inf]), axes=[1])
    for correction in [0, 1, 2]:
        case("var", N(3, 5), axes=[1], correction=correction, hvp=True)
        case("var", N(3, 4, 2), axes=[0, 2], correction=correction, keepdims=True, hvp=True)
        case("var", N(7), correction=correction)
    case("var", V([1e6 + 1, 1e6 + 2, 1e6 + 4], [1e4, 1e4 + 0.5, 1e4 - 1]), axes=[1], exact=True)
    case("var", N(3, 1), axes=[0])
    case("var", N(3, 1), axes=[1], correction=0)
    case("logsumexp", V([1e4, 1e4 - 1, 0], [-1e4, -1e4, -1e4 - 2], [1e30, 0, -1e30]), axes=[1])
    case("logsumexp", V([-inf, 1, 2.0], [-inf, -inf, -inf], [-inf, 0, -inf]), axes=[1])
    case("logsumexp", V([-inf, 1, 2.0], [-inf, -inf, -inf]), axes=[1], keepdims=True)
    case("logsumexp", V([-inf, -inf]))
    case("logsumexp", V([nan, 1.0], [inf, 1.0], [inf, inf]), axes=[1], grad=False)
    for axis in [0, 1, -1]:
        case("argmax", N(2, 3, 4), axis=axis)
        case("cumsum", N(2, 3, 4), axis=axis, hvp=True)
        for op in ["softmax", "log_softmax"]:
            case(op, N(2, 3, 4), axis=axis, hvp=True)
    case("argmax", V([1.0, 3, 3], [2, 2, 2], [nan, 9, nan], [1, inf, nan], [-inf, -inf, -inf]), axis=1)
    case("argmax", N(37, 53), axis=0)
    case("argmax", N(37, 53), axis=1)
    case("argmax", L(3, 9, 9, 1), axis=0)
    case("argmax", N(0, 3), axis=1)
    case("cumsum", V([1.0, nan, 2], [inf, 1, -inf], [1e30, 1, -1e30]), axis=1, grad=False)
    case("cumsum", N(5), axis=0)
    case("cumsum", N(37, 53), axis=0)
    case("cumsum", N(37, 53), axis=1)
    case("cumsum", L(1, 2, 3), axis=0)
    for op in ["softmax", "log_softmax"]:
        case(op, N(5), hvp=True)
        case(op, N(3, 1), hvp=True)
        case(op, N(0, 3))
        case(op, N(2, 0, 3), axis=0)
        for shape, axis in [((3, 1000), 1), ((1000, 3), 0), ((5, 40, 7), 1), ((64, 17), -1), ((2, 3, 5, 33), -1), ((9, 64), 0)]:
            case(op, N(*shape), axis=axis, hvp=True)
        case(op, V([1e4, 1e4 - 1, 0], [-1e4, -1e4, -1e4 - 2], [1e30, 0, -1e30], [1e30, 1e30, 3], [0, 200, -200]))
        case(op, V([-inf, 1, 2.0], [-inf, -inf, -inf], [-inf, 0, -inf]))
        case(op, V([-inf, 1, 2.0], [-inf, -inf, 1]), axis=0)
        case(op, V([nan, 1.0], [inf, 1.0], [-inf, nan]), grad=False)


def shapes(case):
    for shape, to in [((2, 3), [6]), ((2, 3), [3, 2]), ((6,), [2, -1]), ((2, 3, 4), [-1, 4]), ((), [1, 1]), ((1,), []),
                      ((0, 3), [3, 0]), ((2, 0), [0, 5]), ((2, 3), [1, 2, 1, 3])]:
        case("reshape", N(*shape), shape=to, hvp=True)
    for shape, a, b in [((2, 3), 0, 1), ((2, 3, 4), 0, 2), ((2, 3, 4), -1, -2), ((2, 3, 4), 1, 1), ((0, 3), 0, 1),
                        ((37, 53), 0, 1), ((3, 20, 9), 1, 2), ((3, 20, 9), 0, 1), ((2, 3, 2, 2), 1, 2)]:
        case("transpose", N(*shape), a=a, b=b, hvp=True)
    for shape, order in [((2, 3), [1, 0]), ((2, 3, 4), [2, 0, 1]), ((2, 3, 4), [-1, 0, -2]), ((2, 1, 3), [1, 2, 0]), ((), []),
                         ((5, 6, 7, 3), [0, 2, 1, 3]), ((5, 6, 7, 3), [3, 1, 0, 2]), ((2, 0, 3), [1, 2, 0]), ((4,), [0])]:
        case("permute", N(*shape), order=order, hvp=True)
    for shape, axis, start, stop, step in [((5,), 0, 1, 4, 1), ((5,), 0, -3, None, 1), ((5,), 0, 0, -1, 2), ((5,), 0, 4, 1, 1),
                                           ((5,), 0, -99, 99, 1), ((5,), 0, 4, 0, -1), ((5,), 0, -1, None, -1),
                                           ((7,), 0, 5, None, -2), ((2, 3, 4), 1, 1, 2, 1), ((2, 3, 4), -1, 1, None, 2),
                                           ((2, 3, 4), 0, -1, None, -1), ((2, 3, 4), 1, 2, 2, 1), ((37, 53), 1, 3, 50, 4),
                                           ((37, 53), 0, 30, 2, -3), ((0, 3), 0, 0, None, 1), ((0, 3), 1, 1, None, 1)]:
        stop_given = {} if stop is None else {"stop": stop}
        case("slice", N(*shape), axis=axis, start=start, **stop_given, step=step, hvp=True)
    for sizes, axis in [([(2, 3), (1, 3)], 0), ([(2, 3), (2, 1), (2, 2)], 1), ([(2, 3), (2, 3)], -2), ([(0, 3), (2, 3)], 0),
                        ([(4,)], 0), ([(2, 1, 2), (2, 3, 2)], -2), ([(19, 31), (19, 5)], 1), ([(2, 0), (2, 0)], 1)]:
        case("concat", *[N(*s) for s in sizes], axis=axis, hvp=True)
    for sizes, axis in [([(2, 3), (2, 3)], 0), ([(2, 3), (2, 3)], 1), ([(2, 3), (2, 3), (2, 3)], -1), ([(), ()], 0), ([(3,)], 1),
                        ([(0,), (0,)], 0)]:
        case("stack", *[N(*s) for s in sizes], axis=axis, hvp=True)
    for shape, to in [((), [2, 3]), ((3,), [2, 3]), ((2, 1), [2, 3]), ((1, 1), [2, 3]), ((2, 1, 3), [2, 2, 2, 3]), ((1,), [0]),
                      ((1, 3), [0, 3]), ((2, 3), [2, 3]), ((31, 1), [31, 37])]:
        case("broadcast_to", N(*shape), shape=to, hvp=True)
    for op in ["tril", "triu"]:
        for shape, diagonal in [((3, 3), 0), ((3, 3), 1), ((3, 3), -1), ((2, 4), 1), ((4, 2), -2), ((2, 3, 3), 0), ((2, 2), 9),
                                ((2, 2), -9), ((0, 3), 0), ((37, 53), 5)]:
            case(op, N(*shape), diagonal=diagonal, hvp=True)
        case(op, V([nan, nan], [nan, nan]), grad=False)


def indices(case):
    for shape, axis, index in [((2, 3), 1, L([0, 2], [1, 1])), ((2, 3), 0, L([0, 1, 1], [1, 1, 0])), ((2, 3), -1, L([[2], [0]])),
                               ((4,), 0, L(3, 3, 0, 1, 3)), ((3, 3), 0, L([[2, 0]])), ((2, 3, 2), 1, I(3, 2, 4, 2)),
                               ((2, 3), 1, I(3, 2, 0)), ((23, 29), 1, I(29, 23, 7)), ((23, 29), 0, I(23, 50, 29)),
                               ((2, 3), 1, L([[1, 0]]))]:
        case("gather", N(*shape), index, axis=axis, hvp=True)
    for size, axis, index, shape in [((2, 2), 1, L([0, 2], [1, 1]), [2, 3]), ((3,), 0, L(1, 1, 1), [3]), ((2, 3), 0, L([0, 1, 1], [1, 1, 1]), [4, 3]),
                                     ((2, 0), 1, I(3, 2, 0), [2, 3]), ((23, 29), 1, I(7, 23, 29), [23, 7]), ((2, 2), -1, L([0, 0], [3, 0]), [2, 4])]:
        case("scatter_add", N(*size), index, shape=shape, axis=axis, hvp=True)
    for V_d, index in [((5, 3), L(0, 4, 2)), ((5, 3), L([1, 1], [1, 0])), ((5, 3), L(3)), ((5, 1), L(0, 0, 0, 4)), ((4, 3), I(4, 0)),
                       ((3, 0), L(1, 2)), ((50, 37), I(50, 6, 30)), ((2, 3), L([[[1]]]))]:
        case("embedding", N(*V_d), index, hvp=True)
    case("one_hot", L(0, 2, 1), classes=3)
    case("one_hot", L([0, 4], [1, 1]), classes=5)
    case("one_hot", L(2), classes=3)
    case("one_hot", I(4, 0), classes=4)
    for options in [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1}, {"label_smoothing": 1.0},
                    {"ignore_index": 2}, {"ignore_index": 2, "reduction": "sum", "label_smoothing": 0.3},
                    {"ignore_index": 2, "reduction": "none", "label_smoothing": 0.3}, {"ignore_index": 2, "label_smoothing": 0.3}]:
        case("cross_entropy", N(4, 3), L(2, 0, 1, 2), hvp=True, **options)
        case("cross_entropy", N(2, 2, 3), L([2, 0], [1, 2]), **options)
        case("cross_entropy", N(40, 65), I(65, 40), hvp=True, **options)
    case("cross_entropy", N(3), L(1), hvp=True)
    case("cross_entropy", N(2, 1), L(0, 0), hvp=True)
    case("cross_entropy", N(2, 3), L(-100, 1), hvp=True)
    case("cross_entropy", N(2, 3), L(-100, -100), grad=False)
    case("cross_entropy", N(2, 3), L(-100, -100), reduction="sum")
    case("cross_entropy", N(2, 3), L(-100, -100), reduction="none")
    case("cross_entropy", V([1e4, 0, -1e4], [1e4, 0, -1e4], [1e30, 0, -1e30]), L(0, 2, 1))
    case("cross_entropy", V([1e4, 0, -1e4], [1e4, 0, -1e4], [1e30, 0, -1e30]), L(0, 2, 1), reduction="none")
    case("cross_entropy", V([1e4, 1e4], [-1e4, -1e4 + 1]), L(0, 1), label_smoothing=0.2)
    case("cross_entropy", V([-inf, 0, 1.0], [0, -inf, 1]), L(1, 2))
    case("cross_entropy", V([nan, 0, 1.0], [0, 2, 1]), L(1, 2), reduction="none", grad=False)
    case("cross_entropy", N(0, 3), I(3, 0), reduction="sum")
    case("cross_entropy", N(0, 3), I(3, 0), reduction="none")
    for reduction in ["mean", "sum", "none"]:
        for shape in [(), (3,), (2, 3), (2, 3, 2), (23, 29)]:
            case("mse_loss", N(*shape), N(*shape), reduction=reduction, hvp=True)
    case("mse_loss", N(0), N(0), reduction="sum")


def products(case):
    for a, b in [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((1, 3), (3, 1)), ((1, 1), (1, 1)),
                 ((2, 2, 3), (3, 2)), ((2, 3), (2, 3, 2)), ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 1)), ((1, 2, 3), (4, 3, 2)),
                 ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((2, 1, 1, 3), (1, 2, 3, 2)), ((3, 0), (0, 4)), ((0, 3), (3, 2)), ((2, 3), (3, 0)),
                 ((0,), (0,)), ((2, 0), (0,)), ((0, 2, 3), (3, 2)), ((2, 2, 0), (0, 3)), ((1, 2, 3), (0, 3, 2)),
                 ((33, 65), (65, 17)), ((3, 33, 18), (3, 18, 20)), ((3, 33, 18), (18, 20)), ((64, 64), (64, 64)), ((1, 130), (130, 70)),
                 ((70, 130), (130, 1)), ((4, 1, 9, 8), (5, 8, 7)), ((130,), (130, 70)), ((70, 130), (130,))]:
        case("matmul", N(*a), N(*b), hvp=True)
    for ta, tb in [(True, False), (False, True), (True, True)]:
        flip = {"transpose_a": ta, "transpose_b": tb}
        for batch_a, batch_b in [((), ()), ((2,), ()), ((), (2,)), ((2,), (2,)), ((2, 1), (3,)), ((1,), (3,))]:
            a, b = ((3, 2) if ta else (2, 3)), ((4, 3) if tb else (3, 4))
            case("matmul", N(*batch_a, *a), N(*batch_b, *b), hvp=True, **flip)
        a, b = ((65, 33) if ta else (33, 65)), ((17, 65) if tb else (65, 17))
        case("matmul", N(*a), N(*b), hvp=True, **flip)
        case("matmul", N(5, *a), N(5, *b), **flip)
        case("matmul", N(*((0, 2) if ta else (2, 0))), N(*((3, 0) if tb else (0, 3))), **flip)
        case("matmul", N(*((1, 7) if ta else (7, 1))), N(*((5, 1) if tb else (1, 5))), **flip)
    case("matmul", V([1e30, 1.0], [0, 2]), V([1.0, 0], [-1, 1e4]))
    case("matmul", V([nan, 1.0], [0, 2]), V([1.0, 0], [-1, 1e4]), grad=False)
    for x, out in [((2, 3), 4), ((3,), 2), ((2, 2, 3), 1), ((2, 1, 2, 3), 2), ((0, 3), 2), ((2, 1), 3), ((2, 0), 3), ((40, 33), 70), ((3, 7, 64), 48)]:
        case("linear", N(*x), N(out, x[-1]), N(out), hvp=True)
        case("linear", N(*x), N(out, x[-1]), hvp=True)
    for x in [(2, 4), (4,), (2, 2, 3), (2, 3, 2, 5), (0, 3), (40, 33), (5, 7, 64), (2, 300)]:
        d = x[-1:]
        case("layer_norm", N(*x), N(*d), N(*d), hvp=True)
        case("rms_norm", N(*x), N(*d), hvp=True)
    case("layer_norm", N(2, 4), N(4), N(4), eps=0.1, hvp=True)
    case("rms_norm", N(2, 4), N(4), eps=0.1, hvp=True)
    case("layer_norm_two_pass", V([1e6 + 1, 1e6 + 2, 1e6 + 4], [1e4, 1e4 + 0.5, 1e4 - 1]), N(3), N(3), exact=True)
    case("layer_norm_two_pass", N(3, 1), N(1), N(1), eps=1.0, exact=True)
    case("layer_norm", V([1e4, -1e4, 0.0], [2, 2, 2]), N(3), N(3), exact=True)
    case("rms_norm", V([1e4, -1e4, 0.0], [0, 0, 0]), N(3), exact=True)
    case("layer_norm", V([nan, 1.0, 2], [1, 2, 4]), N(3), N(3), grad=False)
    case("rms_norm", V([nan, 1.0, 2], [1, 2, 4]), N(3), grad=False)


def qkv(batch, Tq, Tk, d_k, d_v):
    return N(*batch, Tq, d_k), N(*batch, Tk, d_k), N(*batch, Tk, d_v)


CAUSAL = torch.tril(torch.ones(4, 4)).bool()
DEAD_ROW = M([True, False, True], [False, False, False], [True, True, True], [False, True, False])   # [4, 3], row 1


def attentions(case):
    for op in ["attention", "attention_weights", "attention_scores"]:
        hvp = op == "attention"
        for scale in [True, False, 0.37]:
            case(op, *qkv((2,), 3, 3, 4, 4), scale=scale, hvp=hvp)
            case(op, *qkv((1,), 4, 3, 2, 5), scale=scale, hvp=hvp)
        if op == "attention_scores":   # a loss on scores of -inf is no number
            continue
        case(op, *qkv((1,), 4, 4, 3, 3), CAUSAL, hvp=hvp)
        case(op, *qkv((2,), 4, 4, 3, 2), CAUSAL, scale=False, hvp=hvp)
        case(op, *qkv((2,), 4, 4, 3, 2), CAUSAL.T.contiguous(), hvp=hvp)
        case(op, *qkv((2,), 4, 3, 3, 2), DEAD_ROW, hvp=hvp)
        case(op, *qkv((2,), 4, 3, 3, 2), torch.zeros(4, 3).bool(), hvp=hvp)
        case(op, *qkv((2,), 3, 4, 2, 3), B(2, 3, 4), hvp=hvp)
        case(op, *qkv((2,), 3, 4, 2, 3), B(1, 3, 4), hvp=hvp)
        case(op, *qkv((2,), 3, 4, 2, 3), B(2, 1, 4), hvp=hvp)
        case(op, *qkv((2,), 3, 4, 2, 3), B(4), hvp=hvp)
    for batch, Tq, Tk, d_k, d_v in [((1,), 1, 1, 1, 1), ((2,), 1, 5, 3, 2), ((2,), 5, 1, 3, 2), ((3,), 2, 2, 1, 4), ((2, 2), 3, 3, 2, 2),
                                    ((1, 3), 2, 4, 3, 1), ((0,), 2, 2, 3, 3), ((2,), 0, 3, 2, 2), ((2,), 5, 5, 8, 8),
                                    ((2,), 33, 29, 17, 9), ((1, 2), 40, 40, 16, 16), ((1,), 70, 130, 64, 32), ((4,), 10, 10, 64, 64)]:
        case("attention", *qkv(batch, Tq, Tk, d_k, d_v), hvp=Tq < 50)
        case("attention", *qkv(batch, Tq, Tk, d_k, d_v), scale=False)
        if Tq > 1 and Tk > 1:
            case("attention", *qkv(batch, Tq, Tk, d_k, d_v), B(Tq, Tk), hvp=Tq < 50)
    case("attention", *qkv((2, 2), 3, 3, 2, 2), CAUSAL[:3, :3], hvp=True)
    case("attention", *qkv((2, 2), 3, 3, 2, 2), B(2, 2, 3, 3), hvp=True)
    case("attention", *qkv((2, 2), 3, 3, 2, 2), B(2, 1, 3, 3), hvp=True)
    case("attention", *qkv((1,), 70, 70, 32, 32), torch.tril(torch.ones(70, 70)).bool())
    case("attention", *qkv((2, 2), 65, 65, 16, 8), torch.tril(torch.ones(65, 65)).bool())
    # float masks of 0 and 1, the notebook's
    case("attention_float_mask", *qkv((1,), 4, 4, 3, 3), CAUSAL)
    case("attention_float_mask", *qkv((2,), 4, 3, 3, 2), DEAD_ROW)
    case("attention_float_mask", *qkv((2,), 3, 4, 2, 3), B(2, 3, 4))
    # magnitudes: saturated, and far apart
    case("attention", V([[[100, -50, 30.0], [1e4, 2, 3]]]), V([[[10, 20, -30.0], [4, 5, -6], [7, 8, 9]]]), N(1, 3, 2))
    case("attention", V([[[1e4, 0.0], [0, 1e-4]]]), V([[[1.0, 2], [1, -3]]]), N(1, 2, 2), scale=False)
    # nan and inf where no query may look, and where some may
    K = V([[[1, 2.0], [nan, nan], [3, -1], [inf, 0]]])
    values = V([[[1, 2.0], [nan, -inf], [3, -1], [nan, 0]]])
    for mask in [M([True, False, True, False], [False, False, True, False]), M([True, False, False, False], [False] * 4)]:
        case("attention", V([[[0.5, -1.0], [2, 1]]]), K, values, mask)
        case("attention", V([[[0.5, -1.0], [2, 1]]]), K, values, mask, scale=False)
        case("attention_weights", V([[[0.5, -1.0], [2, 1]]]), K, values, mask)
    case("attention", V([[[0.5, -1.0], [2, 1]]]), K, values, M([True, False, True, False], [True, True, True, False]), grad=False)
    case("attention", V([[[0.5, -1.0], [nan, 1]]]), V([[[1, 2.0], [3, 4]]]), V([[[1, 2.0], [3, 4]]]), grad=False)
    case("attention", V([[[0.5, -1.0], [nan, 1]]]), V([[[1, 2.0], [3, 4]]]), V([[[1, 2.0], [3, 4]]]), M([True, True], [False, False]))


def heads(case):
    def parameters(d):
        return [S(d, d), S(d)] * 4

    for batch, T, d, h in [(1, 1, 2, 1), (1, 3, 4, 2), (2, 3, 4, 4), (2, 4, 6, 3), (2, 4, 6, 1), (0, 3, 4, 2), (2, 10, 64, 8), (3, 17, 24, 2)]:
        case("multi_head_attention", N(batch, T, d), *parameters(d), heads=h, hvp=d < 64)
        case("multi_head_attention", N(batch, T, d), *parameters(d), torch.tril(torch.ones(T, T)).bool(), heads=h, hvp=d < 64)
        case("multi_head_attention", N(batch, T, d), *parameters(d), heads=h, scale=False)
        if batch > 1:
            case("multi_head_attention", N(batch, T, d), *parameters(d), B(batch, T, T), heads=h)
    case("multi_head_attention", N(2, 3, 4), *parameters(4), M([True, False, True], [False] * 3, [True] * 3), heads=2, hvp=True)
    case("multi_head_attention", N(2, 3, 4), *parameters(4), heads=2, scale=0.37, hvp=True)


OPS["attention_float_mask"] = attention   # the same; tests/test_golden.cpp hands the mask over as floats


def check_against_torch_layer():
    """The formula above against nn.MultiheadAttention with the same weights."""
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    torch.nn.init.normal_(layer.in_proj_bias)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    Wq, Wk, Wv = layer.in_proj_weight.chunk(3)
    bq, bk, bv = layer.in_proj_bias.chunk(3)
    mask = torch.tril(torch.ones(5, 5)).bool()
    output, weights = layer(x, x, x, attn_mask=~mask, average_attn_weights=False)
    ours = multi_head_attention(x, Wq, bq, Wk, bk, Wv, bv, layer.out_proj.weight, layer.out_proj.bias, mask, heads=3)
    assert torch.allclose(ours[0], output, rtol=0, atol=1e-12)
    assert torch.allclose(ours[1], weights.reshape(6, 5, 5), rtol=0, atol=1e-12)


def main():
    check_against_torch_layer()
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
    os.makedirs(folder, exist_ok=True)
    for family in [elementwise, reductions, shapes, indices, products, attentions, heads]:
        book = Book(family.__name__)
        family(book)
        book.write(folder)
        print(f"{book.name}: {len(book.cases)} cases")


if __name__ == "__main__":
    main()
