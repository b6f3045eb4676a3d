#!/usr/bin/env bash
#SBATCH --nodes 2 --ntasks-per-node 1
/opt/oci-hooks/bin/ssh_hook options --engine edf >"$HOME/.edf/job-$SLURM_JOB_ID.toml"
srun --edf=./mpi.toml /opt/oci-hooks/ssh/bin/first mpirun --allow-run-as-root ./solver
