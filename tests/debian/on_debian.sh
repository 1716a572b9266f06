#!/bin/bash
# What a new user does, on a bare Debian: both commands of the README, in a fresh clone of the last commit here, in a
# chroot that has nothing but a base system. Needs root and mmdebstrap; takes ten minutes on a quick machine.
#   Usage: tests/debian/on_debian.sh 12|13 [COMMAND]     COMMAND runs in the clone instead of the two.
set -euo pipefail

fail() {
  echo "on_debian: $1" >&2
  exit "${2:-1}"
}

case ${1-} in
  12) suite=bookworm ;;
  13) suite=trixie ;;
  *) fail "which Debian? 12 or 13" 2 ;;
esac
command=${2-"./tests/run.sh && ./experiments/run.sh --preset quick"}
[ "$(id -u)" = 0 ] || fail "needs root: a chroot is made"
command -v mmdebstrap > /dev/null || fail "needs mmdebstrap: apt-get install mmdebstrap"
repository=$(cd "$(dirname "$0")/../.." && git rev-parse --show-toplevel) || fail "needs a git clone"

# Packages come from where this machine has its own.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
         head -n 1)
[ -n "$mirror" ] || fail "this machine's apt names no Debian mirror (try apt-get update)"

root=$(mktemp -d /var/tmp/on_debian.XXXXXX)
clean() {
  local place
  for place in dev/null dev/urandom proc; do
    if mountpoint -q "$root/$place"; then umount "$root/$place" || exit 1; fi   # never delete through a mount
  done
  rm -rf --one-file-system "$root"
}
trap clean EXIT
trap 'exit 130' INT TERM

echo "Debian $1 ($suite) from $mirror in $root ..." >&2
mmdebstrap --quiet --variant=minbase --mode=root "$suite" "$root" "deb $mirror $suite main" ||
  fail "mmdebstrap could not make Debian $1"
cp /etc/hosts /etc/resolv.conf "$root/etc/"
# This machine's ways with apt (a proxy, say), but for its hooks, which run programs the chroot has not.
apt-config dump Acquire | grep '"' > "$root/etc/apt/apt.conf.d/90host" || true
git clone --quiet --no-local "$repository" "$root/repository"
mount -t proc proc "$root/proc"
for device in null urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
inside() {
  env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
    chroot "$root" /bin/bash -c "cd /repository && $1"
}
inside "$command" || fail "Debian $1: failed: $command"
echo "Debian $1: passed: $command" >&2
