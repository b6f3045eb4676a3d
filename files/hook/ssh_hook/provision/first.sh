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
#
# Its variables begin with `_`: a shell that sets one which it was given exports the new value, and COMMAND has to have
# the user's own.
_base=/opt/oci-hooks/ssh
_state=$_base/first
_ssh=$_base/bin/ssh
_child=

say() {
    echo "first: $*" >&2
}

# Wait for the process $_child, and pass on what would end this one. Sets `_status`.
await() {
    while :; do
        wait "$_child"
        _status=$?
        kill -0 "$_child" 2>/dev/null || break
    done
    # Where a signal interrupts the wait just as the process ends, the status is the signal's: the next wait has its own.
    wait "$_child" 2>/dev/null
    _known=$?
    [ "$_known" -eq 127 ] || _status=$_known
}

pass_signals_on() {
    trap - USR1
    trap 'kill -s TERM "$_child" 2>/dev/null' HUP INT TERM
}

# The command is none of the job's tasks, even if this program is one. It has no variables of a task, nor those by which
# Slurm has launchers start processes by srun: in a job they use ssh. Sessions have the same rules, by Dropbear's patch
# 09-environment. A line of a value that looks like a variable does no harm: such a variable is to go in any case.
leave_task() {
    _value=
    set -f
    IFS='
'
    for _name in $(export -p); do
        _name=${_name#export }
        _name=${_name%%=*}
        case $_name in
            *[!A-Za-z0-9_]* | PMIX_MCA_* | PMIX_PREFIX | PMIX_INSTALL_PREFIX) ;;
            SLURM_PROCID | SLURM_LOCALID | SLURM_GTIDS | SLURM_TASK_PID | SLURM_SRUN_COMM_* | SLURM_STEP_LAUNCHER_PORT | \
                SLURM_LAUNCH_NODE_IPADDR | SLURM_PRIO_PROCESS | SLURM_PTY_* | SLURM_PMI* | PMI_* | PMI2_* | PMIX_* | \
                OMPI_COMM_WORLD_* | MPI_LOCALRANKID | MPI_LOCALNRANKS | OMPI_MCA_plm_slurm_args | PRTE_MCA_plm_slurm_args)
                unset "$_name"
                ;;
            HYDRA_BOOTSTRAP | HYDRA_LAUNCHER | I_MPI_HYDRA_BOOTSTRAP | OMPI_MCA_plm | PRTE_MCA_plm | \
                HYDRA_LAUNCHER_EXTRA_ARGS | I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS)
                eval "_value=\${$_name-}"
                case $_value in slurm* | --external-launcher*) unset "$_name" ;; esac
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
    _failed=
    _workers=
    _worker=0
    trap '_failed=yes' USR1 HUP INT TERM
    while [ "$_worker" -lt 64 ] && [ "$_worker" -lt "$_count" ]; do
        reach_some "$_worker" </dev/null 7<&- 8<&- 9<&- &
        _workers="$_workers $!"
        _worker=$((_worker + 1))
    done
    for _worker in $_workers; do
        while [ -z "$_failed" ] && kill -0 "$_worker" 2>/dev/null; do wait "$_worker"; done
    done
    pass_signals_on
    [ -n "$_failed" ] || return 0
    for _worker in $_workers; do kill "$_worker" 2>/dev/null; done
    return 1
}

# Try each 64th host, from number $1 on.
reach_some() {
    _session=
    trap 'kill $_session 2>/dev/null; exit 1' TERM
    _number=0
    while read -r _host <&3; do
        if [ $((_number % 64)) -eq "$1" ]; then
            "$_ssh" "$_host" true </dev/null 3<&- &
            _session=$!
            if ! wait "$_session"; then
                say "no container of this job answers on $_host"
                kill -s USR1 $$
                return 1
            fi
        fi
        _number=$((_number + 1))
    done 3<"$_base/hosts"
}

# Name the directories in /proc of this user's ssh clients that run, in `_connections`.
find_connections() {
    _connections=
    for _process in /proc/[0-9]*; do
        [ -r "$_process/environ" ] && { read -r _name <"$_process/comm"; } 2>/dev/null && [ "$_name" = ssh ] || continue
        _connections="$_connections $_process"
    done
}

# Until the connections that the command has left behind have ended, as a launcher's that ends first, but for 5 s at
# most: they would report that the other containers were gone. Those in `_earlier` are not the command's.
settle() {
    _tries=50
    while [ "$_tries" -gt 0 ]; do
        find_connections
        _left=
        for _process in $_connections; do
            case "$_earlier " in *" $_process "*) ;; *) _left=yes ;; esac
        done
        [ -n "$_left" ] || return 0
        sleep 0.1 2>/dev/null || { sleep 1 && _tries=$((_tries - 9)); }
        _tries=$((_tries - 1))
    done
}

lead() {
    exec 8<>"$_state/followers" 9<>"$_state/end"
    if reach_all; then
        find_connections
        _earlier=$_connections
        leave_task
        "$@" <&3 3<&- 8<&- 9<&- &
        _child=$!
        await
        settle
    else
        _status=1
    fi
    echo "$_status" >"$_state/status"
    exec 7<"$_state/followers"
    exec 9<&-
    # Until all others have come and gone, but for 10 s at most. A session that comes late waits to open `end`.
    see_off &
    _child=$!
    exec 8<&-
    _seconds=0
    (while [ "$_seconds" -lt 10 ]; do
        sleep 1
        : <>"$_state/end"
        _seconds=$((_seconds + 1))
    done; kill "$_child") 2>/dev/null 7<&- &
    wait "$_child"
    kill "$!" 2>/dev/null
    exit "$_status"
}

# Read the line of each follower, and then until none has the FIFO open.
see_off() {
    _came=1
    while [ "$_came" -lt "$_count" ] && read -r _ <&7; do _came=$((_came + 1)); done
    exec 8<&-
    while read -r _ <&7; do :; done
}

# In a session of another container on the first host: the end, and the exit status, of the command there.
serve() {
    if [ "$1" = "$_id" ]; then
        echo self
        return
    fi
    echo following
    exec 8>"$_state/followers"
    echo >&8
    [ -e "$_state/status" ] || read -r _ <"$_state/end"
    read -r _status <"$_state/status" && echo "ended $_status"
    read -r _
}

# Write the last line of a session's answer into a file; do not wait for the session's end where no more follows.
receive() {
    while read -r _line; do
        echo "$_line" >"$_state/answer"
        case $_line in self | ended*) return ;; esac
    done
}

follow() {
    pass_signals_on
    exec 6<>"$_state/open"
    _tries=3
    while :; do
        : >"$_state/answer"
        "$_ssh" -o ServerAliveInterval=15 -o ServerAliveCountMax=4 "$_host" "$_base/bin/first --serve $_id" \
            <&6 >"$_state/answers" 3<&- &
        _session=$!
        receive <"$_state/answers" 3<&- 6<&- &
        _child=$!
        await
        [ "$_status" -le 128 ] || exit "$_status"
        _answer=
        read -r _answer <"$_state/answer"
        case $_answer in
            self)
                exec 6<&-
                kill "$_session" 2>/dev/null
                return
                ;;
            ended*) exit "${_answer#ended }" ;;
            following)
                say "the container on $_host, which runs the command, has ended or is out of reach"
                exit 255
                ;;
        esac
        wait "$_session"
        _status=$?
        _tries=$((_tries - 1))
        if [ "$_tries" -eq 0 ] || [ "$_status" -ne 255 ]; then
            say "no container of this job answers on $_host, the first of its hosts"
            exit "$_status"
        fi
        sleep 1
    done
}

read -r _id <"$_state/id" || exit
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
_count=0
while read -r _line; do
    [ "$_count" -ne 0 ] || _host=$_line
    _count=$((_count + 1))
done <"$_base/hosts"
follow
lead "$@"
