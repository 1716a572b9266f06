"""Attention Surgeon for Python: NumPy arrays or torch CPU tensors in, a dict of NumPy arrays out, by ctypes alone.

    import surgeon
    rows = surgeon.rows(Q, K, causal=True)                       # largest, logsumexp, entropy, jacobian: [batch, heads, Tq]
    grads = surgeon.attention_vjp(Q, K, V, dO, causal=True)      # dQ, dK, dV
    report = surgeon.doctor(Q, K, V, dict(weights=P, dO=dO, dQ=dQ), causal=True)

Arrays are [batch, heads, T, d], contiguous, all float32 or all float64; they are read in place. Options: mask (boolean,
true = may attend) and bias, [1 or batch, 1 or heads, Tq, Tk]; scale (None: 1/sqrt(d_k)), causal, window, soft_cap.
What the library refuses is a ValueError with its sentence. While it works, other Python threads run.
The library is found through $SURGEON_LIBRARY, beside this file, or in ../build/release.
"""
import ctypes as c
import json
import os
import pathlib

import numpy as np


class _Problem(c.Structure):
    _fields_ = ([("dtype", c.c_int)] + [(n, c.c_int64) for n in "batch heads kv_heads Tq Tk d_k d_v".split()]
                + [(n, c.c_void_p) for n in "QKV"] + [("mask", c.c_void_p), ("mask_batch", c.c_int64),
                ("mask_heads", c.c_int64), ("bias", c.c_void_p), ("bias_batch", c.c_int64), ("bias_heads", c.c_int64),
                ("scale", c.c_double), ("causal", c.c_int32), ("window", c.c_int64), ("soft_cap", c.c_double)])


_KEPT = "output weights dO dP dS dQ dK dV".split()


class _Kept(c.Structure):
    _fields_ = [(n, c.c_void_p) for n in _KEPT]


def _load():
    here = pathlib.Path(__file__).resolve().parent
    places = [os.environ.get("SURGEON_LIBRARY"), here / "libsurgeon.so", here.parent / "build/release/libsurgeon.so",
              "libsurgeon.so"]
    for place in places:
        if place and (place == "libsurgeon.so" or os.path.exists(place)):
            library = c.CDLL(str(place))   # CDLL, not PyDLL: the GIL is released during calls
            library.surgeon_error.restype = c.c_char_p
            library.surgeon_doctor.restype = c.c_int64
            return library
    raise ImportError("libsurgeon.so not found: set SURGEON_LIBRARY")


_library = _load()


def _array(name, x, shape=None, dtype=None):
    x = x.detach().numpy() if hasattr(x, "detach") else np.asarray(x)   # neither copies
    if not x.flags["C_CONTIGUOUS"]:
        raise ValueError(f"{name} must be contiguous: it is read in place")
    if dtype is not None and x.dtype != dtype:
        raise ValueError(f"{name} is {x.dtype}, but must be {dtype}")
    if shape is not None and x.shape != tuple(shape):
        raise ValueError(f"{name} is {x.shape}, but must be {tuple(shape)}")
    return x


def _address(x):
    return x.ctypes.data if x is not None else None


def _checked(code):
    if code == -1:
        raise ValueError(_library.surgeon_error().decode())
    return code


class _Call:
    """A problem, the arrays it points into (so that they live as long), and room for results."""

    def __init__(self, Q, K, V, mask=None, bias=None, scale=None, causal=False, window=0, soft_cap=0.0):
        Q, K, V = _array("Q", Q), _array("K", K), _array("V", V)
        if Q.dtype not in (np.float32, np.float64):
            raise ValueError(f"Q is {Q.dtype}, but must be float32 or float64")
        if not Q.ndim == K.ndim == V.ndim == 4:
            raise ValueError("Q, K and V must be [batch, heads, T, d]")
        self.dtype = Q.dtype
        B, H, Tq, d_k = Q.shape
        kv, Tk, d_v = K.shape[1], K.shape[2], V.shape[3]
        self.shapes = dict(Q=Q.shape, K=(B, kv, Tk, d_k), V=(B, kv, Tk, d_v), output=(B, H, Tq, d_v),
                           weights=(B, H, Tq, Tk), rows=(B, H, Tq))
        _array("K", K, self.shapes["K"], Q.dtype), _array("V", V, self.shapes["V"], Q.dtype)
        p = self.problem = _Problem(int(Q.dtype == np.float64), B, H, kv, Tq, Tk, d_k, d_v, *map(_address, (Q, K, V)))
        self.keep = [Q, K, V]
        for name, x, kind in (("mask", mask, np.bool_), ("bias", bias, Q.dtype)):
            if x is None:
                continue
            x = _array(name, x, dtype=kind)
            x = x.reshape((1,) * (4 - x.ndim) + x.shape)   # [Tq, Tk] -> [1, 1, Tq, Tk]
            _array(name, x, x.shape[:2] + (Tq, Tk))
            self.keep.append(x)
            setattr(p, name, _address(x)), setattr(p, name + "_batch", x.shape[0]), setattr(p, name + "_heads", x.shape[1])
        p.scale, p.causal = (float("nan") if scale is None else scale), int(causal)
        p.window, p.soft_cap = window, soft_cap

    def given(self, name, x, shape):
        self.keep.append(_array(name, x, self.shapes[shape], self.dtype))
        return c.c_void_p(_address(self.keep[-1]))

    def run(self, function, inputs, **results):
        made = {name: np.empty(self.shapes[shape], self.dtype) for name, shape in results.items()}
        arguments = [self.given(*one) for one in inputs] + [c.c_void_p(_address(x)) for x in made.values()]
        _checked(getattr(_library, function)(c.byref(self.problem), *arguments))
        return made


def rows(Q, K, V=None, **options):
    """For each query: its largest score, log-sum-exp, entropy, and the norm of the softmax Jacobian."""
    parts = dict(largest="rows", logsumexp="rows", entropy="rows", jacobian="rows")
    return _Call(Q, K, K if V is None else V, **options).run("surgeon_rows", [], **parts)


def attention(Q, K, V, **options):
    return _Call(Q, K, V, **options).run("surgeon_attention", [], output="output")


def attention_vjp(Q, K, V, dO, **options):
    """The gradients of sum(dO * output): dQ, dK, dV."""
    return _Call(Q, K, V, **options).run("surgeon_vjp", [("dO", dO, "output")], dQ="Q", dK="K", dV="V")


def attention_jvp(Q, K, V, Q_dot, K_dot, V_dot, **options):
    """The derivative of the output along (Q_dot, K_dot, V_dot)."""
    along = [("Q_dot", Q_dot, "Q"), ("K_dot", K_dot, "K"), ("V_dot", V_dot, "V")]
    return _Call(Q, K, V, **options).run("surgeon_jvp", along, output_dot="output")


def attention_hvp(Q, K, V, dO, vQ, vK, vV, **options):
    """The Hessian of sum(dO * output) times (vQ, vK, vV): hQ, hK, hV."""
    inputs = [("dO", dO, "output"), ("vQ", vQ, "Q"), ("vK", vK, "K"), ("vV", vV, "V")]
    return _Call(Q, K, V, **options).run("surgeon_hvp", inputs, hQ="Q", hK="K", hV="V")


def doctor(Q, K, V, kept=None, **options):
    """Findings (broken laws, diagnoses), laws that hold, and laws that could not be checked. kept: a dict with any of
    output, weights, dO, dP, dS, dQ, dK, dV."""
    call, tensors = _Call(Q, K, V, **options), _Kept()
    shapes = dict(zip(_KEPT, "output weights output weights weights Q K V".split()))
    for name, x in (kept or {}).items():
        if name not in shapes:
            raise ValueError(f"doctor: {name} is none of {', '.join(_KEPT)}")
        setattr(tensors, name, call.given(name, x, shapes[name]))
    room = c.create_string_buffer(1 << 16)
    ask = lambda: _checked(_library.surgeon_doctor(c.byref(call.problem), c.byref(tensors), room, c.c_size_t(len(room))))
    if size := ask():
        room = c.create_string_buffer(size)
        ask()
    return json.loads(room.value.decode())


def set_threads(n):
    _checked(_library.surgeon_set_threads(c.c_int(n)))
