#!/usr/bin/env bash
# Makes sure that a Docker engine answers: uses the one that is there, else installs one (Debian, root) and starts it.
set -euo pipefail

AIGO_TOOL="engine"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Engine packages come from this suite where the host's own are too old; its docker.io 26.1 needs libc >= 2.34 only.
readonly ENGINE_SUITE=trixie
# From a cold start on a slow disk dockerd answers within a few seconds; after that something is wrong.
readonly START_SECONDS=60
# dockerd stops its containers one by one before it leaves.
readonly STOP_SECONDS=30
readonly STATE_DIR=/run/aigo-engine
readonly PID_FILE="$STATE_DIR/dockerd.pid"
readonly LOG_FILE=/var/log/aigo-dockerd.log
readonly LOG_TAIL_LINES=25
readonly SOURCES_FILE=/etc/apt/sources.list.d/aigo-engine.sources
readonly PIN_FILE=/etc/apt/preferences.d/aigo-engine

usage() {
    cat <<USAGE
usage: engine.sh [start|stop|status]

  start   (default) use the engine that answers on DOCKER_HOST or $AIGO_DEFAULT_SOCKET if it is Docker >= $AIGO_MIN_ENGINE;
          else, as root on Debian, install docker.io and docker-cli and start dockerd in the background
  stop    stop the dockerd that 'start' started, and no other
  status  say which engine answers; exit code 3 if none does

dockerd logs to $LOG_FILE, its process id is in $PID_FILE.
USAGE
}

# ---- the engine that is there ----------------------------------------------------------------------------------------

# check_answer "API PRODUCT": refuses an engine that we know will not do.
check_answer() {
    local api="${1%% *}" product="${1#* }" where="${DOCKER_HOST:-unix://$AIGO_DEFAULT_SOCKET}"
    if ! version_at_least "$api" "$AIGO_MIN_API"; then
        die "the engine at $where ($product) speaks API $api, but $AIGO_MIN_API (Docker $AIGO_MIN_ENGINE) or newer is needed;" \
            "upgrade it, or point DOCKER_HOST at a newer one"
    fi
    say "using the engine at $where ($product, API $api)"
}

# explain_refusals: cases in which starting another dockerd would not help.
explain_refusals() {
    local socket
    socket="$(engine_socket)"
    if [ -n "${DOCKER_HOST:-}" ] && [ "$socket" != "$AIGO_DEFAULT_SOCKET" ] && [ "$socket" != /run/docker.sock ]; then
        die "no engine answers at DOCKER_HOST=$DOCKER_HOST; start it, or unset DOCKER_HOST to use $AIGO_DEFAULT_SOCKET"
    fi
    if [ -S "$socket" ] && [ ! -w "$socket" ]; then
        die "no permission to use $socket; run as root, or join its group: usermod -aG $(stat -c %G "$socket") $(id -un)," \
            "then log in again"
    fi
    local rootless="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock"
    if [ -S "$rootless" ] && engine_probe "$rootless" >/dev/null; then
        die "a rootless engine answers at $rootless; to use it: export DOCKER_HOST=unix://$rootless"
    fi
}

manual_remedy() {
    die "$1; install Docker $AIGO_MIN_ENGINE or newer and start it, or point DOCKER_HOST at an engine"
}

# ---- install -----------------------------------------------------------------------------------------------------------

dockerd_version() {
    have dockerd && dockerd --version 2>/dev/null | sed -n 's/^Docker version \([0-9][0-9.]*\).*/\1/p'
}

installed_is_new_enough() {
    local version
    version="$(dockerd_version)" && [ -n "$version" ] && version_at_least "$version" "$AIGO_MIN_ENGINE"
}

apt_update() {
    # An unreachable third-party source must not stop us: what is missing shows in the install.
    apt-get update -qq -o Acquire::Retries=3 >/dev/null || say "warning: apt-get update reported errors; going on"
}

# add_suite: makes docker.io and docker-cli of ENGINE_SUITE installable, and nothing else of it.
add_suite() {
    local mirror
    mirror="$(debian_mirror)"
    cat >"$SOURCES_FILE" <<SOURCES
# Written by aigo (image/setup/engine.sh): this release's own docker.io is older than Docker $AIGO_MIN_ENGINE.
Types: deb
URIs: $mirror
Suites: $ENGINE_SUITE
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    cat >"$PIN_FILE" <<PIN
# Written by aigo (image/setup/engine.sh): only the engine's two packages may come from $ENGINE_SUITE.
Package: *
Pin: release n=$ENGINE_SUITE
Pin-Priority: -1

Package: docker.io docker-cli
Pin: release n=$ENGINE_SUITE
Pin-Priority: 990
PIN
    say "wrote $SOURCES_FILE and $PIN_FILE (only docker.io and docker-cli of $ENGINE_SUITE)"
}

candidate_version() {
    # Without Debian's "+dfsg…" and without an epoch.
    apt-cache policy docker.io 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}\([0-9][0-9.]*\).*/\2/p'
}

install_engine() {
    local id codename candidate
    # shellcheck disable=SC1091
    id="$(. /etc/os-release 2>/dev/null && printf '%s' "${ID:-}")"
    # shellcheck disable=SC1091
    codename="$(. /etc/os-release 2>/dev/null && printf '%s' "${VERSION_CODENAME:-}")"
    if [ "$id" != debian ] || ! have apt-get; then
        manual_remedy "no engine answers, and this is not Debian (${id:-unknown system})"
    fi
    [ "$(id -u)" = 0 ] || manual_remedy "no engine answers, and installing one needs root"

    export DEBIAN_FRONTEND=noninteractive
    say "no engine answers; installing docker.io (Debian $codename)"
    apt_update
    candidate="$(candidate_version)"
    if [ -z "$candidate" ] || ! version_at_least "$candidate" "$AIGO_MIN_ENGINE"; then
        say "docker.io of $codename is ${candidate:-absent}, older than $AIGO_MIN_ENGINE: taking it from $ENGINE_SUITE"
        add_suite
        apt_update
        candidate="$(candidate_version)"
        if [ -z "$candidate" ] || ! version_at_least "$candidate" "$AIGO_MIN_ENGINE"; then
            manual_remedy "no docker.io >= $AIGO_MIN_ENGINE can be had from the package archive"
        fi
    fi
    local log
    log="$(mktemp)"
    # iptables: published ports and NAT. The keep-old answer is for hosts that already have a file of ours or theirs.
    if ! apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold -o Acquire::Retries=3 \
        docker.io docker-cli containerd runc iptables ca-certificates curl >"$log" 2>&1; then
        tail -n "$LOG_TAIL_LINES" "$log" >&2
        die "apt-get could not install docker.io $candidate; the log is $log"
    fi
    rm -f "$log"
    hash -r
    installed_is_new_enough || die "docker.io was installed, but dockerd is $(dockerd_version || true)"
    say "installed dockerd $(dockerd_version)"
}

# ---- start and stop ------------------------------------------------------------------------------------------------------

# identity PID: the process's start time in clock ticks (proc(5), field 22 of stat): a reused pid has another.
identity() {
    local stat fields
    stat="$(cat "/proc/$1/stat" 2>/dev/null)" || return 1
    # The name in field 2 may hold blanks: count from behind its closing bracket, where field 3 stands.
    read -r -a fields <<<"${stat##*) }"
    printf '%s\n' "${fields[19]}"
}

# our_dockerd: pid of the dockerd that we started, if it still runs.
our_dockerd() {
    local pid started
    [ -r "$PID_FILE" ] && read -r pid started <"$PID_FILE" || return 1
    [ -n "$pid" ] && [ "$(identity "$pid" || true)" = "$started" ] || return 1
    printf '%s\n' "$pid"
}

die_with_log() {
    say "the last lines of $LOG_FILE:"
    tail -n "$LOG_TAIL_LINES" "$LOG_FILE" >&2 || true
    die "$1"
}

wait_for_answer() {
    local pid="$1" deadline=$((SECONDS + START_SECONDS)) answer
    while [ "$SECONDS" -lt "$deadline" ]; do
        if answer="$(engine_probe "$AIGO_DEFAULT_SOCKET")"; then
            check_answer "$answer"
            return 0
        fi
        if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then
            rm -f "$PID_FILE"
            die_with_log "dockerd ended before it answered"
        fi
        sleep 0.2
    done
    [ -n "$pid" ] && die_with_log "dockerd did not answer within $START_SECONDS s"
    die "the docker service did not answer within $START_SECONDS s; see: journalctl -u docker"
}

start_dockerd() {
    local pid
    [ "$(id -u)" = 0 ] || manual_remedy "no engine answers, and starting dockerd needs root"
    if pid="$(our_dockerd)"; then
        say "dockerd (pid $pid) was started earlier; waiting for its answer"
        wait_for_answer "$pid"
        return
    fi
    if [ -d /run/systemd/system ]; then
        say "starting the docker service"
        systemctl start docker.service || die "systemctl could not start docker; see: journalctl -u docker"
        wait_for_answer ""
        return
    fi
    say "starting dockerd (log: $LOG_FILE)"
    # A session of its own: it outlives this shell and its terminal. fd 9 is our lock and must not be inherited.
    # PATH: on Debian iptables and containerd live in sbin and bin, which a caller's PATH may lack.
    PATH="/usr/local/sbin:/usr/sbin:/sbin:$PATH" setsid nohup dockerd --host "unix://$AIGO_DEFAULT_SOCKET" \
        >"$LOG_FILE" 2>&1 </dev/null 9>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(identity "$pid" || true)" >"$PID_FILE"
    wait_for_answer "$pid"
}

# locked COMMAND…: two callers at the same time must not both install or start.
locked() {
    mkdir -p "$STATE_DIR" 2>/dev/null || manual_remedy "no engine answers, and starting one needs root"
    exec 9>"$STATE_DIR/lock"
    flock -w 600 9 || die "another engine.sh holds $STATE_DIR/lock for more than 10 minutes"
    "$@"
}

start_locked() {
    local answer
    # Somebody else may have started it while we waited for the lock.
    if answer="$(engine_probe)"; then
        check_answer "$answer"
        return
    fi
    if ! our_dockerd >/dev/null && ! installed_is_new_enough; then
        install_engine
        # The package may have started it as a service.
        if [ -d /run/systemd/system ] && answer="$(engine_probe)"; then
            check_answer "$answer"
            return
        fi
    fi
    start_dockerd
}

cmd_start() {
    local answer
    if answer="$(engine_probe)"; then
        check_answer "$answer"
        return
    fi
    explain_refusals
    [ "$(id -u)" = 0 ] || manual_remedy "no engine answers, and installing or starting one needs root"
    locked start_locked
}

stop_locked() {
    local pid deadline
    if ! pid="$(our_dockerd)"; then
        rm -f "$PID_FILE"
        say "no dockerd of ours runs; nothing to stop"
        return
    fi
    say "stopping dockerd (pid $pid)"
    kill -TERM "$pid" 2>/dev/null || true
    deadline=$((SECONDS + STOP_SECONDS))
    while our_dockerd >/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            say "warning: dockerd did not leave within $STOP_SECONDS s; killing it"
            kill -KILL "$pid" 2>/dev/null || true
            sleep 1
            break
        fi
        sleep 0.2
    done
    rm -f "$PID_FILE"
    say "stopped"
}

cmd_stop() {
    [ "$(id -u)" = 0 ] || die "stopping dockerd needs root"
    locked stop_locked
}

cmd_status() {
    local answer
    if answer="$(engine_probe)"; then
        check_answer "$answer"
        return
    fi
    say "no engine answers at ${DOCKER_HOST:-unix://$AIGO_DEFAULT_SOCKET}"
    exit 3
}

[ "$#" -le 1 ] || {
    usage >&2
    exit 2
}
case "${1:-start}" in
start) cmd_start ;;
stop) cmd_stop ;;
status) cmd_status ;;
-h | --help) usage ;;
*)
    say "error: unknown command '$1'; allowed: start, stop, status"
    exit 2
    ;;
esac
