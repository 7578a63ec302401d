#!/usr/bin/env bash
# Collects the CA certificates that this host trusts beyond Debian's own, for networks that inspect TLS.
set -euo pipefail

AIGO_TOOL="host-ca"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# What Debian's ca-certificates package ships, one file a certificate.
readonly SHIPPED_DIR=/usr/share/ca-certificates/mozilla
# The host's bundle, where it can be compared with the shipped ones (Debian and its children).
readonly BUNDLE=/etc/ssl/certs/ca-certificates.crt
# Where an administrator puts extra certificates: Debian, Fedora, SUSE, Arch.
readonly ADMIN_DIRS=(/usr/local/share/ca-certificates /etc/pki/ca-trust/source/anchors /etc/pki/trust/anchors
    /etc/ca-certificates/trust-source/anchors)

usage() {
    cat <<USAGE
usage: host-ca.sh OUTDIR

Writes each CA certificate that this host trusts and Debian's ca-certificates package does not ship to
OUTDIR/host-<fingerprint>.crt; older files of that name are removed first, others are left alone. Sources: the host's
bundle, the directories for an administrator's certificates, and the files that SSL_CERT_FILE and NODE_EXTRA_CA_CERTS
name. On macOS: the System keychain. Nothing found is no error.
USAGE
}

# pem_bodies: reads PEM text, prints the base64 body of each certificate on one line. Two PEM texts of one certificate differ
# only in line breaks and in the text around them, so equal bodies are equal certificates. Keys in the input are passed over.
pem_bodies() {
    awk '
        /^-----BEGIN CERTIFICATE-----/ { inside = 1; body = ""; next }
        /^-----END CERTIFICATE-----/   { if (inside && body != "") print body; inside = 0; next }
        inside                         { gsub(/[^A-Za-z0-9+\/=]/, ""); body = body $0 }
    '
}

host_pem() {
    local file dir
    if [ "$(uname -s)" = Darwin ]; then
        security find-certificate -a -p /Library/Keychains/System.keychain 2>/dev/null || true
    fi
    # Without the shipped ones to compare with, the bundle would bring a hundred certificates that are no news.
    if [ -d "$SHIPPED_DIR" ] && [ -r "$BUNDLE" ]; then
        cat "$BUNDLE"
    fi
    for dir in "${ADMIN_DIRS[@]}"; do
        [ -d "$dir" ] || continue
        find "$dir" -type f \( -name '*.crt' -o -name '*.pem' -o -name '*.cer' \) -exec sh -c 'cat "$1"; echo' _ {} \;
    done
    for file in "${SSL_CERT_FILE:-}" "${NODE_EXTRA_CA_CERTS:-}"; do
        [ -n "$file" ] || continue
        if [ -r "$file" ]; then
            cat "$file"
            echo
        else
            say "warning: cannot read $file, which the environment names as a certificate file"
        fi
    done
}

shipped_pem() {
    [ ! -d "$SHIPPED_DIR" ] || find "$SHIPPED_DIR" -type f -name '*.crt' -exec cat {} +
}

fingerprint() {
    if have sha256sum; then sha256sum; else shasum -a 256; fi | cut -c 1-16
}

case "${1:-}" in
-h | --help)
    usage
    exit 0
    ;;
"" | -*)
    usage >&2
    exit 2
    ;;
esac
[ "$#" = 1 ] || {
    usage >&2
    exit 2
}
out="$1"
mkdir -p "$out" || die "cannot make the directory $out"
rm -f "$out"/host-*.crt

shipped="$(shipped_pem | pem_bodies)"
count=0
while read -r body; do
    [ -n "$body" ] || continue
    {
        echo "-----BEGIN CERTIFICATE-----"
        printf '%s\n' "$body" | fold -w 64
        echo "-----END CERTIFICATE-----"
    } >"$out/host-$(printf '%s' "$body" | fingerprint).crt"
    count=$((count + 1))
done < <(host_pem | pem_bodies | sort -u | grep -vxF -f <(printf '%s\n' "$shipped" | grep . || echo -) || true)
say "$count certificate(s) beyond Debian's own written to $out"
