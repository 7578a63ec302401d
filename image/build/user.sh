#!/bin/sh
# The user that the agent runs as, and /workspace. The runner gives `agent` the uid of the folder's owner at start.
set -eu

# Group docker: for a privileged dockerd, whose socket belongs to it.
useradd --create-home --uid 1000 --shell /bin/bash --groups docker agent
cat >/etc/sudoers.d/agent <<'SUDOERS'
# sudo would drop the certificate and proxy settings, without which nothing can be installed on some networks.
Defaults env_keep += "SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO PIP_CERT REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS"
Defaults env_keep += "CARGO_HTTP_CAINFO LANG HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy NODE_USE_ENV_PROXY"
agent ALL=(ALL:ALL) NOPASSWD: ALL
SUDOERS
chmod 0440 /etc/sudoers.d/agent
visudo --check --quiet

# Rootless Docker maps its users into this range; by name, so that it holds for whatever uid the runner gives.
echo 'agent:100000:65536' >/etc/subuid
echo 'agent:100000:65536' >/etc/subgid

# A login shell starts from /etc/profile's PATH, not from the image's.
# shellcheck disable=SC2016
echo 'PATH="$HOME/.local/bin:$PATH"' >/etc/profile.d/aigo.sh

# The folder may belong to another uid than git's caller (`user: root`, or a file server that maps owners).
git config --system --add safe.directory /workspace
git config --system --add safe.directory '/workspace/*'

install -d -o agent -g agent -m 0755 /workspace
