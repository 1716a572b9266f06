#!/usr/bin/env python3
"""Writes tests/golden/onnx.json: cases of the operators that ONNX gained for transformers (Gelu of opset 20; Attention,
RMSNormalization and RotaryEmbedding of opset 23; Swish of opset 24), computed by NumPy from the operators' documents.
Debian's libonnx-testdata is older than most of them.

A case: {"name", "type", "attributes", "inputs", "outputs"}; an absent input is null. Tensors as in make_golden.py.
RotaryEmbedding has "base" in place of its caches of cosines and sines: the caches here are those of that base.
"""
import json
import math
import pathlib

import numpy as np

from cases import draw

SEED = 0


def drawn(*shape, kind="any"):
    global SEED
    SEED += 1
    return draw(shape, SEED, kind)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def split_heads(x, heads):
    return x if x.ndim == 4 else x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def attention(Q, K, V, attn_mask=None, past_key=None, past_value=None, *, is_causal=0, q_num_heads=None,
              kv_num_heads=None, scale=None, softcap=0.0, qk_matmul_output_mode=0):
    flat = Q.ndim == 3
    Q, K, V = split_heads(Q, q_num_heads), split_heads(K, kv_num_heads), split_heads(V, kv_num_heads)
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        K, V = np.concatenate((past_key, K), 2), np.concatenate((past_value, V), 2)
    present = K, V
    group = Q.shape[1] // K.shape[1]
    K, V = np.repeat(K, group, 1), np.repeat(V, group, 1)
    product = Q @ K.swapaxes(-1, -2) * (1 / math.sqrt(Q.shape[-1]) if scale is None else scale)
    capped = softcap * np.tanh(product / softcap) if softcap else product
    scores = capped
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype == bool else scores + attn_mask
    if is_causal:
        i, j = np.indices(scores.shape[-2:])
        scores = np.where(j <= i + past, scores, -np.inf)
    weights = softmax(scores)
    Y = weights @ V
    if flat:
        Y = Y.swapaxes(1, 2).reshape(Y.shape[0], Y.shape[2], -1)
    return Y, *present, {0: product, 1: capped, 2: scores, 3: weights}[qk_matmul_output_mode]


def attention_cases(case):
    B, H, T, S, d, e = 2, 2, 3, 4, 4, 3
    four = lambda heads=H, keys=S: (drawn(B, H, T, d), drawn(B, heads, keys, d), drawn(B, heads, keys, e))
    flat = lambda heads=H: (drawn(B, T, H * d), drawn(B, S, heads * d), drawn(B, S, heads * e))
    boolean = lambda *shape: (drawn(*shape) > -0.5) | (np.arange(shape[-1]) == 0)   # no row without a key
    call = lambda name, inputs, **attributes: case(f"attention {name}", "Attention", attention, inputs, attributes)
    call("4-D", four())
    call("4-D, causal", four(), is_causal=1)
    call("4-D, scale", four(), scale=0.01)
    call("4-D, softcap", four(), softcap=2.0)
    call("4-D, grouped queries", four(1), is_causal=1)
    call("4-D, boolean mask", (*four(), boolean(T, S)))
    call("4-D, float mask of every head, softcap", (*four(), drawn(B, H, T, S)), softcap=3.0)
    call("4-D, boolean mask of every batch, causal", (*four(), boolean(B, 1, T, S)), is_causal=1)
    call("4-D, past", (*four(keys=3), None, drawn(B, H, 5, d), drawn(B, H, 5, e)), is_causal=1)
    for mode in range(4):
        call(f"4-D, output of mode {mode}", (*four(), boolean(T, S)), softcap=2.0, qk_matmul_output_mode=mode)
    call("3-D", flat(), q_num_heads=H, kv_num_heads=H)
    call("3-D, grouped queries", flat(1), q_num_heads=H, kv_num_heads=1, is_causal=1)
    call("3-D, float mask, scale", (*flat(), drawn(T, S)), q_num_heads=H, kv_num_heads=H, scale=0.3)
    call("3-D, past", (*flat(), None, drawn(B, H, 2, d), drawn(B, H, 2, e)), q_num_heads=H, kv_num_heads=H, is_causal=1)


def rms_normalization(x, gain, *, axis=-1, epsilon=1e-5):
    axes = tuple(range(axis % x.ndim, x.ndim))
    return (x / np.sqrt((x * x).mean(axes, keepdims=True) + epsilon) * gain,)


def rms_cases(case):
    for axis in (-1, 0, 1, 2, -2):
        x = drawn(2, 3, 4)
        inputs = (x, drawn(*x.shape[axis % 3:]))
        case(f"rms_normalization, axis {axis}", "RMSNormalization", rms_normalization, inputs, {"axis": axis})
    case("rms_normalization, epsilon", "RMSNormalization", rms_normalization, (drawn(3, 5), drawn(5)), {"epsilon": 0.1})


def rotary_embedding(x, positions, *, base, interleaved=0, rotary_embedding_dim=0, num_heads=0):
    shape = x.shape
    flat = x.ndim == 3
    x = split_heads(x, num_heads)
    width = rotary_embedding_dim or x.shape[-1]
    angle = positions[:, None, :, None] / base ** (np.arange(0, width, 2) / width)   # [B, 1, T, width / 2]
    c, s = np.cos(angle), np.sin(angle)
    turned = x[..., :width]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        y = np.stack((c * a - s * b, s * a + c * b), -1).reshape(turned.shape)
    else:
        a, b = turned[..., :width // 2], turned[..., width // 2:]
        y = np.concatenate((c * a - s * b, s * a + c * b), -1)
    y = np.concatenate((y, x[..., width:]), -1)
    return (y.swapaxes(1, 2).reshape(shape) if flat else y,)


def rotary_cases(case):
    positions = np.array([[0, 1, 2, 3], [7, 5, 100, 5]])
    call = lambda name, x, **attributes: case(f"rotary_embedding {name}", "RotaryEmbedding", rotary_embedding,
                                              (x, positions), {"base": 10000.0, **attributes})
    call("4-D", drawn(2, 3, 4, 8))
    call("4-D, interleaved", drawn(2, 3, 4, 8), interleaved=1)
    call("4-D, half of each vector", drawn(2, 3, 4, 8), rotary_embedding_dim=4)
    call("4-D, interleaved, half of each vector", drawn(2, 3, 4, 8), interleaved=1, rotary_embedding_dim=4)
    call("3-D", drawn(2, 4, 24), num_heads=3)
    call("3-D, interleaved, base 500", drawn(2, 4, 24), num_heads=3, interleaved=1, base=500.0)


def gelu(x, *, approximate="none"):
    if approximate == "tanh":
        return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
    return (0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),)


def swish(x, *, alpha=1.0):
    return (x / (1 + np.exp(-alpha * x)),)


def activation_cases(case):
    case("gelu", "Gelu", gelu, (drawn(3, 7) * 2,), {})
    case("gelu, tanh", "Gelu", gelu, (drawn(3, 7) * 2,), {"approximate": "tanh"})
    case("swish", "Swish", swish, (drawn(3, 7) * 2,), {})
    case("swish, alpha", "Swish", swish, (drawn(3, 7) * 2,), {"alpha": 0.5})


def written(x):
    if x is None:
        return None
    if x.dtype.kind in "bi":
        return {"dtype": "boolean" if x.dtype.kind == "b" else "int64", "shape": list(x.shape),
                "values": x.astype(int).reshape(-1).tolist()}
    values = [float(f"{v:.13g}") if math.isfinite(v) else str(v) for v in x.reshape(-1)]
    return {"shape": list(x.shape), "values": values}


def main():
    cases = []

    def case(name, kind, function, inputs, attributes):
        cases.append(json.dumps({"name": name, "type": kind, "attributes": attributes,
                                 "inputs": [written(x) for x in inputs],
                                 "outputs": [written(y) for y in function(*inputs, **attributes)]},
                                separators=(",", ":")))

    for group in (attention_cases, rms_cases, rotary_cases, activation_cases):
        group(case)
    (pathlib.Path(__file__).parent / "onnx.json").write_text("[\n" + ",\n".join(cases) + "\n]\n")


if __name__ == "__main__":
    main()
