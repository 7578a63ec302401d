#!/usr/bin/env bash
# The checks of a person's own service: `aigo service install --user` with her rootless Podman, under her own systemd. Run by it:
# user.sh before|after|undelegated, which is before and after the boot, and without the CPU controller.
set -uo pipefail
export PATH=/usr/local/bin:/usr/bin:/bin

readonly SYSTEMCTL=(systemctl --user) PORT=55766 ENGINE=(podman) DATA="$HOME/.local/share/aigo" WORK="$HOME/work"
readonly SLICE="/sys/fs/cgroup/user.slice/user-$UID.slice/user@$UID.service/aigo.slice"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. /mnt/lib.sh

readonly UNIT="$HOME/.config/systemd/user/aigo.service"
readonly LAST="$HOME/reboot"

podman_answers() { curl --silent --fail --max-time 20 --unix-socket "$XDG_RUNTIME_DIR/podman/podman.sock" http://podman/_ping; }
is_own() { is_running --user; }
has_folders() {
    has_mode 700 "$DATA" && has_mode 755 "$XDG_RUNTIME_DIR/aigo" && has_mode 600 "$XDG_RUNTIME_DIR/aigo/aigo.sock" &&
        has_mode 700 "$HOME/.config/aigo" && has_mode 644 "$UNIT"
}
logs_to_journal() { journalctl --user --unit aigo --output json --no-pager | jq -e 'select(._TRANSPORT == "journal")'; }
# agent_limits WORDS: what the doctor says of them.
agent_limits() {
    local said
    said="$(aigo doctor --json | jq --raw-output '.[] | select(.name == "agent limits") | "\(.status): \(.detail); \(.remedy)"')"
    echo "$said"
    grep -q "$1" <<<"$said"
}

before() {
    check "her podman.socket" systemctl --user enable --now podman.socket
    check "her podman answers" eventually podman_answers
    podman info --format '{{.Version.Version}}, {{.Host.CgroupManager}}, {{.Host.CgroupsVersion}}, {{.Host.CgroupControllers}}, {{.Host.RootlessNetworkCmd}}, {{.Host.NetworkBackend}}, {{.Store.GraphDriverName}}'
    # The system's service has the usual port.
    install -d -m 700 "$HOME/.config/aigo"
    echo "listen = \"127.0.0.1:$PORT\"" >"$HOME/.config/aigo/config.toml"
    check "her install" aigo service install --user
    check "her service runs" is_own
    check "its API answers" eventually api /healthz
    check "it is hardened" is_hardened
    check "its folders" has_folders
    check "it logs to her journal" logs_to_journal
    systemctl --user status --no-pager --lines=20 aigo.service
    check "the doctor says that a slice of hers holds an agent's quota" agent_limits "^ok: .*a slice of your systemd"

    check "her image" podman import --change 'ENTRYPOINT ["/usr/local/bin/aigo-runner"]' /mnt/image.tar aigo-vm:latest
    mkdir -p "$WORK"
    local id pid
    id="$(begin work "$UNTIL_TOLD")"
    check "a session of hers begins" eventually [ -e "$WORK/begun" ]
    pid="$(property MainPID)"
    kill -KILL "$pid"
    check "her service is started anew after a kill" eventually is_another "$pid"
    check "its container lives on" [ -n "$(podman ps --quiet)" ]
    touch "$WORK/go"
    check "its work is done" eventually [ -e "$WORK/done" ]
    check "and it has finished" eventually ended_as "$id" "completed finished"
    check "the agent's file is hers" [ "$(stat --format=%U "$WORK/done")" = alice ]
    quota_of_busy_sessions

    begin long "echo long >/workspace/long; sleep 3600" >"$LAST"
    check "a session of hers is running at the shutdown" eventually [ -e "$WORK/long" ]
    journalctl --user --unit aigo --no-pager --lines=40 --output=short-monotonic
}

after() {
    local id
    id="$(cat "$LAST")"
    check "her service is started at boot, without a login" eventually is_own
    check "a session of hers that the machine took with it has lost its engine" eventually ended_as "$id" "failed engine_lost"
    check "nothing is left of it" eventually nothing_is_left
    session "$id" '"\(.status) \(.reason): \(.detail)"'
    journalctl --user --unit aigo --boot --no-pager --lines=40 --output=short-monotonic
}

undelegated() {
    check "her service is started without the CPU controller" eventually is_own
    check "the doctor says that an agent's quota is not held" agent_limits "^warning: .*not delegated"
    aigo doctor --json | jq '.[] | select(.name == "agent limits" or .name == "limits")'
    check "and the answer to who sets one" says_not_held
    check "her uninstall" aigo service uninstall --user
    check "her service is stopped" refuses systemctl --user is-active aigo.service
    check "her unit is gone" [ ! -e "$UNIT" ]
    check "her data stays" [ -e "$DATA/aigo.db" ]
}
says_not_held() {
    local said
    said="$(api /api/v1/container/agents/default --request PUT --json '{"cpus": 0.5}' | jq --raw-output '.notEnforced[]')"
    echo "$said"
    grep -q "not held .*delegated" <<<"$said"
}

"$1"
