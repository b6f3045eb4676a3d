#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# first COMMAND [ARGUMENT...]: the program of every container in a job. Runs COMMAND in the container on the first host;
# all exit with its exit status.
#
# The other containers follow: each has an ssh session to the first container, which ends when COMMAND exits, or when
# that container is gone. A container is the first if its session leads to itself, regardless of the host's names: then
# the numbers in the files `id` are equal. The first writes the exit status of COMMAND to `status` and closes the FIFO
# `end`; each session keeps the FIFO `followers` open until the other container has the status and hangs up.
#
# The variables here begin with `_`: a shell exports a changed value of an inherited variable, and COMMAND must get the
# user's values.
_base=/opt/oci-hooks/ssh
_state=$_base/first
_ssh=$_base/bin/ssh
_child=

say() {
    echo "first: $*" >&2
}

# Wait for the process $_child, and forward signals that would end this one. Sets `_status`.
await() {
    while :; do
        wait "$_child"
        _status=$?
        kill -0 "$_child" 2>/dev/null || break
    done
    # If a signal interrupts the wait just as the process exits, the status is the signal's: the next wait returns the
    # process's.
    wait "$_child" 2>/dev/null
    _known=$?
    [ "$_known" -eq 127 ] || _status=$_known
}

pass_signals_on() {
    trap - USR1
    trap 'kill -s TERM "$_child" 2>/dev/null' HUP INT TERM
}

# The command is not a task of the job, even if this program is one. So it gets no variables of a task, nor those with
# which Slurm makes launchers start processes by srun: launchers use ssh. Sessions follow the same rules (Dropbear's
# patch 09-environment). A line in a value that looks like a variable does no harm: such a variable is removed in any
# case.
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

# Try each host in up to 64 parallel sessions, and so wait until all have started.
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

# List the /proc directories of this user's running ssh clients in `_connections`.
find_connections() {
    _connections=
    for _process in /proc/[0-9]*; do
        [ -r "$_process/environ" ] && { read -r _name <"$_process/comm"; } 2>/dev/null && [ "$_name" = ssh ] || continue
        _connections="$_connections $_process"
    done
}

# Wait at most 5 s until connections that the command has left behind have closed, for example those of a launcher that
# exits early: they would report that the other containers were gone. Those in `_earlier` are not the command's.
wait_for_connections() {
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
        wait_for_connections
    else
        _status=1
    fi
    echo "$_status" >"$_state/status"
    exec 7<"$_state/followers"
    exec 9<&-
    # Wait at most 10 s until all others have connected and left. A late session waits to open `end`.
    wait_for_followers &
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
wait_for_followers() {
    _came=1
    while [ "$_came" -lt "$_count" ] && read -r _ <&7; do _came=$((_came + 1)); done
    exec 8<&-
    while read -r _ <&7; do :; done
}

# In a session from another container on the first host: wait for the command's end, and print its exit status.
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

# Write the last line of a session's answer to a file; do not wait for the session's end if nothing follows.
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
