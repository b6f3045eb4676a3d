#!/usr/bin/env bash
# Makes alice's images in the store that all nodes share: debian, mpi, solver, which is mpi with a program, and two of
# debian with entrypoints.
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
solver=$(mktemp)
printf '#!/bin/sh\nhostname\nsleep 1\n' >"$solver"
chmod 755 "$solver"
container=$(podman create mpi true)
podman cp "$solver" "$container:/srv/solver"
podman commit --quiet --change 'WORKDIR /srv' "$container" solver
podman rm "$container"
rm "$solver"
podman system migrate # ends podman's own process, which would hide what a step leaves
