#!/usr/bin/env bash
# The main job, offline: the real Claude Code CLI in the built image mends a failing test; the model's answers come from
# tests/demo/script.jsonl. Works on a copy of tests/demo/project, and shows that nothing is left behind.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
aigo=$(realpath "${AIGO:?say where the aigo binary is}")

folder=$(mktemp -d "${TMPDIR:-/tmp}/aigo-demo.XXXXXX")
trap 'rm -rf "$folder"' EXIT
project=$folder/temperature
cp -r "$here/project" "$project"
cp -r "$here/project" "$folder/before"
# The folder belongs to an ordinary user, as it would on a person's machine.
if [ "$(id -u)" = 0 ]; then chown -R 1000:1000 "$project"; fi
export AIGO_DATA_DIR=$folder/data

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say "1. A project with a failing test"
python3 -B -m unittest discover -s "$project" 2>&1 | tail -4 || true

say "2. aigo run -w $project --replay script.jsonl \"make the tests pass\""
env -u ANTHROPIC_API_KEY "$aigo" run -w "$project" --replay "$here/script.jsonl" \
    --env PYTHONDONTWRITEBYTECODE=1 "make the tests pass" </dev/null

say "3. What changed"
diff -u "$folder/before/temperature.py" "$project/temperature.py" | sed "s|$folder/||" || true
python3 -B -m unittest discover -s "$project" 2>&1 | tail -3
ls -ln "$project"

say "4. What is left"
fail=0
check() { # check WHAT FOUND
    if [ -z "$2" ]; then echo "  no $1"; else echo "  left over, $1: $2" >&2; fail=1; fi
}
label="label=aigo.instance=$(cat "$AIGO_DATA_DIR/instance")"
docker=$(command -v docker || true)
if [ -n "$docker" ]; then
    check container "$("$docker" ps -aq --filter "$label")"
    check network "$("$docker" network ls -q --filter "$label")"
    check volume "$("$docker" volume ls -q --filter "$label")"
fi
check "ipc folder in the project" "$(find "$project" -maxdepth 1 \( -name ipc -o -name extra \))"
check "session folder" "$(find "$AIGO_DATA_DIR/sessions" -mindepth 1)"
if [ "$(id -u)" = 0 ]; then check "file of another owner" "$(find "$project" ! -uid 1000)"; fi
exit $fail
