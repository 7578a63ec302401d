# shellcheck shell=bash
# shellcheck disable=SC2034  # the scripts that source this use the constants
# Shared by the scripts of this directory: messages, and talking to a Docker engine over its socket. Sourced, never run.

# The oldest Docker Engine API that is accepted: 1.43 came with Docker 24.0.
readonly AIGO_MIN_API="1.43"
readonly AIGO_MIN_ENGINE="24.0"
# An engine that answers does so in milliseconds; a socket without a reader must not hold us up.
readonly AIGO_PROBE_SECONDS=3
readonly AIGO_DEFAULT_SOCKET=/var/run/docker.sock

say() { printf '%s: %s\n' "${AIGO_TOOL:-aigo}" "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Prefix of a command that must end by itself: "${DEADLINE[@]}" SECONDS COMMAND… (macOS has no timeout, but perl).
if have timeout; then
    readonly DEADLINE=(timeout)
else
    readonly DEADLINE=(perl -e 'alarm shift; exec @ARGV or exit 127')
fi

# version_at_least A B: true if dotted version A is B or newer.
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# engine_socket: the path of the unix socket that the engine is expected on; nothing for tcp:// and ssh:// engines.
engine_socket() {
    case "${DOCKER_HOST:-}" in
    "") printf '%s\n' "$AIGO_DEFAULT_SOCKET" ;;
    unix://*) printf '%s\n' "${DOCKER_HOST#unix://}" ;;
    *) ;;
    esac
}

# engine_probe [SOCKET]: prints "API-VERSION PRODUCT" of the engine that answers, fails if none does.
# Over a unix socket it asks /_ping, which every version answers with its API version in a header.
engine_probe() {
    local socket="${1-$(engine_socket)}" headers api product
    if [ -n "$socket" ] && [ ! -S "$socket" ]; then
        return 1
    fi
    if [ -n "$socket" ] && have curl; then
        headers="$(curl --silent --show-error --max-time "$AIGO_PROBE_SECONDS" --unix-socket "$socket" \
            --dump-header - --output /dev/null http://localhost/_ping 2>/dev/null | tr -d '\r')" || return 1
        api="$(sed -n 's/^[Aa]pi-[Vv]ersion: *//p' <<<"$headers" | head -n 1)"
        product="$(sed -n 's/^[Ss]erver: *//p' <<<"$headers" | head -n 1)"
    elif have docker; then
        # A tcp:// or ssh:// engine, or no curl: let the client ask.
        local host="${DOCKER_HOST:-}"
        [ -n "$socket" ] && host="unix://$socket"
        api="$(DOCKER_HOST="$host" "${DEADLINE[@]}" "$AIGO_PROBE_SECONDS" \
            docker version --format '{{.Server.APIVersion}}' 2>/dev/null)" || return 1
        product="Docker"
    else
        return 1
    fi
    [ -n "$api" ] || return 1
    printf '%s %s\n' "$api" "${product:-unknown}"
}

# need_value FLAG COUNT: an option that takes a value was given one.
need_value() {
    [ "$2" -ge 2 ] || {
        say "error: $1 needs a value"
        exit 2
    }
}

# debian_mirror: the archive that this Debian host uses, so that a company's mirror is used by us too.
debian_mirror() {
    local uri
    # shellcheck disable=SC2016  # apt expands these, not the shell
    uri="$(apt-get indextargets --format '$(SITE) $(ORIGIN) $(LABEL) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's/ Debian Debian main$//p' | grep -E '^https?://' | head -n 1)" || true
    printf '%s\n' "${uri:-http://deb.debian.org/debian}"
}

# debian_security_mirror: the same for the security archive.
debian_security_mirror() {
    local uri
    # shellcheck disable=SC2016  # apt expands these, not the shell
    uri="$(apt-get indextargets --format '$(SITE) $(ORIGIN) $(LABEL) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's/ Debian Debian-Security main$//p' | grep -E '^https?://' | head -n 1)" || true
    printf '%s\n' "${uri:-http://deb.debian.org/debian-security}"
}
