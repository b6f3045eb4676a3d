#!/usr/bin/env bash
#SBATCH --nodes 3 --ntasks-per-node 1
srun --kill-on-bad-exit podman run --rm --network host --volume "$HOME:$HOME" --workdir "$PWD" \
    --annotation com.hooks.ssh.enabled=true --annotation com.hooks.ssh.port=auto solver \
    /opt/oci-hooks/ssh/bin/first mpirun --allow-run-as-root --hostfile /opt/oci-hooks/ssh/hostfile "$@"
