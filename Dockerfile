# The image that agents run in: `docker build .` (see image/README.md). Works with BuildKit and with the classic builder.
#
#   base ─┬─ fetch ─────────────────────────┐
#         ├─ runner-source ─┐               ├─ the image
#         └─ runner-prebuilt┴─ runner ──────┘
#
# Build arguments: BASE_IMAGE, RUNNER=source|prebuilt, PYTHON=auto|uv|distribution, and the usual HTTP_PROXY, HTTPS_PROXY,
# NO_PROXY. Certificates in image/ca/*.crt are trusted during the build and in the image.

ARG BASE_IMAGE=debian:trixie-slim
ARG RUNNER=source

# ---- base: what all stages share, the certificates first ------------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
# Every client has its own variable; all point at Debian's bundle, which then holds the extra certificates too.
ENV LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    CURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    GIT_SSL_CAINFO=/etc/ssl/certs/ca-certificates.crt \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt
COPY image/ca/ /usr/local/share/ca-certificates/aigo/
COPY image/build/apt.sh image/build/dpkg.cfg image/build/trust.sh /usr/lib/aigo/build/
RUN /usr/lib/aigo/build/trust.sh

# ---- fetch: uv, Node.js, npm and Claude Code, pinned by hash ----------------------------------------------------------------
FROM base AS fetch
COPY image/npm/package.json image/npm/package-lock.json image/python/fetch.txt image/build/fetch.sh /usr/lib/aigo/build/
RUN /usr/lib/aigo/build/fetch.sh

# ---- runner-source: the runner, from this repository's own lock file ----------------------------------------------------------
FROM base AS runner-source
ARG RUNNER
COPY image/build/toolchain.sh /usr/lib/aigo/build/
RUN /usr/lib/aigo/build/toolchain.sh
COPY Cargo.toml Cargo.lock /src/
COPY supervisor/Cargo.toml /src/supervisor/
COPY tests/Cargo.toml /src/tests/
COPY ipc-protocol /src/ipc-protocol
COPY runner /src/runner
COPY image/build/runner.sh /usr/lib/aigo/build/
RUN /usr/lib/aigo/build/runner.sh

# ---- runner-prebuilt: the runner, as a binary in image/prebuilt ---------------------------------------------------------------
FROM base AS runner-prebuilt
COPY image/prebuilt/ /out/

FROM runner-${RUNNER} AS runner

# ---- the image ----------------------------------------------------------------------------------------------------------------
FROM base
COPY image/build/packages.sh /usr/lib/aigo/build/
RUN /usr/lib/aigo/build/packages.sh

COPY --from=fetch /out/uv/ /usr/local/bin/
COPY image/python/pip.txt image/python/yq.txt image/build/python.sh /usr/lib/aigo/build/
ARG PYTHON=auto
RUN /usr/lib/aigo/build/python.sh

COPY --from=fetch /out/claude/ /opt/claude/
COPY --from=fetch /out/lib/ /usr/local/lib/
COPY --from=fetch /out/tools/ /usr/local/bin/

COPY image/build/user.sh /usr/lib/aigo/build/
RUN /usr/lib/aigo/build/user.sh

COPY --from=runner /out/aigo-runner /usr/local/bin/aigo-runner
COPY image/build/versions.sh /usr/lib/aigo/build/
RUN /usr/lib/aigo/build/versions.sh

# Claude Code must not replace itself: the runner's adapter is tested against this very version.
ENV PATH=/home/agent/.local/bin:/opt/python/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    DISABLE_AUTOUPDATER=1
WORKDIR /workspace
# PID 1 is root and gives up its privileges for the agent itself, see image/README.md.
USER root
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/aigo-runner"]
