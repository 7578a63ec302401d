#!/bin/sh
# Runs every fuzz target for some seconds (60 by default): fuzz/run.sh [SECONDS] [TARGET…]
# A finding ends it with an error and stays in fuzz/artifacts/; turn it into a test.
set -eu

cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -eq 0 ] || shift
case $seconds in
'' | *[!0-9]*)
    echo "fuzz: '$seconds' is not a number of seconds; usage: fuzz/run.sh [SECONDS] [TARGET...]" >&2
    exit 2
    ;;
esac

# Everything stays in the project: the tool, and the builds with their own flags.
tools=$PWD/target/tools
export PATH="$tools/bin:$PATH"
export CARGO_TARGET_DIR="$PWD/target"
if ! command -v cargo-fuzz >/dev/null; then
    echo "fuzz: installing cargo-fuzz into $tools"
    cargo install --locked --root "$tools" cargo-fuzz
fi

# AddressSanitizer needs a nightly toolchain. Without one, the sanitizer is left out: these parsers have no unsafe code of
# their own, so what is sought is panics, overflows, endless loops and memory beyond the limit.
if cargo +nightly --version >/dev/null 2>&1; then
    fuzz() { cargo +nightly fuzz "$@"; }
    sanitizer=address
else
    fuzz() { RUSTC_BOOTSTRAP=1 cargo fuzz "$@"; }
    sanitizer=none
fi

targets=${*:-$(fuzz list)}
for target in $targets; do
    echo "fuzz: $target for $seconds s (sanitizer: $sanitizer)"
    # What is found on the way goes to a folder of its own; the seeds in seeds/ are committed and stay small.
    mkdir -p "corpus/$target"
    fuzz run -s "$sanitizer" "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1
done
echo "fuzz: no findings"
