#!/usr/bin/env bash
# Makes alice's images in the store that all nodes share: debian, mpi, and two of debian with entrypoints.
set -euo pipefail

podman() {
    command podman --root /home/images "$@"
}

for name in debian mpi; do podman import --quiet "/images/$name.tar" "$name"; done
container=$(podman create debian true)
# shellcheck disable=SC2016 # expanded by the container's shell
podman commit --quiet --change 'ENTRYPOINT ["/bin/sh", "-c", "sleep 2; export PREPARED=yes; exec \"$@\"", "sh"]' "$container" slow
podman commit --quiet --change 'ENTRYPOINT ["/bin/sh", "-c", "exit 3"]' "$container" failing
podman rm "$container"
podman system migrate # ends podman's own process, which would hide what a step leaves
