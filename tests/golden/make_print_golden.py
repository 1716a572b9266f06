#!/usr/bin/env python3
"""How NumPy prints arrays: tests/golden/print.json, which test_print.cpp holds operator<< against.

    /usr/bin/python3 tests/golden/make_print_golden.py        (Debian's python3-numpy)
"""
import json
import math
from pathlib import Path

import numpy as np

np.set_printoptions(edgeitems=3, threshold=1000, linewidth=75, precision=8, suppress=False)


def arrays():
    nan, inf = math.nan, math.inf
    lists = [
        [1.0, 2.0, 3.0], [1.5, -2.25, 3.0], [0.1, 0.2, 0.30000000000000004], [1 / 3, 2 / 3], [1e-5, 1.0], [1e8, 1.0],
        [123456.789, 0.001], [1e10, 1e-10, -1e3], [nan, 1.0, inf], [nan, -inf], [-inf, 0.5], [0.0, -0.0],
        [[1.0, 2.0], [3.0, 4.0]], [[[1.0], [2.0]], [[3.0], [4.5]]], [99999999.0, 2.0], [1e-4, 5e-4], [9.9e-5],
        [1e300, 1e-300], [1234.5678, 9.87654321012], [2.5e-8, -3.0, nan], [[0.001, 1000.0], [0.5, 999.0]],
        [1000000.0, 1.0], [0.123456789123], [100.0, 0.5, nan, inf], [1e16, 2.0], [5e-324, 1.0], [-1.0, 10.0, -100.0]]
    for values in lists:
        yield np.array(values, dtype=np.float64)
        with np.errstate(over="ignore"):
            yield np.array(values, dtype=np.float64).astype(np.float32)
    for number in [0.0, 1.0, -2.5, 1e-5, 1e16, 1 / 3, nan, inf, -inf, 123456789.0, 1e15, 0.0001]:
        yield np.array(number, dtype=np.float64)
        yield np.array(number, dtype=np.float32)
    yield np.arange(6).reshape(2, 3)
    yield np.array([-5, 10, 300])
    yield np.array(7)
    yield np.array([True, False, True])
    yield np.array([[True], [False]])
    yield np.array(True)
    yield np.zeros((0, 3))
    yield np.zeros((2, 0))
    yield np.arange(30.0)
    yield np.arange(40).reshape(2, 20) * 1000
    yield np.arange(120.0).reshape(2, 3, 20) / 7
    yield np.arange(1001.0)
    yield np.arange(1000.0)
    yield np.arange(1200).reshape(30, 40)
    yield np.arange(1200.0).reshape(2, 600) - 600
    yield np.arange(5000.0).reshape(10, 10, 50) / 3
    yield np.arange(2000).reshape(2, 2, 500) % 2 == 0
    yield np.linspace(-1, 1, 50, dtype=np.float32).reshape(5, 10)
    yield np.arange(16.0).reshape(2, 2, 2, 2)


def written(value):
    return value if isinstance(value, (bool, int)) or math.isfinite(value) else str(value)


names = {"float64": "float64", "float32": "float32", "int64": "int64", "bool": "boolean"}
cases = [json.dumps({"dtype": names[str(x.dtype)], "shape": x.shape, "values": [written(v) for v in x.ravel().tolist()],
                     "text": str(x)}, separators=(",", ":")) for x in arrays()]
Path(__file__).with_name("print.json").write_text("[\n" + ",\n".join(cases) + "\n]\n")
print(len(cases), "cases")
