# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of errors: for each kind (errors.py), when it happens and what to do.

``ssh_hook why`` prints from it, sweeps count by it, and docs/errors.md is generated from it. No start of a container
imports it.
"""

from __future__ import annotations

import textwrap

from .. import errors

ENDS, MAY_END, NO_START = "yes", "an error does, a warning does not", "no, only a command reports it"
_WIDTH = 120  # characters of a line in Markdown
_UPGRADE = "upgrade ocihooks.ssh; if the newest release fails too, report the line"
_DEPLOY = "run the playbook `audit` to see what differs, then `deploy`"


class Entry:
    """What is known of one kind of errors.

    Attributes:
        when: when it happens.
        user: what the user does.
        admin: what the administrator does.
        ends: whether it ends the start of the container.
    """

    def __init__(self, when: str, user: str, admin: str, ends: str) -> None:
        self.when = when
        self.user = user
        self.admin = admin
        self.ends = ends


CATALOGUE: dict[str, Entry] = {
    errors.ANNOTATION_WRONG: Entry(
        "an annotation `com.hooks.…` is misspelled, has a value that is not allowed, or names a file that you may not "
        "use",
        "correct the annotation that the message names",
        "nothing, unless the site's own wrapper sets the annotation",
        MAY_END,
    ),
    errors.ARGUMENTS_WRONG: Entry(
        "a command was called with arguments, or in an environment, that it cannot use",
        "correct the arguments; `ssh_hook COMMAND --help` has an example",
        "nothing, unless slurmd or PBS's mom called `ssh_hook prolog` or `epilog`: then change `slurm.conf`, the "
        "Prolog or the PBS hook as the message says",
        NO_START,
    ),
    errors.ATTACH_REFUSED: Entry(
        "`ssh_hook attach` or `detach` may not or cannot serve this process: it belongs to another user, has "
        "different rights from yours, has ended, or has an SSH daemon already",
        "choose another process of your container, or start the container with `com.hooks.ssh.enabled=true`",
        "nothing",
        NO_START,
    ),
    errors.CONFIG_WRONG: Entry(
        "the container's `config.json`, its state, or the input from enroot is missing, or has a form that the hook "
        "does not expect",
        "start the container with an engine, as its manual describes; if you did, report the line",
        "check that the versions of engine and runtime are supported, and that nothing else edits `config.json`",
        ENDS,
    ),
    errors.CONFINEMENT_REFUSED: Entry(
        "the kernel does not let sessions have the scheduling, rlimits or NUMA policy of the container, or the hook "
        "does not support them",
        "start the container without the option that the message names",
        _UPGRADE,
        ENDS,
    ),
    errors.CONTAINER_ENDED: Entry(
        "the container exited during its creation",
        "see the engine's own error: the hook is not the cause",
        "read the engine's log",
        ENDS,
    ),
    errors.CONTAINER_UNFIT: Entry(
        "the hook does not support this sort of container (Kubernetes, WebAssembly, no namespaces of its own), or was "
        "called at the wrong stage",
        "start it without `com.hooks.ssh.enabled`, or change what the message names",
        "check the stage in the OCI hook's JSON file, and `JOIN_NAMESPACES`",
        ENDS,
    ),
    errors.DAEMON_FAILED: Entry(
        "the SSH daemon exited at startup, does not listen, or does not end",
        "try another port, and start the container again",
        "check that `bin/dropbear` in `DROPBEAR_DIR` runs on this node, and that the container's seccomp, AppArmor or "
        "SELinux profile allows a server",
        ENDS,
    ),
    errors.DISK_FULL: Entry(
        "a file system is full, or your quota on it is used up",
        "remove files, or write to another file system",
        "free space on the file system, or raise the quota",
        MAY_END,
    ),
    errors.HOME_HANGS: Entry(
        "a file system, most often that of your home, did not answer in time, or a process holds a file or a directory "
        "on it",
        "check that you can list your home on that node (`ls`), and end the process that holds it",
        "check the node's network file systems; `ssh_hook doctor --node` is a health check",
        MAY_END,
    ),
    errors.IMAGE_UNFIT: Entry(
        "a path that SSH needs in the container is not usable: it is a link or a volume, belongs to another user, or "
        "was moved",
        "change the image or the volume that the message names; a volume over `/opt` needs an empty directory "
        "`oci-hooks/ssh`",
        "nothing",
        MAY_END,
    ),
    errors.INSTALL_DAMAGED: Entry(
        "the hook's own files on the node are missing or outdated: Dropbear, the passwd file, a library, the JSON file",
        "tell the administrator the name of the node",
        _DEPLOY,
        ENDS,
    ),
    errors.INTERNAL: Entry(
        "the hook has a bug",
        "report the line",
        _UPGRADE,
        ENDS,
    ),
    errors.KEYS_DAMAGED: Entry(
        "your SSH keys for containers are incomplete or cannot be read as keys",
        "run `ssh_hook keygen --overwrite`",
        "run the module `user_keys` with `overwrite: true` for the user",
        ENDS,
    ),
    errors.KEYS_UNSAFE: Entry(
        "other users can read or change your SSH keys for containers, or the keys belong to somebody else, or cannot "
        "be opened",
        "do what the message says, such as the `chmod` that it names; if the files belong to another user, tell the "
        "administrator",
        "check that the homes of users belong to them",
        ENDS,
    ),
    errors.LSM_REFUSED: Entry(
        "sessions cannot have the container's AppArmor profile or SELinux label",
        "start the container with the engine's default label or profile",
        "load the profile or policy that the message names on the node",
        ENDS,
    ),
    errors.MOUNT_REFUSED: Entry(
        "the kernel refused a mount in the container, or a volume is shared with the node",
        "mount the volume private or slave, or at another place",
        "where overlays are not allowed, set `OVERLAY_MOUNT_HOME_SSH=false`",
        ENDS,
    ),
    errors.NO_CONTAINER: Entry(
        "the container, process, job or host does not exist, is not yours, or does not answer",
        "`ssh_hook status` lists your containers on a node, `squeue` your jobs",
        "nothing",
        NO_START,
    ),
    errors.NO_KEYS: Entry(
        "you have no SSH keys for containers, and none could be made",
        "run `ssh_hook keygen`",
        "create keys for all users with the module `user_keys`, or let the first container create them "
        "(`ssh_hook_make_keys`)",
        ENDS,
    ),
    errors.NO_MEMORY: Entry(
        "the node has run out of memory or processes, or the container has reached its limit",
        "raise the container's limits (podman: `--memory`, `--pids-limit`, `--ulimit`)",
        "check the kernel's log for an out-of-memory kill at that time",
        ENDS,
    ),
    errors.NO_SHELL: Entry(
        "the image has no shell, which a session needs",
        "install a shell in the image, or start it without SSH: `com.hooks.ssh.require_shell=false`",
        "nothing",
        MAY_END,
    ),
    errors.NOT_TRUSTED: Entry(
        "other users can write to a file or a directory that only root, or only you, should be able to change",
        "tell the administrator the name of the node",
        "find out who changed it, remove the file or directory that the message names, then run the playbook `audit`; "
        "a job record of another version of the hook is removed when the job ends",
        MAY_END,
    ),
    errors.PORT_TAKEN: Entry(
        "another process listens on the SSH daemon's port",
        "choose another port with `com.hooks.ssh.port`, or end the process that uses this one",
        "give jobs that share a node different ports: set `ssh_hook_server_port: auto`, or have users start "
        "containers with `ssh_hook options`",
        ENDS,
    ),
    errors.PORT_UNUSABLE: Entry(
        "you may not bind the port, its address does not belong to the node, or other nodes cannot reach it",
        "choose port 1024 or higher, and publish it if the container has its own network",
        "check `LISTEN_ADDRESSES` and `SERVER_PORT_DEFAULT` in the OCI hook's JSON file",
        MAY_END,
    ),
    errors.ROOT_NOT_A_MOUNT: Entry(
        "the container's root directory is not the mount that its runtime made, or has been moved",
        "keep the image at a place where only you and root can rename the directories above it",
        "check that nothing on the node unmounts or moves containers' directories",
        ENDS,
    ),
    errors.SECCOMP_UNKNOWN: Entry(
        "sessions cannot have the container's seccomp profile: the hook or the node's libseccomp does not support "
        "something in it",
        "start the container with the engine's default profile",
        "upgrade libseccomp, or allow sessions without the profile: `REQUIRE_SECCOMP=false`",
        MAY_END,
    ),
    errors.SETTING_WRONG: Entry(
        "a setting of the site is missing or has a value that is not allowed",
        "send the line to the administrator",
        "correct the variable of the role `ssh_hook` that the message names, and run the playbook `deploy`",
        ENDS,
    ),
    errors.SYSTEM: Entry(
        "the system refused something that the hook needs",
        "start the container again; if that fails too, send the line to the administrator",
        "look up the reason that the kernel gives at the end of the message; `ssh_hook doctor --node` checks the node",
        MAY_END,
    ),
    errors.USER_UNKNOWN: Entry(
        "the hook cannot verify whose container it is: the uid is not in the passwd file, or another user started the "
        "engine",
        'run the container as yourself: rootless, or with `--user "$(id -u):$(id -g)"`; with Docker name yourself in '
        "`com.hooks.ssh.user`",
        "add the user to the name service or to `PASSWD_FILE`, then run the playbook `deploy`, or "
        "`ssh_hook refresh-passwd FILE`",
        ENDS,
    ),
}


def plain(text: str) -> str:
    """Return a text of the catalogue for a terminal, without Markdown."""
    return text.replace("`", "")


def page() -> str:
    """Return the site's page in Markdown, with a heading, and so an anchor, for each kind."""
    return "\n\n".join(_section(kind, entry) for kind, entry in _rows())


def _section(kind: str, entry: Entry) -> str:
    items = (
        f"* User: {entry.user}.",
        f"* Administrator: {entry.admin}.",
        f"* Stops the container from starting: {entry.ends}.",
    )
    when = _wrap(f"Happens when {entry.when}.", "")
    return "\n".join([f"## {kind}", "", when, "", *(_wrap(item, "  ") for item in items)])


def _wrap(text: str, indent: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _rows() -> list[tuple[str, Entry]]:
    return sorted(CATALOGUE.items())
