#!/usr/bin/env bash
# On a node, as the suite's bundle without root: `sarus-suite-shell` gives podman a configuration below the home, and
# `sarusctl run` calls it. Prints "none" from a container without the hook's JSON there and "own" from one with it, whose
# session is in the same mount namespace. $1: the command of the guide that copies the JSON.
set -euo pipefail
export XDG_CONFIG_HOME=$HOME/.local/state/sarus-suite/config-home
at=$XDG_CONFIG_HOME/containers place=/dev/shm/alice/sarusctl

run() {
    podman --root "$place/graphroot" --runroot "$place/runroot" --module hpc \
        --storage-opt additionalimagestore=/home/images run --rm --name sarusctl-Aa0Bb1Cc \
        --annotation com.hooks.ssh.enabled=true localhost/debian sh -c "$1"
}

mkdir -p "$at/oci/hooks.d" "$at/containers.conf.modules"
sed "s:/etc/containers/oci:$at/oci:" /etc/containers/containers.conf >"$at/containers.conf"
sed 's:/usr/local/lib/sarus-suite/mount-program:/usr/bin/fuse-overlayfs:' /etc/containers/storage.conf >"$at/storage.conf"
cp /etc/containers/containers.conf.modules/hpc "$at/containers.conf.modules"
# shellcheck disable=SC2016 # expanded by the container's shell
{
    run '[ -e /opt/oci-hooks ] || echo none'
    eval "$1"
    run '[ "$(ssh "$(hostname)" readlink /proc/self/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ] && echo own'
}
podman --root "$place/graphroot" --runroot "$place/runroot" system migrate # ends podman's own process
rm -rf "$XDG_CONFIG_HOME" "$place"
