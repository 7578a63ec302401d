#!/usr/bin/env bash
# Makes sure that the engine has the base image: uses it if present, else pulls it, else builds it from Debian's archive.
set -euo pipefail

AIGO_TOOL="base-image"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

readonly DEFAULT_TAG=debian:trixie-slim
# A registry that is there answers within this time; behind a firewall that drops packets the engine would wait minutes.
readonly PULL_ANSWER_SECONDS=15
# The image is 30 MB compressed: a line on which this is not enough is better served by a local mirror.
readonly PULL_SECONDS=300
readonly BOOTSTRAP_SECONDS=900

usage() {
    cat <<USAGE
usage: base-image.sh [--no-pull] [TAG]

Makes TAG (default $DEFAULT_TAG) present in the engine: uses it if it is there, else pulls it (gives up if no registry
answers within $PULL_ANSWER_SECONDS s), else builds a Debian base image with mmdebstrap from the package archive that this host
uses and imports it under TAG. Only debian:SUITE and debian:SUITE-slim can be built that way, on a Debian host.

An image built so carries the label aigo.base.source=mmdebstrap.

  --no-pull   do not ask a registry
USAGE
}

# ---- the engine, by its client or by its socket ------------------------------------------------------------------------

# api_client: sets CLIENT to the curl command that talks to the engine's socket.
CLIENT=()
api_client() {
    local socket
    socket="$(engine_socket)"
    [ -n "$socket" ] || die "no docker client is installed and DOCKER_HOST is not a unix socket; install docker-cli"
    have curl || die "neither docker nor curl is installed; install one of them"
    CLIENT=(curl --silent --show-error --fail-with-body --unix-socket "$socket")
}

api() {
    api_client
    "${CLIENT[@]}" "$@"
}

urlencode() {
    local text="$1" out="" char i
    for ((i = 0; i < ${#text}; i++)); do
        char="${text:i:1}"
        case "$char" in
        [A-Za-z0-9._~-]) out+="$char" ;;
        *) out+="$(printf '%%%02X' "'$char")" ;;
        esac
    done
    printf '%s' "$out"
}

image_present() {
    if have docker; then
        docker image inspect "$1" >/dev/null 2>&1
    else
        api --max-time 10 --output /dev/null "http://localhost/images/$1/json" 2>/dev/null
    fi
}

try_pull() {
    local tag="$1" log pid deadline=$((SECONDS + PULL_ANSWER_SECONDS)) command
    if have docker; then
        command=(docker pull "$tag")
    else
        api_client
        command=("${CLIENT[@]}" --no-buffer --request POST
            "http://localhost/images/create?fromImage=$(urlencode "${tag%:*}")&tag=$(urlencode "${tag##*:}")")
    fi
    log="$(mktemp)"
    say "pulling $tag (giving up after $PULL_ANSWER_SECONDS s without an answer)"
    # One simple command, so that its pid takes our signal and passes it on to the client.
    "${DEADLINE[@]}" "$PULL_SECONDS" "${command[@]}" >"$log" 2>&1 &
    pid=$!
    # The first line is written when the registry has answered, well or ill.
    while kill -0 "$pid" 2>/dev/null; do
        if [ ! -s "$log" ] && [ "$SECONDS" -ge "$deadline" ]; then
            kill "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
    wait "$pid" 2>/dev/null || true
    # The API reports a failed pull inside a 200 answer: what counts is whether the image is there.
    if image_present "$tag"; then
        rm -f "$log"
        return 0
    fi
    if [ -s "$log" ]; then
        say "no registry gave it: $(tail -n 2 "$log" | tr '\n' ' ' | cut -c 1-300)"
    else
        say "no registry answered within $PULL_ANSWER_SECONDS s"
    fi
    rm -f "$log"
    return 1
}

# import_tar TAR TAG: makes an image with a sensible configuration of a root file system.
import_tar() {
    local tar="$1" tag="$2" changes=(
        'CMD ["bash"]'
        'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
        'LABEL aigo.base.source=mmdebstrap'
        "LABEL aigo.base.created=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    )
    local args=() query="" change
    for change in "${changes[@]}"; do
        args+=(--change "$change")
        query+="&changes=$(urlencode "$change")"
    done
    if have docker; then
        docker import "${args[@]}" --message "built by mmdebstrap from the Debian archive" "$tar" "$tag" >/dev/null
    else
        local answer
        answer="$(api --max-time "$BOOTSTRAP_SECONDS" --request POST --header 'Content-Type: application/x-tar' --upload-file "$tar" \
            "http://localhost/images/create?fromSrc=-&repo=$(urlencode "${tag%:*}")&tag=$(urlencode "${tag##*:}")$query")"
        case "$answer" in *'"error"'*) die "the engine refused the import: $answer" ;; esac
    fi
}

# ---- the bootstrap -------------------------------------------------------------------------------------------------------

need_mmdebstrap() {
    have mmdebstrap && return
    have apt-get || die "cannot build $1 here: mmdebstrap needs Debian; pull or load the image by hand"
    [ "$(id -u)" = 0 ] || die "cannot build $1: mmdebstrap is not installed; as root: apt-get install mmdebstrap"
    say "installing mmdebstrap"
    local log
    log="$(mktemp)"
    apt-get update -qq >/dev/null 2>&1 || say "warning: apt-get update reported errors; going on"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "apt-get could not install mmdebstrap; the log is $log"
    }
    rm -f "$log"
}

# apt_proxy KIND: the proxy of the host's apt configuration, which mmdebstrap would not read.
apt_proxy() {
    local proxy=""
    eval "$(apt-config shell proxy "Acquire::$1::Proxy" 2>/dev/null || true)"
    [ "$proxy" = DIRECT ] || printf '%s' "$proxy"
}

WORK=""
cleanup() {
    [ -z "$WORK" ] || rm -rf "$WORK"
}

bootstrap() {
    local tag="$1" suite mirror security proxy
    case "$tag" in
    debian:*) suite="${tag#debian:}" suite="${suite%-slim}" ;;
    *) die "$tag is neither present nor to be pulled, and only debian:SUITE-slim can be built here; pull or load it by hand" ;;
    esac
    need_mmdebstrap "$tag"
    mirror="$(debian_mirror)"
    security="$(debian_security_mirror)"
    proxy="$(apt_proxy http)"
    [ -z "$proxy" ] || export http_proxy="${http_proxy:-$proxy}"
    proxy="$(apt_proxy https)"
    [ -z "$proxy" ] || export https_proxy="${https_proxy:-$proxy}"

    local options=(--variant=minbase)
    # Like the official slim image: no manuals and no translations, now and in later installs; copyright files stay.
    local path
    for path in '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/lintian/*'; do
        options+=("--dpkgopt=path-exclude=$path")
    done
    options+=('--dpkgopt=path-include=/usr/share/doc/*/copyright')
    # apt can use an https mirror only with the certificates there.
    case "$mirror$security" in *https://*) options+=(--include=ca-certificates) ;; esac
    # What the host's own apt had to be told about the age of the archive's index holds for the same archive here.
    local keep
    for keep in Acquire::Check-Valid-Until Acquire::Check-Date; do
        local value=""
        eval "$(apt-config shell value "$keep" 2>/dev/null || true)"
        [ -z "$value" ] || options+=("--aptopt=$keep \"$value\"")
    done

    say "building $tag with mmdebstrap from $mirror"
    WORK="$(mktemp -d)"
    trap cleanup EXIT
    "${DEADLINE[@]}" "$BOOTSTRAP_SECONDS" mmdebstrap "${options[@]}" "$suite" "$WORK/root.tar" \
        "deb $mirror $suite main" "deb $mirror $suite-updates main" "deb $security $suite-security main" \
        >"$WORK/log" 2>&1 </dev/null || {
        tail -n 25 "$WORK/log" >&2
        die "mmdebstrap could not build $suite from $mirror"
    }
    say "importing it ($(du -m "$WORK/root.tar" | cut -f 1) MB)"
    import_tar "$WORK/root.tar" "$tag"
    image_present "$tag" || die "the engine took the import, but has no $tag"
    say "built $tag"
}

# ---- command line ----------------------------------------------------------------------------------------------------------

pull=yes
tag=""
while [ "$#" -gt 0 ]; do
    case "$1" in
    -h | --help)
        usage
        exit 0
        ;;
    --no-pull) pull=no ;;
    -*)
        say "error: unknown option '$1'; allowed: --no-pull, --help"
        exit 2
        ;;
    *)
        [ -z "$tag" ] || {
            say "error: more than one image tag: '$tag' and '$1'"
            exit 2
        }
        tag="$1"
        ;;
    esac
    shift
done
tag="${tag:-$DEFAULT_TAG}"
case "${tag##*/}" in
*:*) ;;
*)
    say "error: '$tag' has no tag; write NAME:TAG, for example $DEFAULT_TAG"
    exit 2
    ;;
esac

engine_probe "$(engine_socket)" >/dev/null || die "no engine answers; start one: $(dirname -- "$0")/engine.sh"
if image_present "$tag"; then
    say "$tag is present"
elif [ "$pull" = yes ] && try_pull "$tag"; then
    say "pulled $tag"
else
    bootstrap "$tag"
fi
