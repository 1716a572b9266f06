#!/usr/bin/python3
"""Writes tests/golden/optim.json and tests/golden/files.json: trajectories of PyTorch's optimizers and schedules, and
small files written by Python. Run by hand with Debian's python3-torch 1.13 and python3-numpy; the tests need neither.

    python3 tests/golden/make_optim_golden.py

optim.json
  optimizers  name, kind ("sgd", "adam", "adamw"), options, and what both parameters, W [2, 3] and b [3], hold after
              some steps. W starts as (i - 2) / 2, b as 1 - i; the gradient of step t (from 0) of the element x with index i
              of a parameter is x^3 / 2 - x + cos(0.7 t + i). "groups": b without decay at half the rate.
              "skip": b has no gradient at every third step.
  schedules   name, arguments, the learning rates of steps 0 .. 29
  clips       gradients, max_norm, norm, clipped
files.json    name, bytes in hexadecimal, and tensors as tests/golden/read_files.py prints them, or "refused"
"""
import io
import json
import os
import pickle
import struct
import tempfile
import zipfile

import numpy as np
import torch

import read_files

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = [1, 2, 3, 5, 10, 20, 40]

OPTIMIZERS = [
    ("sgd", {"lr": 0.1}),
    ("sgd", {"lr": 0.1, "weight_decay": 0.05}),
    ("sgd", {"lr": 0.05, "momentum": 0.9}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    ("sgd", {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
    ("sgd", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("adam", {}),
    ("adam", {"lr": 0.1}),
    ("adam", {"lr": 0.02, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3}),
    ("adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("adam", {"lr": 0.05, "beta2": 0.8, "amsgrad": True}),
    ("adam", {"lr": 0.05, "beta1": 0.0, "weight_decay": 0.02, "amsgrad": True}),
    ("adamw", {}),
    ("adamw", {"lr": 0.1, "weight_decay": 0.3}),
    ("adamw", {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.1, "amsgrad": True}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "groups": True}),
    ("adam", {"lr": 0.05, "weight_decay": 0.1, "groups": True}),
    ("adamw", {"lr": 0.05, "weight_decay": 0.1, "groups": True}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "skip": True}),
    ("adamw", {"lr": 0.05, "skip": True}),
]


def trajectory(kind, options):
    options = dict(options)
    groups, skip = options.pop("groups", False), options.pop("skip", False)
    if "beta1" in options or "beta2" in options:
        options["betas"] = (options.pop("beta1", 0.9), options.pop("beta2", 0.999))
    options.setdefault("lr", 1e-3)
    W = torch.nn.Parameter((torch.arange(6, dtype=torch.float64).reshape(2, 3) - 2) / 2)
    b = torch.nn.Parameter(1 - torch.arange(3, dtype=torch.float64))
    apart = {"lr": options["lr"] / 2, "weight_decay": 0.0} if groups else {}
    parts = [{"params": [W]}, {"params": [b], **apart}]
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = kinds[kind](parts, foreach=False, **options)
    reached = []
    for t in range(STEPS[-1]):
        for p in (W, b):
            i = torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape)
            x = p.detach()
            p.grad = x * x * x / 2 - x + torch.cos(0.7 * t + i)
        if skip and t % 3 == 0:
            b.grad = None
        optimizer.step()
        if t + 1 in STEPS:
            reached.append({"step": t + 1, "W": W.detach().flatten().tolist(), "b": b.detach().flatten().tolist()})
    return reached


def rates(make, lr, steps=30):
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    p.grad = torch.zeros_like(p)
    optimizer = torch.optim.SGD([p], lr=lr)
    scheduler = make(optimizer)
    reached = []
    for _ in range(steps):
        reached.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return reached


def schedules():
    s = torch.optim.lr_scheduler
    yield "constant", [0.3], rates(lambda o: s.LambdaLR(o, lambda t: 1.0), 0.3)
    yield "step", [0.3, 7, 0.1], rates(lambda o: s.StepLR(o, 7, 0.1), 0.3)
    yield "step", [0.3, 1, 0.8], rates(lambda o: s.StepLR(o, 1, 0.8), 0.3)
    yield "exponential", [0.3, 0.9], rates(lambda o: s.ExponentialLR(o, 0.9), 0.3)
    yield "cosine", [0.3, 40, 0.0], rates(lambda o: s.CosineAnnealingLR(o, 40), 0.3)
    yield "cosine", [0.3, 12, 0.01], rates(lambda o: s.CosineAnnealingLR(o, 12, 0.01), 0.3)   # and up again
    yield "linear_warmup", [0.3, 5], rates(lambda o: s.LinearLR(o), 0.3)
    yield "linear_warmup", [0.3, 11, 0.01], rates(lambda o: s.LinearLR(o, 0.01, total_iters=11), 0.3)
    yield "warmup_cosine", [0.3, 10, 40, 0.02, 0.05], rates(
        lambda o: s.SequentialLR(o, [s.LinearLR(o, 0.05, total_iters=10), s.CosineAnnealingLR(o, 30, 0.02)], [10]), 0.3)


def clips():
    for scale, max_norm in ((1.0, 1.0), (0.01, 1.0), (1e3, 0.5), (1.0, 0.0)):
        gradients = [scale * torch.linspace(-1, 2, 6, dtype=torch.float64), scale * torch.ones(2, dtype=torch.float64)]
        holders = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for holder, g in zip(holders, gradients):
            holder.grad = g.clone()
        norm = torch.nn.utils.clip_grad_norm_(holders, max_norm)
        yield {"gradients": [g.tolist() for g in gradients], "max_norm": max_norm, "norm": norm.item(),
               "clipped": [holder.grad.tolist() for holder in holders]}


def safetensors(header, numbers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8")
    return struct.pack("<Q", len(text)) + text + numbers


def described(dtype, array, raw=None):
    return {"dtype": dtype, "shape": list(array.shape), "bytes": (array.tobytes() if raw is None else raw).hex()}


def foreign_safetensors():
    """As another program would write it: other spacing and order, half precision, an empty tensor, metadata."""
    half = np.array([0.0, -0.0, 1.0, -2.5, 65504.0, 2.0**-24, 2.0**-14, np.inf, -np.inf, 1 / 3], np.float16)
    brain = np.array([0.0, -0.0, 1.0, -2.5, 3.3895314e38, 1e-40, np.inf, 0.1], np.float32)
    brain = (brain.view(np.uint32) & 0xFFFF0000).view(np.float32)   # cut to what bfloat16 holds
    arrays = [("weight", "F32", np.arange(6, dtype=np.float32).reshape(2, 3) / 7), ("empty", "F64", np.zeros((0, 4))),
              ("größe ∂", "F64", np.array(np.pi)), ("index", "I64", np.array([-1, 2**62])),
              ("half", "F16", half.reshape(2, 5)), ("brain", "BF16", brain),
              ("mask", "BOOL", np.array([True, False, True]))]
    header, numbers, expected = {"__metadata__": {"format": "pt", "näme": "\u2211 \"x\""}}, b"", {}
    for name, dtype, array in arrays:
        raw = (array.view(np.uint32) >> 16).astype(np.uint16).tobytes() if dtype == "BF16" else array.tobytes()
        places = [len(numbers), len(numbers) + len(raw)]
        header[name] = {"shape": list(array.shape), "data_offsets": places, "dtype": dtype}
        numbers += raw
        wide = array.astype(np.float32) if dtype in ("F16", "BF16") else array
        expected[name] = described("F32" if dtype in ("F16", "BF16") else dtype, wide)
    return {"name": "foreign.safetensors", "bytes": safetensors(header, numbers).hex(), "tensors": expected,
            "metadata": header["__metadata__"]}


def numpy_files():
    x = np.arange(6).reshape(2, 3)
    widened = {"<f2": ("F32", np.float32), "<i4": ("I64", np.int64), "<i2": ("I64", np.int64), "|i1": ("I64", np.int64),
               "|u1": ("I64", np.int64), "<u2": ("I64", np.int64), "<u4": ("I64", np.int64), "<f4": ("F32", np.float32),
               "<f8": ("F64", np.float64), "<i8": ("I64", np.int64), "|b1": ("BOOL", np.bool_)}
    arrays = {f"{name[1:]}.npy": (x - (3 if name[1] != "u" and name != "|b1" else 0)).astype(name) for name in widened}
    arrays["fortran.npy"] = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    arrays["fortran_mask.npy"] = np.asfortranarray(x % 2 == 0)
    arrays["scalar.npy"] = np.float64(-0.5)
    arrays["none.npy"] = np.zeros((2, 0, 3), np.float32)
    for name, array in arrays.items():
        dtype, wide = widened[np.asarray(array).dtype.str]
        file = io.BytesIO()
        np.save(file, array)
        yield {"name": name, "bytes": file.getvalue().hex(), "tensors": {"": described(dtype, np.asarray(array, wide))}}
    for name, array in {"big_endian.npy": x.astype(">f4"), "complex.npy": x.astype(np.complex64),
                        "records.npy": np.zeros(2, [("a", "<f4")])}.items():
        file = io.BytesIO()
        np.save(file, array)
        yield {"name": name, "bytes": file.getvalue().hex(), "refused": True}
    for name, write in (("some.npz", np.savez), ("compressed.npz", np.savez_compressed)):
        file = io.BytesIO()
        write(file, **{"weight": x.astype(np.float32), "layers.0.größe": x - 1, "t": np.asfortranarray(x / 3)})
        case = {"name": name, "bytes": file.getvalue().hex()}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, name)
            with open(path, "wb") as out:
                out.write(file.getvalue())
            case["tensors"] = read_files.read(path)["tensors"]
        yield case
    yield from pt_files()


class Spy:
    """Pickled, it asks for a call of os.system."""
    def __reduce__(self):
        return os.system, ("true",)


def pt_files():
    def saved(name, content, **case):
        file = io.BytesIO()
        torch.save(content, file)
        return {"name": name, "bytes": file.getvalue().hex(), **case}

    def wide(t):
        if t.dtype == torch.float64:
            return described("F64", t.detach().numpy())
        if t.is_floating_point():
            return described("F32", t.detach().float().numpy())
        return described("BOOL", t.numpy()) if t.dtype == torch.bool else described("I64", t.long().numpy())

    def tensors(named):
        return {name: wide(t) for name, t in named.items()}

    linear = torch.nn.Linear(2, 3)
    w, b = linear.weight, linear.bias
    yield saved("linear.pt", linear.state_dict(), tensors=tensors({"weight": w, "bias": b}))
    x = torch.arange(12.0, dtype=torch.float64).reshape(3, 4) / 7
    views = {"t": x.t(), "row": x[1], "step": x[:, ::2], "scalar": x[2, 3], "same": x, "none": x[:, :0]}
    yield saved("views.pt", views, tensors=tensors(views))
    kinds = {name: torch.tensor([1, 0, 3]).to(getattr(torch, name))
             for name in ("float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool")}
    nested = {"epoch": 3, "lr": 1e-3, "big": 2**40, "shape": torch.Size([2]), "kinds": kinds, "none": None,
              "model": linear.state_dict(), "list": [x, "text", (x[0],)], 7: torch.nn.Parameter(x[0])}
    found = {f"kinds.{name}": t for name, t in kinds.items()}
    found |= {"model.weight": w, "model.bias": b, "list.0": x, "list.2.0": x[0], "7": x[0]}
    yield saved("nested.pt", nested, tensors=tensors(found))
    yield saved("tensor.pt", x, tensors=tensors({"": x}))
    yield saved("code.pt", {"weight": x, "spy": Spy()}, refused=True)
    yield saved("module.pt", linear, refused=True)
    yield saved("complex.pt", {"z": torch.ones(2, dtype=torch.complex64)}, refused=True)
    file = io.BytesIO()
    torch.save({"x": x}, file, _use_new_zipfile_serialization=False)
    yield {"name": "old.pt", "bytes": file.getvalue().hex(), "refused": True}
    yield from hostile_pt_files()


def hostile_pt_files():
    def archive(name, pickled, numbers=b"\0" * 16):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as out:
            out.writestr("a/data.pkl", pickled, zipfile.ZIP_DEFLATED if len(pickled) > 10000 else None)
            out.writestr("a/data/0", numbers)
        return {"name": name, "bytes": file.getvalue().hex(), "refused": True}

    def tensor(offset, shape, strides, elements=4, key="0"):
        """The opcodes of one tensor, without PROTO and STOP."""
        storage = pickle.dumps("storage", 2)[2:-1] + b"ctorch\nFloatStorage\n" + b"".join(
            pickle.dumps(part, 2)[2:-1] for part in (key, "cpu", elements))
        rest = b"".join(pickle.dumps(part, 2)[2:-1] for part in (offset, shape, strides, False))
        return b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + rest + b"NtR"

    wrap = lambda opcodes: b"\x80\x02" + opcodes + b"."
    yield archive("beyond.pt", wrap(tensor(2, (3,), (1,))))
    yield archive("negative_offset.pt", wrap(tensor(-1, (2,), (1,))))
    yield archive("negative_stride.pt", wrap(tensor(3, (2,), (-1,))))
    yield archive("huge_shape.pt", wrap(tensor(0, (2**40, 2**40), (0, 0))))
    yield archive("huge_and_none.pt", wrap(tensor(0, (2**62, 2**62, 0), (1, 1, 1))))
    yield archive("spread_out.pt", wrap(tensor(0, (2**28,), (0,))))
    yield archive("no_numbers.pt", wrap(tensor(0, (1,), (1,), key="../../etc/passwd")))
    yield archive("more_numbers.pt", wrap(tensor(0, (4,), (1,), elements=2**40)))
    yield archive("twice.pt", wrap(b"}(X\x01\0\0\0x" + tensor(0, (4,), (1,)) + b"X\x01\0\0\0x" + tensor(0, (4,), (1,)) + b"u"))
    yield archive("within_itself.pt", wrap(b"]q\0h\0a"))
    yield archive("deep.pt", wrap(b")" + b"\x85" * 100000))
    yield archive("laughs.pt", wrap(b"]q\0" + b"".join(b"](" + b"h%c" % i * 9 + b"eq%c" % (i + 1) for i in range(40))))
    yield archive("marks.pt", wrap(b"(" * 100 + b"t"))
    yield archive("nothing.pt", wrap(b""))
    yield archive("inst.pt", wrap(b"(ios\nsystem\n"))
    yield archive("called.pt", wrap(b"ctorch\nFloatStorage\n)R"))
    yield archive("text.pt", wrap(b"X\xff\xff\xff\xffabc"))


def write(name, content):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as out:
        out.write("{\n")
        for i, (key, rows) in enumerate(content.items()):
            out.write(f' "{key}": [\n  ' + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]")
            out.write(",\n" if i + 1 < len(content) else "\n")
        out.write("}\n")


if __name__ == "__main__":
    write("optim.json", {
        "optimizers": [{"name": f"{kind} {json.dumps(options)}", "kind": kind, "options": options,
                        "trajectory": trajectory(kind, options)} for kind, options in OPTIMIZERS],
        "schedules": [{"name": name, "arguments": arguments, "rates": lrs} for name, arguments, lrs in schedules()],
        "clips": list(clips())})
    write("files.json", {"files": [foreign_safetensors(), *numpy_files()]})
