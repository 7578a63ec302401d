#!/usr/bin/env bash
# Makes sure that two Podman engines answer for the tests, a rootful one and one of an unprivileged user: installs Podman
# (Debian, root), starts `podman system service` for each on a socket of its own, and gives them images of the Docker engine.
set -euo pipefail

AIGO_TOOL="podman"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

readonly MIN_PODMAN="4.3"
readonly STATE_DIR=/run/aigo-podman
readonly ROOT_SOCKET="$STATE_DIR/podman.sock"
# The unprivileged user, made for the tests, with its XDG_RUNTIME_DIR.
readonly TEST_USER=aigo-podman
readonly USER_DIR="$STATE_DIR/user"
readonly USER_SOCKET="$USER_DIR/podman/podman.sock"
# Ids inside its containers: a range of its own, as useradd gives it where /etc/login.defs says so.
readonly SUBIDS=65536
readonly START_SECONDS=30
readonly LOG_TAIL_LINES=25
# What `start` cannot do on this machine is no failure of the tests.
readonly EXIT_IMPOSSIBLE=3

usage() {
    cat <<USAGE
usage: podman.sh [start|stop] [IMAGE…]

  start   (default) install Podman if it is missing (Debian, root), make the user $TEST_USER, start one engine as root
          ($ROOT_SOCKET) and one as that user ($USER_SOCKET), and copy each IMAGE of the Docker engine to both
          that do not have it; exit code $EXIT_IMPOSSIBLE if this machine cannot have them
  stop    stop the engines that 'start' started, and no other

They log to $STATE_DIR/root.log and $STATE_DIR/user.log.
USAGE
}

impossible() {
    say "$*"
    exit "$EXIT_IMPOSSIBLE"
}

podman_version() { podman --version 2>/dev/null | sed -n 's/^podman version \([0-9][0-9.]*\).*/\1/p'; }

install_podman() {
    local packages=() version
    # crun of Debian 12 refuses hosts that have both cgroup versions; runc takes them.
    have podman || packages+=(podman runc netavark aardvark-dns)
    have slirp4netns || packages+=(slirp4netns)
    have newuidmap || packages+=(uidmap)
    have fuse-overlayfs || packages+=(fuse-overlayfs)
    have nft || have iptables || packages+=(iptables)
    if [ ${#packages[@]} -gt 0 ]; then
        have apt-get || impossible "Podman is missing, and this is not Debian; the tests on Podman are left out"
        say "installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq -o Acquire::Retries=3 >/dev/null || say "warning: apt-get update reported errors; going on"
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
            impossible "apt-get could not install Podman; the tests on it are left out"
    fi
    version="$(podman_version)"
    version_at_least "${version:-0}" "$MIN_PODMAN" ||
        impossible "podman ${version:-?} is older than $MIN_PODMAN; the tests on it are left out"
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
    mkdir -p "$USER_DIR/podman"
    chown -R "$uid:$uid" "$USER_DIR"
    chmod 0700 "$USER_DIR"
    local config
    config="$(user_home)/.config/containers"
    mkdir -p "$config"
    # Without a word it may take `vfs`, which copies every layer of every image.
    printf '[storage]\ndriver = "overlay"\n' >"$config/storage.conf"
    chown -R "$uid:$uid" "$(user_home)/.config"
    [ -c /dev/net/tun ] || impossible "there is no /dev/net/tun, which rootless networks need; the tests on Podman are left out"
    # As udev makes it; a rootless engine's user must be able to open it.
    if [ "$(stat -c %a /dev/net/tun)" != 666 ]; then
        chmod 0666 /dev/net/tun
        say "made /dev/net/tun usable for everybody, as udev does"
    fi
}

user_home() { getent passwd "$TEST_USER" | cut -d: -f6; }

# become_user COMMAND…: never returns; with the user's ids and nothing else of this environment. For subshells.
become_user() {
    local uid home
    uid="$(id -u "$TEST_USER")"
    home="$(user_home)"
    cd "$home"
    exec setpriv --reuid "$uid" --regid "$uid" --init-groups env -i HOME="$home" USER="$TEST_USER" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR="$USER_DIR" "$@"
}

answers() { [ -S "$1" ] && curl --silent --fail --max-time "$AIGO_PROBE_SECONDS" --unix-socket "$1" http://d/_ping >/dev/null; }

# wait_for NAME SOCKET PID
wait_for() {
    local deadline=$((SECONDS + START_SECONDS))
    until answers "$2"; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$3" 2>/dev/null; then
            tail -n "$LOG_TAIL_LINES" "$STATE_DIR/$1.log" >&2 || true
            impossible "the $1 Podman did not answer at $2; the tests on Podman are left out"
        fi
        sleep 0.1
    done
}

start_services() {
    mkdir -p "$STATE_DIR"
    chmod 0755 "$STATE_DIR"
    if ! answers "$ROOT_SOCKET"; then
        rm -f "$ROOT_SOCKET"
        # conmon leaves a file `oom` in its working directory.
        (cd "$STATE_DIR" && PATH="/usr/local/sbin:/usr/sbin:/sbin:$PATH" exec setsid nohup podman system service --time=0 \
            "unix://$ROOT_SOCKET" >"$STATE_DIR/root.log" 2>&1 </dev/null 9>&-) &
        echo $! >"$STATE_DIR/root.pid"
        wait_for root "$ROOT_SOCKET" "$(cat "$STATE_DIR/root.pid")"
    fi
    make_user
    if ! answers "$USER_SOCKET"; then
        rm -f "$USER_SOCKET"
        (become_user setsid nohup podman system service --time=0 "unix://$USER_SOCKET") \
            >"$STATE_DIR/user.log" 2>&1 </dev/null 9>&- &
        echo $! >"$STATE_DIR/user.pid"
        wait_for user "$USER_SOCKET" "$(cat "$STATE_DIR/user.pid")"
    fi
    say "podman $(podman_version) answers at $ROOT_SOCKET and, rootless, at $USER_SOCKET"
}

# image_id SOCKET IMAGE
image_id() {
    curl --silent --fail --unix-socket "$1" "http://d/v1.41/images/$2/json" 2>/dev/null |
        sed -n 's/^{"Id":"\([^"]*\)".*/\1/p'
}

copy_image() {
    local image="$1" wanted socket
    wanted="$(docker image inspect --format '{{.Id}}' "$image")" || die "the Docker engine has no image $image"
    for socket in "$ROOT_SOCKET" "$USER_SOCKET"; do
        [ "$(image_id "$socket" "$image" || true)" != "$wanted" ] || continue
        say "copying $image to $socket"
        docker save "$image" | curl --silent --show-error --fail --unix-socket "$socket" -X POST \
            -H 'Content-Type: application/x-tar' -T - http://d/v1.41/images/load >/dev/null ||
            die "the image $image could not be copied to $socket"
    done
}

stop_service() {
    local pid
    pid="$(cat "$STATE_DIR/$1.pid" 2>/dev/null)" || return 0
    # A reused pid is somebody else's.
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "^podman system service .*$STATE_DIR"; then
        kill "$pid" 2>/dev/null || true
    fi
    rm -f "$STATE_DIR/$1.pid"
}

command="${1:-start}"
[ $# -eq 0 ] || shift
case "$command" in
start)
    [ "$(id -u)" = 0 ] || impossible "setting up Podman for the tests needs root; the tests on it are left out"
    [ "$(uname -s)" = Linux ] || impossible "Podman's containers need Linux; the tests on it are left out"
    mkdir -p "$STATE_DIR"
    exec 9>"$STATE_DIR/lock"
    flock -w 600 9 || die "another podman.sh holds $STATE_DIR/lock for more than 10 minutes"
    install_podman
    start_services
    for image in "$@"; do copy_image "$image"; done
    ;;
stop)
    stop_service root
    stop_service user
    ;;
-h | --help) usage ;;
*)
    say "error: unknown command '$command'; allowed: start, stop"
    exit 2
    ;;
esac
