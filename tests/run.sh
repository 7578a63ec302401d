#!/usr/bin/env bash
# Runs every test: with cargo-nextest where it is installed, else with cargo's own runner.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
# The behaviours run the binaries: they must be the ones of these sources.
cargo build --locked -p supervisor -p runner
export AIGO_BIN=${AIGO_BIN:-$(realpath "$target/debug/aigo")}

if command -v cargo-nextest >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --profile "$([ "${CI:-}" = true ] && echo ci || echo default)"
    # nextest runs no documentation tests.
    cargo test --workspace --locked --doc --quiet
else
    cargo test --workspace --locked --no-fail-fast
fi
