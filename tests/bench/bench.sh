#!/usr/bin/env bash
# Measures what docs/benchmarks.md states, against Docker and nginx in the same run, and prints the table.
# Arguments go to figures.py: names of sections (launch, messages, proxy, runner, service, queue, burst), and --quick for a first look.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

AIGO=$(realpath "${AIGO:?say where the release build of aigo is}")
RUNNER=$(realpath "${RUNNER:?say where the static aigo-runner is}")
export AIGO RUNNER
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# nsenter puts the load generator into a container's network, where the proxy knows it; that needs root.
if [ "$(id -u)" != 0 ]; then
    echo "error: the measurements enter a container's network namespace; run this as root" >&2
    exit 1
fi
if ! command -v docker >/dev/null 2>&1; then
    echo "error: the baseline is Docker's own command line; install docker-cli, then try again" >&2
    exit 1
fi
missing=()
command -v wrk >/dev/null 2>&1 || missing+=(wrk)
command -v nginx >/dev/null 2>&1 || missing+=(nginx-light)
command -v nsenter >/dev/null 2>&1 || missing+=(util-linux)
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "error: missing: ${missing[*]}; install them with your package manager, then try again" >&2
        exit 1
    fi
    echo "installing: ${missing[*]}" >&2
    # In runlevel 1 Debian's packages start no service: port 80 of this host is not ours.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
# What was compiled or downloaded just now should be on disk before fsync is timed.
sync
exec python3 -B "$here/figures.py" "$@"
