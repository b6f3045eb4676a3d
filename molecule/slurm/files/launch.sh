#!/usr/bin/env bash
#SBATCH --nodes 3 --ntasks-per-node 1
image=$1 && shift
# shellcheck disable=SC2046 # the shell has to split the options
srun --kill-on-bad-exit podman run --rm --volume "$HOME:$HOME" --workdir "$PWD" \
    $(/opt/oci-hooks/bin/ssh_hook options) "$image" /opt/oci-hooks/ssh/bin/first "$@"
