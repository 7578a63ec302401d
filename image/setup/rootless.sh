#!/usr/bin/env bash
# Makes sure that a rootless Docker engine answers for the tests: installs what it needs beside the Docker that is there
# (Debian, root), starts it as an unprivileged user on a socket of its own, and gives it images of the Docker engine.
set -euo pipefail

AIGO_TOOL="rootless"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

readonly STATE_DIR=/run/aigo-rootless
# The unprivileged user, made for the tests, with its XDG_RUNTIME_DIR.
readonly TEST_USER=aigo-rootless
readonly USER_DIR="$STATE_DIR/user"
readonly SOCKET="$USER_DIR/docker.sock"
# Ids inside its containers: a range of its own, as useradd gives it where /etc/login.defs says so.
readonly SUBIDS=65536
readonly START_SECONDS=60
readonly LOG_TAIL_LINES=25
# Where Docker's own packages and Debian's have the script.
readonly SCRIPTS=(/usr/bin/dockerd-rootless.sh /usr/share/docker.io/contrib/dockerd-rootless.sh)
# What `start` cannot do on this machine is no failure of the tests.
readonly EXIT_IMPOSSIBLE=3

usage() {
    cat <<USAGE
usage: rootless.sh [start|stop] [IMAGE…]

  start   (default) install what a rootless Docker needs and is missing (Debian, root), make the user $TEST_USER, start
          the engine as that user ($SOCKET), and copy each IMAGE of the Docker engine to it
          if it does not have it; exit code $EXIT_IMPOSSIBLE if this machine cannot have one
  stop    stop the engine that 'start' started, and no other

It logs to $STATE_DIR/log.
USAGE
}

impossible() {
    say "$*; the tests on rootless Docker are left out"
    exit "$EXIT_IMPOSSIBLE"
}

rootless_script() {
    local script
    for script in "${SCRIPTS[@]}"; do
        if [ -f "$script" ]; then
            printf '%s\n' "$script"
            return
        fi
    done
    return 1
}

install_packages() {
    local packages=()
    rootless_script >/dev/null || impossible "there is no dockerd-rootless.sh"
    have rootlesskit || have docker-rootlesskit || packages+=(rootlesskit)
    have slirp4netns || packages+=(slirp4netns)
    have newuidmap || packages+=(uidmap)
    have fuse-overlayfs || packages+=(fuse-overlayfs)
    [ ${#packages[@]} -gt 0 ] || return 0
    have apt-get || impossible "${packages[*]} is missing, and this is not Debian"
    say "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq -o Acquire::Retries=3 >/dev/null || say "warning: apt-get update reported errors; going on"
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
        impossible "apt-get could not install ${packages[*]}"
}

make_user() {
    local uid first
    getent passwd "$TEST_USER" >/dev/null || useradd --create-home --shell /bin/sh "$TEST_USER"
    for file in /etc/subuid /etc/subgid; do
        if ! grep -q "^$TEST_USER:" "$file" 2>/dev/null; then
            # Above every range that is given out already.
            first="$(awk -F: -v last=100000 '$2 + $3 > last { last = $2 + $3 } END { print last }' "$file" 2>/dev/null || echo 100000)"
            printf '%s:%s:%s\n' "$TEST_USER" "$first" "$SUBIDS" >>"$file"
        fi
    done
    uid="$(id -u "$TEST_USER")"
    mkdir -p "$USER_DIR"
    chown "$uid:$uid" "$USER_DIR"
    chmod 0700 "$USER_DIR"
    [ -c /dev/net/tun ] || impossible "there is no /dev/net/tun, which rootless networks need"
    # As udev makes it; a rootless engine's user must be able to open it.
    if [ "$(stat -c %a /dev/net/tun)" != 666 ]; then
        chmod 0666 /dev/net/tun
        say "made /dev/net/tun usable for everybody, as udev does"
    fi
}

# become_user COMMAND…: never returns; with the user's ids and nothing else of this environment. For subshells.
become_user() {
    local uid home
    uid="$(id -u "$TEST_USER")"
    home="$(getent passwd "$TEST_USER" | cut -d: -f6)"
    cd "$home"
    exec setpriv --reuid "$uid" --regid "$uid" --init-groups env -i HOME="$home" USER="$TEST_USER" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR="$USER_DIR" "$@"
}

answers() { [ -S "$SOCKET" ] && curl --silent --fail --max-time "$AIGO_PROBE_SECONDS" --unix-socket "$SOCKET" http://d/_ping >/dev/null; }

start_engine() {
    local deadline pid
    if answers; then
        return
    fi
    rm -f "$SOCKET"
    (become_user setsid nohup sh "$(rootless_script)" --host "unix://$SOCKET") >"$STATE_DIR/log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid" >"$STATE_DIR/pid"
    deadline=$((SECONDS + START_SECONDS))
    until answers; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$pid" 2>/dev/null; then
            tail -n "$LOG_TAIL_LINES" "$STATE_DIR/log" >&2 || true
            impossible "it did not answer at $SOCKET"
        fi
        sleep 0.1
    done
    say "a rootless Docker answers at $SOCKET"
}

copy_image() {
    local image="$1" wanted
    wanted="$(docker image inspect --format '{{.Id}}' "$image")" || die "the Docker engine has no image $image"
    [ "$(docker --host "unix://$SOCKET" image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)" != "$wanted" ] || return 0
    say "copying $image to $SOCKET"
    docker save "$image" | docker --host "unix://$SOCKET" load >/dev/null ||
        die "the image $image could not be copied to $SOCKET"
}

stop_engine() {
    local pid
    pid="$(cat "$STATE_DIR/pid" 2>/dev/null)" || return 0
    # A reused pid is somebody else's.
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "rootlesskit .*$USER_DIR"; then
        kill "$pid" 2>/dev/null || true
    fi
    rm -f "$STATE_DIR/pid"
}

command="${1:-start}"
[ $# -eq 0 ] || shift
case "$command" in
start)
    [ "$(id -u)" = 0 ] || impossible "setting it up for the tests needs root"
    [ "$(uname -s)" = Linux ] || impossible "it needs Linux"
    mkdir -p "$STATE_DIR"
    chmod 0755 "$STATE_DIR"
    exec 9>"$STATE_DIR/lock"
    flock -w 600 9 || die "another rootless.sh holds $STATE_DIR/lock for more than 10 minutes"
    install_packages
    make_user
    start_engine
    for image in "$@"; do copy_image "$image"; done
    ;;
stop) stop_engine ;;
-h | --help) usage ;;
*)
    say "error: unknown command '$command'; allowed: start, stop"
    exit 2
    ;;
esac
