#!/usr/bin/env bash
# The checks, inside the machine: the installed unit under a real systemd. One line each: `PASS name` or `FAIL name: why`.
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
logs_to_journal() { journalctl --unit aigo --output json --no-pager | jq -e 'select(._TRANSPORT == "journal")'; }

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
jq --null-input '{workspace: "/srv/work", image: "aigo-vm:latest", limits: {memoryBytes: 67108864, cpus: 0.5}, program: {
    type: "command",
    argv: ["/bin/sh", "-c", "echo begun >/workspace/begun; sleep 30; echo done >/workspace/done"]
}}' >/tmp/request.json
id="$(api /api/v1/container/sessions --json @/tmp/request.json | jq --raw-output .id)"
check "a session begins" eventually [ -e /srv/work/begun ]
check "restart" systemctl restart aigo.service
check "its container lives on" [ -n "$(docker ps --quiet)" ]
check "its work is done" eventually [ -e /srv/work/done ]
api "/api/v1/container/sessions/$id" | jq --compact-output '{status, reason}'

check "uninstall" aigo service uninstall
check "stopped" refuses systemctl is-active aigo.service
check "the unit is gone" [ ! -e /etc/systemd/system/aigo.service ]
check "the data stays" [ -d /var/lib/aigo ]
journalctl --unit aigo --no-pager --lines=40 --output=short-monotonic
echo "END of checks"
