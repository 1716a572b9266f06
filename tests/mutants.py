#!/usr/bin/env python3
"""Breaks every gradient rule on purpose, one fault at a time, and asks the suite to notice.

On a copy of the tree: change one place, build what it touches, run the tests until the first failure, put it back.
    tests/mutants.py                    all of them; the table goes to tests/mutants.txt
    tests/mutants.py --only 'softmax'   those whose description matches; prints the table only
    tests/mutants.py --list             what would be tried
It resumes: answers are kept in the work folder as long as the mutated file stays the same (--fresh forgets them).
Faults in rules (every `-> Grads { ... }`) are found by reading the sources; faults in kernels and in the engine are
listed below by hand. Takes about ten seconds each on two cores.
"""
import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "mutants.txt"
FIRST = ["gradients", "autograd", "properties", "numbers", "attention"]   # the suites that catch most, and quickly

# ---- Faults listed by hand: (file, what is wrong, text, replacement) ------------------------------------------------
ROWS = "framework/kernels/isa_rows.cpp"
FLASH = "framework/kernels/isa_attention.cpp"
ENGINE = "framework/autograd.cpp"
ELEMENTWISE, SHAPE, INDEX, REDUCE, FUSED = (f"framework/ops_{part}.cpp" for part in
                                            ("elementwise", "shape", "index", "reduce", "fused"))
BY_HAND = [
    (ROWS, "softmax_back: factor 1.001",
     "take(y + i, part) * (take(g + i, part) - dot), part",
     "take(y + i, part) * (take(g + i, part) - dot) * Batch<T>(T(1.001)), part"),
    (ROWS, "softmax_back: row sum dropped", "(take(g + i, part) - dot)", "take(g + i, part)"),
    (ROWS, "softmax_back: row sum without y",
     "return take(y + i, part) * take(g + i, part); })));", "return take(g + i, part); })));"),
    (ROWS, "softmax_back: dead rows not told apart", "if (dead(y, cols, T(0)))", "if (false && dead(y, cols, T(0)))"),
    (ROWS, "log_softmax_back: factor 1.001",
     "exp_gradual<T>(take(y + i, part)) * all, part",
     "exp_gradual<T>(take(y + i, part)) * all * Batch<T>(T(1.001)), part"),
    (ROWS, "log_softmax_back: sum of g dropped",
     "- exp_gradual<T>(take(y + i, part)) * all", "- exp_gradual<T>(take(y + i, part))"),
    (ROWS, "log_softmax_back: exp forgotten",
     "- exp_gradual<T>(take(y + i, part)) * all", "- take(y + i, part) * all"),
    (ROWS, "log_softmax_back: dead rows not told apart",
     "if (dead(y, cols, -infinity<T>))", "if (false && dead(y, cols, -infinity<T>))"),
    (ROWS, "logsumexp_back: factor 1.001", "factor(g[r]);", "factor(g[r] * T(1.001));"),
    (ROWS, "logsumexp_back: shift dropped",
     "take(x + i, part) - shift), part); });\n  }\n}\n\n// -log",
     "take(x + i, part)), part); });\n  }\n}\n\n// -log"),
    (ROWS, "logsumexp_back: dead rows not told apart", "if (y[r] == -infinity<T>) {", "if (false) {"),
    (ROWS, "cross_entropy_back: factor 1.001",
     "const Batch<T> factor(T(g / sum_of_exp(x, max, cols, dx)))",
     "const Batch<T> factor(T(1.001 * g / sum_of_exp(x, max, cols, dx)))"),
    (ROWS, "cross_entropy_back: target's own term dropped", "dx[target] -= T(g * (1 - smoothing));", ""),
    (ROWS, "cross_entropy_back: target's term unsmoothed",
     "dx[target] -= T(g * (1 - smoothing));", "dx[target] -= T(g);"),
    (ROWS, "cross_entropy_back: smoothing dropped",
     "take(dx + i, part) * factor - uniform", "take(dx + i, part) * factor"),
    (ROWS, "layer_norm_back: factor 1.001",
     "* slope) * scale, part);\n    });\n    dx += cols;\n  }\n}\n\ntemplate <class T>\ndouble inverse_rms",
     "* slope) * scale * Batch<T>(T(1.001)), part);\n    });\n    dx += cols;\n  }\n}\n\ntemplate <class "
     "T>\ndouble inverse_rms"),
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
    (ROWS, "gelu slope: density dropped", "return cdf(x, T()) + x * density;", "return cdf(x, T());"),
    (ROWS, "gelu slope: factor 1.001",
     "return cdf(x, T()) + x * density;", "return (cdf(x, T()) + x * density) * B(T(1.001));"),
    (ROWS, "silu slope: second term dropped", "return s * (B(T(1)) + x * (B(T(1)) - s));", "return s;"),
    (ROWS, "silu slope: factor 1.001",
     "return s * (B(T(1)) + x * (B(T(1)) - s));", "return s * (B(T(1.001)) + x * (B(T(1)) - s));"),
    (ROWS, "gelu tanh slope: cubic without its 3", "B(T(3 * twice * cubic))", "B(T(twice * cubic))"),
    (ROWS, "gelu tanh slope: factor 1.001",
     "return s + s * (B(T(1)) - s) * near", "return s * B(T(1.001)) + s * (B(T(1)) - s) * near"),
    (ROWS, "activations: g forgotten",
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
    (FLASH, "attention: dQ without the scale", "return v * Batch<T>(T(p.scale)); }", "return v; }"),
    (FLASH, "attention: dQ factor 1.001",
     "return v * Batch<T>(T(p.scale)); }", "return v * Batch<T>(T(1.001 * p.scale)); }"),
    (FLASH, "attention: dV from the score gradient",
     "add_to_keys(scores.data(), queries.dO", "add_to_keys(products.data(), queries.dO"),
    (FLASH, "attention: dK from the weights",
     "add_to_keys(products.data(), queries.Q", "add_to_keys(scores.data(), queries.Q"),
    (ENGINE, "engine: a second way overwrites the first",
     "else if (!recording_on) visit.gradient = add_into(std::move(visit.gradient), gradient);",
     "else if (!recording_on) visit.gradient = gradient;"),
    (ENGINE, "engine: a second way overwrites the first, recorded",
     "else visit.gradient = visit.gradient + gradient;", "else visit.gradient = gradient;"),
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
    (SHAPE, "slice_adjoint: starts one too early",
     "const std::int64_t offset = cut.start * strides[std::size_t(cut.axis)];\n  strides[std::size_t(cut.axis)] "
     "*= cut.step;\n  visit_bytes(g.dtype()",
     "const std::int64_t offset = std::max<std::int64_t>(0, cut.start - 1) * strides[std::size_t(cut.axis)];\n  "
     "strides[std::size_t(cut.axis)] *= cut.step;\n  visit_bytes(g.dtype()"),
    (SHAPE, "permute: the order is not inverted",
     "back[std::size_t(checked)] = int(axes.size());", "back[axes.size()] = checked;"),
    (INDEX, "embedding_adjoint: repeated rows overwrite", "into[k] += from[k];", "into[k] = from[k];"),
    (INDEX, "scatter_add: repeated places overwrite",
     "fresh<T>(y)[place] += data<T>(source)[k];", "fresh<T>(y)[place] = data<T>(source)[k];"),
    (REDUCE, "cumsum: not reversed", "return slice(v, along, -1, -to_end, -1);", "return slice(v, along, 0);"),
    (REDUCE, "cumsum: wrong axis",
     "return {reversed(cumsum(reversed(g), along))};", "return {reversed(cumsum(reversed(g), 0))};"),
    (ELEMENTWISE, "maximum, minimum: ties not shared", "where(a == b, g * 0.5, g)", "g"),
    (ELEMENTWISE, "maximum, minimum: ties shared wrongly",
     "where(a == b, g * 0.5, g)", "where(a == b, g * 0.501, g)"),
    (FUSED, "cross_entropy: ignored rows get a gradient",
     "if (targets[i] == options.ignore_index) std::fill_n(fresh<T>(dx) + i * n, n, T(0));\n        else kernel",
     "kernel"),
    (FUSED, "cross_entropy: gradient without the weight", "up * weight, fresh<T>(dx)", "up, fresh<T>(dx)"),
    (FUSED, "cross_entropy reference: smoothing factor 1.001",
     "loss = (1 - options.label_smoothing) * loss", "loss = (1.001 - options.label_smoothing) * loss"),
    (FUSED, "layer_norm reference: factor 1.001",
     "sqrt(mean(centred * centred, Over{{-1}, true}) + eps) * in[1] + in[2]",
     "sqrt(mean(centred * centred, Over{{-1}, true}) + eps) * in[1] * 1.001 + in[2]"),
    (FUSED, "rms_norm reference: factor 1.001",
     "in[0] / sqrt(mean(in[0] * in[0], Over{{-1}, true}) + eps) * in[1]",
     "in[0] / sqrt(mean(in[0] * in[0], Over{{-1}, true}) + eps) * in[1] * 1.001"),
    (FUSED, "softmax reference: wrong axis in the sum",
     "const Tensor total = sum(e, Over{{-1}, true});", "const Tensor total = sum(e, Over{{0}, true});"),
    (FUSED, "softmax reference: dead rows not told apart", "dead = dead_rows(top);\n", "dead = top != top;\n"),
    (FUSED, "gelu reference: 0.5 is 0.501", "in[0] * (0.5 + 0.5 * erf", "in[0] * (0.501 + 0.5 * erf"),
    (FUSED, "gelu tanh reference: constant off", "0.044715 * (x * x * x)", "0.045 * (x * x * x)"),
    (FUSED, "silu reference: factor 1.001",
     "return in[0] * sigmoid(in[0]);", "return in[0] * sigmoid(in[0]) * 1.001;"),
]

# Changes that cannot be seen because they change nothing: (description's regex, why). Not tried.
EQUIVALENT = []


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
    files = sorted(ROOT.glob("framework/*.cpp")) + sorted(ROOT.glob("layers/*.cpp"))
    for file in files:
        path = str(file.relative_to(ROOT))
        text = file.read_text()
        if path == ENGINE:
            continue
        for fault in faults_in_rules(path, text):
            yield fault
    for path, what, old, new in BY_HAND:
        text = (ROOT / path).read_text()
        if text.count(old) != 1:
            sys.exit(f"mutants: {path}: '{what}': its text occurs {text.count(old)} times, not once:\n{old}")
        yield path, what, text.index(old), text.index(old) + len(old), new


HELPER = "\nnamespace { [[maybe_unused]] Tensor mutant(const Tensor& t) { return t.empty() ? t : t * 1.001; } }\n"


def mutated(text, start, end, new):
    text = text[:start] + new + text[end:]
    if "mutant(" not in new:
        return text
    place = re.search(r"^namespace surgeon[\w:]* \{\n", text, re.M).end()
    return '#include "framework/ops.hpp"\n' + text[:place] + HELPER + text[place:]


# ---- Building and running --------------------------------------------------------------------------------------------

class Copy:
    """The tree once more, built once, in which faults are tried."""

    def __init__(self, work, jobs):
        self.tree, self.build, self.jobs = work / "tree", work / "build", jobs
        names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                               capture_output=True, text=True).stdout.split("\n")
        for name in filter(None, names):
            source, target = ROOT / name, self.tree / name
            if not source.is_file() or (target.exists() and target.read_bytes() == source.read_bytes()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for old in self.tree.rglob("*.[ch]pp"):
            if not (ROOT / old.relative_to(self.tree)).exists():
                old.unlink()
        launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        subprocess.run(["cmake", "-S", self.tree, "-B", self.build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                        "-DCMAKE_CXX_FLAGS_DEBUG=-O1", *launcher], check=True, stdout=subprocess.DEVNULL)

    def make(self):
        return subprocess.run(["ninja", "-C", self.build, f"-j{self.jobs}", "surgeon_tests"], capture_output=True,
                              text=True)

    def run(self, chosen, seconds=300):
        """None when all pass, else the first test case that fails."""
        files = ",".join(f"*/test_{name}.cpp" for name in FIRST)
        which = f"--source-file={files}" if chosen else f"--source-file-exclude={files},*/test_experiments.cpp"
        try:
            done = subprocess.run([self.build / "surgeon_tests", which, "--abort-after=1", "--no-colors"],
                                  cwd=self.build, capture_output=True, text=True, errors="replace", timeout=seconds)
        except subprocess.TimeoutExpired:
            return "(no answer in time)"
        if done.returncode == 0:
            return None
        cases = re.findall(r"^TEST CASE:\s+(.*)$", done.stdout, re.M)
        return cases[-1].strip() if cases else f"(exit {done.returncode})"

    def judge(self, path, start, end, new):
        file = self.tree / path
        original = file.read_text()
        try:
            file.write_text(mutated(original, start, end, new))
            if self.make().returncode != 0:
                return "does not compile"
            return self.run(True) or self.run(False) or "SURVIVED"
        finally:
            file.write_text(original)


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
        return print(len(faults), "faults")

    chosen.work.mkdir(parents=True, exist_ok=True)
    store = chosen.work / "answers.json"
    known = json.loads(store.read_text()) if store.exists() and not chosen.fresh else {}
    copy = None
    answers = []
    for number, (path, what, start, end, new) in enumerate(faults, 1):
        key = hashlib.sha256(f"{(ROOT / path).read_text()}|{start}|{end}|{new}".encode()).hexdigest()
        if known.get(key, "SURVIVED") in ("SURVIVED", "does not compile"):   # worth another try
            if copy is None:
                copy = Copy(chosen.work, chosen.jobs)
                built = copy.make()
                broken = built.stdout[-2000:] if built.returncode else copy.run(True) or copy.run(False)
                if broken:
                    sys.exit(f"mutants: the unchanged tree fails: {broken}")
            begun = time.time()
            known[key] = copy.judge(path, start, end, new)
            store.write_text(json.dumps(known))
            print(f"[{number}/{len(faults)}] {path}: {what}: {known[key]} ({time.time() - begun:.0f} s)", flush=True)
        answers.append((path, what, known[key]))
    table = table_of(answers)
    print(table, end="")
    if not chosen.only:
        TABLE.write_text(table)
    sys.exit(any(answer == "SURVIVED" for _, _, answer in answers))


if __name__ == "__main__":
    main()
