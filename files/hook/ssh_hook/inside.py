# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hook's child does in the container that is being made: join it, mount, start the daemon.

Nothing of the container runs yet, and its mount namespace still shows the host's tree at /, the container's root file
system below it. Everything generated goes to one small tmpfs, so that no key touches the image's layer or a disk.
"""

from __future__ import annotations

import posix
import stat

from . import client, content, linux
from .content import BASE, DROPBEAR
from .daemon import PIDFILE, Daemon
from .entry import Entry
from .errors import CONTAINER_ENDED, HookError
from .identity import ROOT, ActingAs, Identity
from .keystore import KeyStoreError, host_public_key, openssh_private_key
from .mounts import (
    MountTable,
    make_private,
    make_read_only,
    make_unbindable,
    mount_bind,
    mount_id,
    mount_mask,
    mount_overlay,
    mount_tmpfs,
    mount_tree,
)
from .paths import basename, dirname, split
from .port import require_free
from .settings import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .confinement import Confinement
    from .container import Container
    from .keystore import KeySet
    from .namespaces import Cgroups, Namespaces
    from .owner import Owner
    from .process import Process
    from .rootfs import Rootfs

_MAX_PASSWD = 32 << 20  # bytes
_MAX_SHELLS = 64 << 10  # bytes
_MAX_AUTHORIZED_KEYS = 1 << 20  # bytes
_SPARE = 1 << 20  # bytes of the tmpfs for what sessions write into ~/.ssh and for the host keys that clients learn
_BLOCK = 4096  # bytes


class Plan:
    """All that the child takes along from the host."""

    def __init__(
        self,
        container: Container,
        owner: Owner,
        keys: KeySet,
        authorized_keys: bytes,
        init: Process | None,
        namespaces: Namespaces | None,
        cgroups: Cgroups,
        confinement: Confinement,
        port: int,
        listen: list[str],
        dropbear_dir: str,
        overlay: bool,
        packages: list[str],
        tell: Callable[[str, str], None],
        await_record: Callable[[], None],
    ) -> None:
        """`init` is the container's first process. `tell` sends the hook a message: its kind and its text. `await_record`
        returns when the hook has recorded the daemon, which it can be once it is forked.
        """
        self.container = container
        self.owner = owner
        self.keys = keys
        self.host_public_key = host_public_key(keys)
        self.authorized_keys = authorized_keys
        self.init = init
        self.namespaces = namespaces
        self.cgroups = cgroups
        self.confinement = confinement
        self.port = port
        self.listen = listen
        self.dropbear_dir = dropbear_dir
        self.overlay = overlay
        self.packages = packages
        self.tell = tell
        self.await_record = await_record
        self.user = Identity(container.uid, container.gid)  # in the container's user namespace
        self.has_user_namespace = owner.rootless or (namespaces is not None and namespaces.has("user"))


def start_inside(plan: Plan) -> Callable[[], None]:
    """Join the container, set it up, and start its daemon, which listens on return. Returns what takes it back.

    Raises HookError, and OSError for what no check foresaw.
    """
    _adjust_oom_score(plan.container.oom_score_adj)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # no process of the container may look into this one
    if plan.namespaces is not None:
        plan.namespaces.join("cgroup", "ipc", "uts", "net")
    daemon = Daemon(plan)
    try:
        daemon.fork()
        require_free(plan.port, plan.listen, plan.owner.user, plan.packages)
        entry = Entry(plan.namespaces, plan.container.rootfs, plan.user)
        programs = _open_programs(f"{plan.dropbear_dir}/bin")
        program = posix.stat("dropbear", dir_fd=programs)
        process = daemon.process()
        plan.tell("forked", f"{process.pid} {process.start_time()} {program.st_dev} {program.st_ino}")
        setup = _Setup(plan, entry.rootfs)
        options, pidfile = setup.run(programs)
        setup.restrict(entry.null)
        daemon.pidfile = _open_pidfile(entry.rootfs, plan.container.annotations.pidfile_container)
        plan.await_record()
        daemon.run(options)
        daemon.wait_until_listening(pidfile, plan.port)
        if plan.init is not None and not plan.init.is_alive():
            raise HookError(CONTAINER_ENDED)
    except BaseException:
        daemon.take_back()
        raise
    return daemon.take_back


def _adjust_oom_score(score: int | None) -> None:
    if score is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
            file.write(str(score))
    except PermissionError:
        pass  # lowering takes a right that an engine without root lacks; the session is killed the sooner


def _open_programs(path: str) -> int:
    try:
        descriptor = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise HookError(f"cannot open {path} (DROPBEAR_DIR in the OCI hook's JSON file): {error.strerror}") from None
    return descriptor


def _open_pidfile(rootfs: Rootfs, path: str) -> int | None:
    """The pidfile that the annotation names; None where it is Dropbear's own."""
    if path == PIDFILE:
        return None
    try:
        return rootfs.pidfile(path)
    except OSError as error:
        problem = (
            f"the annotation com.hooks.ssh.pidfile_container: cannot write {printable(path)} as the container's user"
        )
        raise HookError(f"{problem}: {error.strerror}") from None


class _Setup:
    """Puts everything into place in the container."""

    def __init__(self, plan: Plan, rootfs: Rootfs) -> None:
        self._plan = plan
        self._rootfs = rootfs
        self._table = MountTable()

    def run(self, programs: int) -> tuple[list[str], int]:
        """Returns Dropbear's options, and a descriptor of its pidfile, which is empty until it listens. `programs` is the
        open directory that Dropbear is in.
        """
        plan = self._plan
        account, passwd = self._account()
        home = self._home(account.home)
        ssh_path = f"{account.home.rstrip('/')}/.ssh"
        ssh = self._rootfs.user_directory(home, ".ssh", ssh_path)

        environment = content.environment_file(plan.container.environment)
        base = self._mount_base(len(environment) + len(passwd or b"") + len(account.shells or b""))
        dropbear = _make_directory(base, "dropbear", 0o755, ROOT)
        _write_file(dropbear, "environment", environment, 0o600, plan.user)
        pidfile = _write_file(dropbear, basename(PIDFILE), b"", 0o644, plan.user)
        mount_bind(programs, _make_directory(dropbear, "bin", 0o755, ROOT))
        mounted = posix.open("bin", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=dropbear)
        make_read_only(mounted, linux.MS_NOSUID | linux.MS_NODEV)
        make_private(mounted)

        if plan.overlay:
            self._overlay(ssh, base, ssh_path)
        else:
            self._write_keys(ssh, ssh_path, self._merged_authorized_keys(ssh, ssh_path))

        etc = _make_directory(base, "etc", 0o755, ROOT)
        self._cover_optional("/etc/passwd", etc, "passwd", passwd)
        self._cover_optional("/etc/shells", etc, "shells", account.shells)
        if self._has_directory(dirname(content.PROFILE_MODULE)):
            self._cover_optional(content.PROFILE_MODULE, etc, "ssh-hook.sh", content.profile_module())
        _write_file(base, basename(client.KNOWN_HOSTS), client.known_hosts(plan.host_public_key), 0o644, ROOT)
        wait = plan.container.annotations.wait
        script = client.script(plan.port, wait, f"{ssh_path}/id_dropbear", account.login_name, account.names)
        binaries = _make_directory(base, "bin", 0o755, ROOT)
        if self._cover_ssh(_write_file(binaries, "ssh", script, 0o755, ROOT), binaries):
            self._write_openssh_key(base)
        for name in content.COPIERS:
            self._cover_copier(name, binaries)

        # Named, since an image may give the user's uid a second account, with a home and keys of the image's author.
        authorized = f"{account.home}/.ssh"
        if self._is_refused(home) or (not plan.overlay and self._is_refused(ssh)):
            _write_file(dropbear, "authorized_keys", plan.authorized_keys, 0o600, plan.user)
            authorized = DROPBEAR
        options = ["-r", f"{ssh_path}/{plan.keys.host_key_name}", "-D", authorized]
        for address in plan.listen:
            options += ["-p", f"[{address}]:{plan.port}"]
        return options + ([] if plan.listen else ["-p", str(plan.port)]), pidfile

    def restrict(self, null: int) -> None:
        """Take away what the runtime takes away only when the container starts, so that no session has it before.

        The runtime does it once more, on top. `null` is open on the container's /dev/null. Before that, runc sets kernel
        parameters: their files stay as they are until it covers them too, with a copy that lacks these mounts.
        """
        container = self._plan.container
        context = self._plan.confinement.labels.mount_context
        sysctls = {path: self._open_present(path) for path in container.sysctl_paths}
        for path in container.readonly_paths:
            self._restrict(path, lambda target: mount_tree(target, target), make_read_only)
        for path, file in sysctls.items():
            if file is not None:
                self._uncover(path, file)
        for path in container.masked_paths:
            self._restrict(path, lambda target: mount_mask(target, null, context))

    def _restrict(self, path: str, mount: Callable[[int], None], finish: Callable[[int], None] | None = None) -> None:
        """Let `mount` mount on `path`, if that is there, and `finish` do the rest with what is mounted."""
        target = self._open_present(path)
        if target is None:
            return
        self._table.refuse_shared(target, printable(path))
        try:
            mount(target)
            if finish is not None:
                mounted = self._rootfs.open(path, posix.O_PATH)
                finish(mounted)
                posix.close(mounted)
        except OSError as error:
            raise HookError(f"cannot restrict {printable(path)} in the container: {error.strerror}") from None
        posix.close(target)

    def _uncover(self, path: str, file: int) -> None:
        """Have at `path` the `file` that was there before."""
        self._restrict(path, lambda target: mount_bind(file, target), make_unbindable)

    def _open_present(self, path: str) -> int | None:
        """Open `path`, to name it; None where it is not there."""
        try:
            return self._rootfs.open(path, posix.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HookError(f"cannot open {printable(path)} in the container: {error.strerror}") from None

    def _account(self) -> tuple[content.Account, bytes | None]:
        """The user's account, and the content of a new /etc/passwd if it takes one."""
        plan = self._plan
        is_readable = True
        try:
            passwd = self._rootfs.read("/etc/passwd", _MAX_PASSWD) or b""
        except PermissionError:  # then the user's copy has the user's own entries only
            is_readable = False
            passwd = content.entries_of(
                self._rootfs.read("/etc/passwd", _MAX_PASSWD, as_root=True) or b"", plan.user.uid
            )
        wanted = content.AccountRequest(
            plan.user.uid, plan.user.gid, plan.owner.name, plan.container.environment.get("HOME", "")
        )
        account = content.account(wanted, passwd, self._shells(), self._is_program)
        if account is None:
            raise HookError("the container has no shell: a session takes a /bin/sh in its image")
        return account, passwd if account.passwd is None and not is_readable else account.passwd

    def _shells(self) -> bytes | None:
        """The content of /etc/shells; None where the server, which is the user's, will find none."""
        try:
            return self._rootfs.read("/etc/shells", _MAX_SHELLS)
        except PermissionError:
            return None

    def _is_program(self, path: str) -> bool:
        try:
            descriptor = self._rootfs.open(path, posix.O_PATH)
        except OSError:
            return False
        is_program = _is_program(descriptor)
        posix.close(descriptor)
        return is_program

    def _has_directory(self, path: str) -> bool:
        try:
            posix.close(self._rootfs.open(path, posix.O_PATH | posix.O_DIRECTORY))
        except OSError:
            return False
        return True

    def _is_refused(self, directory: int) -> bool:
        """Whether Dropbear would not trust an authorized_keys file in `directory`."""
        status = posix.fstat(directory)
        return status.st_mode & 0o022 != 0 or status.st_uid not in (0, self._plan.user.uid)

    def _home(self, path: str) -> int:
        """The home directory, made if it is missing."""
        parent_path, name = split(path.rstrip("/"))
        if not name:
            return self._rootfs.directory("/")
        try:
            return self._rootfs.open(path, posix.O_PATH | posix.O_DIRECTORY)
        except FileNotFoundError:
            return self._rootfs.user_directory(self._rootfs.directory(parent_path), name, path)
        except OSError as error:
            raise HookError(f"cannot open the home {path} in the container: {error.strerror}") from None

    def _mount_base(self, size: int) -> int:
        """Mount the tmpfs for all that is generated; returns a descriptor of its root directory."""
        target = self._rootfs.directory(BASE)
        self._table.refuse_shared(target, BASE)
        source = "ocihooks-ssh-" + posix.urandom(8).hex()
        context = self._plan.confinement.labels.mount_context
        try:
            mount_tmpfs(target, source, (size // _BLOCK + 1) * _BLOCK + _SPARE, context)
        except OSError as error:
            label = f" with the SELinux label '{printable(context)}'" if context else ""
            raise HookError(f"cannot mount a tmpfs{label} on {BASE} in the container: {error.strerror}") from None
        try:
            base = self._rootfs.open(BASE, posix.O_RDONLY | posix.O_DIRECTORY)
            if posix.fstat(base).st_dev == MountTable().device(source):
                return base
        except OSError:
            pass  # what has taken its place cannot even be opened
        raise HookError(f"{BASE} in the container was moved while it was set up")

    def _overlay(self, ssh: int, base: int, path: str) -> None:
        self._table.refuse_shared(ssh, path)
        layers = _make_directory(base, "overlay", 0o700, ROOT)
        upper = _make_directory(layers, "upper", 0o700, self._plan.user)
        work = _make_directory(layers, "work", 0o700, self._plan.user)
        self._write_keys(upper, path, self._plan.authorized_keys)
        try:
            mount_overlay(ssh, upper, work, ssh, self._plan.user, self._plan.has_user_namespace)
        except OSError as error:
            raise HookError(
                f"cannot mount an overlay on {path} in the container: {error.strerror}; "
                "OVERLAY_MOUNT_HOME_SSH=false in the OCI hook's JSON file does without"
            ) from None

    def _write_keys(self, directory: int, path: str, authorized_keys: bytes) -> None:
        """Write the key set into a directory of the user's, as the user; each file appears whole or not at all."""
        keys = self._plan.keys
        files = {"id_dropbear": keys.id_dropbear, keys.host_key_name: keys.host_key, "authorized_keys": authorized_keys}
        try:
            with ActingAs(self._plan.user):
                for name, data in files.items():
                    temporary = f".{name}.{posix.urandom(8).hex()}"
                    try:
                        posix.close(_write_file(directory, temporary, data, 0o600, None))
                        posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                    except OSError:
                        _remove(directory, temporary)
                        raise
        except OSError as error:
            raise HookError(f"cannot write the keys into {path} in the container: {error.strerror}") from None

    def _merged_authorized_keys(self, ssh: int, path: str) -> bytes:
        """The user's own authorized_keys, and the container's where they are not in it. A file of the image's is not the
        user's: it would let the image's author in.
        """
        if mount_id(ssh) == mount_id(self._rootfs.descriptor):
            return self._plan.authorized_keys
        flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
        try:
            with ActingAs(self._plan.user):
                descriptor = posix.open("authorized_keys", flags, dir_fd=ssh)
                try:
                    present = posix.read(descriptor, _MAX_AUTHORIZED_KEYS + 1)
                finally:
                    posix.close(descriptor)
        except FileNotFoundError:
            return self._plan.authorized_keys
        except OSError as error:
            raise HookError(f"cannot read {path}/authorized_keys in the container: {error.strerror}") from None
        if len(present) > _MAX_AUTHORIZED_KEYS:
            raise HookError(f"{path}/authorized_keys in the container is larger than {_MAX_AUTHORIZED_KEYS} bytes")
        lines = present.splitlines()
        lines += [line for line in self._plan.authorized_keys.splitlines() if line not in lines]
        return b"".join(line + b"\n" for line in lines)

    def _write_openssh_key(self, base: int) -> None:
        """Write the user's key as the image's own client takes it. What that imports, the host's public key has brought."""
        try:
            key = openssh_private_key(self._plan.keys)
        except KeyStoreError:
            return  # of a kind that OpenSSH does not take; Dropbear does
        _write_file(base, basename(client.OPENSSH_KEY), key, 0o600, self._plan.user)

    def _cover_optional(self, path: str, directory: int, name: str, data: bytes | None) -> None:
        """Show `data`, unless it is None, at `path` in the container."""
        if data is not None:
            self._cover(path, _write_file(directory, name, data, 0o644, ROOT))

    def _cover(self, path: str, source: int) -> None:
        target = self._rootfs.file(path)
        self._table.refuse_shared(target, path)
        mount_bind(source, target)

    def _cover_ssh(self, script: int, directory: int) -> bool:
        """Show `script` at /usr/bin/ssh, and the image's own client in `directory`; returns whether there is one. What
        leads to a program of many names, which must stay usable, is not covered.
        """
        try:
            target = self._rootfs.open(content.SSH, posix.O_PATH)
        except OSError:
            self._cover(content.SSH, script)  # missing, or what opening it again tells
            return False
        name = basename(posix.readlink(f"/proc/self/fd/{target}"))
        if "ssh" not in name:
            self._plan.tell(
                "warning", f"{content.SSH} in the container is a link to {name}: use {BASE}/bin/ssh instead"
            )
            return False
        has_own = _is_program(target)
        if has_own:
            mount_bind(target, _write_file(directory, basename(client.OWN_CLIENT), b"", 0o755, ROOT))
        self._cover(content.SSH, script)
        return has_own

    def _cover_copier(self, name: str, directory: int) -> None:
        """Show the hook's own scp or sftp in /usr/bin, unless the image has one; where that cannot be, sessions do
        without.
        """
        path = f"/usr/bin/{name}"
        try:
            status = posix.fstat(self._rootfs.open(path, posix.O_PATH))
            if not stat.S_ISREG(status.st_mode) or status.st_size > 0:
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            self._cover(path, _write_file(directory, name, content.copier(name), 0o755, ROOT))
        except HookError:
            pass


def _is_program(descriptor: int) -> bool:
    """Whether it is open on an executable file that is not empty, as one is that only served as a mount point."""
    status = posix.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_mode & 0o111 != 0 and status.st_size > 0


def _make_directory(parent: int, name: str, mode: int, owner: Identity) -> int:
    posix.mkdir(name, mode, dir_fd=parent)
    descriptor = posix.open(
        name, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=parent
    )
    posix.fchown(descriptor, owner.uid, owner.gid)
    return descriptor


def _remove(parent: int, name: str) -> None:
    try:
        posix.unlink(name, dir_fd=parent)
    except OSError:
        pass  # it could not be made


def _write_file(parent: int, name: str, data: bytes, mode: int, owner: Identity | None) -> int:
    """Create a file, the caller's where `owner` is None; returns a descriptor of it."""
    flags = posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    descriptor = posix.open(name, flags, mode, dir_fd=parent)
    view = memoryview(data)
    while view:
        view = view[posix.write(descriptor, view) :]
    if owner is not None:
        posix.fchown(descriptor, owner.uid, owner.gid)
    return descriptor
