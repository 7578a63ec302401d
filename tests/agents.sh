#!/usr/bin/env bash
# Installs the agents of docs/other-agents.md in the pinned versions of tests/agents/, and prints the folder. It does so as that
# page says, in a session of aigo, once for each set of versions. Exit code 3: the package registries did not give them.
set -euo pipefail
cd "$(dirname "$0")/.."

aigo=$(realpath "${AIGO_BIN:-${CARGO_TARGET_DIR:-target}/debug/aigo}")
image=${AIGO_TEST_IMAGE:-aigo-agent-runner:latest}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aigo/tools
# Compiled parts fit one version of Python and one architecture.
python=$("$aigo" image status --json --tag "$image" |
    python3 -c 'import json, sys; s = json.load(sys.stdin); print(s["architecture"], s["version"]["python"])')
folder=$cache/agents-$({ echo "$python"; cat tests/agents/*; } | sha256sum | cut -c 1-16)

mkdir -p "$cache"
exec 9>"$cache/agents.lock"
flock -w 600 9
if [ ! -e "$folder/done" ]; then
    work=$(mktemp -d "$cache/agents.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/agents"
    cp tests/agents/* "$work/agents"
    echo "installing agents for the tests of docs/other-agents.md into $folder (once)" >&2
    code=0
    AIGO_DATA_DIR=$work/data "$aigo" run --workspace "$work/agents" --image "$image" --timeout 8m --program command -- sh -c '
        npm ci --no-fund --no-audit &&
            pip install --quiet --disable-pip-version-check --require-hashes --target python -r requirements.txt
    ' >"$work/log" 2>&1 || code=$?
    if [ "$code" != 0 ]; then
        tail -n 20 "$work/log" >&2
        # 1: npm or pip failed; 124: they took too long. Every other code is trouble of aigo or of the engine.
        case "$code" in
        1 | 124) exit 3 ;;
        *) exit 1 ;;
        esac
    fi
    rm -rf "$folder"
    mv "$work/agents" "$folder"
    touch "$folder/done"
fi
echo "$folder"
