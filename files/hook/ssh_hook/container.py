# SPDX-License-Identifier: GPL-3.0-or-later
"""The container as its runtime describes it: the state on standard input and config.json in the bundle.

Formats: https://github.com/opencontainers/runtime-spec (runtime.md, config.md, config-linux.md), version 1.0 and later.
"""

from __future__ import annotations

import _stat as stat
import posix

from .errors import HookError
from .settings import parse_port, printable
from .strictjson import Node, parse

_MAX_STATE = 1 << 20  # bytes
_MAX_CONFIG = 16 << 20  # bytes; podman writes some 50 kB
_MAX_ID = 2**32 - 2  # the highest user or group id; 2**32 - 1 means "no change" to the kernel
_MAX_LIMIT = 2**64 - 1
_DEFAULT_UMASK = 0o022
_MAX_WAIT = 24 * 60 * 60  # seconds
# What only the Kubernetes CRI sets: containerd's annotations, and CRI-O's. podman's pods carry others of CRI-O's.
_CRI_ANNOTATIONS = (
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri-o.SandboxName",
    "io.kubernetes.pod.namespace",
)
# Of crun: the container is run by a library or in a virtual machine, and no program is executed.
_HANDLERS = ("run.oci.handler", "module.wasm.image/variant")
DEFAULT_PIDFILE = "/opt/oci-hooks/ssh/dropbear/dropbear.pid"


class State:
    """The runtime's state of a container.

    Attributes: status; pid, the container's first process in the runtime's pid namespace, 0 when there is none;
    bundle, an absolute path.
    """

    def __init__(self, data: bytes) -> None:
        """Raises HookError for anything that is not such a state."""
        state = Node(parse(data, "the container's state on standard input"), "the container's state")
        self.status = state.text("status")
        self.pid = state.integer("pid", 0, 2**31 - 1) if state.has("pid") else 0
        self.bundle = state.text("bundle")
        if not self.bundle.startswith("/"):
            raise HookError(f"the container's state: 'bundle' is '{printable(self.bundle)}', not an absolute path")


class Annotations:
    """What the container asks for by its annotations (com.hooks.ssh.* and com.hooks.logging.*).

    Attributes: port, None where it is not set; user, empty where it is not set; wait, seconds; pidfile_container;
    pidfile_host and authorize_ssh_key, empty where
    they are not set; log_level, 0 (debug) to 4; log_stdout and log_stderr, a path or a descriptor's number.
    """

    def __init__(self, annotations: Node) -> None:
        """Raises HookError that names the annotation."""
        self._annotations = annotations
        port = "com.hooks.ssh.port"
        text = self._text(port)
        self.port = None if text is None else parse_port(text, f"the annotation {port}")
        self.user = self._text("com.hooks.ssh.user") or ""
        self.wait = self._wait("com.hooks.ssh.wait")
        self.pidfile_container = self._path("com.hooks.ssh.pidfile_container") or DEFAULT_PIDFILE
        self.pidfile_host = self._path("com.hooks.ssh.pidfile_host")
        self.authorize_ssh_key = self._path("com.hooks.ssh.authorize_ssh_key")
        self.log_level = self._log_level("com.hooks.logging.level")
        self.log_stdout = self._text("com.hooks.logging.stdoutfd") or ""
        self.log_stderr = self._text("com.hooks.logging.stderrfd") or ""

    def _text(self, name: str) -> str | None:
        return self._annotations.text(name) if self._annotations.has(name) else None

    def _path(self, name: str) -> str:
        text = self._text(name)
        if text is None:
            return ""
        if not text.startswith("/") or text.endswith("/") or any(character < " " for character in text):
            raise HookError(f"the annotation {name} is '{printable(text)}': give the absolute path of a file")
        return text

    def _wait(self, name: str) -> int:
        text = self._text(name)
        if text is None:
            return 0
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _MAX_WAIT):
            raise HookError(f"the annotation {name} is '{printable(text)}': give seconds from 0 to {_MAX_WAIT}")
        return int(text)

    def _log_level(self, name: str) -> int:
        text = self._text(name)
        if text is None:
            return 2
        if text not in ("0", "1", "2", "3", "4"):
            raise HookError(
                f"the annotation {name} is '{printable(text)}': give a level from 0 (debug) to 4 (errors only)"
            )
        return int(text)


class Container:
    """What config.json says of the container's process.

    Attributes: uid, gid, groups, in the container's user namespace; umask; environment, a dict; rootfs, an absolute
    path; rlimits, (name, soft, hard) each; bounding, permitted, inheritable and ambient, names of capabilities;
    no_new_privileges; oom_score_adj, None where it is not set; apparmor_profile, selinux_label and mount_label (SELinux's, for mounts), empty
    where they are not set; seccomp, the object of the profile, None where there is none; has_shared_user_namespace, whether it joins another's;
    annotations.
    """

    def __init__(self, data: bytes, bundle: str) -> None:
        """Raises HookError for a config.json that is not as the specification says."""
        where = f"{bundle}/config.json"
        config = Node(parse(data, where), where)
        annotations = config.node("annotations")
        _refuse_others_users(annotations)
        self.annotations = Annotations(annotations)
        process = config.node("process")
        user = process.node("user")
        self.uid = user.integer("uid", 0, _MAX_ID)
        self.gid = user.integer("gid", 0, _MAX_ID)
        self.groups = user.integers("additionalGids", 0, _MAX_ID)
        self.umask = user.integer("umask", 0, 0o777) if user.has("umask") else _DEFAULT_UMASK
        self.environment = dict(entry.split("=", 1) for entry in process.texts("env") if "=" in entry)
        self.environment.pop("", None)
        self.no_new_privileges = process.boolean("noNewPrivileges")
        self.oom_score_adj = process.integer("oomScoreAdj", -1000, 1000) if process.has("oomScoreAdj") else None
        capabilities = process.node("capabilities")
        self.bounding = capabilities.texts("bounding")
        self.permitted = capabilities.texts("permitted")
        self.inheritable = capabilities.texts("inheritable")
        self.ambient = capabilities.texts("ambient")
        self.apparmor_profile = process.text("apparmorProfile") if process.has("apparmorProfile") else ""
        self.selinux_label = process.text("selinuxLabel") if process.has("selinuxLabel") else ""
        linux = config.node("linux")
        self.mount_label = linux.text("mountLabel") if linux.has("mountLabel") else ""
        self.seccomp = linux.node("seccomp") if linux.has("seccomp") else None
        self.has_shared_user_namespace = any(
            namespace.text("type") == "user" and namespace.has("path") and namespace.text("path") != ""
            for namespace in linux.nodes("namespaces")
        )
        self.rlimits = [
            (limit.text("type"), limit.integer("soft", 0, _MAX_LIMIT), limit.integer("hard", 0, _MAX_LIMIT))
            for limit in process.nodes("rlimits")
        ]
        rootfs = config.node("root").text("path")
        self.rootfs = rootfs if rootfs.startswith("/") else f"{bundle}/{rootfs}"


def _refuse_others_users(annotations: Node) -> None:
    """Raise HookError for a container whose user is not who its engine says, or that has no process of its own."""
    for name in _CRI_ANNOTATIONS:
        if annotations.has(name):
            raise HookError(
                f"the container was made through the Kubernetes CRI (annotation {name}): whoever makes a pod chooses its uid, "
                "and would get that user's SSH key, so the hook serves no such container"
            )
    for name in _HANDLERS:
        if annotations.has(name):
            raise HookError(
                f"the annotation {name} has crun run the container by '{printable(annotations.text(name))}', which executes "
                "no program that an SSH session could be beside: start it without com.hooks.ssh.enabled"
            )


def read_state(descriptor: int) -> State:
    """The state that the runtime writes to `descriptor`. Raises HookError."""
    return State(_read_all(descriptor, _MAX_STATE, "the container's state on standard input"))


def read_container(bundle_descriptor: int, bundle: str) -> Container:
    """The container whose bundle directory is open. Raises HookError."""
    where = f"{bundle}/config.json"
    try:
        descriptor = posix.open(
            "config.json",
            posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY,
            dir_fd=bundle_descriptor,
        )
    except OSError as error:
        raise HookError(f"cannot read {where}: {error.strerror}") from None
    try:
        if not stat.S_ISREG(posix.fstat(descriptor).st_mode):
            raise HookError(f"{where} is not a regular file")
        return Container(_read_all(descriptor, _MAX_CONFIG, where), bundle)
    finally:
        posix.close(descriptor)


def _read_all(descriptor: int, limit: int, what: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size <= limit:
        try:
            chunk = posix.read(descriptor, 1 << 20)
        except OSError as error:
            raise HookError(f"cannot read {what}: {error.strerror}") from None
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
    raise HookError(f"{what} is larger than {limit} bytes")
