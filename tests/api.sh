#!/usr/bin/env bash
# Holds the API to its own description: schemathesis (from PyPI, pinned) generates requests, good and bad ones, from the
# OpenAPI document of a real `aigo serve`, and compares each answer with it.
set -euo pipefail
cd "$(dirname "$0")/.."

aigo=${AIGO_BIN:-${CARGO_TARGET_DIR:-target}/debug/aigo}
examples=${API_EXAMPLES:-40}
tools=${XDG_CACHE_HOME:-$HOME/.cache}/aigo/tools
version=$(sed -n 's/^schemathesis==//p' tests/api/requirements.txt)
venv=$tools/schemathesis-$version

if ! [ -x "$venv/bin/schemathesis" ]; then
    echo "api: installing schemathesis $version"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/api/requirements.txt
fi

work=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
    rm -rf "$work"
}
trap stop EXIT

DOCKER_HOST=unix:///nonexistent/docker.sock AIGO_ENGINE=docker AIGO_DATA_DIR=$work/data \
    "$aigo" serve --listen 127.0.0.1:0 2>"$work/log" &
server=$!
address=
for _ in $(seq 100); do
    address=$(sed -n 's/^aigo serves \(http:[^ ]*\) .*/\1/p' "$work/log")
    [ -n "$address" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
[ -n "$address" ] || { echo "api: aigo serve did not start:" >&2; cat "$work/log" >&2; exit 1; }

# Event streams last as long as their session, which is no answer that can be compared.
(cd "$work" && "$venv/bin/schemathesis" --config-file "$OLDPWD/tests/api/schemathesis.toml" run "$address/api/v1/openapi.json" \
    --phases examples,coverage,fuzzing --max-examples "$examples" --request-timeout 20 --seed 1 --no-color \
    --exclude-path-regex '/(events|log)$' --suppress-health-check all >report 2>&1) || {
    cat "$work/report" >&2
    exit 1
}
grep -E 'Selected|generated|passed' "$work/report" || tail -n 5 "$work/report"
kill -0 "$server" 2>/dev/null || { echo "api: aigo serve ended during the test:" >&2; cat "$work/log" >&2; exit 1; }
