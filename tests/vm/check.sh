#!/usr/bin/env bash
# The checks, inside the machine: the installed unit under a real systemd, then a person's own (user.sh).
# They take two boots: the machine is switched off after each run.
set -uo pipefail
export HOME=/root PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin

readonly SYSTEMCTL=(systemctl) PORT=55765 ENGINE=(docker) DATA=/var/lib/aigo WORK=/srv/work SLICE=/sys/fs/cgroup/aigo.slice
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /mnt/lib.sh

is_cgroup_v2() { [ "$(stat --file-system --format=%T /sys/fs/cgroup)" = cgroup2fs ]; }
has_folders() { has_mode 700 /var/lib/aigo && has_mode 755 /run/aigo && has_mode 600 /run/aigo/aigo.sock; }
logs_to_journal() { journalctl --unit aigo --output json --no-pager | jq -e 'select(._TRANSPORT == "journal")'; }
# as_alice PART: the person's checks, run by her own service manager: nobody has logged in.
as_alice() {
    setpriv --reuid=alice --regid=alice --init-groups --reset-env env XDG_RUNTIME_DIR=/run/user/1000 \
        systemd-run --user --pipe --wait --collect --quiet /bin/bash /mnt/user.sh "$1"
}

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
    as_alice after
    # Her service manager without the CPU controller, as the administrator may want it.
    mkdir -p /etc/systemd/system/user@.service.d
    printf '[Service]\nDelegate=\nDelegate=memory pids\n' >/etc/systemd/system/user@.service.d/without-cpu.conf
    systemctl daemon-reload
    check "her service manager is started without the CPU controller" systemctl restart user@1000.service
    as_alice undelegated
    echo "END of checks"
    exit
fi

cp /mnt/aigo /usr/local/bin/aigo
# Where a service finds it at boot, before this disk is mounted.
cp /mnt/script.jsonl /usr/local/share/script.jsonl
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
mkdir -p "$WORK"
id="$(begin work "$UNTIL_TOLD")"
check "a session begins" eventually [ -e "$WORK/begun" ]
check "restart" systemctl restart aigo.service
check "its container lives on" [ -n "$(docker ps --quiet)" ]
touch "$WORK/go"
check "its work is done" eventually [ -e "$WORK/done" ]
check "and it has finished" eventually ended_as "$id" "completed finished"

quota_of_busy_sessions

begin long "echo long >/workspace/long; sleep 3600" >/srv/reboot
check "a session is running at the shutdown" eventually [ -e "$WORK/long" ]
journalctl --unit aigo --no-pager --lines=40 --output=short-monotonic
as_alice before
sync
echo "END of the first boot"
