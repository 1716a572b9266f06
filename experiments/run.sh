#!/bin/bash
# Sets up what is missing, runs `surgeon all`, and says where the figures lie. Arguments go to surgeon; without the name
# of an experiment they go to `all`:  ./experiments/run.sh --preset quick     ./experiments/run.sh scaling --seeds 200
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/set_up.sh" surgeon first_steps
case ${1-} in
  -h | --help | --version) ;;
  "" | -*) set -- all "$@" ;;
esac
exec "$here/../build/release/surgeon" "$@"
