"""The golden cases: one line each, op and inputs and options. make_golden.py asks PyTorch for the answers."""
import math

import numpy as np
import torch



# ---- Inputs ----------------------------------------------------------------------------------------------------------
def draw(shape, seed, kind="any"):
    """Three-decimal numbers in [-2, 2]; positive: in [0.3, 2.3]; small: a quarter. tests/golden/golden.cpp draws the same."""
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
    case("exp", V(88, 88.4, 88.7, 88.8, -88, -100, -103, 700, 709.5, 709.9, -709, -740))
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
                            ((2, 1, 1), (3, 1), (2,)), ((0, 2), (2,), (1, 2)), ((31, 17), (17,), (31, 1)),
                            ((2, 3), (), ())]:
        case("where", B(*condition), N(*a), N(*b), hvp=True)
    case("where", M(True, False, True, False), V(1, nan, 2, inf), V(nan, 3, inf, 4))   # nan not chosen: gradient 0
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
        for shape, axes in [((3, 1000), [1]), ((1000, 3), [0]), ((5, 40, 7), [1]), ((5, 40, 7), [0, 2]),
                            ((6, 7, 8, 9), [1, 3]), ((67, 33), []), ((4, 257), [-1])]:
            case(op, N(*shape), axes=axes)
        case(op, V([[1e30, -1e29, 1], [1e4, 1e4 - 1, -1e4]]), axes=[1], grad=op != "var", exact=op in ("mean", "sum", "logsumexp"))
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
        case(op, V([1.0, 3, 3, -2, -2], [0, 0, 0, 0, 0]), axes=[1])   # ties share the gradient
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
    case("logsumexp", V([1e4, 1e4 - 1, 0], [-1e4, -1e4, -1e4 - 2], [1e30, 0, -1e30]), axes=[1], exact=True)
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
        for shape, axis in [((3, 1000), 1), ((1000, 3), 0), ((5, 40, 7), 1), ((64, 17), -1), ((2, 3, 5, 33), -1),
                            ((9, 64), 0)]:
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
    for shape, order in [((2, 3), [1, 0]), ((2, 3, 4), [2, 0, 1]), ((2, 3, 4), [-1, 0, -2]), ((2, 1, 3), [1, 2, 0]),
                         ((), []), ((5, 6, 7, 3), [0, 2, 1, 3]), ((5, 6, 7, 3), [3, 1, 0, 2]), ((2, 0, 3), [1, 2, 0]),
                         ((4,), [0])]:
        case("permute", N(*shape), order=order, hvp=True)
    for shape, axis, start, stop, step in [((5,), 0, 1, 4, 1), ((5,), 0, -3, None, 1), ((5,), 0, 0, -1, 2),
                                           ((5,), 0, 4, 1, 1), ((5,), 0, -99, 99, 1), ((5,), 0, 4, 0, -1),
                                           ((5,), 0, -1, None, -1), ((7,), 0, 5, None, -2), ((2, 3, 4), 1, 1, 2, 1),
                                           ((2, 3, 4), -1, 1, None, 2), ((2, 3, 4), 0, -1, None, -1),
                                           ((2, 3, 4), 1, 2, 2, 1), ((37, 53), 1, 3, 50, 4), ((37, 53), 0, 30, 2, -3),
                                           ((0, 3), 0, 0, None, 1), ((0, 3), 1, 1, None, 1)]:
        stop_given = {} if stop is None else {"stop": stop}
        case("slice", N(*shape), axis=axis, start=start, **stop_given, step=step, hvp=True)
    for sizes, axis in [([(2, 3), (1, 3)], 0), ([(2, 3), (2, 1), (2, 2)], 1), ([(2, 3), (2, 3)], -2),
                        ([(0, 3), (2, 3)], 0), ([(4,)], 0), ([(2, 1, 2), (2, 3, 2)], -2), ([(19, 31), (19, 5)], 1),
                        ([(2, 0), (2, 0)], 1)]:
        case("concat", *[N(*s) for s in sizes], axis=axis, hvp=True)
    for sizes, axis in [([(2, 3), (2, 3)], 0), ([(2, 3), (2, 3)], 1), ([(2, 3), (2, 3), (2, 3)], -1), ([(), ()], 0),
                        ([(3,)], 1), ([(0,), (0,)], 0)]:
        case("stack", *[N(*s) for s in sizes], axis=axis, hvp=True)
    for shape, to in [((), [2, 3]), ((3,), [2, 3]), ((2, 1), [2, 3]), ((1, 1), [2, 3]), ((2, 1, 3), [2, 2, 2, 3]),
                      ((1,), [0]), ((1, 3), [0, 3]), ((2, 3), [2, 3]), ((31, 1), [31, 37])]:
        case("broadcast_to", N(*shape), shape=to, hvp=True)
    for op in ["tril", "triu"]:
        for shape, diagonal in [((3, 3), 0), ((3, 3), 1), ((3, 3), -1), ((2, 4), 1), ((4, 2), -2), ((2, 3, 3), 0),
                                ((2, 2), 9), ((2, 2), -9), ((0, 3), 0), ((37, 53), 5)]:
            case(op, N(*shape), diagonal=diagonal, hvp=True)
        case(op, V([nan, nan], [nan, nan]), grad=False)


def indices(case):
    for shape, axis, index in [((2, 3), 1, L([0, 2], [1, 1])), ((2, 3), 0, L([0, 1, 1], [1, 1, 0])),
                               ((2, 3), -1, L([[2], [0]])), ((4,), 0, L(3, 3, 0, 1, 3)), ((3, 3), 0, L([[2, 0]])),
                               ((2, 3, 2), 1, I(3, 2, 4, 2)), ((2, 3), 1, I(3, 2, 0)), ((23, 29), 1, I(29, 23, 7)),
                               ((23, 29), 0, I(23, 50, 29)), ((2, 3), 1, L([[1, 0]]))]:
        case("gather", N(*shape), index, axis=axis, hvp=True)
    for size, axis, index, shape in [((2, 2), 1, L([0, 2], [1, 1]), [2, 3]), ((3,), 0, L(1, 1, 1), [3]),
                                     ((2, 3), 0, L([0, 1, 1], [1, 1, 1]), [4, 3]), ((2, 0), 1, I(3, 2, 0), [2, 3]),
                                     ((23, 29), 1, I(7, 23, 29), [23, 7]), ((2, 2), -1, L([0, 0], [3, 0]), [2, 4])]:
        case("scatter_add", N(*size), index, shape=shape, axis=axis, hvp=True)
    for V_d, index in [((5, 3), L(0, 4, 2)), ((5, 3), L([1, 1], [1, 0])), ((5, 3), L(3)), ((5, 1), L(0, 0, 0, 4)),
                       ((4, 3), I(4, 0)), ((3, 0), L(1, 2)), ((50, 37), I(50, 6, 30)), ((2, 3), L([[[1]]]))]:
        case("embedding", N(*V_d), index, hvp=True)
    case("one_hot", L(0, 2, 1), classes=3)
    case("one_hot", L([0, 4], [1, 1]), classes=5)
    case("one_hot", L(2), classes=3)
    case("one_hot", I(4, 0), classes=4)
    for options in [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1}, {"label_smoothing": 1.0},
                    {"ignore_index": 2}, {"ignore_index": 2, "reduction": "sum", "label_smoothing": 0.3},
                    {"ignore_index": 2, "reduction": "none", "label_smoothing": 0.3},
                    {"ignore_index": 2, "label_smoothing": 0.3}]:
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
                 ((2, 2, 3), (3, 2)), ((2, 3), (2, 3, 2)), ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 1)),
                 ((1, 2, 3), (4, 3, 2)), ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((2, 1, 1, 3), (1, 2, 3, 2)),
                 ((3, 0), (0, 4)), ((0, 3), (3, 2)), ((2, 3), (3, 0)), ((0,), (0,)), ((2, 0), (0,)),
                 ((0, 2, 3), (3, 2)), ((2, 2, 0), (0, 3)), ((1, 2, 3), (0, 3, 2)), ((33, 65), (65, 17)),
                 ((3, 33, 18), (3, 18, 20)), ((3, 33, 18), (18, 20)), ((64, 64), (64, 64)), ((1, 130), (130, 70)),
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
    for x, out in [((2, 3), 4), ((3,), 2), ((2, 2, 3), 1), ((2, 1, 2, 3), 2), ((0, 3), 2), ((2, 1), 3), ((2, 0), 3),
                   ((40, 33), 70), ((3, 7, 64), 48)]:
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
    for batch, Tq, Tk, d_k, d_v in [((1,), 1, 1, 1, 1), ((2,), 1, 5, 3, 2), ((2,), 5, 1, 3, 2), ((3,), 2, 2, 1, 4),
                                    ((2, 2), 3, 3, 2, 2), ((1, 3), 2, 4, 3, 1), ((0,), 2, 2, 3, 3), ((2,), 0, 3, 2, 2),
                                    ((2,), 5, 5, 8, 8), ((2,), 33, 29, 17, 9), ((1, 2), 40, 40, 16, 16),
                                    ((1,), 70, 130, 64, 32), ((4,), 10, 10, 64, 64)]:
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
    for mask in [M([True, False, True, False], [False, False, True, False]),
                 M([True, False, False, False], [False] * 4)]:
        case("attention", V([[[0.5, -1.0], [2, 1]]]), K, values, mask)
        case("attention", V([[[0.5, -1.0], [2, 1]]]), K, values, mask, scale=False)
        case("attention_weights", V([[[0.5, -1.0], [2, 1]]]), K, values, mask)
    case("attention", V([[[0.5, -1.0], [2, 1]]]), K, values, M([True, False, True, False], [True, True, True, False]),
         grad=False)
    case("attention", V([[[0.5, -1.0], [nan, 1]]]), V([[[1, 2.0], [3, 4]]]), V([[[1, 2.0], [3, 4]]]), grad=False)
    case("attention", V([[[0.5, -1.0], [nan, 1]]]), V([[[1, 2.0], [3, 4]]]), V([[[1, 2.0], [3, 4]]]),
         M([True, True], [False, False]))


def heads(case):
    def parameters(d):
        return [S(d, d), S(d)] * 4

    for batch, T, d, h in [(1, 1, 2, 1), (1, 3, 4, 2), (2, 3, 4, 4), (2, 4, 6, 3), (2, 4, 6, 1), (0, 3, 4, 2),
                           (2, 10, 64, 8), (3, 17, 24, 2)]:
        case("multi_head_attention", N(batch, T, d), *parameters(d), heads=h, hvp=d < 64)
        case("multi_head_attention", N(batch, T, d), *parameters(d), torch.tril(torch.ones(T, T)).bool(), heads=h,
             hvp=d < 64)
        case("multi_head_attention", N(batch, T, d), *parameters(d), heads=h, scale=False)
        if batch > 1:
            case("multi_head_attention", N(batch, T, d), *parameters(d), B(batch, T, T), heads=h)
    case("multi_head_attention", N(2, 3, 4), *parameters(4), M([True, False, True], [False] * 3, [True] * 3), heads=2,
         hvp=True)
    case("multi_head_attention", N(2, 3, 4), *parameters(4), heads=2, scale=0.37, hvp=True)
    case("multi_head_attention", N(2, 3, 4), *parameters(4), B(2, 3, 3), heads=1, hvp=True)


def rules(case):
    """Every score rule of layers/attention.hpp, one by one and together."""
    op = "attention_rules"
    for scale in ["inverse", "log_n", 0.37]:
        case(op, *qkv((2,), 3, 4, 2, 3), scale=scale, hvp=True)
    for scale in [S(1), S(2)]:
        case(op, *qkv((2,), 3, 4, 2, 3), scale, names=["scale"], hvp=True)
    case(op, *qkv((1, 3), 2, 4, 2, 3), P(3), names=["scale"], causal=True, hvp=True)
    for soft_cap in [0.5, 5.0]:
        case(op, *qkv((2,), 3, 4, 2, 3), soft_cap=soft_cap, hvp=True)
        case(op, *qkv((2,), 3, 4, 2, 3), B(3, 4), N(3, 4), names=["mask", "bias"], soft_cap=soft_cap, hvp=True)
    for qk_norm in ["l2", "rms"]:
        case(op, *qkv((2,), 3, 4, 3, 2), qk_norm=qk_norm, hvp=True)
        case(op, *qkv((2,), 4, 4, 3, 2), qk_norm=qk_norm, causal=True, scale=7.0, hvp=True)
    for weighting in ["softmax", "off_by_one", "sigmoid"]:
        case(op, *qkv((2,), 3, 4, 2, 3), weighting=weighting, hvp=True)
        case(op, *qkv((2,), 4, 3, 3, 2), DEAD_ROW, names=["mask"], weighting=weighting, hvp=True)
        case(op, *qkv((2,), 33, 20, 16, 8), weighting=weighting, causal=True, scale=False)
        case(op, *qkv((2,), 5, 5, 3, 2), weighting=weighting, causal=True, window=2, soft_cap=2.0, qk_norm="rms",
             hvp=True)
    case(op, *qkv((2,), 3, 4, 2, 3), weighting="sigmoid", sigmoid_bias=0.7, hvp=True)
    for Tq, Tk in [(4, 4), (2, 5), (5, 2), (40, 40), (70, 70)]:
        case(op, *qkv((2,), Tq, Tk, 3, 2), causal=True, hvp=Tq < 40)
        case(op, *qkv((2,), Tq, Tk, 3, 2), causal=True, window=2)
        case(op, *qkv((2,), Tq, Tk, 3, 2), window=3)
    for heads, kv_heads in [(4, 2), (4, 1), (3, 3)]:
        Q, K, V = N(2, heads, 3, 4), N(2, kv_heads, 5, 4), N(2, kv_heads, 5, 3)
        case(op, Q, K, V, hvp=True)
        case(op, Q, K, V, causal=True)
        case(op, Q, K, V, N(heads, 3, 5), names=["bias"], hvp=True)


def linear_of(name, outputs, inputs, bias=True):
    return {name + ".weight": S(outputs, inputs)} | ({name + ".bias": S(outputs)} if bias else {})


def norm_of(name, d, kind="layer"):
    return {name + ".weight": P(d)} | ({name + ".bias": S(d)} if kind == "layer" else {})


def feed_forward_of(d, hidden, activation, bias=True):
    return (linear_of("linear1", hidden, d, bias) | linear_of("linear2", d, hidden, bias)
            | (linear_of("gate", hidden, d, bias) if activation == "swiglu" else {}))


def block_of(d, heads, hidden, norm="layer", activation="gelu", kv_heads=0, bias=True, learned_scale=False):
    p = norm_of("norm1", d, norm)
    shared = d * (kv_heads or heads) // heads
    for w, rows in [("W_q", d), ("W_k", shared), ("W_v", shared), ("W_o", d)]:
        p |= linear_of("attention." + w, rows, d, bias)
    p |= {"attention.scale": P(heads)} if learned_scale else {}
    p |= norm_of("norm2", d, norm)
    return p | {"feed_forward." + name: t for name, t in feed_forward_of(d, hidden, activation, bias).items()}


def layers(case):
    def model(op, *inputs, parameters, **options):
        case(op, *inputs, *parameters.values(), names=list(parameters), **options)

    for activation in ["relu", "gelu", "gelu_tanh", "swiglu"]:
        model("feed_forward", N(2, 3, 4), parameters=feed_forward_of(4, 6, activation), activation=activation)
    for place in ["pre", "post"]:
        for causal in [False, True]:
            model("transformer_block", N(2, 5, 8), parameters=block_of(8, 2, 12), norm_place=place, heads=2,
                  causal=causal)
    model("transformer_block", N(2, 5, 8), parameters=block_of(8, 4, 12, "rms", "swiglu", 2, False), heads=4,
          kv_heads=2,
          activation="swiglu", causal=True, rotary_base=10000.0)
    model("transformer_block", N(2, 5, 8), parameters=block_of(8, 4, 12, "rms", "relu", 1, True, True), heads=4,
          kv_heads=1,
          activation="relu", norm_place="post", soft_cap=3.0)

    def gpt(positions, tied=True, norm="layer", place="pre", activation="gelu", **options):
        p = {"embedding.weight": S(11, 8)} | ({"positions.weight": S(6, 8)} if positions == "learned" else {})
        for i in range(2):
            p |= {f"blocks.{i}.{name}": t for name, t in block_of(8, 2, 32, norm, activation).items()}
        p |= norm_of("norm", 8, norm) if place == "pre" else {}
        p |= {} if tied else {"head.weight": S(11, 8)}
        model("transformer_loss", I(11, 2, 5), I(11, 2, 5), parameters=p, layers=2, heads=2, positions=positions,
              norm_place=place, activation=activation, **options)

    gpt("learned")
    gpt("learned", tied=False, place="post", activation="relu")
    gpt("rotary", norm="rms", activation="swiglu")
    gpt("sinusoidal", causal=False)
    gpt("alibi", tied=False, activation="gelu_tanh")
    gpt("none", norm="rms", window=2, weighting="off_by_one", qk_norm="rms")

    for padded in ["left", "right"]:
        p = {name: t for w in ["W_q", "W_k", "W_v", "W_o"] for name, t in linear_of(w, 8, 8, True).items()}
        model("cross_attention", N(2, 3, 8), N(2, 5, 8), parameters=p, heads=2, lengths=[5, 2], padded=padded)
    for pairs in ["halves", "interleaved"]:
        for width in [2, 4, 8]:
            case("rotary", N(2, 3, 8), I(40, 2, 3), base=100.0, pairs=pairs, width=width, hvp=True)


def linear_algebra(case):
    for shape in [(1, 1), (3, 3), (4, 2), (2, 5), (2, 3, 2), (2, 1, 3, 3), (9, 7)]:
        case("singular_values", N(*shape), hvp=shape != (9, 7))   # its float32 Hv hangs on gaps of a few per cent
        case("svd_function", N(*shape), hvp=shape != (1, 1))
        for kind in ["two", "one", "infinity", "frobenius", "spectral", "nuclear"]:
            case("norm", N(*shape), kind=kind, hvp=kind not in ("one", "infinity") and shape not in [(1, 1), (9, 7)])
        case("norm", N(*shape), kind="nuclear", keepdims=True)
    for shape in [(1, 1), (3, 3), (2, 4, 4), (12, 12)]:
        for op in ["eigenvalues", "eigh_function", "cholesky", "inverse", "slogdet"]:
            case(op, N(*shape), hvp=shape != (12, 12))
        case("slogdet_sign", N(*shape), grad=False)
        for n in [-2, 0, 3]:
            case("matrix_power", S(*shape), n=n, hvp=n > 0)
    for a, b in [((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (2, 3, 1)), ((2, 1, 3, 3), (4, 3, 2)), ((9, 9), (9, 5))]:
        case("solve", N(*a), N(*b), hvp=a != (9, 9))


def functions(case):
    for op in ["log1p", "expm1"]:
        for shape in [(), (2, 3), (2, 0), (23, 29)]:
            case(op, P(*shape), hvp=True)
        case(op, V(1e-30, -1e-12, 1e-8, -0.5, 0.1, 30), hvp=True)
    case("log1p", V(-1, 1e30, inf))
    case("expm1", V(-1e4, -40, 88, -inf))
    for op in ["floor", "ceil", "round"]:
        case(op, N(2, 3))
        case(op, V(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.0, 1e16, -7.999))
    for op, options in [("leaky_relu", {"slope": 0.01}), ("leaky_relu", {"slope": -0.3}), ("elu", {"alpha": 1.0}),
                        ("elu", {"alpha": 0.7})]:
        case(op, N(3, 4), hvp=True, **options)
        case(op, V(-1e4, -100, -1e-9, 1e-9, 5, 1e4), **options)
    for a, b in [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (4,)), ((0, 3), (3,)), ((5, 17), (5, 1))]:
        case("pow_tensor", P(*a), N(*b), hvp=True)
    case("pow_tensor", V(0, 0, 0, 2, 3, 1), V(0, 1, 2.5, 0, 1, 7))
    case("pow_tensor", V(-2, -3, -0.5), V(2, 3, -2), grad=False)
    for a in [2.0, 0.3]:
        case("pow_of_number", N(2, 3), a=a, hvp=True)
    case("isinf", ODD)
    case("isfinite", ODD)
    for op in ["and", "or"]:
        case(op, M([True, True], [False, False]), M([True, False], [True, False]))
        case(op, M([True, False]), M([True], [False]))
    for axes in [[], [0], [-1], [0, 2], [1, -1]]:
        case("stddev", N(2, 3, 4), axes=axes, hvp=True)
        case("stddev", N(2, 3, 4), axes=axes, keepdims=True, correction=0)
        case("prod", N(2, 3, 4), axes=axes, hvp=True)
        case("any", M([[True, False], [False, False]], [[False, False], [False, False]]), axes=axes and [a % 3 for a in axes])
        case("all", M([[True, True], [False, True]], [[True, True], [True, True]]), axes=axes and [a % 3 for a in axes])
    case("prod", V([0.0, 2, 3], [1, 0, 0], [0, 0, 0], [2, 3, 4]), axes=[1], hvp=True)
    case("prod", N(3, 7), axes=[1], keepdims=True, hvp=True)
    case("prod", N(0, 3), axes=[0])
    case("prod", L([1, 2], [3, -4]), axes=[1])
    case("any", V(0, 0.0, nan))
    for axis in [0, 1, -1]:
        case("cumprod", N(2, 5, 3), axis=axis, hvp=True)
        case("argmin", N(2, 5, 3), axis=axis)
        for how in [{"reverse": True}, {"exclusive": True}, {"reverse": True, "exclusive": True}]:
            case("cumsum_how", N(2, 5, 3), axis=axis, hvp=True, **how)
    case("cumprod", V([1.0, 0, 3, 4], [0, 0, 2, 1]), axis=1, hvp=True)
    case("argmin", V([1.0, -3, -3], [2, 2, 2], [nan, -9, nan], [1, -inf, 0]), axis=1)
    case("argmin", L(3, 1, 1, 9), axis=0)


def arrangements(case):
    for shape, axes in [((2, 1, 3, 1), []), ((2, 1, 3, 1), [1]), ((2, 1, 3, 1), [-1, 1]), ((1, 1), []), ((), [])]:
        case("squeeze", N(*shape), axes=axes, hvp=True)
    for shape, axis in [((2, 3), 0), ((2, 3), 1), ((2, 3), 2), ((2, 3), -1), ((2, 3), -3), ((), 0)]:
        case("unsqueeze", N(*shape), axis=axis, hvp=True)
    for shape, first, last in [((2, 3, 4), 0, -1), ((2, 3, 4), 1, -1), ((2, 3, 4), 0, 1), ((2, 3), 1, 1), ((), 0, -1)]:
        case("flatten", N(*shape), first=first, last=last, hvp=True)
    for part in [0, 1, 2]:
        case("split_part", N(2, 8), size=3, axis=1, part=part, hvp=True)
        case("split_part", N(6, 2), size=[1, 3, 2], axis=0, part=part, hvp=True)
        case("chunk_part", N(7, 2), chunks=3, axis=0, part=part, hvp=True)
    for shape, repeats in [((2, 3), [2]), ((2, 3), [2, 1]), ((3,), [2, 2]), ((2, 3), [1, 1, 2]), ((2, 3), [0, 2])]:
        case("tile", N(*shape), repeats=repeats, hvp=True)
    for axes in [[0], [1], [-1, 0], []]:
        case("flip", N(2, 3, 2), axes=axes, hvp=True)
    for shift, axis in [(1, 0), (-1, 1), (5, 1), (0, 0), (-7, -1)]:
        case("roll", N(3, 4), shift=shift, axis=axis, hvp=True)
    for shape, first, second in [((3, 3), -2, -1), ((2, 3, 3), 1, 2), ((3, 2, 3), 0, 2), ((3, 2, 3), 2, 0)]:
        case("diagonal", N(*shape), first=first, second=second, hvp=True)
    for mode in ["constant", "edge", "reflect"]:
        for widths in [[[1, 2]], [[2, 0], [0, 1]], [[0, 0]]]:
            case("pad", N(3, 4), widths=widths, mode=mode, hvp=True)
    case("pad", N(2, 3), widths=[[1, 1]], mode="constant", value=-1.5)
    case("pad", N(2, 2), widths=[[5, 4]], mode="reflect", hvp=True)
    for shape, index, axis in [((4, 3), L(0, 3, -1, 1), 0), ((4, 3), L([0, 2], [-1, -3]), 1), ((2, 3, 4), L([2, 0]), 1),
                               ((5,), L([0, 0], [4, -5]), 0), ((2, 3), torch.tensor(-1), 1), ((2, 3, 2), L([1, 1]), -1)]:
        case("take", N(*shape), index, axis=axis, hvp=True)
    for axis in [0, 1, -1]:
        for descending in [False, True]:
            case("sort_values", N(3, 5, 2), axis=axis, descending=descending, hvp=True)
            case("argsort", N(3, 5, 2), axis=axis, descending=descending)
        case("topk_values", N(3, 5, 4), k=2, axis=axis, hvp=True)
        case("topk_values", N(3, 5, 4), k=3, axis=axis, largest=False, hvp=True)
    case("argsort", V(2, 1, 2, 1, 1), axis=0)
    case("argsort", V(2, 1, 2, 1, 1), axis=0, descending=True)
    case("sort_values", V(2, nan, -inf, inf, 0), axis=0, grad=False)
    case("sort_values", V(2, nan, -inf, inf, 0), axis=0, descending=True, grad=False)
    case("argsort", L(5, -2, 9), axis=0)
    case("scatter", N(3, 4), L([0, 2], [3, 1], [2, 0]), N(3, 2), axis=1, hvp=True)
    case("scatter", N(4), L(3, 0), N(2), axis=0, hvp=True)
    case("scatter", N(3, 4), L([[2, 0, 1]]), N(1, 3), axis=0, hvp=True)
    case("bincount", L(0, 3, 3, 1))
    case("bincount", L(2, 2), at_least=5)
    for spec, shapes in [("ij,jk->ik", [(2, 3), (3, 4)]), ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]), ("ij->j", [(2, 3)]),
                         ("ii->i", [(3, 3)]), ("ii", [(3, 3)]), ("i,j->ij", [(2,), (3,)]), ("bqd,bkd->bqk", [(2, 3, 4), (2, 5, 4)]),
                         ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 3, 4)]), ("ij,ij->", [(2, 3), (2, 3)]),
                         ("ij,ij->ij", [(2, 3), (2, 3)]), ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
                         ("...ij,...jk->...ik", [(2, 2, 3), (2, 3, 4)]), ("...i,i->...", [(2, 3, 4), (4,)]),
                         ("...ij->...ji", [(2, 3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("ba", [(2, 3)]), ("iij->j", [(3, 3, 2)]),
                         ("ij,kj->ik", [(2, 3), (4, 3)]), ("abc,cd->dab", [(2, 3, 4), (4, 2)]), ("i,i,i->i", [(3,), (3,), (3,)]),
                         ("...,...->...", [(2, 3), (3,)]), (" i j , j -> i ", [(2, 3), (3,)])]:
        case("einsum", *[N(*shape) for shape in shapes], spec=spec, hvp=True)
    for x, weight, bias, options in [((2, 3, 9), (4, 3, 3), True, {}), ((2, 3, 9), (4, 3, 3), False, {"stride": 2}),
                                     ((1, 4, 8), (6, 2, 3), True, {"padding": 2, "groups": 2}),
                                     ((2, 2, 10), (3, 2, 3), True, {"dilation": 2, "padding": 1, "stride": 3}),
                                     ((1, 3, 5), (3, 1, 1), True, {"groups": 3})]:
        case("conv1d", N(*x), N(*weight), *([N(weight[0])] if bias else []), hvp=True, **options)
    for axes in [[-1], [-2, -1]]:
        sizes = (2, 3, 4)[len(axes) * -1:]
        case("layer_norm_axes", N(2, 3, 4), axes=axes, hvp=True)
        case("layer_norm_axes", N(2, 3, 4), N(*sizes), axes=axes, hvp=True)
        case("layer_norm_axes", N(2, 3, 4), N(*sizes), N(*sizes), axes=axes, hvp=True)
    case("rms_norm_bare", N(3, 5), hvp=True)
    for options in [{}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 1}, {"label_smoothing": 0.1},
                    {"label_smoothing": 0.3, "ignore_index": 2, "reduction": "sum"}]:
        case("cross_entropy_weighted", N(5, 4), L(0, 1, 2, 3, 1), weights=[0.5, 1.25, 2.0, 0.75], hvp=True, **options)
        if "label_smoothing" not in options:
            case("nll_loss", N(5, 4), L(0, 1, 2, 3, 1), hvp=True, **options)
            case("nll_loss", N(5, 4), L(0, 1, 2, 3, 1), weights=[0.5, 1.25, 2.0, 0.75], hvp=True, **options)
    for reduction in ["mean", "sum", "none"]:
        case("bce_with_logits", N(3, 4), P(3, 4), reduction=reduction, hvp=True)
        case("bce_with_logits", N(3, 4), P(3, 4), P(4), P(4), reduction=reduction, hvp=True)
        case("kl_div", N(3, 4), P(3, 4), reduction=reduction, hvp=True)
        case("kl_div", N(3, 4), N(3, 4), reduction=reduction, log_target=True, hvp=True)
    case("bce_with_logits", V(-800, 800, -30, 30), V(0, 1, 1, 0))
    case("kl_div", V(-1, -2, -3), V(0, 1, 0.5), grad=False)


FAMILIES = [elementwise, reductions, shapes, indices, products, attentions, rules, heads, layers, linear_algebra,
            functions, arrangements]
