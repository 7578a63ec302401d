#!/bin/sh
# Builds the static runner from /src into /out. With the classic builder this stage also runs for RUNNER=prebuilt: then it
# does nothing.
set -eu
here="$(dirname "$0")"
. "$here/apt.sh"

mkdir -p /out
[ "$RUNNER" = source ] || exit 0

cd /src
# The other members are not copied, so that a change in them does not build the runner again, but cargo wants every
# member's targets to exist before it accepts the workspace and its lock file.
for member in supervisor tests; do
    mkdir -p "$member/src"
    : >"$member/src/lib.rs"
    for path in src/main.rs $(grep -o '"[^"]*\.rs"' "$member/Cargo.toml" | tr -d '"'); do
        mkdir -p "$member/$(dirname "$path")"
        [ -e "$member/$path" ] || echo 'fn main() {}' >"$member/$path"
    done
done

target="$(uname -m)-unknown-linux-gnu"
# Only for this target: build scripts and macros run on the builder and stay dynamic.
variable="CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_RUSTFLAGS"
export "$variable=-C target-feature=+crt-static"
cargo build --locked --profile runner --target "$target" -p runner
install -m 0755 "target/$target/runner/aigo-runner" /out/aigo-runner
rm -rf target

if ! ldd /out/aigo-runner 2>&1 | grep -q -e 'statically linked' -e 'not a dynamic executable'; then
    echo "the runner is not static:" >&2
    ldd /out/aigo-runner >&2
    exit 1
fi
