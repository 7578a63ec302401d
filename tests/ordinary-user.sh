#!/usr/bin/env bash
# Makes the ordinary user as whom tests/run.sh runs a part of the tests a second time, in the group that may use the
# engine's socket, and prints the user's name. Exit code 3, with the reason, if this machine cannot have such a user.
set -euo pipefail

AIGO_TOOL="ordinary user"
# shellcheck source-path=SCRIPTDIR source=../image/setup/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../image/setup/lib.sh"

readonly TEST_USER=aigo-test
readonly EXIT_IMPOSSIBLE=3

impossible() {
    say "$*"
    exit "$EXIT_IMPOSSIBLE"
}

[ "$(uname -s)" = Linux ] || impossible "setpriv, which starts aigo as this user, exists on Linux only"
# Without root the tests run as an ordinary user anyhow.
[ "$(id -u)" = 0 ] || impossible "running aigo as another user needs root; all tests run as $(id -un)"
for tool in setpriv useradd usermod; do
    PATH="$PATH:/usr/sbin:/sbin" have "$tool" || impossible "the program $tool is missing"
done

socket="$(engine_socket)"
[ -S "$socket" ] || impossible "the engine has no socket on this machine (DOCKER_HOST=${DOCKER_HOST:-})"
# /var/run is a link to /run on most systems; a link's own group says nothing about the socket.
socket="$(realpath "$socket")"
group="$(stat -c %G "$socket")"
mode="$(stat -c %a "$socket")"
case "$group" in
root | UNKNOWN) impossible "the socket $socket belongs to the group $group, which no ordinary user should join" ;;
esac
# The second digit from the right holds the group's permissions: 2 is writing, which connecting needs.
[ $((8#$mode & 8#020)) -ne 0 ] || impossible "the group $group may not use the socket $socket (mode $mode)"

export PATH="$PATH:/usr/sbin:/sbin"
getent passwd "$TEST_USER" >/dev/null || useradd --create-home --user-group --shell /bin/sh "$TEST_USER"
usermod --append --groups "$group" "$TEST_USER"

folder="${TMPDIR:-/tmp}"
setpriv --reuid "$(id -u "$TEST_USER")" --regid "$(id -g "$TEST_USER")" --init-groups \
    sh -c 'test -x "$1" && test -w "$2"' sh "$folder" "$socket" ||
    impossible "$TEST_USER cannot use the folder for temporary files ($folder) and the socket $socket"
printf '%s\n' "$TEST_USER"
