#!/usr/bin/env bash
# Licences, banned crates and sources, by cargo-deny where it is installed. The advisory database needs the network of
# its forge: run `cargo deny check advisories` where that is reachable.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo-deny >/dev/null 2>&1; then
    echo "not run: licences, bans and sources: cargo-deny is not installed (cargo install --locked cargo-deny)"
    exit 0
fi
cargo deny --locked check licenses bans sources
