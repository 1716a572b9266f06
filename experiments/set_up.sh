#!/bin/bash
# What both run.sh begin with: Debian packages, the King James text, a Release build of the named targets. It only does
# what is still missing, and says nothing when nothing is.   Usage: experiments/set_up.sh TARGET...
set -euo pipefail
cd "$(dirname "$0")/.."

# To build, to test, to draw, and the text that `surgeon train text` reads.
packages=(g++ cmake ninja-build libxtensor-dev libxtensor-blas-dev libxsimd-dev libopenblas-dev librandom123-dev
          zlib1g-dev libcli11-dev nlohmann-json3-dev libtomlplusplus-dev libfmt-dev doctest-dev librapidcheck-dev
          libonnx-testdata gnuplot-nox bible-kjv bible-kjv-text)
log=$PWD/build/set_up.log
text=build/share/attention_surgeon/king_james.txt   # where build/release/surgeon looks, and an installed one: ../share

fail() {   # what failed; one line, and why: a compiler, CMake and apt mark the line that says so, and it is rarely the last
  local why
  why=$(grep -m1 -A2 '^CMake Error' "$log" || grep -m1 -E ' error: |undefined reference|^E: ' "$log" ||
        tail -n 1 "$log" || true)
  echo "set-up: $1: $(tr -s '\n ' ' ' <<< "${why:-no reason given}")(all of it: $log)" >&2
  exit 1
}

lacking() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] && continue
    # Any gnuplot will do, and two of Debian's cannot live side by side.
    [ "$package" = gnuplot-nox ] && command -v gnuplot > /dev/null && continue
    echo "$package"
  done
}

install_packages() {
  command -v apt-get > /dev/null || return 0   # not Debian: CMake will name what it does not find
  local missing as_root=()
  mapfile -t missing < <(lacking)
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || { echo "not root, and there is no sudo" > "$log"; fail "installing ${missing[*]}"; }
    as_root=(sudo)
  fi
  echo "Installing ${missing[*]} ..." >&2
  # A machine without a network may still have the packages in its cache: the update alone does not decide.
  "${as_root[@]}" apt-get update > "$log" 2>&1 || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" \
    >> "$log" 2>&1 || fail "installing ${missing[*]}"
}

extract_text() {
  [ -s $text ] || ! command -v bible > /dev/null && return
  # One verse a line, without its number: verses are indented, the names of chapters are not.
  bible -l100000 Gen1:1-Rev22:21 2> "$log" | sed -nE 's/^ +[0-9]+ //p' > $text.new
  [ "$(wc -l < $text.new)" = 31102 ] || fail "reading the King James text with bible-kjv"
  mv $text.new $text
}

build() {
  local built=build/release/.built_$1
  # Whether there is work is ninja's to say; this only decides whether to ask for patience.
  if [ ! -e "$built" ] || [ -n "$(find CMakeLists.txt cmake framework layers experiments tests -newer "$built" -print -quit)" ]; then
    echo "Building (the first time takes minutes) ..." >&2
  fi
  cmake --preset release > "$log" 2>&1 || fail "configuring"
  cmake --build --preset release --parallel "$(nproc)" --target "$@" > "$log" 2>&1 || fail "building"
  touch "$built"
}

mkdir -p "$(dirname $text)"
exec 9> build/.set_up.lock   # two at once would build into one folder
flock 9
install_packages
extract_text
build "$@"
