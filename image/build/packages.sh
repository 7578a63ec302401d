#!/bin/sh
# The Debian packages of the image.
set -eu
. "$(dirname "$0")/apt.sh"

# Docker-in-Docker: docker.io with its rootless start script; rootlesskit runs it, slirp4netns is its network, uidmap maps
# its users, fuse-overlayfs is its storage where the kernel's overlayfs may not be used, iptables and iproute2 set it up.
apt_install \
    curl git jq openssh-client sudo procps \
    docker.io docker-cli iptables iproute2 rootlesskit slirp4netns uidmap fuse-overlayfs libcap2-bin

# newuidmap and newgidmap as Debian ships them are setuid root, and then the kernel refuses the map in a container without
# CAP_SYS_ADMIN; with file capabilities it is granted (user_namespaces(7), "Defining user and group ID mappings").
chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap
setcap cap_setuid=ep /usr/bin/newuidmap
setcap cap_setgid=ep /usr/bin/newgidmap
ln -s /usr/share/docker.io/contrib/dockerd-rootless.sh /usr/local/bin/dockerd-rootless.sh
test -x /usr/local/bin/dockerd-rootless.sh
