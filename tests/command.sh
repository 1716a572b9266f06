#!/bin/bash
# What only the program itself can show: closed streams, signals, a reader that leaves, little memory.
#   Usage: tests/command.sh PROGRAM
set -u
surgeon=$(realpath "$1")
here=$(mktemp -d "${TMPDIR:-/tmp}/surgeon_command_XXXXXX")
trap 'rm -rf "$here"' EXIT
cd "$here" || exit 1
failures=0

check() {   # what; and a command that must succeed
  local what=$1
  shift
  "$@" && return
  echo "FAILED: $what" >&2
  failures=$((failures + 1))
}
says() { grep -q -- "$2" "$1"; }
one_line() { [ "$(wc -l < "$1")" = 1 ]; }

# ---- A stream that is closed: no file takes its number
"$surgeon" attention --out reference > /dev/null
for closed in '<&-' '>&-' '2>&-' '<&- >&- 2>&-'; do
  eval "\"$surgeon\" attention --out closed $closed" > /dev/null 2>&1
  check "exit 0 with $closed" test $? = 0
  check "the rows with $closed" cmp reference/metrics.csv closed/metrics.csv
  rm -rf closed
done

# ---- A reader that leaves
"$surgeon" scaling --seeds 2 --d-k 4 --json --out left 2> err | head -c 1 > /dev/null
check "exit 0 when the reader leaves" test "${PIPESTATUS[0]}" = 0
check "silence when the reader leaves" test ! -s err

# ---- Signals: a checkpoint, a closed folder, the exit code
for pair in INT:130 TERM:143 HUP:129; do
  signal=${pair%:*} exit=${pair#*:}
  env --default-signal=INT,TERM,HUP "$surgeon" train copy --d-model 8 --heads 2 --tokens 8 --batch 4 --steps 1000000 \
    --checkpoint-every 1000000 --look-every 0 --threads 1 --quiet --out "$signal" 2> err &
  process=$!
  for _ in $(seq 200); do   # until it has begun
    [ -s "$signal/metrics.csv" ] && [ "$(wc -l < "$signal/metrics.csv")" -gt 2 ] && break
    sleep 0.05
  done
  kill -s "$signal" $process
  wait $process
  check "$signal: exit $exit" test $? = "$exit"
  check "$signal: the folder is closed" says "$signal/meta.json" '"status": "aborted"'
  check "$signal: a checkpoint" test -s "$signal/checkpoints/last.safetensors"
  check "$signal: one line" one_line err
done

# ---- Files that may not grow: said, like a full disk
(ulimit -f 1 && "$surgeon" attention --quiet --out small) 2> err
check "exit 1 past ulimit -f" test $? = 1
check "one line past ulimit -f" one_line err

# ---- Little memory: done, or one line; never an endless wait in OpenBLAS
if [ "${2-}" != no-limits ]; then   # sanitizers need all the room there is
  for limit in 80000 120000 160000 200000 250000 300000 400000; do
    (ulimit -v $limit && timeout 60 "$surgeon" train copy --d-model 64 --tokens 64 --steps 1 --threads 2 --quiet \
      --out "memory$limit") 2> err
    exit=$?
    check "exit 0 or 1, not $exit, with $limit KiB" test $exit -le 1
    [ $exit = 0 ] || check "one line with $limit KiB" one_line err
    [ $exit = 0 ] || check "out of memory with $limit KiB" says err "out of memory"
  done
fi

# ---- As many threads as there may be, and one more
most=$("$surgeon" attention --threads 1000000 2>&1 | sed -n 's/.* at most \([0-9]*\),.*/\1/p')
check "a limit on threads" test "${most:-0}" -ge 1
check "$most threads" "$surgeon" train copy --d-model 256 --tokens 128 --steps 1 --threads "$most" --quiet --out most
exit $((failures > 0))
