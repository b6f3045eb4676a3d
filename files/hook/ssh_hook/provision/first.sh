#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# first COMMAND [ARGUMENT...]: as the program of each container of a job, run COMMAND in the one on the first host, and
# end with its exit status in all.
#
# The containers on the other hosts follow: each has an ssh session in the first one's container, which ends when
# COMMAND does, or when that container is gone. A container is the first if that session leads to itself: the numbers in
# the files `id` tell, whatever names the host has. The first writes the exit status of COMMAND into `status` and closes
# the FIFO `end`; each session has the FIFO `followers` open until the other container has the status, and hangs up.
base=/opt/oci-hooks/ssh
state=$base/first
ssh=$base/bin/ssh
child=

say() {
    echo "first: $*" >&2
}

# Wait for the process $child, and pass on what would end this one. Sets `status`.
await() {
    while :; do
        wait "$child"
        status=$?
        kill -0 "$child" 2>/dev/null || break
    done
    # Where a signal interrupts the wait just as the process ends, the status is the signal's: the next wait has its own.
    wait "$child" 2>/dev/null
    known=$?
    [ "$known" -eq 127 ] || status=$known
}

pass_signals_on() {
    trap - USR1
    trap 'kill -s TERM "$child" 2>/dev/null' HUP INT TERM
}

# The command is none of the job's tasks, even if this program is one. It has no variables of a task, nor those by which
# Slurm has launchers start processes by srun: in a job they use ssh. Sessions have the same rules, by Dropbear's patch
# 09-environment. A line of a value that looks like a variable does no harm: such a variable is to go in any case.
leave_task() {
    value=
    set -f
    IFS='
'
    for name in $(export -p); do
        name=${name#export }
        name=${name%%=*}
        case $name in
            *[!A-Za-z0-9_]* | PMIX_MCA_* | PMIX_PREFIX | PMIX_INSTALL_PREFIX) ;;
            SLURM_PROCID | SLURM_LOCALID | SLURM_GTIDS | SLURM_TASK_PID | SLURM_SRUN_COMM_* | SLURM_STEP_LAUNCHER_PORT | \
                SLURM_LAUNCH_NODE_IPADDR | SLURM_PRIO_PROCESS | SLURM_PTY_* | SLURM_PMI* | PMI_* | PMI2_* | PMIX_* | \
                OMPI_COMM_WORLD_* | MPI_LOCALRANKID | MPI_LOCALNRANKS | OMPI_MCA_plm_slurm_args | PRTE_MCA_plm_slurm_args)
                unset "$name"
                ;;
            HYDRA_BOOTSTRAP | HYDRA_LAUNCHER | I_MPI_HYDRA_BOOTSTRAP | OMPI_MCA_plm | PRTE_MCA_plm | \
                HYDRA_LAUNCHER_EXTRA_ARGS | I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS)
                eval "value=\${$name-}"
                case $value in slurm* | --external-launcher*) unset "$name" ;; esac
                ;;
        esac
    done
    unset IFS
    set +f
    [ -n "${SLURM_JOB_ID-}${SLURM_JOBID-}" ] || return 0
    export HYDRA_BOOTSTRAP="${HYDRA_BOOTSTRAP-ssh}" I_MPI_HYDRA_BOOTSTRAP="${I_MPI_HYDRA_BOOTSTRAP-ssh}"
    export OMPI_MCA_plm="${OMPI_MCA_plm-^slurm}" PRTE_MCA_plm="${PRTE_MCA_plm-^slurm}"
}

# Have up to 64 sessions at a time try each host, and so wait until all have started.
reach_all() {
    failed=
    workers=
    worker=0
    trap 'failed=yes' USR1 HUP INT TERM
    while [ "$worker" -lt 64 ] && [ "$worker" -lt "$count" ]; do
        reach_some "$worker" </dev/null 7<&- 8<&- 9<&- &
        workers="$workers $!"
        worker=$((worker + 1))
    done
    for worker in $workers; do
        while [ -z "$failed" ] && kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
    done
    pass_signals_on
    [ -n "$failed" ] || return 0
    for worker in $workers; do kill "$worker" 2>/dev/null; done
    return 1
}

# Try each 64th host, from number $1 on.
reach_some() {
    session=
    trap 'kill $session 2>/dev/null; exit 1' TERM
    number=0
    while read -r host <&3; do
        if [ $((number % 64)) -eq "$1" ]; then
            "$ssh" "$host" true </dev/null 3<&- &
            session=$!
            if ! wait "$session"; then
                say "no container of this job answers on $host"
                kill -s USR1 $$
                return 1
            fi
        fi
        number=$((number + 1))
    done 3<"$base/hosts"
}

# Name the directories in /proc of this user's ssh clients that run, in `connections`.
find_connections() {
    connections=
    for process in /proc/[0-9]*; do
        [ -r "$process/environ" ] && { read -r name <"$process/comm"; } 2>/dev/null && [ "$name" = ssh ] || continue
        connections="$connections $process"
    done
}

# Until the connections that the command has left behind have ended, as a launcher's that ends first, but for 5 s at
# most: they would report that the other containers were gone. Those in `earlier` are not the command's.
settle() {
    tries=50
    while [ "$tries" -gt 0 ]; do
        find_connections
        left=
        for process in $connections; do
            case "$earlier " in *" $process "*) ;; *) left=yes ;; esac
        done
        [ -n "$left" ] || return 0
        sleep 0.1 2>/dev/null || { sleep 1 && tries=$((tries - 9)); }
        tries=$((tries - 1))
    done
}

lead() {
    exec 8<>"$state/followers" 9<>"$state/end"
    if reach_all; then
        find_connections
        earlier=$connections
        leave_task
        "$@" <&3 3<&- 8<&- 9<&- &
        child=$!
        await
        settle
    else
        status=1
    fi
    echo "$status" >"$state/status"
    exec 7<"$state/followers"
    exec 9<&-
    # Until all others have come and gone, but for 10 s at most. A session that comes late waits to open `end`.
    see_off &
    child=$!
    exec 8<&-
    seconds=0
    (while [ "$seconds" -lt 10 ]; do
        sleep 1
        : <>"$state/end"
        seconds=$((seconds + 1))
    done; kill "$child") 2>/dev/null 7<&- &
    wait "$child"
    kill "$!" 2>/dev/null
    exit "$status"
}

# Read the line of each follower, and then until none has the FIFO open.
see_off() {
    came=1
    while [ "$came" -lt "$count" ] && read -r _ <&7; do came=$((came + 1)); done
    exec 8<&-
    while read -r _ <&7; do :; done
}

# In a session of another container on the first host: the end, and the exit status, of the command there.
serve() {
    if [ "$1" = "$id" ]; then
        echo self
        return
    fi
    echo following
    exec 8>"$state/followers"
    echo >&8
    [ -e "$state/status" ] || read -r _ <"$state/end"
    read -r status <"$state/status" && echo "ended $status"
    read -r _
}

# Write the last line of a session's answer into a file; do not wait for the session's end where no more follows.
receive() {
    while read -r line; do
        echo "$line" >"$state/answer"
        case $line in self | ended*) return ;; esac
    done
}

follow() {
    pass_signals_on
    exec 6<>"$state/open"
    tries=3
    while :; do
        : >"$state/answer"
        "$ssh" -o ServerAliveInterval=15 -o ServerAliveCountMax=4 "$host" "$base/bin/first --serve $id" \
            <&6 >"$state/answers" 3<&- &
        session=$!
        receive <"$state/answers" 3<&- 6<&- &
        child=$!
        await
        [ "$status" -le 128 ] || exit "$status"
        answer=
        read -r answer <"$state/answer"
        case $answer in
            self)
                exec 6<&-
                kill "$session" 2>/dev/null
                return
                ;;
            ended*) exit "${answer#ended }" ;;
            following)
                say "the container on $host, which runs the command, has ended or is out of reach"
                exit 255
                ;;
        esac
        wait "$session"
        status=$?
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ] || [ "$status" -ne 255 ]; then
            say "no container of this job answers on $host, the first of its hosts"
            exit "$status"
        fi
        sleep 1
    done
}

read -r id <"$state/id" || exit
case ${1-} in
    '')
        say 'give a command: first COMMAND [ARGUMENT...]'
        exit 2
        ;;
    --serve)
        serve "$2"
        exit
        ;;
esac
exec 3<&0
count=0
while read -r line; do
    [ "$count" -ne 0 ] || host=$line
    count=$((count + 1))
done <"$base/hosts"
follow
lead "$@"
