#!/bin/bash
# Sets up what is missing, builds, and runs every suite. Arguments go to ctest: ./tests/run.sh -R gradients
set -euo pipefail
cd "$(dirname "$0")/.."
experiments/set_up.sh all
exec ctest --preset release "$@"
