# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of errors: when each kind (errors.py) occurs, and what to do.

``ssh_hook why`` prints from it, sweeps count by it, and tools/error_page.py makes docs/errors.md of it. No start of a
container imports it.
"""

from __future__ import annotations

from .. import errors

_UPGRADE = "upgrade ocihooks.ssh; if the newest release fails too, report the message to its developers"
_DEPLOY = "run the playbook `audit` to see what differs, then `deploy`"


class Entry:
    """The description of one kind of error.

    Attributes:
        when: when it occurs.
        user: what the user should do.
        admin: what the administrator should do; empty if there is nothing to do.
    """

    def __init__(self, when: str, user: str, admin: str) -> None:
        self.when = when
        self.user = user
        self.admin = admin


CATALOGUE: dict[str, Entry] = {
    errors.ANNOTATION_WRONG: Entry(
        "an annotation `com.hooks.…` is misspelled, has a value that is not allowed, or names a file that you may not "
        "use",
        "correct the annotation that the message names",
        "if the site's own wrapper sets the annotation, correct the wrapper",
    ),
    errors.ARGUMENTS_WRONG: Entry(
        "a command was called with arguments, or in an environment, that it cannot use",
        "correct the arguments; `ssh_hook COMMAND --help` has an example",
        "if `slurmd` or `pbs_mom` called `ssh_hook prolog` or `epilog`, change `slurm.conf`, the Prolog or the PBS "
        "hook as the message says",
    ),
    errors.ATTACH_REFUSED: Entry(
        "`ssh_hook attach` or `detach` cannot be used on this process: it belongs to another user, has different "
        "rights from yours, has exited, or already has an SSH daemon",
        "choose another process of your container, or start the container with `com.hooks.ssh.enabled=true`",
        "",
    ),
    errors.CONFIG_WRONG: Entry(
        "the container's `config.json`, its state, or the input from enroot is missing, or has a form that the hook "
        "does not expect",
        "start the container with an engine, not by hand; if you used one, send the message to the administrator",
        "check that the versions of engine and runtime are supported, and that nothing else edits `config.json`",
    ),
    errors.CONFINEMENT_REFUSED: Entry(
        "sessions cannot have the container's scheduling policy, rlimits or NUMA policy, because the kernel refuses "
        "this or the hook does not support the policy",
        "start the container without the option that the message names",
        _UPGRADE,
    ),
    errors.CONTAINER_ENDED: Entry(
        "the container exited during its creation",
        "see the engine's own error: the hook is not the cause",
        "read the engine's log",
    ),
    errors.CONTAINER_UNFIT: Entry(
        "the hook does not support this kind of container (Kubernetes, WebAssembly, a container without its own "
        "namespaces), or the engine called the hook at the wrong stage",
        "start the container without `com.hooks.ssh.enabled`, or make the change that the message suggests",
        "check that the OCI hook's JSON file has the stages `createRuntime` and `poststop`, and that "
        "`ssh_hook_join_namespaces` is right for the engine",
    ),
    errors.DAEMON_FAILED: Entry(
        "the SSH daemon exited at startup, does not listen, or cannot be stopped",
        "try another port, and start the container again",
        "check that `bin/dropbear` in `DROPBEAR_DIR` runs on this node, that the container's seccomp, AppArmor or "
        "SELinux profile allows a server, and that SELinux has the usual types for the engine's programs",
    ),
    errors.DISK_FULL: Entry(
        "a file system is full, or your quota on it is used up",
        "remove files, or write to another file system",
        "free space on the file system, or raise the quota",
    ),
    errors.HOME_HANGS: Entry(
        "a file system, most often that of your home, did not respond in time, or a process blocks access to a file or "
        "a directory on it",
        "check on that node that `ls` lists your home; if it does, stop those of your processes that have the files in "
        "the message open",
        "check that the node's network file systems respond, for example with `timeout 5 ls /home/USER`",
    ),
    errors.IMAGE_UNFIT: Entry(
        "a path that SSH needs in the container is not usable: it is a link or a volume, belongs to another user, or "
        "was moved",
        "change the image or the volume that the message names; a volume over `/opt` needs an empty directory "
        "`oci-hooks/ssh`",
        "",
    ),
    errors.INSTALL_DAMAGED: Entry(
        "the hook's own files on the node are missing or outdated: Dropbear, the passwd file, a library, the JSON file",
        "tell the administrator the name of the node",
        _DEPLOY,
    ),
    errors.INTERNAL: Entry(
        "the hook has a bug",
        "send the message to the administrator",
        _UPGRADE,
    ),
    errors.KEYS_DAMAGED: Entry(
        "your SSH keys for containers are incomplete or cannot be read as keys",
        "run `ssh_hook keygen --overwrite`",
        "run the module `user_keys` with `overwrite: true` for the user",
    ),
    errors.KEYS_UNSAFE: Entry(
        "other users can read or change your SSH keys for containers, or the keys belong to somebody else, or cannot "
        "be opened",
        "do what the message says, such as a `chmod`; if the files belong to another user, tell the administrator",
        "check that users own their homes",
    ),
    errors.LSM_REFUSED: Entry(
        "the hook cannot apply the container's AppArmor profile or SELinux label to sessions",
        "start the container with the engine's default label or profile",
        "load, on the node, the profile or policy that the message names",
    ),
    errors.MOUNT_REFUSED: Entry(
        "the kernel refused a mount in the container, or a volume was mounted with `:shared` or `:rshared`, so that "
        "mounts in it would also appear on the node",
        "mount the volume without this option, or at another path",
        "where overlays are not allowed, set `ssh_hook_overlay_mount_home_ssh: false`",
    ),
    errors.NO_CONTAINER: Entry(
        "the container, process, job or host does not exist, is not yours, or does not respond",
        "run `ssh_hook status` on the node to list your containers, and `squeue` to list your jobs",
        "",
    ),
    errors.NO_KEYS: Entry(
        "you have no SSH keys for containers, and the hook could not create them",
        "run `ssh_hook keygen`",
        "create keys for all users with the module `user_keys`, or let the first container create them "
        "(`ssh_hook_make_keys`)",
    ),
    errors.NO_MEMORY: Entry(
        "the node has run out of memory or processes, or the container has reached its limit",
        "raise the container's limits (podman: `--memory`, `--pids-limit`, `--ulimit`)",
        "check the kernel's log for an out-of-memory kill at that time",
    ),
    errors.NO_SHELL: Entry(
        "the image has no shell, which a session needs",
        "install a shell in the image or, except under enroot, start it without SSH: "
        "`com.hooks.ssh.require_shell=false`",
        "",
    ),
    errors.NOT_TRUSTED: Entry(
        "other users can write to a file or a directory that only root, or only you, should be able to change, or the "
        "job's record was written by another version of the hook",
        "if the message names a file of yours, run `chmod go-w` on it; if not, tell the administrator the name of the "
        "node",
        "find out who changed it, correct the owner and mode of what the message names, and run the playbook `audit`; "
        "ignore a record of another version: it is removed when the job ends",
    ),
    errors.PORT_TAKEN: Entry(
        "another process listens on the SSH daemon's port",
        "set `com.hooks.ssh.port` to `auto` in a job, or to another port, or end the process that uses this one",
        "give jobs that share a node different ports: set `ssh_hook_server_port: auto`, or have users start "
        "containers with `ssh_hook options`",
    ),
    errors.PORT_UNUSABLE: Entry(
        "you are not allowed to use the port (below 1024), the address to listen on does not belong to the node, or "
        "other nodes cannot reach the port",
        "choose port 1024 or higher, and publish it if the container has its own network",
        "check `ssh_hook_listen_addresses` and `ssh_hook_server_port`",
    ),
    errors.ROOT_NOT_A_MOUNT: Entry(
        "the container's root directory is not the mount that its runtime created: somebody moved or replaced it",
        "keep the image or the bundle in a directory to which only you and root can write; the same must be true of "
        "all its parent directories",
        "check that nothing on the node unmounts or moves containers' directories",
    ),
    errors.SECCOMP_UNKNOWN: Entry(
        "the hook cannot apply the container's seccomp profile to sessions, because the hook or the node's libseccomp "
        "does not support one of its rules",
        "start the container with the engine's default profile",
        "upgrade libseccomp, or set `ssh_hook_require_seccomp: false`, which allows sessions without the profile",
    ),
    errors.SETTING_WRONG: Entry(
        "a setting of the site is missing or has a value that is not allowed",
        "send the message to the administrator",
        "correct the variable of the role `ssh_hook` that the message names, and run the playbook `deploy`",
    ),
    errors.SYSTEM: Entry(
        "the system refused something that the hook needs",
        "start the container again; if that fails too, send the message to the administrator",
        "the message ends with the kernel's reason, such as `Operation not permitted`; `ssh_hook doctor --node` checks "
        "the node",
    ),
    errors.USER_UNKNOWN: Entry(
        "the hook cannot verify whose container it is: the uid is not in the passwd file, or another user started the "
        "engine",
        'run the container as yourself: rootless, or with `--user "$(id -u):$(id -g)"`; with Docker name yourself in '
        "`com.hooks.ssh.user`",
        "add the user to the name service or to the hook's passwd file, then run the playbook `deploy`, or "
        "`ssh_hook refresh-passwd FILE`",
    ),
}


def plain(text: str) -> str:
    """Return a text of the catalogue without Markdown, for a terminal."""
    return text.replace("`", "")
