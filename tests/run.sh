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

# What differs for an ordinary user of the group that may use the engine: user ids, modes of the journal, mount points, ways
# to stop, the service, the summary, steering, hostile files. About a third of the tests in the package `tests`.
ordinary_modules=(
    behaviours/commands behaviours/endings behaviours/kill behaviours/ordinary_users behaviours/owner behaviours/project_folder
    behaviours/steering behaviours/workspace edges/hostile edges/outputs edges/tasks
    service/api service/attending service/crashes service/hostile service/killed service/openapi
)
# These need root's rights for what they show: folders of other users, folders that nobody may write to, and files that root of
# the container has made.
ordinary_skipped=(
    project_folder::a_recursive_chmod_leaves_steering_and_closing_alone
    hostile::whatever_was_built_in_the_ipc_folder_is_cleared_away
    workspace::a_folder_that_cannot_be_read_is_refused_before_anything_starts
    workspace::what_an_agent_makes_in_roots_folder_belongs_to_root
    workspace::what_an_agent_makes_in_the_folder_of_user_1000_belongs_to_them
    workspace::what_an_agent_makes_in_the_folder_of_user_501_belongs_to_them
)
ordinary_files=("${ordinary_modules[@]/#/tests/tests/}")
ordinary_tests=$(($(cat "${ordinary_files[@]/%/.rs}" | grep -c '^#\[test\]') - ${#ordinary_skipped[@]}))
ordinary_user=
if [ "${AIGO_TEST_ENGINE:-}" = none ]; then
    echo "not run: $ordinary_tests tests as an ordinary user (AIGO_TEST_ENGINE=none)"
else
    code=0
    ordinary_user=$(tests/ordinary-user.sh) || code=$?
    case "$code" in
    0) echo "$ordinary_tests tests run a second time as the ordinary user $ordinary_user" ;;
    3) echo "not run: $ordinary_tests tests a second time as an ordinary user (the reason is above)" ;;
    *) exit "$code" ;;
    esac
fi
# Filters of test names, as both runners take them: a module's name ends in `::`.
ordinary_names=("${ordinary_modules[@]##*/}")
ordinary_filters=("${ordinary_names[@]/%/::}")
for name in "${ordinary_skipped[@]}"; do ordinary_filters+=(--skip "$name"); done

failed=0
if command -v cargo-nextest >/dev/null 2>&1; then
    profile=$([ "${CI:-}" = true ] && echo ci || echo default)
    cargo nextest run --workspace --locked --profile "$profile" || failed=1
    if [ -n "$ordinary_user" ]; then
        AIGO_TEST_USER=$ordinary_user cargo nextest run --package tests --tests --locked --profile "$profile" \
            -- "${ordinary_filters[@]}" || failed=1
    fi
    # nextest runs no documentation tests.
    cargo test --workspace --locked --doc --quiet || failed=1
else
    cargo test --workspace --locked --no-fail-fast || failed=1
    if [ -n "$ordinary_user" ]; then
        AIGO_TEST_USER=$ordinary_user cargo test --package tests --tests --locked --no-fail-fast \
            -- "${ordinary_filters[@]}" || failed=1
    fi
fi
exit "$failed"
