# shellcheck shell=bash
# What the checks of the system's service (check.sh) and of a person's (user.sh) have in common. Sourced, by a script that says whose:
#   SYSTEMCTL  asks the service manager        PORT   where the API answers     ENGINE  asks the engine
#   DATA       the data directory              WORK   the folder worked in      SLICE   the cgroup of all that aigo limits
# Each check prints a line: `PASS name` or `FAIL name: why`.

# Slow machines (an emulated processor) take their time; a hang is found by the machine's own deadline.
readonly WAIT_SECONDS=300

# A session's work that is done when it is told so.
# shellcheck disable=SC2034  # for those that source this
readonly UNTIL_TOLD="echo begun >/workspace/begun; until [ -e /workspace/go ]; do sleep 1; done; echo done >/workspace/done"

property() { "${SYSTEMCTL[@]}" show aigo.service --property="$1" --value; }
api() { curl --silent --show-error --fail-with-body --max-time 60 "http://127.0.0.1:$PORT$1" "${@:2}"; }

# eventually COMMAND…: until it succeeds.
eventually() {
    local deadline=$((SECONDS + WAIT_SECONDS))
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 1
    done
}

# check NAME COMMAND…: says how it went, and with what words where it failed.
check() {
    local name="$1" said
    shift
    if said="$("$@" 2>&1)"; then
        echo "PASS $name"
    else
        echo "FAIL $name: $(tail -n 5 <<<"$said" | tr '\n' ' ')"
    fi
}

# refuses COMMAND…: it has to fail.
refuses() { ! "$@"; }

has_mode() { [ "$(stat --format=%a "$2")" = "$1" ]; }
is_running() { aigo service status --json "$@" | jq -e '.running and .enabled and .current and .installed'; }
is_another() { [ "$(property MainPID)" != "$1" ] && [ "$(property MainPID)" != 0 ] && api /healthz; }
# is_hardened: what the units of both say.
is_hardened() {
    [ "$(property NoNewPrivileges)" = yes ] && [ "$(property Delegate)" = yes ] && [ "$(property WatchdogUSec)" = 1min ] &&
        [ "$(property LimitCORE)" = 0 ] && grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$(property MainPID)/status"
}

# begin NAME SCRIPT: a session that runs it, with a model, so that its runner reaches the proxy; says its id. An engine that does not
# answer in time (503) is asked again.
begin() {
    jq --null-input --arg script "$2" --arg work "$WORK" '{workspace: $work, image: "aigo-vm:latest",
        limits: {memoryBytes: 67108864, pids: 77}, model: {source: "replay", file: "/usr/local/share/script.jsonl"}, program: {type: "command", argv: ["/bin/sh", "-c", $script]}}' >"/tmp/$UID.$1.json"
    eventually api /api/v1/container/sessions --json "@/tmp/$UID.$1.json" --output "/tmp/$UID.$1.begun"
    jq --raw-output .id "/tmp/$UID.$1.begun"
}
session() { api "/api/v1/container/sessions/$1" | jq --raw-output "$2"; }
ended_as() {
    local is
    is="$(session "$1" '"\(.status) \(.reason)", .detail')"
    echo "it is $is"
    [ "${is%%$'\n'*}" = "$2" ]
}
nothing_is_left() {
    [ -z "$("${ENGINE[@]}" ps --all --quiet)" ] && [ -z "$("${ENGINE[@]}" network ls --quiet --filter name=aigo)" ] &&
        [ -z "$(find "$DATA/sessions" -mindepth 1 -maxdepth 1)" ] && [ ! -e "$WORK/ipc" ]
}

# slice: the cgroup of the default agent.
slice() { echo "$SLICE"/aigo-*.slice/aigo-*-default.slice; }
has_quota() { [ "$("${SYSTEMCTL[@]}" show "$(basename "$(slice)")" --property=CPUQuotaPerSecUSec --value)" = 500ms ]; }
# has_limits: each container of the agent has the memory and the processes that `begin` asks for.
has_limits() {
    local scope
    for scope in "$(slice)"/*.scope; do
        # Podman's own process for each container is beside it.
        case "$scope" in */libpod-conmon-*) continue ;; esac
        echo "$scope: $(cat "$scope/memory.max" "$scope/memory.swap.max" "$scope/pids.max" | tr '\n' ' ')"
        [ "$(cat "$scope/memory.max")" = 67108864 ] && [ "$(cat "$scope/pids.max")" = 77 ] || return 1
    done
}
usage() { awk '$1 == "usage_usec" { print $2 }' "$(slice)/cpu.stat"; }
# share: how much of one processor the agent's slice uses, in percent, over 20 s.
share() {
    local from to began
    began="$(date +%s%N)"
    from="$(usage)"
    sleep 20
    to="$(usage)"
    echo $(((to - from) * 100000 / ($(date +%s%N) - began)))
}
holds_quota() {
    local percent
    percent="$(share)"
    echo "$percent % of a processor"
    [ "$percent" -ge 45 ] && [ "$percent" -le 55 ]
}

# quota_of_busy_sessions: three containers that never rest share half a processor.
quota_of_busy_sessions() {
    local ids=() n busy
    check "an agent's quota is set" api /api/v1/container/agents/default --request PUT --json '{"cpus": 0.5}'
    for n in 1 2 3; do
        ids+=("$(begin "busy$n" "echo >/workspace/busy.$n; while :; do :; done")")
        # One after the other: an emulated processor that starts three at once keeps the engine from answering in time.
        check "a busy session of the agent" eventually [ -e "$WORK/busy.$n" ]
    done
    check "the agent's slice has the quota" has_quota
    check "three busy containers share half a processor" holds_quota
    echo "again: $(share) % of a processor"
    check "each has its memory and its processes" has_limits
    # One after the other, too. An owner that waits for this engine may answer late; what counts is the end.
    for busy in "${ids[@]}"; do
        api "/api/v1/container/sessions/$busy/cancel" --request POST || true
        check "a busy session is cancelled" eventually ended_as "$busy" "cancelled cancelled"
    done
    check "nothing is left of them" eventually nothing_is_left
}
