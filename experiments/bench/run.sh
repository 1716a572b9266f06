#!/bin/sh
# Builds the benchmarks and sets ours beside PyTorch's, in one run: the table goes to the terminal and build/bench.md.
#   experiments/bench/run.sh                     everything, about ten minutes
#   experiments/bench/run.sh --only attention    some of it; --rounds N, --seconds S
#   build/release/surgeon_bench                  Google Benchmark over single ops
set -eu
cd "$(dirname "$0")/../.."
cmake --preset release > /dev/null
cmake --build --preset release --target surgeon surgeon_serve surgeon_bench > /dev/null
exec python3 experiments/bench/side_by_side.py build/release/surgeon_serve --surgeon build/release/surgeon --out build/bench.md "$@"
