"""Text learnt by ours and by PyTorch in one sitting: held-out loss and wall time of the same model, data and schedule.

    text_side_by_side.py SURGEON TEXT [options of `surgeon train text`]"""
import json
import os
import subprocess
import sys
import tempfile

from side_by_side import environment, torch_python

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    surgeon, text, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        command = [surgeon, "train", "text", "--file", text, "--look-every", "0", "--json", "--force", "--out", folder]
        ours = json.loads(subprocess.run(command + options, stdout=subprocess.PIPE, check=True, env=environment()).stdout)
        result = ours["result"]
        print(f"ours: held-out loss {result['loss']:.4f} in {result['seconds']:.1f} s", flush=True)
        cores = str(os.cpu_count())
        times = []
        for threads, blas in (("1", cores), (cores, "1")):
            command = [torch_python(), os.path.join(HERE, "torch_text.py"), threads, text, os.path.join(folder, "config.json")]
            theirs = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True,
                                               env=environment(OPENBLAS_NUM_THREADS=blas)).stdout)
            print(f"PyTorch, {threads} threads, BLAS {blas}: held-out loss {theirs['loss']:.4f} in {theirs['seconds']:.1f} s",
                  flush=True)
            times.append(theirs)
        best = min(times, key=lambda t: t["seconds"])
        loss = sum(t["loss"] for t in times) / len(times)
        print(f"loss {100 * (result['loss'] / loss - 1):+.1f} % of PyTorch's mean, {best['seconds'] / result['seconds']:.2f} "
              "times as fast as its fastest setting")


if __name__ == "__main__":
    main()
