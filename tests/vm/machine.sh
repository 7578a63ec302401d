#!/usr/bin/env bash
# shellcheck disable=SC2016,SC2034  # hooks have a shell of their own; lib.sh reads AIGO_TOOL
# Makes a Debian with systemd, cgroup v2, Docker, and a person with a rootless Podman as a disk image for qemu: machine.sh DIRECTORY.
# What is there is used again.
set -euo pipefail
cd "$(dirname "$0")/../.."
AIGO_TOOL="machine"
# shellcheck source-path=SCRIPTDIR source=../../image/setup/lib.sh
. image/setup/lib.sh

readonly SUITE=trixie
readonly DISK_SIZE=4G
# Whose services run with the machine, without a login.
readonly PERSON=alice
# Debian's archive on a slow line.
readonly BOOTSTRAP_SECONDS=1200

folder="$1"
mkdir -p "$folder"
made_by="$(cat tests/vm/machine.sh tests/vm/aigo-check.service | sha256sum)"
if [ "$(cat "$folder/made-by" 2>/dev/null)" = "$made_by" ]; then
    say "using the machine in $folder"
    exit 0
fi
for tool in mmdebstrap mke2fs; do
    have "$tool" || die "$tool is not installed; as root: apt-get install mmdebstrap e2fsprogs"
done
mirror="$(debian_mirror)"
options=(--variant=apt)
for keep in Acquire::Check-Valid-Until Acquire::Check-Date; do
    value=""
    eval "$(apt-config shell value "$keep" 2>/dev/null || true)"
    [ -z "$value" ] || options+=("--aptopt=$keep \"$value\"")
done
packages=systemd,systemd-sysv,dbus,libpam-systemd,udev,docker.io,docker-cli,iptables,linux-image-cloud-amd64,initramfs-tools
packages+=,ca-certificates,procps,iproute2,jq,curl
# Without a single recommended package: nft for netavark, and catatonit to hold a person's namespaces open.
packages+=,podman,crun,catatonit,netavark,aardvark-dns,nftables,passt,uidmap,dbus-user-session

root="$(mktemp -d "$folder/root.XXXXXX")"
trap 'rm -rf "$root"' EXIT
say "making a machine with mmdebstrap from $mirror"
timeout "$BOOTSTRAP_SECONDS" mmdebstrap "${options[@]}" --include="$packages" \
    --customize-hook='printf "vm\n" > "$1/etc/hostname"' \
    --customize-hook='printf "/dev/vda / ext4 defaults 0 1\n" > "$1/etc/fstab"' \
    --customize-hook="chroot \"\$1\" useradd --create-home --shell /bin/bash --uid 1000 $PERSON" \
    --customize-hook="mkdir -p \"\$1/var/lib/systemd/linger\" && touch \"\$1/var/lib/systemd/linger/$PERSON\"" \
    --customize-hook='printf "[Match]\nName=en*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n" > "$1/etc/systemd/network/card.network"' \
    --customize-hook='chroot "$1" systemctl enable systemd-networkd.service' \
    --customize-hook='copy-in tests/vm/aigo-check.service /etc/systemd/system' \
    --customize-hook='chroot "$1" systemctl enable aigo-check.service' \
    "$SUITE" "$root/fs" "deb $mirror $SUITE main" >"$folder/log" 2>&1 </dev/null || {
    tail -n 25 "$folder/log" >&2
    die "mmdebstrap could not build the machine"
}
# Podman asks it for each of its parts whenever it describes itself, which takes an emulated processor long.
rm "$root/fs/usr/bin/dpkg-query"
cp "$root"/fs/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/fs/boot/initrd.img-* "$folder/initrd"
say "making its disk"
mke2fs -q -t ext4 -d "$root/fs" "$folder/disk.tmp" "$DISK_SIZE"
mv "$folder/disk.tmp" "$folder/disk.ext4"
echo "$made_by" >"$folder/made-by"
