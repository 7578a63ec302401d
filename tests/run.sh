#!/usr/bin/env bash
# Runs every test: with cargo-nextest where it is installed, else with cargo's own runner.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
# The behaviours run the binaries: they must be the ones of these sources.
cargo build --locked -p supervisor -p runner
export AIGO_BIN=${AIGO_BIN:-$(realpath "$target/debug/aigo")}

# Podman beside Docker, rootful and rootless; where it cannot be had, its tests say so and ask nothing of it.
podman_tests=$(grep -cE '^(async )?fn (root|rootful|rootless)_' tests/tests/behaviours/podman.rs tests/tests/service/podman.rs supervisor/tests/engine_conformance.rs |
    awk -F: '{ sum += $2 } END { print sum }')
if [ "${AIGO_TEST_PODMAN:-}" != none ] && [ "${AIGO_TEST_ENGINE:-}" != none ]; then
    code=0
    image/setup/podman.sh start debian:trixie-slim "${AIGO_TEST_IMAGE:-aigo-agent-runner:latest}" || code=$?
    case "$code" in
    0) ;;
    3) export AIGO_TEST_PODMAN=none ;;
    *) exit "$code" ;;
    esac
fi
if [ "${AIGO_TEST_PODMAN:-}" = none ] || [ "${AIGO_TEST_ENGINE:-}" = none ]; then
    echo "not run: $podman_tests tests on Podman"
fi

# Agents of other makers, from package registries, kept in the user's cache.
agents_tests=$(grep -c '^#\[test\]' tests/tests/behaviours/other_agents.rs)
if [ "${AIGO_TEST_AGENTS:-}" != none ] && [ "${AIGO_TEST_ENGINE:-}" != none ]; then
    code=0
    tests/agents.sh >/dev/null || code=$?
    case "$code" in
    0) ;;
    3) export AIGO_TEST_AGENTS=none ;;
    *) exit "$code" ;;
    esac
fi
if [ "${AIGO_TEST_AGENTS:-}" = none ] || [ "${AIGO_TEST_ENGINE:-}" = none ]; then
    echo "not run: $agents_tests tests of other agents (they are installed from package registries)"
fi

# A rootless Docker beside Docker; the same.
rootless_tests=$(grep -c 'Home::on_rootless_docker()' tests/tests/behaviours/engines.rs)
if [ "${AIGO_TEST_ROOTLESS:-}" != none ] && [ "${AIGO_TEST_ENGINE:-}" != none ]; then
    code=0
    image/setup/rootless.sh start "${AIGO_TEST_IMAGE:-aigo-agent-runner:latest}" || code=$?
    case "$code" in
    0) ;;
    3) export AIGO_TEST_ROOTLESS=none ;;
    *) exit "$code" ;;
    esac
fi
if [ "${AIGO_TEST_ROOTLESS:-}" = none ] || [ "${AIGO_TEST_ENGINE:-}" = none ]; then
    echo "not run: $rootless_tests tests on rootless Docker"
fi

# An engine of a test's own, to be stopped, killed, and given routes.
dockerd_tests=$(grep -hcE 'Dockerd::(start|remapping)\(' tests/tests/service/engine.rs tests/tests/behaviours/{subnets,engines}.rs |
    awk '{ sum += $1 } END { print sum }')
if [ "$(id -u)" != 0 ] || ! PATH="$PATH:/usr/sbin:/sbin" command -v dockerd >/dev/null 2>&1; then
    export AIGO_TEST_DOCKERD=none
fi
if [ "${AIGO_TEST_DOCKERD:-}" = none ] || [ "${AIGO_TEST_ENGINE:-}" = none ]; then
    echo "not run: $dockerd_tests tests that start a Docker engine of their own (needs root and dockerd)"
fi

if command -v cargo-nextest >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --profile "$([ "${CI:-}" = true ] && echo ci || echo default)"
    # nextest runs no documentation tests.
    cargo test --workspace --locked --doc --quiet
else
    cargo test --workspace --locked --no-fail-fast
fi
