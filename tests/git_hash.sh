#!/bin/bash
# cmake/git_hash.cmake says which commit a tree is of, and whether it was changed since.   Usage: tests/git_hash.sh SCRIPT
set -eu
command -v git > /dev/null || exit 77
here=$(mktemp -d "${TMPDIR:-/tmp}/surgeon_git_XXXXXX")
trap 'rm -rf "$here"' EXIT
hash() {   # of which tree
  cmake -D GIT=git -D TREE="$1" -D FILE="$here/hash.cpp" -P "$script" && sed -n 's/.*return "\(.*\)";.*/\1/p' "$here/hash.cpp"
}
script=$(realpath "$1")
mkdir "$here/tree" "$here/plain"
cd "$here/tree"
export GIT_CEILING_DIRECTORIES=$here GIT_CONFIG_GLOBAL=/dev/null
git init -q .
echo one > file
git add file
git -c user.name=n -c user.email=e commit -qm one
commit=$(git rev-parse --short=12 HEAD)
[ "$(hash .)" = "$commit" ]
written=$(stat -c %y "$here/hash.cpp")
[ "$(hash .)" = "$commit" ] && [ "$(stat -c %y "$here/hash.cpp")" = "$written" ]   # nothing to compile again
echo two > file
[ "$(hash .)" = "$commit-dirty" ]
[ "$(hash "$here/plain")" = unknown ]
