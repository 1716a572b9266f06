"""Ours and PyTorch, taking turns in one run, several rounds: the table of ratios.

    side_by_side.py SERVE [--rounds N] [--seconds S] [--only TEXT] [--out FILE.md] [--surgeon PATH]

SERVE is the surgeon_serve program. Each round times every work once in each process; what is printed is the median of
our times, that of PyTorch's in its fastest setting, and the smallest ratio of all rounds."""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# work, what the bare products of it are called, other ways PyTorch has to do the same
TABLE = [
    ("attention (16,512,64)", "products of attention (16,512,64)", []),
    ("attention (16,512,64) causal", None, ["fused attention (16,512,64) causal"]),
    ("attention (8,1024,64)", "products of attention (8,1024,64)", []),
    ("attention (8,1024,64) causal", None, ["fused attention (8,1024,64) causal"]),
    ("attention (1,10,16)", None, []),
    ("attention (1,10,256)", None, []),
    ("attention (1,10,1024)", None, []),
    ("MultiHeadAttention 64/8 (2,10,64)", None, ["nn.MultiheadAttention 64/8 (2,10,64)"]),
    ("MultiHeadAttention 512/8 (8,256,512)", "products of MultiHeadAttention 512/8 (8,256,512)",
     ["nn.MultiheadAttention 512/8 (8,256,512)"]),
    ("MultiHeadAttention 512/8 (8,256,512) causal", None, ["nn.MultiheadAttention 512/8 (8,256,512) causal"]),
    ("MultiHeadAttention 768/12 (4,512,768)", "products of MultiHeadAttention 768/12 (4,512,768)",
     ["nn.MultiheadAttention 768/12 (4,512,768)"]),
    ("MultiHeadAttention 768/12 (4,512,768) causal", None, ["nn.MultiheadAttention 768/12 (4,512,768) causal"]),
    ("GPT step 4x128 T64 B12", None, []),
    ("GPT step 6x384 T256 B8", None, []),
    ("chain of 1000", None, []),
    ("normals 1M", None, []),
]


def environment(**more):
    """A shell may pin OpenBLAS to an old core, which halves its products: cleared, for both sides."""
    kept = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    return {**kept, **more}


class Server:
    def __init__(self, name, command, **more):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment(**more))
        self.about = json.loads(self.process.stdout.readline())

    def time(self, work, seconds):
        self.process.stdin.write(f"{seconds}\t{work}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer.get("seconds")


def torch_python():
    for python in ("/usr/bin/python3", sys.executable):
        if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
            return python
    return None


def in_words(seconds):
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            return f"{seconds * factor:.3g} {unit}"


def best(servers, works, seconds):
    """The fastest of PyTorch's settings and ways, and its name."""
    times = [(server.time(work, seconds), f"{work.split(' ')[0]}, {server.name}") for server in servers for work in works]
    return min((t for t in times if t[0]), default=(None, ""))


def cpu():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def measure(options, ours, theirs):
    rounds = {work: [] for work, _, _ in TABLE if options.only in work}
    for number in range(options.rounds):
        for work, products, ways in TABLE:
            if work not in rounds:
                continue
            print(f"round {number + 1}/{options.rounds}  {work}", file=sys.stderr)
            mine = ours.time(work, options.seconds)
            plain, _ = best(theirs, [work], options.seconds)
            other, _ = best(theirs, ways, options.seconds) if ways else (None, "")
            bare = ours.time(products, options.seconds) if products else None
            rounds[work].append((mine, plain, other, bare))
    return rounds


def rows_of(rounds):
    for work, times in rounds.items():
        column = lambda i: [t[i] for t in times if t[i]]
        mine, plain, other, bare = (column(i) for i in range(4))
        ratio = min((t[1] / t[0] for t in times if t[1]), default=None)
        ratio_other = min((t[2] / t[0] for t in times if t[2]), default=None)
        share = min((t[3] / t[0] for t in times if t[3]), default=None)
        yield [work, in_words(statistics.median(mine)), in_words(statistics.median(plain)) if plain else "-",
               f"{ratio:.2f}x" if ratio else "-",
               f"{in_words(statistics.median(other))}, {ratio_other:.2f}x" if other else "-",
               f"{100 * share:.0f} %" if bare else "-"]


def wall(command, **more):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(**more))
    return time.perf_counter() - start


def whole_commands(options, python):
    """The scaling experiment as a person runs it: start-up included, one after the other, several rounds."""
    folder = tempfile.mkdtemp()
    ours = [options.surgeon, "scaling", "--seeds", "1000", "--d-k", "16,64,256,1024", "--json", "--force", "--out", folder]
    theirs = [python, os.path.join(HERE, "torch_scaling.py"), "1000"]
    pairs = [(wall(ours), min(wall(theirs, OPENBLAS_NUM_THREADS=n) for n in ("1", "2"))) for _ in range(options.rounds)]
    shutil.rmtree(folder)
    mine, plain = (statistics.median(column) for column in zip(*pairs))
    return ["surgeon scaling, 1000 seeds x 4 d_k, whole command", in_words(mine), in_words(plain),
            f"{min(p / m for m, p in pairs):.2f}x", "-", "-"]


def memory_row(options):
    answer = json.loads(subprocess.run([options.serve, "--memory"], capture_output=True, text=True, check=True).stdout)
    return f"Peak memory of attention above its inputs, 8 heads, T = 4096, causal and not: {answer['mib']:.0f} MiB."


def compile_row(rounds):
    root = os.path.dirname(os.path.dirname(HERE))
    command = ["c++", "-std=c++20", "-O2", "-I", root, "-c", os.path.join(root, "experiments", "first_steps.cpp"),
               "-o", os.devnull]
    return f"Compiling experiments/first_steps.cpp at -O2: {min(wall(command) for _ in range(rounds)):.2f} s."


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("--surgeon")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="")
    parser.add_argument("--out")
    options = parser.parse_args()
    python = torch_python()
    ours = Server("ours", [options.serve])
    cores = str(os.cpu_count())
    theirs = []
    if python:
        worker = [python, os.path.join(HERE, "torch_works.py")]
        theirs = [Server(f"BLAS {cores}", worker + ["1"], OPENBLAS_NUM_THREADS=cores),
                  Server("BLAS 1", worker + [cores], OPENBLAS_NUM_THREADS="1")]
    else:
        print("side_by_side: no PyTorch here (Debian: python3-torch); only ours is timed", file=sys.stderr)
    table = list(rows_of(measure(options, ours, theirs)))
    if options.surgeon and python and not options.only:
        table.append(whole_commands(options, python))
    header = ["forward + backward, float32", "ours", "PyTorch", "ratio", "PyTorch's module or fused", "of bare products"]
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header)] + table]
    about = ours.about
    lines += ["", f"{cpu()}, {cores} cores; {about['blas']} ({about['core']}), {about['simd']}, {about['threads']} threads; "
              + (f"PyTorch {theirs[0].about['torch']}" if theirs else "no PyTorch") + f"; {options.rounds} rounds.",
              memory_row(options), compile_row(options.rounds)]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        with open(options.out, "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
