#!/usr/bin/env bash
# The checks, inside the machine: the installed unit under a real systemd. One line each: `PASS name` or `FAIL name: why`.
# They take two boots: the machine is switched off after each run.
set -uo pipefail
export HOME=/root PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin

# Slow machines (an emulated processor) take their time; a hang is found by the machine's own deadline.
readonly WAIT_SECONDS=90

property() { systemctl show aigo.service --property="$1" --value; }
api() { curl --silent --show-error --fail-with-body --max-time 20 "http://127.0.0.1:55765$1" "${@:2}"; }

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

is_cgroup_v2() { [ "$(stat --file-system --format=%T /sys/fs/cgroup)" = cgroup2fs ]; }
is_running() { aigo service status --json | jq -e '.running and .enabled and .current and .installed'; }
is_another() { [ "$(property MainPID)" != "$1" ] && [ "$(property MainPID)" != 0 ] && is_running && api /healthz; }
is_hardened() {
    [ "$(property NoNewPrivileges)" = yes ] && [ "$(property Delegate)" = yes ] && [ "$(property WatchdogUSec)" = 1min ] &&
        [ "$(property LimitCORE)" = 0 ] && grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$(property MainPID)/status"
}
has_folders() {
    [ "$(stat --format=%a /var/lib/aigo)" = 700 ] && [ "$(stat --format=%a /run/aigo)" = 755 ] &&
        [ "$(stat --format=%a /run/aigo/aigo.sock)" = 600 ]
}
# begin NAME SCRIPT: a session that runs it, with NAME in its file; says its id.
begin() {
    jq --null-input --arg script "$2" '{workspace: "/srv/work", image: "aigo-vm:latest", limits: {memoryBytes: 67108864},
        program: {type: "command", argv: ["/bin/sh", "-c", $script]}}' >"/tmp/$1.json"
    api /api/v1/container/sessions --json "@/tmp/$1.json" | jq --raw-output .id
}
session() { api "/api/v1/container/sessions/$1" | jq --raw-output "$2"; }
ended_as() { [ "$(session "$1" '"\(.status) \(.reason)"')" = "$2" ]; }
nothing_is_left() {
    [ -z "$(docker ps --all --quiet)" ] && [ -z "$(docker network ls --quiet --filter name=aigo)" ] &&
        [ -z "$(find /var/lib/aigo/sessions -mindepth 1 -maxdepth 1)" ] && [ ! -e /srv/work/ipc ]
}

slice_of_default() { basename "$(dirname "$(echo /sys/fs/cgroup/aigo.slice/aigo-*.slice/aigo-*-default.slice/cpu.stat)")"; }
has_quota() { [ "$(systemctl show "$(slice_of_default)" --property=CPUQuotaPerSecUSec --value)" = 500ms ]; }
# share: how much of one processor the agent's slice uses, in percent, over 20 s.
share() {
    local file from to began
    file="$(echo /sys/fs/cgroup/aigo.slice/aigo-*.slice/aigo-*-default.slice/cpu.stat)"
    began="$(date +%s%N)"
    from="$(awk '$1 == "usage_usec" { print $2 }' "$file")"
    sleep 20
    to="$(awk '$1 == "usage_usec" { print $2 }' "$file")"
    echo $(((to - from) * 100000 / ($(date +%s%N) - began)))
}
holds_quota() {
    local percent
    percent="$(share)"
    echo "$percent % of a processor"
    [ "$percent" -ge 45 ] && [ "$percent" -le 55 ]
}

logs_to_journal() { journalctl --unit aigo --output json --no-pager | jq -e 'select(._TRANSPORT == "journal")'; }

# The second boot: what ran when the machine was switched off.
if [ -e /srv/reboot ]; then
    id="$(cat /srv/reboot)"
    check "the service is started at boot" eventually is_running
    check "docker runs after the boot" eventually docker version
    check "a session that the machine took with it has lost its engine" eventually ended_as "$id" "failed engine_lost"
    check "nothing is left of it" eventually nothing_is_left
    session "$id" '"\(.status) \(.reason): \(.detail)"'
    check "uninstall" aigo service uninstall
    check "stopped" refuses systemctl is-active aigo.service
    check "the unit is gone" [ ! -e /etc/systemd/system/aigo.service ]
    check "the data stays" [ -d /var/lib/aigo ]
    journalctl --unit aigo --boot --no-pager --lines=40 --output=short-monotonic
    echo "END of checks"
    exit
fi

cp /mnt/aigo /usr/local/bin/aigo
check "cgroup v2" is_cgroup_v2
check "docker runs" eventually docker version
check "install" aigo service install
check "runs" is_running
check "the API answers" eventually api /healthz
check "hardened" is_hardened
check "folders" has_folders
check "logs to the journal" logs_to_journal
systemctl status --no-pager --lines=20 aigo.service

pid="$(property MainPID)"
check "installed twice" aigo service install
check "left running by the second install" [ "$(property MainPID)" = "$pid" ]

printf '[queue]\nlength = 7\n' >/etc/aigo/config.toml
check "reload" systemctl reload aigo.service
printf '[queue]\nlenght = 7\n' >/etc/aigo/config.toml
check "a wrong configuration is not reloaded" refuses systemctl reload aigo.service
check "and the service runs on" is_another 0
printf '[queue]\nlength = 7\n' >/etc/aigo/config.toml

kill -KILL "$(property MainPID)"
check "started anew after a kill" eventually is_another "$pid"

# A watchdog of one minute, and what it takes to start.
pid="$(property MainPID)"
kill -STOP "$pid"
check "started anew after a hang" eventually is_another "$pid"

check "image" docker import --change 'ENTRYPOINT ["/usr/local/bin/aigo-runner"]' /mnt/image.tar aigo-vm:latest
mkdir -p /srv/work
id="$(begin work "echo begun >/workspace/begun; sleep 30; echo done >/workspace/done")"
check "a session begins" eventually [ -e /srv/work/begun ]
check "restart" systemctl restart aigo.service
check "its container lives on" [ -n "$(docker ps --quiet)" ]
check "its work is done" eventually [ -e /srv/work/done ]
check "and it has finished" eventually ended_as "$id" "completed finished"

check "an agent's quota is set" api /api/v1/container/agents/default --request PUT --json '{"cpus": 0.5}'
ids=()
for n in 1 2 3; do
    ids+=("$(begin "busy$n" "echo >/workspace/busy.$n; while :; do :; done")")
    # One after the other: an emulated processor that starts three at once keeps the engine from answering in time.
    check "a busy session of the agent" eventually [ -e "/srv/work/busy.$n" ]
done
check "the agent's slice has the quota" has_quota
check "three busy containers share half a processor" holds_quota
echo "again: $(share) % of a processor"
for busy in "${ids[@]}"; do
    # An owner that waits for this engine may answer late; what counts is the end.
    api "/api/v1/container/sessions/$busy/cancel" --request POST || true
done
for busy in "${ids[@]}"; do
    check "a busy session is cancelled" eventually ended_as "$busy" "cancelled cancelled"
done
check "nothing is left of them" eventually nothing_is_left

begin long "echo long >/workspace/long; sleep 3600" >/srv/reboot
check "a session is running at the shutdown" eventually [ -e /srv/work/long ]
journalctl --unit aigo --no-pager --lines=40 --output=short-monotonic
sync
echo "END of the first boot"
