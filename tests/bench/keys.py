"""Keys: one user's, and those of ten thousand users by Ansible."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import start
from containers import ALICE, LAUNCHER, ROOT, SETTINGS, WORK, Container, keys, run
from table import Row, at_most, medians, ratio_at_most

PLACE = Path("/home/bench")  # on the machine's disk, as homes are
USERS, SAMPLE = 10_000, 100
FIRST_UID = 10_000
COLLECTIONS = ROOT / ".cache"
USER_KEYS = f"""
    - ocihooks.ssh.user_keys:
        passwd_file: {PLACE}/passwd
        base_dir: {PLACE}/homes
        uid_min: {FIRST_UID}
"""
LOOP = f"""
    - community.crypto.openssh_keypair:
        path: {PLACE}/peer/{{{{ item }}}}
        type: ed25519
      loop: "{{{{ range({SAMPLE}) | list }}}}"
"""


def keygen_rows() -> Iterator[Row]:
    """A user makes keys where there are none."""
    base = WORK / "keygen"

    def timed(*command: str) -> Callable[[], float]:
        def measure() -> float:
            (base / "alice").mkdir(parents=True)
            os.chown(base / "alice", ALICE, ALICE)
            start = time.monotonic()
            done = subprocess.run(
                command,
                env={**SETTINGS, "HOOK_BASE_DIR": str(base)},
                check=False,
                user=ALICE,
                group=ALICE,
                extra_groups=[],
                capture_output=True,
            )
            seconds = time.monotonic() - start
            assert done.returncode == 0, done.stderr.decode()
            shutil.rmtree(base)
            return seconds

        return measure

    seconds = medians(
        20,
        {
            "ours": timed(LAUNCHER, "keygen"),
            "peer": timed("/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{base}/alice/id"),
        },
    )
    yield Row(
        "keygen, three keys",
        seconds["ours"] * 1e3,
        seconds["peer"] * 1e3,
        "ms",
        "`ssh-keygen -t ed25519`, one key",
        (at_most(15, "ms"),),
    )


def first_container_rows() -> Iterator[Row]:
    """createRuntime of a user's first container, which makes the keys."""
    login = f"import os, sys, time\nopen('/proc/self/loginuid', 'w').write('{ALICE}')\n"
    start_plain = start.plain_starter(start.program("first", start.WRAPPER.replace("import os, sys, time\n", login)))
    aside = keys().with_name("aside")
    keys().rename(aside)

    def first() -> Container:
        shutil.rmtree(keys(), ignore_errors=True)
        return start_plain("first ")

    start.start_and_stop(20, first, start_plain)
    shutil.rmtree(keys())
    aside.rename(keys())
    times = start.noted()
    yield Row(
        "createRuntime, a user's first container",
        times["first createRuntime"],
        times["createRuntime"],
        "ms",
        "the same with keys",
        (at_most(30, "ms"),),
    )


def play(tasks: str) -> float:
    """The seconds that ansible-playbook takes for these tasks, on this host."""
    playbook = PLACE / "play.yml"
    head = "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:"
    playbook.write_text(head + (tasks or " []\n"), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(PLACE / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}/collections:{COLLECTIONS}/bench/collections",
    }
    command = [
        "ansible-playbook",
        "--inventory",
        "localhost,",
        "-e",
        "ansible_python_interpreter=/usr/bin/python3",
        str(playbook),
    ]
    start = time.monotonic()
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    seconds = time.monotonic() - start
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return seconds


def make_users() -> None:
    """Homes of ten thousand users, and the file that lists them."""
    shutil.rmtree(PLACE, ignore_errors=True)
    (PLACE / "homes").mkdir(parents=True)
    (PLACE / "peer").mkdir()
    lines = []
    for uid in range(FIRST_UID, FIRST_UID + USERS):
        home = PLACE / "homes" / f"user{uid}"
        home.mkdir()
        os.chown(home, uid, uid)
        lines.append(f"user{uid}:x:{uid}:{uid}::{home}:/bin/bash\n")
    (PLACE / "passwd").write_text("".join(lines), encoding="utf-8")


def user_keys_rows() -> Iterator[Row]:
    """The first run, which makes all keys, and the second, which finds them."""
    make_users()
    run(["sync"]).checked()
    start_only = min(play("") for _turn in range(2))
    for words, bounds in (("first", (ratio_at_most(0.01),)), ("second", (at_most(10, "s"),))):
        ours = play(USER_KEYS)
        loop = play(LOOP)
        peer = start_only + (loop - start_only) * USERS / SAMPLE
        against = f"openssh_keypair of community.crypto in a loop, {loop:.0f} s for {SAMPLE}"
        yield Row(f"user_keys for {USERS:,} users, {words} run", ours, peer, "s", against, bounds)
    shutil.rmtree(PLACE)
