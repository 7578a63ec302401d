#!/usr/bin/env bash
# Holds the OpenAPI document to what other people's tools make of it: three validators read it, and clients that
# openapi-python-client and openapi-typescript generate from it drive a session of a real `aigo serve` on the engine.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/api/lib.sh
. tests/api/lib.sh

image=${AIGO_TEST_IMAGE:-aigo-agent-runner:latest}
here=$PWD/tests/api
python_tools
npm_tools

work=$(mktemp -d)
trap 'stop_service; rm -rf "$work"' EXIT
mkdir "$work/project"
start_service
curl -sSf --max-time 10 "$address/api/v1/openapi.json" -o "$work/openapi.json"

passed=0 failed=0
# Runs a check, and shows what it says only if it fails.
check() { # name, command…
    local name=$1
    shift
    if (cd "$work" && timeout 120 "$@" >"$work/said" 2>&1); then
        passed=$((passed + 1))
        echo "  ok      $name"
    else
        failed=$((failed + 1))
        echo "  FAILED  $name"
        cat "$work/said" >&2
    fi
}

echo "api: the OpenAPI document and clients made from it"
check "openapi-spec-validator" "$venv/bin/openapi-spec-validator" openapi.json
check "redocly lint" env REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
    "$node" "$modules/@redocly/cli/bin/cli.js" lint --config "$here/redocly.yaml" openapi.json
check "spectral lint" "$node" "$modules/@stoplight/spectral-cli/dist/index.js" lint --ruleset "$here/spectral.yaml" \
    --fail-severity warn openapi.json

# A warning of the generator is a part of the document that its client does without.
check "openapi-python-client" "$venv/bin/openapi-python-client" generate --path openapi.json --meta none \
    --output-path aigo_client --config "$here/clients/python-client.yaml" --fail-on-warning
mkdir "$work/ts"
cp "$here/clients/session.ts" "$here/clients/tsconfig.json" "$here/package.json" "$work/ts"
ln -s "$modules" "$work/ts/node_modules"
# What has a default may be left out of a request.
check "openapi-typescript" "$node" "$modules/openapi-typescript/bin/cli.js" openapi.json -o ts/schema.d.ts \
    --default-non-nullable false
check "tsc" "$node" "$modules/typescript/bin/tsc" --project ts

if [ "${AIGO_TEST_ENGINE:-}" = none ]; then
    echo "not run: 2 sessions that the clients drive (there is no engine)"
else
    check "a session driven in Python" env PYTHONPATH="$work" "$venv/bin/python" "$here/clients/session.py" \
        "$address" "$work/project" "$image"
    check "a session driven in TypeScript" "$node" ts/session.ts "$address" "$work/project" "$image"
fi
kill -0 "$server" 2>/dev/null || { echo "api: aigo serve ended during the test:" >&2; cat "$work/log" >&2; exit 1; }
echo "clients: $passed passed, $failed failed"
[ "$failed" = 0 ]
