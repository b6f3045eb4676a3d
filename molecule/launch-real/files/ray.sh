#!/bin/sh
# ray.sh COMMAND...: start Ray on all hosts of the job, and run the command
first=$(head -n 1 /opt/oci-hooks/ssh/hosts)
port=$((6000 + MASTER_PORT % 2000)) # another one in each job
ray start --head --port "$port" || exit
for host in $(tail -n +2 /opt/oci-hooks/ssh/hosts); do
    ssh -n "$host" ray start --address "$first:$port" || exit
done
"$@"
