#!/usr/bin/env bash
# Runs two steps of a job with one port. The second fails, with what `why` then says, while the first runs, in which ssh
# works afterwards.
# shellcheck disable=SC2016 # expanded on the node
step() {
    srun --quiet --overlap --ntasks 1 "$@"
}
step --edf=test sh -c '
    : >"/tmp/$SLURM_JOB_ID.up"
    until [ -e "/tmp/$SLURM_JOB_ID.refused" ]; do sleep 0.1; done
    ssh "$(hostname)" echo served
' &
step sh -c 'until [ -e "/tmp/$SLURM_JOB_ID.up" ]; do sleep 0.1; done'
step --edf=test echo started
step sh -c '/opt/oci-hooks/bin/ssh_hook why; : >"/tmp/$SLURM_JOB_ID.refused"'
wait
