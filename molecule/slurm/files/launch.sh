#!/usr/bin/env bash
#SBATCH --nodes 3 --ntasks-per-node 1
# shellcheck disable=SC2046 # each word is an option
srun --kill-on-bad-exit podman run --rm --volume "$HOME:$HOME" --workdir "$PWD" \
    $(/opt/oci-hooks/bin/ssh_hook options) solver /opt/oci-hooks/ssh/bin/first "$@"
