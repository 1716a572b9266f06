"""What each op of ops.hpp and each layer means, in PyTorch: OPS[name](*inputs, **options) -> output or outputs.

Where PyTorch 1.13 lacks an op, or its own answer is not the contract of ops.hpp (rows of -inf, masked nan, numbers far
from 0), the formula is written out.
"""
import math

import torch
import torch.nn.functional as F

inf = math.inf


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


def multi_head_attention(x, Wq, bq, Wk, bk, Wv, bv, Wo, bo, mask=None, heads=1, memory=None, **options):
    batch, T, d_model = x.shape
    memory = x if memory is None else memory

    def split(y):   # [B, T, d_model] -> [B * heads, T, d_k]
        return y.reshape(batch, y.shape[1], heads, d_model // heads).transpose(1, 2).flatten(0, 1)

    if mask is not None and mask.dim() == 3:
        mask = mask.repeat_interleave(heads, 0)
    mixed, weights, scores = masked_attention(split(F.linear(x, Wq, bq)), split(F.linear(memory, Wk, bk)),
                                              split(F.linear(memory, Wv, bv)), mask, **options)
    joined = mixed.reshape(batch, heads, T, d_model // heads).transpose(1, 2).reshape(batch, T, d_model)
    return F.linear(joined, Wo, bo), weights, scores


def padding_mask(lengths, T, padded):
    """[B, 1, T]: true for the tokens, at the other end than the padding."""
    places, lengths = torch.arange(T), torch.tensor(lengths).reshape(-1, 1, 1)
    return places >= T - lengths if padded == "left" else places < lengths


def cross_attention(x, memory, *parameters, names, heads, lengths, padded="right"):
    mask = padding_mask(lengths, memory.shape[1], padded)
    return multi_head_attention(x, *parameters, mask, heads=heads, memory=memory)[0]


def rotary_by_complex_numbers(x, positions, base, pairs, width):
    """x [B, T, d]; a pair of numbers is one complex number, which is multiplied by e^(i angle)."""
    turned, rest = x[..., :width], x[..., width:]
    real, imaginary = (turned[..., ::2], turned[..., 1::2]) if pairs == "interleaved" else turned.chunk(2, -1)
    frequencies = base ** (-torch.arange(0, width, 2, dtype=x.dtype) / width)
    y = torch.complex(real, imaginary) * torch.exp(1j * positions[..., None] * frequencies)
    parts = [y.real, y.imag]
    joined = torch.stack(parts, -1).flatten(-2) if pairs == "interleaved" else torch.cat(parts, -1)
    return torch.cat([joined, rest], -1)


def rms(x, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def attention_rules(Q, K, V, *extra, names=(), scale=True, causal=False, window=0, soft_cap=0.0, qk_norm="none",
                    weighting="softmax", sigmoid_bias=None):
    """Every score rule of layers/attention.hpp; extra holds the tensors mask, bias, scale as names says."""
    given = dict(zip(names, extra))
    if Q.dim() == 4:   # grouped queries
        K, V = (t.repeat_interleave(Q.shape[1] // t.shape[1], 1) for t in (K, V))
    d_k, Tq, Tk = Q.shape[-1], Q.shape[-2], K.shape[-2]
    if qk_norm != "none":
        gain = 1 / math.sqrt(d_k) if qk_norm == "l2" else 1.0
        Q, K = rms(Q, 1e-12) * gain, rms(K, 1e-12) * gain
    factors = {True: 1 / math.sqrt(d_k), False: 1.0, "inverse": 1 / d_k, "log_n": math.log(Tk) / math.sqrt(d_k)}
    factor = given["scale"].reshape(-1, 1, 1) if "scale" in given else factors.get(scale, scale)
    scores = Q @ K.transpose(-1, -2) * factor
    scores = torch.tanh(scores / soft_cap) * soft_cap if soft_cap else scores
    scores = scores + given["bias"] if "bias" in given else scores
    back = torch.arange(Tq)[:, None] + Tk - Tq - torch.arange(Tk)
    hidden = (back < 0) & causal | (back.abs() >= (window or math.inf)) | ~given.get("mask", torch.tensor(True))
    scores = scores.masked_fill(hidden, -inf)
    if weighting == "sigmoid":
        weights = torch.sigmoid(scores + (-math.log(Tk) if sigmoid_bias is None else sigmoid_bias))
    elif weighting == "off_by_one":
        weights = torch.softmax(torch.cat([torch.zeros_like(scores[..., :1]), scores], -1), -1)[..., 1:]
    else:
        weights = clean_softmax(scores, -1)
    return weights @ V, weights, scores


# ---- Layers, by the names of their parameters ------------------------------------------------------------------------
def part(p, name, x):
    """The linear layer or the norm of that name; a norm without a bias is RmsNorm."""
    weight, bias = p[name + ".weight"], p.get(name + ".bias")
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    return rms(x, 1e-6) * weight if bias is None else F.layer_norm(x, x.shape[-1:], weight, bias)


def rotary(x, base):
    """x [B, heads, T, d]: the pair (x_i, x_{i + d/2}) turns by t / base^(2i / d)."""
    half = x.shape[-1] // 2
    rates = base ** (-2.0 * torch.arange(half, dtype=torch.float64) / x.shape[-1])
    angle = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * rates
    sine, cosine = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


def self_attention(p, x, heads, kv_heads=0, rotary_base=0.0, **rules):
    def split(y, n):
        return y.reshape(*y.shape[:2], n, -1).transpose(1, 2)   # [B, n, T, d_k]

    Q, K, V = (split(part(p, "attention." + w, x), n) for w, n in
               [("W_q", heads), ("W_k", kv_heads or heads), ("W_v", kv_heads or heads)])
    if rotary_base:
        Q, K = rotary(Q, rotary_base), rotary(K, rotary_base)
    extra = {"bias": rules.pop("bias", None), "scale": p.get("attention.scale")}
    extra = {name: t for name, t in extra.items() if t is not None}
    mixed = attention_rules(Q, K, V, *extra.values(), names=list(extra), **rules)[0]
    return part(p, "attention.W_o", mixed.transpose(1, 2).flatten(2))


def feed_forward(p, x, activation):
    inner = part(p, "linear1", x)
    if activation == "swiglu":
        return part(p, "linear2", F.silu(part(p, "gate", x)) * inner)
    return part(p, "linear2", {"relu": F.relu, "gelu": F.gelu, "gelu_tanh": OPS["gelu_tanh"]}[activation](inner))


def inside(p, prefix):
    return {name[len(prefix):]: t for name, t in p.items() if name.startswith(prefix)}


def block(p, x, norm_place="pre", activation="gelu", **options):
    fed = inside(p, "feed_forward.")
    if norm_place == "pre":
        x = x + self_attention(p, part(p, "norm1", x), **options)
        return x + feed_forward(fed, part(p, "norm2", x), activation)
    x = part(p, "norm1", x + self_attention(p, x, **options))
    return part(p, "norm2", x + feed_forward(fed, x, activation))


def sinusoidal(T, d):
    angle = torch.arange(T, dtype=torch.float64)[:, None] / 10000 ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :d]


def alibi(heads, T):
    slopes = 2 ** (-8 * (torch.arange(heads, dtype=torch.float64) + 1) / heads)   # heads: a power of two
    return -slopes[:, None, None] * (torch.arange(T)[:, None] - torch.arange(T))


def transformer_loss(tokens, target, *parameters, names, layers, positions="learned", causal=True, **options):
    p, T = dict(zip(names, parameters)), tokens.shape[1]
    x = p["embedding.weight"][tokens]
    if positions == "learned":
        x = x + p["positions.weight"][:T]
    if positions == "sinusoidal":
        x = x + sinusoidal(T, x.shape[-1]).to(x.dtype)
    if positions == "alibi":
        options["bias"] = alibi(options["heads"], T).to(x.dtype)
    if positions == "rotary":
        options["rotary_base"] = 10000.0
    for i in range(layers):
        x = block(inside(p, f"blocks.{i}."), x, causal=causal, **options)
    x = part(p, "norm", x) if "norm.weight" in p else x
    return cross_entropy(F.linear(x, p.get("head.weight", p["embedding.weight"])), target)


# ---- Linear algebra --------------------------------------------------------------------------------------------------
def symmetric(x):
    return (x + x.mT) / 2


def svd_function(x):
    """U tanh(S) Vh"""
    U, S, Vh = torch.linalg.svd(x, full_matrices=False)
    return (U * torch.tanh(S).unsqueeze(-2)) @ Vh


def eigh_function(x):
    """V tanh(w) V^T of the symmetric part"""
    w, V = torch.linalg.eigh(symmetric(x))
    return (V * torch.tanh(w).unsqueeze(-2)) @ V.mT


def norm(x, kind, keepdims=False):
    if kind in ["two", "one", "infinity"]:
        return torch.linalg.vector_norm(x, {"two": 2, "one": 1, "infinity": inf}[kind], -1, keepdims)
    return torch.linalg.matrix_norm(x, {"frobenius": "fro", "spectral": 2, "nuclear": "nuc"}[kind], (-2, -1), keepdims)



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
    "cross_entropy": cross_entropy,
    "mse_loss": lambda x, target, reduction="mean": F.mse_loss(x, target, reduction=reduction),

    "attention": attention,
    "attention_weights": lambda *inputs, **options: attention(*inputs, **options)[1],
    "attention_scores": lambda *inputs, **options: attention(*inputs, **options)[2],
    "attention_float_mask": attention,   # the same; calls.cpp hands the mask over as floats
    "attention_rules": attention_rules,
    "multi_head_attention": multi_head_attention,

    "feed_forward": lambda x, *ps, names, **options: feed_forward(dict(zip(names, ps)), x, **options),
    # Only what does not depend on the choice of singular vectors and eigenvectors.
    "svd_function": svd_function, "eigh_function": eigh_function,
    "singular_values": torch.linalg.svdvals,
    "eigenvalues": lambda x: torch.linalg.eigvalsh(symmetric(x)),
    "cholesky": lambda x: torch.linalg.cholesky(x @ x.mT + torch.eye(x.shape[-1], dtype=x.dtype)),
    "solve": torch.linalg.solve, "inverse": torch.linalg.inv,
    "slogdet": lambda x: torch.linalg.slogdet(x).logabsdet, "slogdet_sign": lambda x: torch.linalg.slogdet(x).sign,
    "matrix_power": lambda x, n: torch.linalg.matrix_power(x, n),
    "norm": norm,
    "transformer_block": lambda x, *ps, names, **options: block(dict(zip(names, ps)), x, **options),
    "transformer_loss": transformer_loss,
    "cross_attention": cross_attention,
    "rotary": rotary_by_complex_numbers,
}


def check_against_torch_layers():
    """The formulas above against nn.MultiheadAttention and nn.TransformerEncoderLayer with the same weights."""
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
    memory = torch.randn(2, 4, 12, dtype=torch.float64)
    for padded in ["left", "right"]:
        hidden = ~padding_mask([4, 2], 4, padded)[:, 0]
        output, _ = layer(x, memory, memory, key_padding_mask=hidden)
        ours = cross_attention(x, memory, Wq, bq, Wk, bk, Wv, bv, layer.out_proj.weight, layer.out_proj.bias, names=[],
                               heads=3, lengths=[4, 2], padded=padded)
        assert torch.allclose(ours, output, rtol=0, atol=1e-12)

    for place in ["pre", "post"]:
        layer = torch.nn.TransformerEncoderLayer(12, 3, 20, 0.0, F.gelu, batch_first=True, norm_first=place == "pre",
                                                 dtype=torch.float64)
        p = dict(layer.named_parameters())
        for i, w in enumerate(["W_q", "W_k", "W_v"]):
            p[f"attention.{w}.weight"] = layer.self_attn.in_proj_weight.chunk(3)[i]
            p[f"attention.{w}.bias"] = layer.self_attn.in_proj_bias.chunk(3)[i]
        p |= {"attention.W_o." + name: p["self_attn.out_proj." + name] for name in ["weight", "bias"]}
        p |= {"feed_forward." + name: p[name] for name in list(p) if name.startswith("linear")}
        ours = block(p, x, norm_place=place, heads=3, causal=True)
        assert torch.allclose(ours, layer(x, src_mask=~mask), rtol=0, atol=1e-12)
