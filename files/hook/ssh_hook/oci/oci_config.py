# SPDX-License-Identifier: GPL-3.0-or-later
"""The container, as described by config.json in its bundle.

Formats: https://github.com/opencontainers/runtime-spec (config.md, config-linux.md), version 1.0 to 1.3.
"""

from __future__ import annotations

from ..errors import CONFIG_WRONG, CONTAINER_UNFIT, HookError, printable
from ..fast_stdlib import closing, os, stat
from ..linux.process import MAX_ID
from .annotations import Annotations
from .json_reader import Node, parse, read_document

_MAX_SIZE = 16 << 20  # bytes; podman writes some 50 kB
_MAX_LIMIT = 2**64 - 1
_DEFAULT_UMASK = 0o022
# Annotations that only the Kubernetes CRI sets (containerd and CRI-O). podman's pods have other annotations of CRI-O's.
_CRI_ANNOTATIONS = (
    "io.kubernetes.cri.sandbox-id",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.cri-o.SandboxName",
    "io.kubernetes.pod.namespace",
)
_MANAGER, _PODMAN = "io.container.manager", "libpod"  # podman's annotation on its containers
# Annotations of crun: it runs the container with a library or a virtual machine, and executes no program.
_HANDLERS = ("run.oci.handler", "module.wasm.image/variant")


class Container:
    """One container and its process, like which sessions run. Ids are those of the container's user namespace.

    Attributes:
        annotations: the validated annotations.
        is_podmans: whether podman created the container.
        uid, gid, groups, umask: those of the process.
        environment: the variables of the process, by name.
        rootfs: the absolute path of the container's root directory.
        rlimits: (name, soft, hard) for each rlimit of the process.
        bounding, permitted, inheritable, ambient: names of the process's capabilities.
        has_other_user: whether sessions do not have the uid, gid, groups and capabilities of the process.
        no_new_privileges: whether the runtime sets no_new_privs for the process.
        oom_score_adj: None if not set.
        apparmor_profile, selinux_label: LSM labels of the process; empty if not set.
        mount_label: the SELinux label of the container's mounts; empty if not set.
        seccomp: the seccomp profile; None if there is none.
        scheduler, io_priority, memory_policy, personality: objects of the process or of `linux`; None if not set.
        has_shared_user_namespace: whether the container joins another container's user namespace.
    """

    def __init__(self, config: Node, bundle: str) -> None:
        """Read `config`, the config.json of `bundle`, a path. Raises HookError if it violates the specification."""
        annotations = config.node("annotations")
        _refuse_unsupported(annotations)
        self.annotations = Annotations(annotations)
        self.is_podmans = annotations.value.get(_MANAGER) == _PODMAN
        process = config.node("process")
        user = process.node("user")
        self.uid = user.integer("uid", 0, MAX_ID)
        self.gid = user.integer("gid", 0, MAX_ID)
        self.groups = user.integers("additionalGids", 0, MAX_ID)
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
        self.has_other_user = False
        self.apparmor_profile = process.text("apparmorProfile") if process.has("apparmorProfile") else ""
        self.selinux_label = process.text("selinuxLabel") if process.has("selinuxLabel") else ""
        linux = config.node("linux")
        self.mount_label = linux.text("mountLabel") if linux.has("mountLabel") else ""
        self.seccomp = linux.node("seccomp") if linux.has("seccomp") else None
        self.scheduler = process.node("scheduler") if process.has("scheduler") else None
        self.io_priority = process.node("ioPriority") if process.has("ioPriority") else None
        self.memory_policy = linux.node("memoryPolicy") if linux.has("memoryPolicy") else None
        self.personality = linux.node("personality") if linux.has("personality") else None
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

    def change_user(self, uid: int, gid: int) -> None:
        """Let sessions have these ids instead of the process's, and neither groups nor capabilities."""
        self.has_other_user = True
        self.uid, self.gid, self.groups = uid, gid, []
        self.permitted, self.inheritable, self.ambient = [], [], []


def _refuse_unsupported(annotations: Node) -> None:
    """Raise HookError for a Kubernetes container, whose uid proves nothing, or one that executes no program."""
    for name in _CRI_ANNOTATIONS:
        if annotations.has(name):
            raise HookError(
                CONTAINER_UNFIT,
                f"the container was created through the Kubernetes CRI (annotation {name}): anyone who creates a pod "
                "can choose its uid, and would get that user's SSH key, so the hook does not serve such containers",
            )
    for name in _HANDLERS:
        if annotations.has(name):
            raise HookError(
                CONTAINER_UNFIT,
                f"the annotation {name} makes crun run the container with '{printable(annotations.text(name))}', "
                "which starts no process that an SSH session could join: start it without com.hooks.ssh.enabled and "
                "the CDI device",
            )


def read_config(bundle_descriptor: int, bundle: str) -> Node:
    """Read and parse config.json in the open directory of the bundle, whose path is `bundle`. Raises HookError."""
    where = f"{bundle}/config.json"
    try:
        descriptor = os.open("config.json", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=bundle_descriptor)
    except OSError as error:
        raise HookError(CONFIG_WRONG, f"cannot read {where}: {error.strerror}") from None
    with closing(descriptor):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HookError(CONFIG_WRONG, f"{where} is not a regular file")
        return parse_config(read_document(descriptor, _MAX_SIZE, where), bundle)


def parse_config(data: bytes, bundle: str) -> Node:
    """Parse `data`, the config.json of `bundle`, a path. Raises HookError."""
    where = f"{bundle}/config.json"
    return Node(parse(data, where), where)
