#!/usr/bin/env bash
# Holds the API to its own description: schemathesis (from PyPI, pinned) generates requests, good and bad ones, from the
# OpenAPI document of a real `aigo serve`, and compares each answer with it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/api/lib.sh
. tests/api/lib.sh

examples=${API_EXAMPLES:-40}
python_tools

work=$(mktemp -d)
trap 'stop_service; rm -rf "$work"' EXIT
start_service DOCKER_HOST=unix:///nonexistent/docker.sock AIGO_ENGINE=docker

# Event streams last as long as their session, which is no answer that can be compared.
(cd "$work" && "$venv/bin/schemathesis" --config-file "$OLDPWD/tests/api/schemathesis.toml" run "$address/api/v1/openapi.json" \
    --phases examples,coverage,fuzzing --max-examples "$examples" --request-timeout 20 --seed 1 --no-color \
    --exclude-path-regex '/(events|log)$' --suppress-health-check all >report 2>&1) || {
    cat "$work/report" >&2
    exit 1
}
grep -E 'Selected|generated|passed' "$work/report" || tail -n 5 "$work/report"
kill -0 "$server" 2>/dev/null || { echo "api: aigo serve ended during the test:" >&2; cat "$work/log" >&2; exit 1; }
