# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container of a job of many hosts gets: host files for launchers, and the program ``first``."""

from __future__ import annotations

from ..kernel.identity import ActingAs
from ..kernel.lean import TYPE_CHECKING, basename, create_file, os
from ..spec import container_paths as paths
from .home import make_directory

if TYPE_CHECKING:
    from ..kernel.identity import Identity

_ID = "id"  # in FIRST_STATE, as the FIFOs
_FOLLOWERS, _END, _ANSWERS, _OPEN = _FIFOS = "followers", "end", "answers", "open"

FIRST = f"""#!/bin/sh
# first COMMAND [ARGUMENT...]: as the program of each container of a job, run COMMAND in the one on the first host, and
# end with its exit status in all.
#
# The containers on the other hosts follow: each has an ssh session in the first one's container, which ends when
# COMMAND does, or when that container is gone. A container is the first if that session leads to itself: the numbers in
# the files `id` tell, whatever names the host has. The first writes the exit status of COMMAND into `status` and closes
# the FIFO `end`; each session has the FIFO `followers` open until the other container has the status, and hangs up.
state={paths.FIRST_STATE}
ssh={paths.BASE}/bin/ssh
child=

say() {{
    echo "first: $*" >&2
}}

# Wait for the process $child, and pass on what would end this one. Sets `status`.
await() {{
    while :; do
        wait "$child"
        status=$?
        kill -0 "$child" 2>/dev/null || return 0
    done
}}

pass_signals_on() {{
    trap - USR1
    trap 'kill -s TERM "$child" 2>/dev/null' HUP INT TERM
}}

# Have up to 64 sessions at a time try each host, and so wait until all have started.
reach_all() {{
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
}}

# Try each 64th host, from number $1 on.
reach_some() {{
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
    done 3<{paths.HOSTS}
}}

lead() {{
    exec 8<>"$state/{_FOLLOWERS}" 9<>"$state/{_END}"
    if reach_all; then
        "$@" <&3 3<&- 8<&- 9<&- &
        child=$!
        await
    else
        status=1
    fi
    echo "$status" >"$state/status"
    exec 7<"$state/{_FOLLOWERS}"
    exec 9<&-
    # Until all others have come and gone, but for 10 s at most. A session that comes late waits to open `{_END}`.
    see_off &
    child=$!
    exec 8<&-
    seconds=0
    (while [ "$seconds" -lt 10 ]; do
        sleep 1
        : <>"$state/{_END}"
        seconds=$((seconds + 1))
    done; kill "$child") 2>/dev/null 7<&- &
    wait "$child"
    kill "$!" 2>/dev/null
    exit "$status"
}}

# Read the line of each follower, and then until none has the FIFO open.
see_off() {{
    came=1
    while [ "$came" -lt "$count" ] && read -r _ <&7; do came=$((came + 1)); done
    exec 8<&-
    while read -r _ <&7; do :; done
}}

# In a session of another container on the first host: the end, and the exit status, of the command there.
serve() {{
    if [ "$1" = "$id" ]; then
        echo self
        return
    fi
    echo following
    exec 8>"$state/{_FOLLOWERS}"
    echo >&8
    [ -e "$state/status" ] || read -r _ <"$state/{_END}"
    read -r status <"$state/status" && echo "ended $status"
    read -r _
}}

# Write the last line of a session's answer into a file; do not wait for the session's end where no more follows.
receive() {{
    while read -r line; do
        echo "$line" >"$state/answer"
        case $line in self | ended*) return ;; esac
    done
}}

follow() {{
    pass_signals_on
    exec 6<>"$state/{_OPEN}"
    tries=3
    while :; do
        : >"$state/answer"
        "$ssh" -o ServerAliveInterval=15 -o ServerAliveCountMax=4 "$host" "{paths.FIRST} --serve $id" \
            <&6 >"$state/{_ANSWERS}" 3<&- &
        session=$!
        receive <"$state/{_ANSWERS}" 3<&- 6<&- &
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
            ended*) exit "${{answer#ended }}" ;;
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
}}

read -r id <"$state/{_ID}" || exit
case ${{1-}} in
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
done <{paths.HOSTS}
follow
lead "$@"
"""


class Launch:
    """The files of one container. Attributes: files, the content of each host file by its path."""

    def __init__(self, hosts: list[tuple[str, int]]) -> None:
        """`hosts` are those of the job in order, each with its slots."""
        self.files = {
            paths.HOSTFILE: "".join(f"{name} slots={slots}\n" for name, slots in hosts).encode(),
            paths.HOSTFILE_MPICH: "".join(f"{name}:{slots}\n" for name, slots in hosts).encode(),
            paths.HOSTS: "".join(f"{name}\n" for name, _slots in hosts).encode(),
        }

    def size(self) -> int:
        """Return the bytes that the files take."""
        return sum(map(len, self.files.values()))

    def provide(self, base: int, binaries: int, user: Identity) -> None:
        """Write the files into the directory `base`, and ``first`` into `binaries`, for `user`. Raises OSError."""
        for path, data in self.files.items():
            os.close(create_file(basename(path), data, 0o644, base))
        os.close(create_file(basename(paths.FIRST), FIRST.encode(), 0o755, binaries))
        state = make_directory(base, basename(paths.FIRST_STATE), 0o700, user)
        with ActingAs(user):
            os.close(create_file(_ID, f"{os.urandom(8).hex()}\n".encode(), 0o600, state))
            for name in _FIFOS:
                os.mkfifo(name, 0o600, dir_fd=state)
