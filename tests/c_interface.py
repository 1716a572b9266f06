#!/usr/bin/env python3
"""experiments/surgeon.py against NumPy's own arithmetic, and PyTorch's double backward when it is installed. Exit 77
without NumPy."""
import multiprocessing
import pathlib
import subprocess
import sys
import threading
import time

try:
    import numpy as np
except ImportError:
    sys.exit(77)
EXPERIMENTS = pathlib.Path(__file__).resolve().parent.parent / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
import surgeon  # noqa: E402

B, H, T, TK, D, DV = 2, 3, 5, 6, 4, 2
random = np.random.default_rng(1)
Q, K, V = (random.standard_normal(s) for s in ((B, H, T, D), (B, H, TK, D), (B, H, TK, DV)))
dO = random.standard_normal((B, H, T, DV))
SEEN = np.arange(TK)[None, :] <= np.arange(T)[:, None] + TK - T


def forward(q, k, v):
    s = q @ k.swapaxes(-1, -2) / np.sqrt(D)
    s = np.where(SEEN, s, -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    return s, p, p @ v


def backward(q, k, v, g):
    s, p, o = forward(q, k, v)
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) / np.sqrt(D)
    return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


def close(a, b, tolerance=1e-12):
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.abs(a - b).max() <= tolerance * (1 + np.abs(b).max()), np.abs(a - b).max()


def differences(f, x, v, step=1e-5):   # the derivative of f at x along v
    plus, minus = (f(*(a + sign * step * b for a, b in zip(x, v))) for sign in (1, -1))
    return [(a - b) / (2 * step) for a, b in zip(plus, minus)]


def refused(part, call):
    try:
        call()
    except ValueError as error:
        assert part in str(error), str(error)
    else:
        raise AssertionError(f"not refused: {part}")


def test_values():
    s, p, o = forward(Q, K, V)
    rows = surgeon.rows(Q, K, causal=True)
    close(rows["largest"], s.max(-1))
    close(rows["logsumexp"], np.log(np.exp(s).sum(-1)))
    close(rows["entropy"], -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1))
    jacobian = p[..., None] * np.eye(TK) - p[..., :, None] * p[..., None, :]
    close(rows["jacobian"], np.sqrt((jacobian ** 2).sum((-1, -2))))
    close(surgeon.attention(Q, K, V, causal=True)["output"], o)
    close(surgeon.attention(Q, K, V, mask=SEEN)["output"], o)
    bias = np.where(SEEN, 0.0, -1e300)
    close(surgeon.attention(Q, K, V, bias=bias)["output"], o)
    f32 = surgeon.attention(*(x.astype(np.float32) for x in (Q, K, V)), causal=True)["output"]
    assert f32.dtype == np.float32
    close(f32, o, 1e-6)


def test_derivatives():
    for found, right in zip(surgeon.attention_vjp(Q, K, V, dO, causal=True).values(), backward(Q, K, V, dO)):
        close(found, right)
    v = [random.standard_normal(x.shape) for x in (Q, K, V)]
    found = surgeon.attention_jvp(Q, K, V, *v, causal=True)["output_dot"]
    close(found, differences(lambda *x: [forward(*x)[2]], (Q, K, V), v)[0], 1e-8)
    found = surgeon.attention_hvp(Q, K, V, dO, *v, causal=True)
    for h, right in zip(found.values(), differences(lambda *x: backward(*x, dO), (Q, K, V), v)):
        close(h, right, 1e-8)


def test_doctor():
    s, p, o = forward(Q, K, V)
    dQ, dK, dV = backward(Q, K, V, dO)
    kept = dict(weights=p, output=o, dO=dO, dQ=dQ, dK=dK, dV=dV)
    healthy = surgeon.doctor(Q, K, V, kept, causal=True)
    assert healthy["findings"] == [] and len(healthy["held"]) >= 10, healthy
    sick = surgeon.doctor(Q, K, V, dict(kept, dK=2 * dK), causal=True)
    assert any(f["kind"] == "broken law" and f["name"] == "dK" for f in sick["findings"]), sick
    wrong = surgeon.doctor(Q, K, V, dict(output=o))   # causal was not said
    assert wrong["findings"][0]["name"] == "causal mask", wrong


def test_refusals():
    refused("contiguous", lambda: surgeon.rows(Q.swapaxes(1, 2), K))
    refused("float32 or float64", lambda: surgeon.rows(Q.astype(np.int64), K))
    refused("must be", lambda: surgeon.attention(Q, K[:, :, :, :3].copy(), V))
    refused("do not divide", lambda: surgeon.attention(Q, K[:, :2].copy(), V[:, :2].copy()))
    refused("soft_cap", lambda: surgeon.attention(Q, K, V, soft_cap=-1.0))
    refused("none of", lambda: surgeon.doctor(Q, K, V, dict(nonsense=Q)))


def test_other_threads_run():   # the GIL is released during a call
    x = random.standard_normal((1, 8, 1500, 64)).astype(np.float32)
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    helper = threading.Thread(target=tick)
    helper.start()
    start = time.perf_counter()
    for _ in range(3):
        surgeon.attention_vjp(x, x, x, x)
    end = time.perf_counter()
    done.set()
    helper.join()
    during = [t for t in ticks if start < t < end]
    assert len(during) > 10, (len(during), end - start)


def gradients(x):
    return surgeon.attention_vjp(x, x, x, x, causal=True)


def test_forked_children_work():   # on one thread, with the same bits; OpenMP alone would wait for ever
    x = random.standard_normal((1, 4, 300, 32)).astype(np.float32)
    before = gradients(x)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map_async(gradients, [x] * 4).get(timeout=60):
            assert all((found[name] == before[name]).all() for name in before)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print("ok:", name)
try:
    import torch  # noqa: F401
except ImportError:
    print("PyTorch is not installed: its double backward was not tried")
else:
    subprocess.run([sys.executable, "-B", str(EXPERIMENTS / "torch_double_backward.py")], check=True)
