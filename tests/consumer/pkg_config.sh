#!/bin/sh
# Compiles the consumers by pkg-config alone, and runs them.   Usage: pkg_config.sh PKGCONFIG_FOLDER OUTPUT_FOLDER CXX...
set -eu
command -v pkg-config > /dev/null || { echo "pkg-config is not installed: skipped"; exit 77; }
here=$(dirname "$0")
export PKG_CONFIG_PATH="$1"
out=$2
shift 2
mkdir -p "$out"
"$@" -std=c++20 "$here/main.cpp" $(pkg-config --cflags --libs surgeon-layers) -o "$out/layers"
"$out/layers"
if pkg-config --exists surgeon-lab; then
  "$@" -std=c++20 "$here/lab/main.cpp" $(pkg-config --cflags --libs surgeon-lab) -o "$out/lab"
  cd "$out"
  ./lab --version
fi
