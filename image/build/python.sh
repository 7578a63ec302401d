#!/bin/sh
# Python: 3.12 by uv where its download site is reachable, else the distribution's Python 3. PYTHON=auto|uv|distribution.
# Leaves `python3`, `python` and `pip` for everybody, and yq in an environment of its own.
set -eu
here="$(dirname "$0")"
. "$here/apt.sh"

wanted="${PYTHON:-auto}"
# Behind a firewall that drops packets the attempt must end by itself.
uv_seconds=180
export UV_PYTHON_INSTALL_DIR=/opt/python UV_NO_CACHE=1 UV_HTTP_CONNECT_TIMEOUT=10

by_uv() {
    timeout "$uv_seconds" uv python install --no-bin 3.12 || return 1
    prefix="$(dirname "$(dirname "$(uv python find --managed-python 3.12)")")"
    [ -x "$prefix/bin/python3.12" ] || return 1
    # Nothing in the image has use for the static library, Tk and Python's own tests.
    rm -rf "$prefix"/lib/libpython*.a "$prefix"/lib/python3.12/config-*/*.a "$prefix"/lib/python3.12/test \
        "$prefix"/lib/python3.12/idlelib "$prefix"/lib/tcl* "$prefix"/lib/tk* "$prefix"/lib/itcl* \
        "$prefix"/lib/thread* "$prefix"/share/man
    # The agent cannot write here: what is not compiled now would be compiled at every start.
    "$prefix/bin/python3.12" -m compileall -q "$prefix/lib/python3.12" || return 1
    # The image's PATH names this directory, for the programs that root installs with pip.
    ln -sfn "$prefix" /opt/python/current
    for name in python3 python3.12; do ln -sf "$prefix/bin/python3.12" "/usr/local/bin/$name"; done
}

by_distribution() {
    apt_install python3 python3-venv
}

case "$wanted" in
auto)
    if by_uv; then
        source=uv
    else
        rm -rf /opt/python
        by_distribution
        source=distribution
        echo "########################################################################################"
        echo "## Python 3.12 could not be had: uv's download site is not reachable from this build.  ##"
        echo "## Using the distribution's $(python3 --version) instead (label aigo.image.python.source).   ##"
        echo "########################################################################################"
    fi
    ;;
uv)
    by_uv
    source=uv
    ;;
distribution)
    by_distribution
    source=distribution
    ;;
*)
    echo "unknown PYTHON=$wanted; allowed: auto, uv, distribution" >&2
    exit 1
    ;;
esac

# pip refuses to install into a Python with this marker (PEP 668). Here the container itself is the environment.
find /usr/lib/python3* /opt/python -maxdepth 4 -name EXTERNALLY-MANAGED -delete 2>/dev/null || true
python="$(command -v python3)"
uv pip install --quiet --python "$python" --system --require-hashes -r "$here/pip.txt"
scripts="$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')"
for name in pip pip3; do
    [ -x "/usr/local/bin/$name" ] || ln -s "$scripts/$name" "/usr/local/bin/$name"
done
ln -sf "$python" /usr/local/bin/python

uv venv --quiet --python "$python" /opt/yq
uv pip install --quiet --python /opt/yq/bin/python --require-hashes -r "$here/yq.txt"
ln -s /opt/yq/bin/yq /usr/local/bin/yq

mkdir -p /usr/share/aigo
echo "$source" >/usr/share/aigo/python-source
