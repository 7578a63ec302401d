#!/usr/bin/env bash
# Licences, banned crates and sources, by cargo-deny: installed once into the user's cache where it is missing. Its
# advisory database is a git repository of a forge: run `cargo deny check advisories` where that can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo-deny >/dev/null 2>&1; then
    tools=${XDG_CACHE_HOME:-$HOME/.cache}/aigo/tools
    if [ ! -x "$tools/bin/cargo-deny" ]; then
        echo "installing cargo-deny into $tools (once, some minutes)"
        # A target folder of its own: its flags would rebuild ours.
        CARGO_TARGET_DIR=$tools/target cargo install --locked --quiet --root "$tools" --version 0.20.2 cargo-deny
        rm -rf "$tools/target"
    fi
    PATH=$tools/bin:$PATH
fi
cargo deny --locked check licenses bans sources
