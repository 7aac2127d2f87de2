# shellcheck shell=bash
# Shared by the scripts beside it: named and timed stages, and tools that are fetched when
# a machine does not have them. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Under target/, so that nothing is installed outside of the checkout that need not be.
tools=$root/target/ci
export PATH=$tools/programs/bin:$tools/prometheus/usr/bin:$PATH
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1

stage=start
done_stages=()

# stage NAME COMMAND...: runs it, and remembers how long it took. Stops the script if it fails.
stage() {
  stage=$1
  shift
  printf '\n=== %s\n' "$stage"
  local started=$SECONDS
  "$@" </dev/null
  done_stages+=("$(printf '%5d s  %s' $((SECONDS - started)) "$stage")")
}

# The last lines of every run: what passed, what failed, what was not run on purpose.
summary() {
  local status=${1:-$?}
  printf '\n=== summary\n'
  [ ${#done_stages[@]} -eq 0 ] || printf '%s\n' "${done_stages[@]}"
  if [ $status -eq 0 ]; then
    printf '%5d s  everything passed\n' "$SECONDS"
  else
    printf '%5d s  FAILED in stage "%s" (status %d)\n' "$SECONDS" "$stage" "$status"
  fi
}
trap summary EXIT

have() { command -v "$1" >/dev/null 2>&1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# need_packages COMMAND PACKAGE...: installs the packages unless the command is there.
need_packages() {
  local command=$1
  shift
  have "$command" && return
  as_root apt-get update -qq
  as_root apt-get install -y -qq --no-install-recommends "$@"
  have "$command" || { echo "$command is still missing after installing $*" >&2; return 1; }
}

# need_wheels NAME [PIP-OPTION...]: what .ci/NAME.txt lists, from PyPI, into $tools/NAME.
need_wheels() {
  local list=$root/.ci/$1.txt place=$tools/$1
  shift
  cmp -s "$list" "$place/installed.txt" && return
  need_packages python3 python3
  python3 -m pip --version >/dev/null 2>&1 || need_packages pip3 python3-pip
  rm -rf "$place"
  python3 -m pip install --quiet --root-user-action=ignore --only-binary :all: --target "$place" "$@" -r "$list"
  cp "$list" "$place/installed.txt"
}

# Prometheus and promtool, from Debian's package but not installed: installing it would
# start a server.
need_prometheus() {
  have promtool && have prometheus && return
  mkdir -p "$tools/prometheus"
  (
    cd "$tools/prometheus"
    apt-get download -qq prometheus || { as_root apt-get update -qq && apt-get download -qq prometheus; }
    dpkg-deb -x prometheus_*.deb .
  )
  promtool --version | head -1
}
