#!/usr/bin/env bash
# `make test-vm`: the installed service under a real systemd with cgroup v2, in a machine of its own (qemu, no KVM needed).
set -euo pipefail
cd "$(dirname "$0")/../.."

folder="${AIGO_VM:-${CARGO_TARGET_DIR:-target}/vm}"
aigo="${AIGO_BIN:?the binary to test}"
runner="${AIGO_RUNNER:?the static runner}"
# An emulated processor: a minute to boot, and seconds for what takes none elsewhere.
readonly DEADLINE_SECONDS=2400

for tool in qemu-system-x86_64 busybox; do
    if ! command -v "$tool" >/dev/null; then
        [ "$(id -u)" = 0 ] || { echo "error: $tool is missing; as root: apt-get install qemu-system-x86 busybox-static" >&2; exit 1; }
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86 seabios busybox-static >/dev/null
    fi
done
tests/vm/machine.sh "$folder"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# An image that needs no registry: a shell and the runner.
mkdir -p "$work/image/bin" "$work/image/usr/local/bin" "$work/image/tmp" "$work/image/etc" "$work/disk"
cp "$(command -v busybox)" "$work/image/bin/busybox"
for name in sh sleep echo cat; do ln -s busybox "$work/image/bin/$name"; done
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$work/image/etc/passwd"
printf 'root:x:0:\n' >"$work/image/etc/group"
cp "$runner" "$work/image/usr/local/bin/aigo-runner"
tar --create --file "$work/disk/image.tar" --directory "$work/image" .
cp "$aigo" "$work/disk/aigo"
cp tests/vm/{check,lib,user}.sh "$work/disk/"
# What the model would say, if somebody asked.
echo '{"say": "Done."}' >"$work/disk/script.jsonl"
mke2fs -q -t ext4 -d "$work/disk" "$work/disk.ext4" 512M

# Both boots on one disk, which is thrown away.
cp --sparse=always "$folder/disk.ext4" "$work/system.ext4"
# boot END: one boot, which has to come to a line that begins so.
boot() {
    echo "booting (at most $DEADLINE_SECONDS s)"
    # The card leads nowhere; it is there for the default route that a rootless Podman takes its addresses from.
    # Without cx16: the kernel panics on what qemu 7.2 makes of cmpxchg16b. More threads panic, too.
    timeout "$DEADLINE_SECONDS" qemu-system-x86_64 -accel tcg,thread=single -cpu Nehalem,-cx16 -smp 1 -m 2048 -nographic -no-reboot \
        -kernel "$folder/vmlinuz" -initrd "$folder/initrd" \
        -append "root=/dev/vda rw console=ttyS0 panic=1 systemd.mask=serial-getty@ttyS0.service systemd.show_status=no loglevel=3" \
        -drive "file=$work/system.ext4,if=virtio,format=raw" -drive "file=$work/disk.ext4,if=virtio,format=raw" \
        -nic user,model=virtio-net-pci,restrict=on </dev/null | stdbuf --output=L tr -d '\r' | tee --append "$folder/console.log"
    grep -q "^$1" "$folder/console.log" || { echo "error: the machine ended before its checks did" >&2; exit 1; }
}
: >"$folder/console.log"
boot "END of the first boot"
boot "END of checks"

# Anywhere in a line: what sets up a terminal may have written before it.
passed="$(grep -c 'PASS ' "$folder/console.log" || true)"
failed="$(grep -c 'FAIL ' "$folder/console.log" || true)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
