#!/bin/sh
# Calls hooks.d from the position in which enroot does, and becomes the container: an imitation of `enroot start`.
#
#   enroot_start.sh ROOTFS COMMAND...
#
# It runs with all capabilities in a user namespace of the user's, in a mount namespace of its own. CONTAINER_ENV has the
# container's variables, HOOKS the directory of hooks, MOUNTS what is mounted after the hooks ("SOURCE:TARGET", in lines),
# STEPS a directory in which a file `hold-STEP` has the step wait until it is gone, and in which `at-STEP` says where it is.
set -eu
rootfs=$1
shift
runtime=$XDG_RUNTIME_DIR/enroot
mount -t tmpfs -o mode=700 tmpfs "$runtime"
mount --bind "$rootfs" "$rootfs"
mount -o remount,bind,nosuid,nodev "$rootfs"
mount --make-slave "$rootfs"
(
    export ENROOT_PID=$$ ENROOT_ROOTFS="$rootfs" ENROOT_ENVIRON="$runtime/environment" ENROOT_MOUNTS="$runtime/fstab"
    printf '%s\n' "$CONTAINER_ENV" >"$ENROOT_ENVIRON"
    for name in proc dev sys; do
        [ -z "${WITHOUT_MOUNTS-}" ] || break
        mkdir -p "$rootfs/$name"
        mount --rbind "/$name" "$rootfs/$name"
    done
    for hook in "$HOOKS"/*.sh; do
        "$hook" >/dev/null || exit 1
    done
    printf '%s\n' "${MOUNTS-}" | while IFS=: read -r source target; do
        [ -z "$source" ] || mount --bind "$source" "$rootfs$target"
    done
)
exec /usr/bin/python3 "$(dirname -- "$0")/enroot_switch.py" "$runtime/environment" "$rootfs" "$@"
