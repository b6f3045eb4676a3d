#!/usr/bin/env bash
# Runs two steps of a job at once. Each prints its number, its port, and the mount namespaces of its task and of a
# session.
step() {
    # shellcheck disable=SC2016 # expanded by the container's shell
    srun --quiet --overlap --ntasks 1 --edf=ssh sh -c '
        : >"/tmp/$SLURM_JOB_ID.$SLURM_STEP_ID"
        until [ -e "/tmp/$SLURM_JOB_ID.0" ] && [ -e "/tmp/$SLURM_JOB_ID.1" ]; do sleep 0.1; done
        port=$(sed -n "s/^.*Port.//p" /opt/oci-hooks/ssh/ssh_config)
        echo "$SLURM_STEP_ID $port $(readlink /proc/self/ns/mnt) $(ssh "$(hostname)" readlink /proc/self/ns/mnt)"
    '
}
echo "$SLURM_JOB_ID"
step &
step &
wait
