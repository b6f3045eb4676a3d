#!/usr/bin/env bash
# Imports the image debian and has parallax migrate it to the store of the user, which the suite's settings name.
set -euo pipefail

root=$(mktemp -d /srv/containers/parallax.XXXXXX)
store=$HOME/.sarus-suite/ro-store
mkdir -p "$store"
podman --root "$root/graphroot" --runroot "$root/runroot" import --quiet /images/debian.tar debian
parallax --podmanRoot "$root/graphroot" --roStoragePath "$store" --mksquashfsPath /usr/bin/mksquashfs \
    --migrate --image localhost/debian
podman --root "$root/graphroot" --runroot "$root/runroot" system migrate # ends podman's own process
podman unshare rm -rf "$root"
