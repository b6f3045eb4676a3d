#!/bin/sh
# torchrun.sh PROGRAM...: run torchrun on each host of the job, with a process for each slot
hosts=$(cat /opt/oci-hooks/ssh/hosts)
first=$(head -n 1 /opt/oci-hooks/ssh/hosts)
nodes=$(wc -l </opt/oci-hooks/ssh/hosts)
slots=$(sed -n '1s/.*slots=//p' /opt/oci-hooks/ssh/hostfile)
rank=0 pids=
for host in $hosts; do
    ssh -n "$host" "cd $PWD && torchrun --nnodes $nodes --node-rank $rank --nproc-per-node $slots \
        --master-addr $first $*" &
    pids="$pids $!"
    rank=$((rank + 1))
done
for pid in $pids; do wait "$pid" || exit; done # with the status of the first that fails
