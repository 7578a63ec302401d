#!/usr/bin/env bash
# Checks for what a build needs, and installs what is missing where that can be done (root on Debian).
set -euo pipefail

missing=()
have() { command -v "$1" >/dev/null 2>&1; }
have cc || missing+=(gcc libc6-dev)
have git || missing+=(git)
have curl || missing+=(curl)
have python3 || missing+=(python3)
# Debian keeps what makes virtual environments in a package of its own.
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
# The unit that `aigo service install` writes is checked by systemd itself; installing it makes it nobody's init.
have systemd-analyze || [ "$(uname)" != Linux ] || [ "${AIGO_TEST_SYSTEMD:-}" = none ] || missing+=(systemd)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)

if ! have cargo; then
    echo "error: there is no Rust toolchain; install one of at least version 1.95 (https://rustup.rs), then try again" >&2
    exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && have apt-get; then
        echo "installing: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "error: missing: ${missing[*]}; install them with your package manager, then try again" >&2
        exit 1
    fi
fi
