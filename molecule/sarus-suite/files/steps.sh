#!/usr/bin/env bash
# Runs 200 steps of a job, two at once on each node. Each prints a line by a session.
for _ in $(seq 50); do
    for node in compute1 compute1 compute2 compute2; do
        # shellcheck disable=SC2016 # expanded by the container's shell
        srun --quiet --overlap --nodes 1 --ntasks 1 --nodelist "$node" --edf=ssh sh -c 'ssh "$(hostname)" echo served' &
    done
    wait
done
