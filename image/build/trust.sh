#!/bin/sh
# Installs Debian's CA certificates, and those of image/ca, for all later steps and for the image itself.
set -eu
here="$(dirname "$0")"
. "$here/apt.sh"

extra=/usr/local/share/ca-certificates/aigo
bundle=/etc/ssl/certs/ca-certificates.crt
find "$extra" -type f ! -name '*.crt' -delete
cp "$here/dpkg.cfg" /etc/dpkg/dpkg.cfg.d/aigo

# An https mirror behind a TLS proxy must be trusted before the package that brings the trust store can be had from it.
if [ ! -s "$bundle" ] && ls "$extra"/*.crt >/dev/null 2>&1; then
    mkdir -p "$(dirname "$bundle")"
    cat "$extra"/*.crt >"$bundle"
fi
apt_install ca-certificates
update-ca-certificates
echo "extra CA certificates: $(find "$extra" -name '*.crt' | wc -l)"
