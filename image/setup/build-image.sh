#!/usr/bin/env bash
# Builds the agent image from a source tree: engine, base image, certificates, `docker build`, labels.
set -euo pipefail

AIGO_TOOL="build-image"
HERE="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$HERE/lib.sh"
ROOT="$(cd -- "$HERE/../.." && pwd)"

readonly DEFAULT_TAG=aigo-agent-runner:latest
# A cold build takes some minutes; behind a slow line it takes longer, but not for ever.
readonly BUILD_SECONDS=3600
readonly PROXY_VARIABLES=(HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy)

usage() {
    cat <<USAGE
usage: build-image.sh [--tag TAG] [--base IMAGE] [--runner FILE] [--python auto|uv|distribution] [--no-cache] [--no-host-ca]

Makes sure that an engine answers and that it has the base image, collects the host's extra CA certificates, builds the
agent image and labels it with the versions of its tools.

  --tag TAG       name of the image (default $DEFAULT_TAG)
  --base IMAGE    base image (default debian:trixie-slim)
  --runner FILE   use this static aigo-runner binary instead of building it from source
  --python WHICH  where Python comes from (default auto: 3.12 by uv, else the distribution's)
  --no-cache      build every step anew
  --no-host-ca    do not take over the host's extra CA certificates

The host's HTTP_PROXY, HTTPS_PROXY, NO_PROXY and ALL_PROXY are passed on to the build.
USAGE
}

tag="$DEFAULT_TAG" base=debian:trixie-slim runner="" python=auto host_ca=yes
extra=()
while [ "$#" -gt 0 ]; do
    case "$1" in
    --tag | --base | --runner | --python)
        need_value "$1" "$#"
        case "$1" in
        --tag) tag="$2" ;;
        --base) base="$2" ;;
        --runner) runner="$2" ;;
        --python) python="$2" ;;
        esac
        shift
        ;;
    --no-cache) extra+=(--no-cache) ;;
    --no-host-ca) host_ca=no ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        say "error: unknown argument '$1'"
        usage >&2
        exit 2
        ;;
    esac
    shift
done
case "$python" in
auto | uv | distribution) ;;
*)
    say "error: --python '$python' is unknown; allowed: auto, uv, distribution"
    exit 2
    ;;
esac
[ -z "$runner" ] || [ -f "$runner" ] || die "--runner '$runner' is no file"

"$HERE/engine.sh"
"$HERE/base-image.sh" "$base"
have docker || die "the engine answers, but no docker client is installed; on Debian: apt-get install docker-cli"

# The context is put together in a directory of its own: certificates and binaries never touch the source tree.
WORK="$(mktemp -d)"
unlabelled="aigo-build:$$-$(date +%s)"
cleanup() {
    rm -rf "$WORK"
    docker rmi "$unlabelled" >/dev/null 2>&1 || true
}
trap cleanup EXIT
mkdir -p "$WORK/supervisor" "$WORK/tests"
cp "$ROOT/Dockerfile" "$ROOT/.dockerignore" "$ROOT/Cargo.toml" "$ROOT/Cargo.lock" "$WORK/"
cp "$ROOT/supervisor/Cargo.toml" "$WORK/supervisor/"
cp "$ROOT/tests/Cargo.toml" "$WORK/tests/"
for part in ipc-protocol runner; do
    tar -C "$ROOT" --exclude=target --exclude=fuzz -cf - "$part" | tar -C "$WORK" -xf -
done
tar -C "$ROOT" -cf - image | tar -C "$WORK" -xf -
[ "$host_ca" = no ] || "$HERE/host-ca.sh" "$WORK/image/ca"

arguments=(--build-arg "BASE_IMAGE=$base" --build-arg "PYTHON=$python")
if [ -n "$runner" ]; then
    cp "$runner" "$WORK/image/prebuilt/aigo-runner"
    chmod 0755 "$WORK/image/prebuilt/aigo-runner"
    arguments+=(--build-arg RUNNER=prebuilt)
fi
for variable in "${PROXY_VARIABLES[@]}"; do
    [ -z "${!variable:-}" ] || arguments+=(--build-arg "$variable=${!variable}")
done

# BuildKit needs the buildx plugin in today's clients; the recipe works with the classic builder as well.
if docker buildx version >/dev/null 2>&1; then
    export DOCKER_BUILDKIT=1
    extra+=(--progress plain --load)
else
    export DOCKER_BUILDKIT=0
fi
say "building $tag"
start=$SECONDS
"${DEADLINE[@]}" "$BUILD_SECONDS" docker build ${extra[@]+"${extra[@]}"} "${arguments[@]}" --tag "$unlabelled" "$WORK" ||
    die "the build failed at the step shown last above"

# Labels can say only what is known before the build; the versions are known after it. A second build adds them as a layer
# without content.
say "labelling"
versions="$(docker run --rm --network none --entrypoint cat "$unlabelled" /usr/share/aigo/versions.json)"
label_args="$(docker run --rm --network none --interactive --entrypoint jq "$unlabelled" --raw-output '
    (.version | to_entries[] | "aigo.image.version.\(.key)=\(.value)"), "aigo.image.python.source=\(.pythonSource)"' <<<"$versions")"
labels=()
while read -r label; do labels+=(--label "$label"); done <<<"$label_args"
docker build --quiet "${labels[@]}" --tag "$tag" - <<<"FROM $unlabelled" >/dev/null

size="$(docker image inspect --format '{{.Size}}' "$tag")"
say "built $tag in $((SECONDS - start)) s, $((size / 1000000)) MB"
