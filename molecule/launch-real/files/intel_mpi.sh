#!/bin/sh
# intel_mpi.sh DIRECTORY COMMAND...: run the command with the Intel MPI in the directory
PATH=$1/bin:$PATH LD_LIBRARY_PATH=$1/lib FI_PROVIDER_PATH=$1/lib
export PATH LD_LIBRARY_PATH FI_PROVIDER_PATH
shift
mpiexec.hydra -machinefile /opt/oci-hooks/ssh/hostfile.mpich "$@"
