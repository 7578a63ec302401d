#!/bin/sh
# Debian's newest Rust: the packages that are kept current for its browsers (1.96 in trixie; rustc itself is 1.85 there).
set -eu
. "$(dirname "$0")/apt.sh"

[ "$RUNNER" = source ] || exit 0
apt_install rustc-web cargo-web gcc libc6-dev
rustc --version
cargo --version
