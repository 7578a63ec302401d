#!/bin/sh
# Runs every tool once as the agent's user and writes what it says to /usr/share/aigo/versions.json.
# A tool that does not start fails the build.
set -eu

as_agent() { sudo -H -u agent -- env PATH="$PATH" DISABLE_AUTOUPDATER=1 "$@"; }
# number TEXT: the first dotted number in it.
number() {
    printf '%s\n' "$1" | sed -n 's/^[^0-9]*\([0-9][0-9A-Za-z.+~-]*\).*/\1/p' | head -n 1
}
version() {
    text="$(as_agent "$@" 2>&1)" || {
        echo "'$*' failed in the image: $text" >&2
        exit 1
    }
    found="$(number "$text")"
    [ -n "$found" ] || {
        echo "'$*' printed no version: $text" >&2
        exit 1
    }
    printf '%s' "$found"
}

python="$(version python3 --version)"
node="$(version node --version)"
npm="$(version npm --version)"
claude="$(version claude --version)"
docker="$(version dockerd --version)"
uv="$(version uv --version)"
git="$(version git --version)"
runner="$(version aigo-runner --version)"
for tool in python pip curl jq yq; do version "$tool" --version >/dev/null; done
version ssh -V >/dev/null

# shellcheck disable=SC2016
jq -n --arg python "$python" --arg node "$node" --arg npm "$npm" --arg claude "$claude" --arg docker "$docker" \
    --arg uv "$uv" --arg git "$git" --arg runner "$runner" --arg source "$(cat /usr/share/aigo/python-source)" '
    {version: {python: $python, node: $node, npm: $npm, claude: $claude, docker: $docker, uv: $uv, git: $git, runner: $runner},
     pythonSource: $source}' >/usr/share/aigo/versions.json
cat /usr/share/aigo/versions.json
rm -rf /home/agent/.npm /home/agent/.cache /home/agent/.claude* /root/.npm /root/.cache /tmp/* /tmp/.??*
