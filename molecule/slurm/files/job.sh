#!/usr/bin/env bash
#SBATCH --nodes 3
#SBATCH --ntasks-per-node 1

port=$((20000 + SLURM_JOB_ID % 10000)) # the same in all containers of this job
name=job$SLURM_JOB_ID

srun --kill-on-bad-exit podman run --rm --name "$name" --init --network host --volume "$HOME:$HOME" --workdir "$PWD" \
    --annotation com.hooks.ssh.enabled=true --annotation "com.hooks.ssh.port=$port" \
    --annotation "run.oci.hooks.stderr=$PWD/hook-$SLURM_JOB_ID.log" \
    solver sleep infinity &
/opt/oci-hooks/bin/ssh_hook wait --port "$port" &
wait -n || exit # go on when all containers answer, exit when one could not start

scontrol show hostnames | sed 's/$/ slots=2/' >"hosts-$SLURM_JOB_ID"
podman exec "$name" mpirun --allow-run-as-root --hostfile "hosts-$SLURM_JOB_ID" "$@"
