#!/usr/bin/env python3
"""Breaks every gradient rule on purpose, one fault at a time, and asks the suite to notice.

    tests/mutants/mutants.py                    all of them; the table goes to tests/mutants/mutants.txt
    tests/mutants/mutants.py --only 'softmax'   those whose description matches; prints the table only
    tests/mutants/mutants.py --list             what would be tried
Works on a copy of the tree. A function with faults gets one more body for each, behind `if (mutant_on(k))`, so that one
build serves all and SURGEON_MUTANT=k turns one on; the tests then run until the first failure. It resumes: answers are
kept in the work folder as long as the file at fault stays the same (--fresh forgets them). Faults in rules (every
`-> Grads { ... }`) are found by reading the sources; faults in kernels and in the engine are listed below by hand.
"""
import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = ROOT / "tests" / "mutants" / "mutants.txt"
# The suites that catch most, and quickly, come first; those of REST say nothing about gradients and are left out.
FIRST = ["gradients"]
SECOND = ["autograd", "errors", "properties", "numbers", "attention"]
REST = ["experiments", "figures", "lab", "serialize", "graph_sizes", "readme", "floors", "print"]

# ---- Faults listed by hand: (file, what is wrong, text, replacement) ------------------------------------------------
ROWS = "framework/kernels/isa_rows.cpp"
ACTIVATIONS = "framework/kernels/row_activations.hpp"
FLASH = "framework/kernels/isa_attention.cpp"
FEW = "framework/kernels/attention_few.hpp"
ENGINE = "framework/autograd.cpp"
(ELEMENTWISE, SHAPE, INDEX, REDUCE, SOFTMAX, NORMS, LOSSES, FUNCTIONS, COMMON) = (
    f"framework/ops/{part}.cpp" for part in
    ("elementwise", "shape", "index", "reduce", "softmax", "norms", "losses", "functions", "common"))
BY_HAND = [
    (ROWS, "softmax_back: factor 1.001",
     "take(y + i, part) * (take(g + i, part) - dot), part",
     "take(y + i, part) * (take(g + i, part) - dot) * Batch<T>(T(1.001)), part"),
    (ROWS, "softmax_back: row sum dropped", "(take(g + i, part) - dot)", "take(g + i, part)"),
    (ROWS, "softmax_back: row sum without y",
     "return take(y + i, part) * take(g + i, part); })));", "return take(g + i, part); })));"),
    (ROWS, "softmax_back: dead rows not told apart", "if (dead(y, cols, T(0)))", "if (false && dead(y, cols, T(0)))"),
    (ROWS, "log_softmax_back: factor 1.001", "- e * decltype(e)(all)", "- e * decltype(e)(T(1.001) * all)"),
    (ROWS, "log_softmax_back: sum of g dropped", "- e * decltype(e)(all)", "- e"),
    (ROWS, "log_softmax_back: exp forgotten", "exp_gradual<T>(take(y + i, part))", "take(y + i, part)"),
    (ROWS, "log_softmax_back: dead rows not told apart",
     "if (dead(y, cols, -infinity<T>))", "if (false && dead(y, cols, -infinity<T>))"),
    (ROWS, "logsumexp_back: factor 1.001", "factor(g[r]);", "factor(g[r] * T(1.001));"),
    (ROWS, "logsumexp_back: the raw numbers instead of their softmax", "softmax_row(x, cols, dx);",
     "std::copy_n(x, cols, dx);"),
    (ROWS, "logsumexp_back: dead rows not told apart", "if (y[r] == -infinity<T>) {", "if (false) {"),
    (ROWS, "cross_entropy_back: factor 1.001", "factor(T(g / sum_of_exp", "factor(T(1.001 * g / sum_of_exp"),
    (ROWS, "cross_entropy_back: target's own term dropped", "dx[target] -= T(g * (1 - smoothing));", ""),
    (ROWS, "cross_entropy_back: target's term unsmoothed",
     "dx[target] -= T(g * (1 - smoothing));", "dx[target] -= T(g);"),
    (ROWS, "cross_entropy_back: smoothing dropped",
     "take(dx + i, part) * factor - uniform", "take(dx + i, part) * factor"),
    (ROWS, "layer_norm_back: factor 1.001",
     "(p - mean - standard", "Batch<T>(T(1.001)) * (p - mean - standard"),
    (ROWS, "layer_norm_back: mean term dropped", "(p - mean - standard.of", "(p - standard.of"),
    (ROWS, "layer_norm_back: slope term dropped", "(p - mean - standard.of(x + i, part) * slope)", "(p - mean)"),
    (ROWS, "layer_norm_back: gamma forgotten in dx",
     "const Batch<T> p = take(g + i, part) * take(gamma + i, part);\n      put(dx + i, (p - mean",
     "const Batch<T> p = take(g + i, part);\n      put(dx + i, (p - mean"),
    (ROWS, "layer_norm_back: dgamma without h", "add_to(dgamma + i, up * h, part)", "add_to(dgamma + i, up, part)"),
    (ROWS, "layer_norm_back: dgamma factor 1.001",
     "add_to(dgamma + i, up * h, part)", "add_to(dgamma + i, up * h * Batch<T>(T(1.001)), part)"),
    (ROWS, "layer_norm_back: dbeta factor 1.001",
     "add_to(dbeta + i, up, part)", "add_to(dbeta + i, up * Batch<T>(T(1.001)), part)"),
    (ROWS, "layer_norm_back: dbeta dropped", "if (dbeta) add_to(dbeta + i, up, part);", ""),
    (ROWS, "rms_norm_back: factor 1.001",
     "* scale * slope) * scale, part);", "* scale * slope) * scale * Batch<T>(T(1.001)), part);"),
    (ROWS, "rms_norm_back: slope term dropped", "(p - take(x + i, part) * scale * slope)", "p"),
    (ROWS, "rms_norm_back: gamma forgotten in the slope", "return gh * take(gamma + i, part);", "return gh;"),
    (ROWS, "rms_norm_back: dgamma factor 1.001",
     "if (dgamma) add_to(dgamma + i, gh, part);",
     "if (dgamma) add_to(dgamma + i, gh * Batch<T>(T(1.001)), part);"),
    (ACTIVATIONS, "gelu slope: density dropped", " + x * density * B(T(0.3989422804014327))", ""),
    (ACTIVATIONS, "gelu slope: factor 1.001", "return cdf<T>(x, density) + x", "return B(T(1.001)) * cdf<T>(x, density) + x"),
    (ACTIVATIONS, "silu slope: second term dropped", "return s * (B(T(1)) + x * (B(T(1)) - s));", "return s;"),
    (ACTIVATIONS, "silu slope: factor 1.001",
     "return s * (B(T(1)) + x * (B(T(1)) - s));", "return s * (B(T(1.001)) + x * (B(T(1)) - s));"),
    (ACTIVATIONS, "gelu tanh slope: cubic without its 3", "B(T(3 * twice * cubic))", "B(T(twice * cubic))"),
    (ACTIVATIONS, "gelu tanh slope: factor 1.001",
     "return s + s * (B(T(1)) - s) * near", "return s * B(T(1.001)) + s * (B(T(1)) - s) * near"),
    (ACTIVATIONS, "activations: g forgotten",
     "put(dx + i, take(g + i, part) * F::template slope<T>", "put(dx + i, F::template slope<T>"),
    (FLASH, "attention: dO . O dropped", "gradient = e * (load(d) - load(dot + i));", "gradient = e * load(d);"),
    (FLASH, "attention: score gradient factor 1.001",
     "gradient = e * (load(d) - load(dot + i));",
     "gradient = e * (load(d) - load(dot + i)) * Batch<T>(T(1.001));"),
    (FLASH, "attention: mask forgotten in the weights", "store(s, xsimd::select(seen, e, zero));", "store(s, e);"),
    (FLASH, "attention: mask forgotten in the score gradient",
     "store(d, xsimd::select(seen, gradient, zero));", "store(d, gradient);"),
    (FLASH, "attention: dO not divided by the sum of exponentials",
     "[&](auto i) { return inverse_sum[i]; }", "[&](auto) { return T(1); }"),
    (FLASH, "attention: dK without the scale", "g.dK, T(p.scale));", "g.dK, T(1));"),
    (FLASH, "attention: dK factor 1.001", "g.dK, T(p.scale));", "g.dK, T(1.001 * p.scale));"),
    (FLASH, "attention: dV factor 1.001", "g.dV, T(1));", "g.dV, T(1.001));"),
    (FLASH, "attention: dQ without the scale", " * Batch<T>(static_cast<T>(p.scale)); }", "; }"),
    (FLASH, "attention: dQ factor 1.001", "static_cast<T>(p.scale)); }", "static_cast<T>(1.001 * p.scale)); }"),
    (FLASH, "attention: dV from the score gradient",
     "queries.add_rows(scores.data(), queries.dO", "queries.add_rows(products.data(), queries.dO"),
    (FLASH, "attention: dK from the weights",
     "queries.add_rows(products.data(), queries.Q", "queries.add_rows(scores.data(), queries.Q"),
    (FEW, "weigh_few: dO . O dropped", "(load(d) - mean) * scale", "load(d) * scale"),
    (FEW, "weigh_few: scale dropped", "(load(d) - mean) * scale", "(load(d) - mean)"),
    (FEW, "weigh_few: factor 1.001", "(load(d) - mean) * scale", "(load(d) - mean) * scale * Batch<T>(T(1.001))"),
    (FEW, "weigh_few: mask forgotten in the weights", "weight = xsimd::select(seen, weight, zero);", ""),
    (FEW, "weigh_few: mask forgotten in dO V^T", "product = xsimd::select(seen, product, zero);", ""),
    (FEW, "weigh_few: mask forgotten in the gradient",
     "if (run.words) gradient = xsimd::select(lanes_of<T>(run.words[k], i), gradient, zero);", ""),
    (FEW, "weigh_few: sum of exponentials forgotten", " * load(inverse + i), product", ", product"),
    (FEW, "backward_few: dK from the weights", "products, Q, p.d_k, g.dK", "scores, Q, p.d_k, g.dK"),
    (FEW, "backward_few: dV from the score gradient", "scores, dO, p.d_v, g.dV", "products, dO, p.d_v, g.dV"),
    (FEW, "backward_few: dQ from the weights", "products, K, p.d_k, g.dQ", "scores, K, p.d_k, g.dQ"),
    (FEW, "backward_few: dO V^T factor 1.001", "dO, T(1), products", "dO, T(1.001), products"),
    (ENGINE, "engine: a second way overwrites the first",
     "else visit.gradient = add_into(std::move(visit.gradient), gradient);", "else visit.gradient = gradient;"),
    (ENGINE, "engine: assign not noticed",
     "require(versions == node.step->saved_versions && node.version == 0", "require(true"),
    (ENGINE, "engine: NoRecord not undone",
     "NoRecord::~NoRecord() { recording_on = before_; }", "NoRecord::~NoRecord() {}"),
    (ENGINE, "engine: a target's gradient is given away",
     "const Tensor g = visit.target ? visit.gradient : std::move(visit.gradient);",
     "const Tensor g = std::move(visit.gradient);"),
    (ENGINE, "engine: fused inputs not aliased",
     "aliases.push_back(in.wanted(i) && is_floating(in[i].dtype()) ? alias(in[i]) : in[i]);\n    if "
     "(!aliases.back().same(in[i])) wanted.push_back(aliases.back());",
     "aliases.push_back(in[i]);\n    wanted.push_back(in[i]);"),
    (ENGINE, "engine: gradients recorded although not asked", "if (!options.create_graph) pause.emplace();", ""),
    (REDUCE, "sum_to: only new axes are summed",
     "|| (shape[std::size_t(axis - extra)] == 1 && g.shape(axis) != 1)", ""),
    (SHAPE, "put_slice: starts one too early", "cut.start *", "std::max<std::int64_t>(0, cut.start - 1) *"),
    (SHAPE, "permute: the order is not inverted",
     "back[std::size_t(checked)] = int(axes.size());", "back[axes.size()] = checked;"),
    (INDEX, "embedding_adjoint: repeated rows overwrite", "sums[k] += double(from[k]);", "sums[k] = double(from[k]);"),
    (INDEX, "scatter_add: repeated places overwrite",
     "sums[place] += double(data<T>(source)[k]);", "sums[place] = double(data<T>(source)[k]);"),
    (REDUCE, "cumsum: not reversed", "return slice(v, along, -1, -to_end, -1);", "return slice(v, along, 0);"),
    (REDUCE, "cumsum: wrong axis",
     "return {reversed(cumsum(reversed(g), along))};", "return {reversed(cumsum(reversed(g), 0))};"),
    (ELEMENTWISE, "maximum, minimum: ties not shared", "where(a == b, g * 0.5, g)", "g"),
    (ELEMENTWISE, "maximum, minimum: ties shared wrongly",
     "where(a == b, g * 0.5, g)", "where(a == b, g * 0.501, g)"),
    (LOSSES, "cross_entropy: ignored rows get a gradient",
     "if (targets[i] == options.ignore_index) std::fill_n(fresh<T>(dx) + i * n, n, T(0));\n        else kernel",
     "kernel"),
    (LOSSES, "cross_entropy: gradient without the weight", "up * weight, fresh<T>(dx)", "up, fresh<T>(dx)"),
    (LOSSES, "cross_entropy reference: smoothing factor 1.001",
     "loss = (1 - options.label_smoothing) * loss", "loss = (1.001 - options.label_smoothing) * loss"),
    (NORMS, "layer_norm reference: factor 1.001",
     "sqrt(mean(centred * centred, Over{{-1}, true}) + eps) * in[1] + in[2]",
     "sqrt(mean(centred * centred, Over{{-1}, true}) + eps) * in[1] * 1.001 + in[2]"),
    (NORMS, "rms_norm reference: factor 1.001",
     "in[0] / sqrt(mean(in[0] * in[0], Over{{-1}, true}) + eps) * in[1]",
     "in[0] / sqrt(mean(in[0] * in[0], Over{{-1}, true}) + eps) * in[1] * 1.001"),
    (SOFTMAX, "softmax reference: wrong axis in the sum",
     "const Tensor total = sum(e, Over{{-1}, true});", "const Tensor total = sum(e, Over{{0}, true});"),
    (SOFTMAX, "softmax reference: dead rows not told apart", "dead = dead_rows(top);\n", "dead = top != top;\n"),
    (FUNCTIONS, "gelu reference: 0.5 is 0.501", "in[0] * (0.5 * erfc", "in[0] * (0.501 * erfc"),
    (FUNCTIONS, "gelu tanh reference: constant off", "0.044715 * (x * x * x)", "0.045 * (x * x * x)"),
    (FUNCTIONS, "silu reference: factor 1.001",
     "return in[0] * sigmoid(in[0]);", "return in[0] * sigmoid(in[0]) * 1.001;"),
]

STALE = []   # of those, what no longer fits the sources

# Changes that cannot be seen because they change nothing: (description's regex, why). Not tried.
EQUIVALENT = [
    (r"(layer|rms)_norm \(line \d+\): in\[0\] is in\[1\]", "only its last size is read, and gamma's is the same"),
    (r"ops/functions.cpp: pow .*: 1.0 is 1.001", "its logarithm is masked"),
    (r"linalg.cpp: norm .*: 1.0 is 1.001", "what is divided by it is masked"),
    (r"masked_scores .*: 1.0 is 1.001", "g * factor is g for the factor 1 that is skipped to save time"),
]


# ---- Faults found by reading -----------------------------------------------------------------------------------------

def matching(text, start):
    """The place after the bracket that closes the one at `start`; strings and characters are skipped."""
    depth, i = 0, start
    while True:
        c = text[i]
        if c == '"':
            i = text.index('"', i + 1)
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1


def items_of(text):
    """Top-level parts between commas: [(start, end)]."""
    parts, start, i = [], 0, 0
    while i < len(text):
        if text[i] in "([{":
            i = matching(text, i)
            continue
        if text[i] == ",":
            parts.append((start, i))
            start = i + 1
        i += 1
    parts.append((start, len(text)))
    stripped = []
    for a, b in parts:
        while a < b and text[a].isspace():
            a += 1
        while b > a and text[b - 1].isspace():
            b -= 1
        if a < b:
            stripped.append((a, b))
    return stripped


def rules(text):
    """(op, start, end) of each rule's body."""
    for found in re.finditer(r"-> Grads \{|^Grads pull\(", text, re.M):
        brace = found.end() - 1 if found.group().endswith("{") else text.index("{", matching(text, found.end() - 1))
        names = list(re.finditer(r'(?:record|fused)\(\s*"(\w+)"', text[:brace]))
        functions = list(re.finditer(r"^(?:Tensor|Grads) ([\w+\-*/]+)\(", text[:brace], re.M))
        name = names[-1].group(1) if names and (not functions or names[-1].start() > functions[-1].start()) else \
            functions[-1].group(1) if functions else "rule"
        yield name, brace + 1, matching(text, brace) - 1


# What a list of gradients looks like where a rule gives it back.
LISTS = re.compile(r"return \{|Grads \w+\{|Grads \w+\(|gradients\.push_back\(")


def without_comments(text):
    return re.sub(r"//[^\n]*", lambda m: " " * len(m.group()), text)


def faults_in_rules(path, text):
    """(file, what is wrong, start, end, replacement) for every rule in the text."""
    seen = without_comments(text)
    for op, begin, end in rules(seen):
        body = seen[begin:end]
        line = text.count("\n", 0, begin) + 1

        def fault(what, a, b, new):
            return path, f"{op} (line {line}): {what}", begin + a, begin + b, new

        for start in LISTS.finditer(body):
            inner = start.end()
            for k, (a, b) in enumerate(items_of(body[inner:matching(body, inner - 1) - 1])):
                item = body[inner + a:inner + b]
                if item == "Tensor()":
                    continue
                name = f"gradient {k}" if "push_back" not in start.group() else "gradients"
                original = text[begin + inner + a:begin + inner + b]
                yield fault(f"{name} times 1.001", inner + a, inner + b, f"mutant({original})")
                yield fault(f"{name} dropped", inner + a, inner + b, "Tensor()")
        for sign in re.finditer(r"(?<=[({ ])-(?=[a-z])(?!to_end)", body):
            yield fault("sign", sign.start(), sign.end(), "")
        for flag in re.finditer(r"\.transpose_[ab] = (!?\w+)", body):
            yield fault(f"{flag.group()} turned round", flag.start(1), flag.end(1), f"!({flag.group(1)})")
        if "in[0]" in body and "in[1]" in body:
            for which in re.finditer(r"\bin\[([01])\]", body):
                other = str(1 - int(which.group(1)))
                yield fault(f"in[{which.group(1)}] is in[{other}]", which.start(1), which.end(1), other)
        for value in re.finditer(r"(?<![\w.])\d+\.\d+", body):
            changed = float(value.group()) * 1.001 or 0.001
            yield fault(f"{value.group()} is {changed:.6g}", value.start(), value.end(), f"{changed:.6g}")
        if "data<" in body:
            continue   # its arithmetic is of addresses
        for sign in re.finditer(r"(?<=[\w)\]]) ([*/+\-]) (?=[\w(])", body):
            other = {"*": "/", "/": "*", "+": "-", "-": "+"}[sign.group(1)]
            column = sign.start(1) - body.rfind("\n", 0, sign.start(1))
            yield fault(f"'{sign.group(1)}' is '{other}' at column {column}", sign.start(1), sign.end(1), other)


def all_faults():
    files = sorted(path for floor in ("framework", "layers") for path in (ROOT / floor).rglob("*.cpp")
                   if "kernels" not in path.parts)
    for file in files:
        path = str(file.relative_to(ROOT))
        text = file.read_text()
        if path == ENGINE:
            continue
        for fault in faults_in_rules(path, text):
            yield fault
    for path, what, old, new in BY_HAND:
        text = (ROOT / path).read_text()
        begin, end = 0, len(text)
        function = re.search(rf"\b{re.escape(what.split(':')[0])}\([^;{{}}]*\{{", text)
        if function:   # the text need only be unique within it
            begin, end = function.start(), matching(text, function.end() - 1)
        times = text.count(old, begin, end)
        if times != 1:
            STALE.append(f"{path}: {what}: its text occurs {times} times, not once")
            continue
        yield path, what, text.index(old, begin), text.index(old, begin) + len(old), new


HELPERS = """
#ifndef SURGEON_MUTANT_ON
#define SURGEON_MUTANT_ON
#include <cstdlib>
namespace {
[[maybe_unused]] bool mutant_on(int k) {
  static const char* text = std::getenv("SURGEON_MUTANT");
  static const int on = text ? std::atoi(text) : 0;
  return on == k;
}
}  // namespace
#endif
"""
SCALED = """
#include "framework/ops.hpp"
namespace surgeon { namespace {
[[maybe_unused]] Tensor mutant(const Tensor& t) { return t.empty() ? t : t * 1.001; }
} }
"""


def function_around(text, place):
    """(body's start, body's end, whether it gives nothing back) of the outermost function around the place."""
    seen = re.sub(r"^#[^\n]*", lambda m: " " * len(m.group()), without_comments(text), flags=re.M)
    i = 0
    while True:
        brace = seen.index("{", i)
        head = re.split(r"[;{}]", seen[:brace])[-1]
        if re.search(r"\b(namespace|struct|class|enum)\b", head) and ")" not in head:
            i = brace + 1   # go in
            continue
        end = matching(seen, brace)
        if end > place and ")" in head:
            return brace + 1, end - 1, bool(re.search(r"\bvoid\b|~|^\s*(explicit )?[A-Z]\w+\(", head))
        i = end


def with_faults(path, text, faults):
    """The text in which each fault (number, start, end, new) has a body of its own."""
    insertions = []
    for number, start, end, new in faults:
        old = text[start:end]
        while old and new and old[0] == new[0]:   # what stays may reach beyond the function
            old, new, start = old[1:], new[1:], start + 1
        while old and new and old[-1] == new[-1]:
            old, new, end = old[:-1], new[:-1], end - 1
        around = [(a, b, False) for _, a, b in rules(without_comments(text)) if a <= start and end <= b]
        begin, finish, gives_nothing = around[-1] if around else function_around(text, start)
        line = text.count("\n", 0, begin) + 1
        body = text[begin:start] + new + text[end:finish]
        insertions.append((begin, f'\n#line 1 "mutant_{number}"\nif (mutant_on({number})) {{{body}\n'
                                  f'{"return;" if gives_nothing else ""}}}\n#line {line} "{path}"\n'))
    for begin, added in sorted(insertions, reverse=True):
        text = text[:begin] + added + text[begin:]
    include = list(re.finditer(r"^#include [^\n]*\n", text, re.M))[-1].end()
    helpers = HELPERS + (SCALED if "mutant(" in text else "")
    endif = re.compile(r"^#endif[^\n]*\n", re.M).match(text, include)   # not inside the last include's condition
    include = endif.end() if endif else include
    return text[:include] + helpers + text[include:]


# ---- Building and running --------------------------------------------------------------------------------------------

class Copy:
    """The tree once more, with every fault in it, each to be turned on by its number."""

    def __init__(self, work, jobs, faults):
        self.tree, self.build, self.jobs = work / "tree", work / "build", jobs
        self.void = set()   # faults that the compiler refuses
        self.faults, self.left_out = faults, []
        self.texts = {path: (ROOT / path).read_text() for path in {path for path, *_ in faults.values()}}
        self.copy_sources()
        launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        subprocess.run(["cmake", "-S", self.tree, "-B", self.build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                        "-DCMAKE_CXX_FLAGS_DEBUG=-O1", *launcher], check=True, stdout=subprocess.DEVNULL)
        while True:
            self.put_faults()
            made = subprocess.run(["ninja", "-C", self.build, "-k0", f"-j{jobs}", "surgeon_tests"], capture_output=True,
                                  text=True)
            if made.returncode == 0:
                return
            refused = {int(number) for number in re.findall(r"^mutant_(\d+):\d+:\d+: error", made.stdout, re.M)}
            if not refused - self.void:
                sys.exit(f"mutants: the copy does not build:\n{made.stdout[-3000:]}")
            self.void |= refused

    def copy_sources(self):
        names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                               capture_output=True, text=True).stdout.split("\n")
        at_fault = {path for path, *_ in self.faults.values()}
        for name in filter(None, names):
            source, target = ROOT / name, self.tree / name
            if name in at_fault or not source.is_file():
                continue
            if target.exists() and target.read_bytes() == source.read_bytes():
                continue   # so that it is not built again
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for old in self.tree.rglob("*.[ch]pp"):
            if not (ROOT / old.relative_to(self.tree)).exists():
                old.unlink()

    def put_faults(self):
        for path in {path for path, *_ in self.faults.values()}:
            mine = [(number, *fault[2:]) for number, fault in self.faults.items()
                    if fault[0] == path and number not in self.void]
            text, target = with_faults(path, self.texts[path], mine), self.tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_text() != text:
                target.write_text(text)

    def leave_out_failing(self):
        """Cases that fail without any fault catch nothing. Their names, for the table."""
        for chosen in (FIRST, SECOND, REST):
            while True:
                failing = self.run(0, chosen)
                if failing is None:
                    break
                if failing.startswith("("):
                    sys.exit(f"mutants: without any fault the suite ends with {failing}")
                self.left_out.append(failing)
        return self.left_out

    def run(self, number, chosen, seconds=300):
        """None when all pass, else the first test case that fails."""
        files = ",".join(f"*/test_{name}.cpp" for name in chosen)
        which = f"--source-file={files}" if chosen is not REST else "--source-file-exclude=" + ",".join(
            f"*/test_{name}.cpp" for name in [*FIRST, *SECOND, *REST])
        try:
            without = "--test-case-exclude=" + ",".join(name.replace(",", "?") for name in self.left_out)
            done = subprocess.run([self.build / "surgeon_tests", which, "--abort-after=1", "--no-colors", without],
                                  cwd=self.build, env={**os.environ, "SURGEON_MUTANT": str(number)},
                                  capture_output=True, text=True, errors="replace", timeout=seconds)
        except subprocess.TimeoutExpired:
            return "(no answer in time)"
        if done.returncode == 0:
            return None
        cases = re.findall(r"^TEST CASE:\s+(.*)$", done.stdout, re.M)
        return cases[-1].strip() if cases else f"(exit {done.returncode})"

    def judge(self, number):
        if number in self.void:
            return "does not compile"
        return self.run(number, FIRST) or self.run(number, SECOND) or self.run(number, REST) or "SURVIVED"


def table_of(answers):
    width = max(len(f"{path}: {what}") for path, what, _ in answers) + 2
    lines = [f"{path}: {what}".ljust(width) + answer for path, what, answer in answers]
    count = lambda test: sum(map(test, (answer for _, _, answer in answers)))
    survived, void = count(lambda a: a == "SURVIVED"), count(lambda a: a == "does not compile")
    lines.append("")
    lines.append(f"{len(answers)} faults: {len(answers) - survived - void} caught, {survived} survived, "
                 f"{void} refused by the compiler")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="a regular expression for 'file: what is wrong'")
    options.add_argument("--list", action="store_true")
    options.add_argument("--fresh", action="store_true")
    options.add_argument("--jobs", type=int, default=os.cpu_count())
    options.add_argument("--work", type=Path, default=ROOT / "build" / "mutants")
    chosen = options.parse_args()
    faults = [f for f in all_faults() if re.search(chosen.only, f"{f[0]}: {f[1]}")
              and not any(re.search(pattern, f"{f[0]}: {f[1]}") for pattern, _ in EQUIVALENT)]
    if chosen.list:
        for path, what, *_ in faults:
            print(f"{path}: {what}")
        return print(f"{len(faults)} faults", *STALE, sep="\n")

    chosen.work.mkdir(parents=True, exist_ok=True)
    store = chosen.work / "answers.json"
    known = json.loads(store.read_text()) if store.exists() and not chosen.fresh else {}

    def key(fault):
        path, _, start, end, new = fault
        return hashlib.sha256(f"{(ROOT / path).read_text()}|{start}|{end}|{new}".encode()).hexdigest()

    keys = [key(fault) for fault in faults]
    # Survivors are worth another try.
    todo = {number: fault for number, fault in enumerate(faults, 1)
            if known.get(keys[number - 1], "SURVIVED") == "SURVIVED"}
    if todo:
        copy = Copy(chosen.work, chosen.jobs, todo)
        for name in copy.leave_out_failing():
            print(f"fails without any fault and is left out: {name}", flush=True)
        for number, (path, what, *_) in todo.items():
            known[keys[number - 1]] = copy.judge(number)
            store.write_text(json.dumps(known))
            print(f"[{number}/{len(faults)}] {path}: {what}: {known[keys[number - 1]]}", flush=True)
    answers = [(path, what, known[keys[i]]) for i, (path, what, *_) in enumerate(faults)]
    table = "".join(f"STALE {line}\n" for line in STALE) + table_of(answers)
    print(table, end="")
    if not chosen.only:
        TABLE.write_text(table)
    sys.exit(bool(STALE) or any(answer == "SURVIVED" for _, _, answer in answers))


if __name__ == "__main__":
    main()
