# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about processes that may never be answered, since the processes are a user's.

While a process executes a program, readers of its stat, exe, cwd, root, fd/N, ns and attr in /proc wait: on recent
kernels (seen with 6.18) without end, if a file that it closes then is of a FUSE file system that never answers. A
signal ends that wait only if it kills the reader. So a child asks, and its timer ends it. Files that answer at once,
such as status, cgroup, comm and mountinfo, need none.

The collection's `module_utils/_linux` has a symbolic link to this file.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING, closing, os, read_all, signal, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

_PATIENCE = 1.0  # seconds: a busy node may let the child wait
MOST_SILENT = 4  # processes


def ask(
    question: Callable[[int], bytes],
    pids: Iterable[int],
    patience: float | None = None,
    most_silent: int = MOST_SILENT,
) -> dict[int, bytes]:
    """Return the answers to a `question` about each of `pids`; without those of processes that are silent.

    An answer has no line break. It is empty if the question raises OSError: the process has exited, or is hidden. A
    silent process costs `patience` seconds, by default a second; after `most_silent` of them, the rest is not
    asked. The caller must have one thread. Raises OSError if there can be no child.
    """
    left = list(pids)
    answers: dict[int, bytes] = {}
    for _silent in range(most_silent):
        found = _ask_in_child(question, left, patience or _PATIENCE) if left else []
        answers.update(zip(left, found))
        left = left[len(found) + 1 :]
    return answers


def _ask_in_child(question: Callable[[int], bytes], pids: list[int], patience: float) -> list[bytes]:
    """Return the answers about the processes before the first silent one."""
    reader, writer = os.pipe()
    with closing(reader):
        with closing(writer):
            child = os.fork()  # without ctypes, which the end of a container does not load
            if child == 0:
                _answer(question, pids, patience, writer)
        answers = read_all(reader).split(b"\n")[:-1]  # ends with the child
        os.waitpid(child, 0)
    return answers


def _answer(question: Callable[[int], bytes], pids: list[int], patience: float, writer: int) -> NoReturn:
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        for pid in pids:
            signal.setitimer(signal.ITIMER_REAL, patience)
            try:
                answer = question(pid)
            except OSError:
                answer = b""
            write_all(writer, answer + b"\n")
    finally:
        os._exit(0)
