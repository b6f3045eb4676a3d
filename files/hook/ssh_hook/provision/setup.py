# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up the container for sessions: mounts, files, and the user's account.

The container has not run a program yet, and its mount namespace still has the host's root at /, with the container's
root file system below it. All generated files are on one small tmpfs, so that no key reaches the image's layer or a
disk.
"""

from __future__ import annotations

from ..errors import IMAGE_UNFIT, LSM_REFUSED, MOUNT_REFUSED, NO_SHELL, HookError, UnservedError, printable
from ..fast_stdlib import TYPE_CHECKING, basename, closing, dirname, os
from ..linux import syscalls
from ..linux.identity import ActingAs
from ..linux.mounts import mount_id, mount_tmpfs
from ..linux.rootfs import MOUNT, unfit_error
from ..oci import container_paths as paths
from ..oci.annotations import REQUIRE_SHELL
from .account import AccountRequest, entries_of, find_account
from .covers import Covers, is_program, protect_mount, write_file
from .home import Home, make_directory
from .ssh_client import provide_ssh
from .texts import profile_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..keys.passwd import Entry
    from ..linux.rootfs import Rootfs
    from ..node.user_keys import Credentials
    from ..oci.oci_config import Container
    from ..oci.settings import Settings
    from .account import Account
    from .hostfiles import Launch
    from .layer import MountPoint

_MAX_PASSWD = 32 << 20  # bytes
_MAX_PASSWD_COPY = 1 << 20  # bytes: the hook's tmpfs is not charged to the container
_MAX_SHELLS = 64 << 10  # bytes
_SPARE = 1 << 20  # bytes of the tmpfs for files that sessions write to ~/.ssh, such as known_hosts
_BLOCK = 4096  # bytes
_INODES = 4096  # minimum for the tmpfs; the actual number is random, less than twice as many


class Setup:
    """Sets up one container, in three steps: mount, provide, finish.

    Attributes:
        warnings: for the user.
        account: the user's account in the container.
    """

    def __init__(
        self,
        container: Container,
        entry: Entry,
        settings: Settings,
        rootfs: Rootfs,
        mount_context: str,
        in_user_namespace: bool,
        launch: Launch | None,
    ) -> None:
        """Read the container's files; change nothing. Raises HookError.

        `entry` is the user's passwd entry on the cluster, `mount_context` is the SELinux label of new mounts, empty for
        none. `launch` is for a container in a multi-host job.
        """
        self.warnings: list[str] = []
        self._container = container
        self._name = entry.name
        # distrobox's first process replaces /etc/passwd, which it cannot do under a mount: the image's suffices there.
        self._shell = "" if container.has_other_user else entry.shell
        self._settings = settings
        self._rootfs = rootfs
        self._mount_context = mount_context
        self._in_user_namespace = in_user_namespace
        self._user = rootfs.user
        self._owner = rootfs.owner
        self._covers = Covers(rootfs)
        self.account, self._passwd = self._find_account()
        known = ("/home/", f"{settings.base_dir.rstrip('/')}/", entry.home.rstrip("/"))
        self._home = Home(rootfs, self._user, self.account.home, known)
        self._launch = launch
        self._covers_home = False  # whether an overlay is mounted on ~/.ssh; set by `mount`
        self._base = self._dropbear = self._programs = -1  # opened by `mount`

    def mount_points(self) -> list[MountPoint]:
        """Return the paths that `mount` and `provide` mount on, and create if missing."""
        from .layer import MountPoint  # here: no start of a container needs it

        files = [paths.SSH, *(f"{paths.USER_PROGRAMS}/{name}" for name in paths.COPIERS)]
        files += [paths.PASSWD] if self._passwd is not None else []
        files += [paths.SHELLS] if self.account.shells is not None else []
        files += [paths.PROFILE_MODULE] if self._has_directory(dirname(paths.PROFILE_MODULE)) else []
        directories = [(paths.BASE, self._owner), (self._home.ssh_path, self._user)]
        return [
            *(MountPoint(path, True, owner) for path, owner in directories),
            *(MountPoint(path, False, self._owner) for path in files),
        ]

    def mount(self, mount_programs: Callable[[int], None], provides_home: bool) -> None:
        """Mount the hook's tmpfs, and in it Dropbear's programs, read-only. Raises HookError and OSError.

        `mount_programs` mounts their directory on its argument. `provides_home`: whether to put the user's keys into
        ~/.ssh. Not under enroot, which mounts homes afterwards.
        """
        if provides_home:
            self._home.open()
        if self._home.problem:
            self.warnings.append(f"{self._home.problem}: your keys are only in {paths.BASE}, where ssh finds them")
        size = len(self._passwd or b"") + len(self.account.shells or b"") + self._environment_size()
        self._base = self._mount_base(size + (self._launch.size() if self._launch else 0))
        self._covers_home = self._home.ssh >= 0 and self._may_cover_home()
        self._home.make_keys_directory(self._base, self._covers_home)
        self._dropbear = make_directory(self._base, basename(paths.DROPBEAR), 0o755, self._owner)
        programs = basename(paths.PROGRAMS)
        mount_programs(make_directory(self._dropbear, programs, 0o755, self._owner))
        self._programs = protect_mount(programs, self._dropbear)

    def provide(self, credentials: Credentials, ssh_config: bytes, known_hosts: bytes) -> list[str]:
        """Write the files on the tmpfs, and bind mount some over the image's. Raises HookError, OSError.

        `ssh_config` and `known_hosts` are for the container's ssh. Return the paths of the host keys.
        """
        self._provide_environment()
        write_file(self._dropbear, basename(paths.PIDFILE), b"", 0o644, self._user)
        host_keys = []
        for name, data in credentials.host_keys.items():
            write_file(self._dropbear, name, data, 0o600, self._user)
            host_keys.append(f"{paths.DROPBEAR}/{name}")
        self._home.provide_keys(credentials)
        if self._covers_home:
            self._covers.refuse_shared(self._home.ssh, self._home.ssh_path)
            self._home.cover(self._in_user_namespace)
            self._rootfs.note(MOUNT, self._home.ssh_path, "")
        account = self.account
        etc = make_directory(self._base, "etc", 0o755, self._owner)
        for path, content in ((paths.PASSWD, self._passwd), (paths.SHELLS, account.shells)):
            if content is not None:
                self._covers.cover_with(path, etc, basename(path), content)
        if self._has_directory(dirname(paths.PROFILE_MODULE)):
            self._provide_profile(etc)
        self._provide_client(credentials.openssh_key, ssh_config, known_hosts)
        return host_keys

    def finish(self, credentials: Credentials) -> None:
        """Without an overlay, write the user's keys into ~/.ssh, which may be on a volume. Raises HookError.

        This is the last step, so that a failed start leaves no keys there, and need not remove another container's.
        """
        if self._home.ssh >= 0 and not self._covers_home:
            self._home.write(credentials)

    def _provide_environment(self) -> None:
        """Create the user's file, with its directory, in which sessions keep their variables for login shells."""
        session = make_directory(self._dropbear, basename(paths.SESSION), 0o700, self._owner)
        write_file(session, basename(paths.ENVIRONMENT), b"", 0o600, self._user)
        os.fchown(session, self._user.uid, self._user.gid)  # last, so that no one else can create anything there before
        target = f"{basename(paths.SESSION)}/{basename(paths.ENVIRONMENT)}"
        os.symlink(target, basename(paths.ENVIRONMENT_LINK), dir_fd=self._dropbear)

    def _environment_size(self) -> int:
        """Return the size in bytes of sessions' variables for login shells: a new file and the previous one."""
        return 2 * sum(len(name) + len(value) for name, value in self._container.environment.items())

    def _may_cover_home(self) -> bool:
        """Return whether to mount an overlay on ~/.ssh, not write into it: by the site's setting, or if read-only."""
        if self._settings.overlay or not self._rootfs.has_layer:
            return self._settings.overlay
        return mount_id(self._home.ssh) == mount_id(self._rootfs.descriptor)

    def _provide_profile(self, etc: int) -> None:
        """Make login shells read the variables of their sessions, if possible. Raises OSError."""
        try:
            self._covers.cover_with(paths.PROFILE_MODULE, etc, "ssh-hook.sh", profile_module())
        except HookError as error:
            self.warnings.append(f"{error}: login shells keep the variables as /etc/profile sets them")

    def _provide_client(self, key: bytes, config: bytes, hosts: bytes) -> None:
        """Provide ssh, scp and sftp, and the files that ssh needs to connect to the user's containers."""
        write_file(self._base, basename(paths.SSH_CONFIG), config, 0o644, self._owner)
        write_file(self._base, basename(paths.KNOWN_HOSTS), hosts, 0o644, self._owner)
        write_file(self._base, basename(paths.OPENSSH_KEY), key, 0o600, self._user)
        binaries = make_directory(self._base, "bin", 0o755, self._owner)
        warning = provide_ssh(self._rootfs, self._covers, self._programs, binaries)
        if warning:
            self.warnings.append(warning)
        if not self._user_can_reach(paths.SSH_CONFIG):
            self.warnings.append(
                f"the container's user (uid {self._user.uid}) may not enter {paths.BASE}: others can log in, but ssh, "
                "scp and sftp do not work in the container: run chmod a+x /opt in the image"
            )
        if self._launch is not None:
            self._launch.provide(self._base, binaries, self._user)
            self._covers.cover_missing(paths.HOSTFILE_DEEPSPEED, basename(paths.HOSTFILE), self._base)

    def _find_account(self) -> tuple[Account, bytes | None]:
        """Return the user's account, and the content of /etc/passwd for sessions; None to keep the image's."""
        is_readable = True
        try:
            passwd = self._rootfs.read(paths.PASSWD, _MAX_PASSWD) or b""
        except PermissionError:  # sessions get a copy with only the user's own entries
            is_readable = False
            passwd = entries_of(self._rootfs.read(paths.PASSWD, _MAX_PASSWD, as_root=True) or b"", self._container.uid)
            self._require_passwd()
        home = self._container.environment.get("HOME", "")
        wanted = AccountRequest(self._container.uid, self._container.gid, self._name, self._shell, home)
        account = find_account(wanted, passwd, self._read_shells(), self._is_program)
        if account is None:
            raise self._no_shell_error()
        shown = passwd if account.passwd is None and not is_readable else account.passwd
        if shown is not None and len(shown) > _MAX_PASSWD_COPY:
            shown = b"".join(entry + b"\n" for entry in account.entries)
            self.warnings.append(
                f"/etc/passwd in the container is larger than {_MAX_PASSWD_COPY} bytes, and has no entry for a login "
                f"of {self._name}: it shows only the entries of uid {self._container.uid}"
            )
        return account, shown

    def _require_passwd(self) -> None:
        """Raise HookError if the user could not even read a copy of /etc/passwd there: Dropbear would know no user."""
        if not self._user_can_reach(paths.PASSWD):
            raise HookError(
                IMAGE_UNFIT,
                f"the container's user (uid {self._user.uid}) may not enter the directory of {paths.PASSWD}, so that "
                "every login would be refused: run chmod a+x /etc in the image",
            )

    def _user_can_reach(self, path: str) -> bool:
        """Return whether the user may enter the directories above `path`. Raises HookError."""
        try:
            with ActingAs(self._user):
                os.close(self._rootfs.open(path, os.O_PATH))
        except PermissionError:
            return False
        except FileNotFoundError:
            pass
        except OSError as error:  # the user has put a link in its place
            raise unfit_error("open", path, error) from None
        return True

    def _no_shell_error(self) -> HookError:
        chosen = self._container.annotations.require_shell
        if self._settings.require_shell if chosen is None else chosen:
            advice = "" if chosen else f"; to start it without SSH, set the annotation {REQUIRE_SHELL}=false"
            return HookError(NO_SHELL, f"the container has no shell: sessions need /bin/sh in the image{advice}")
        return UnservedError(
            NO_SHELL, "the container has no shell, and starts without SSH: sessions need /bin/sh in the image"
        )

    def _read_shells(self) -> bytes | None:
        """Return the content of /etc/shells; None if Dropbear, which runs as the user, cannot read it."""
        try:
            return self._rootfs.read(paths.SHELLS, _MAX_SHELLS)
        except PermissionError:
            return None

    def _is_program(self, path: str) -> bool:
        try:
            descriptor = self._rootfs.open(path, os.O_PATH)
        except OSError:
            return False
        with closing(descriptor):
            return is_program(descriptor)

    def _has_directory(self, path: str) -> bool:
        try:
            os.close(self._rootfs.open(path, os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
        return True

    def _mount_base(self, size: int) -> int:
        """Mount the tmpfs for all generated files; return a descriptor of its root directory. Raises HookError.

        The file system type and the random number of inodes distinguish it from a directory moved there by an attacker.
        """
        try:
            target = self._rootfs.directory(paths.BASE)
        except HookError as error:
            raise HookError(
                error.kind, f"{error}; if /opt is a volume, create an empty directory oci-hooks/ssh in it"
            ) from None
        self._covers.refuse_shared(target, paths.BASE)
        inodes = _INODES + int.from_bytes(os.urandom(2), "little") % _INODES
        context = self._mount_context
        try:
            mount_tmpfs(target, (size // _BLOCK + 1) * _BLOCK + _SPARE, inodes, context)
        except OSError as error:
            label = f" with the SELinux label '{printable(context)}'" if context else ""
            raise HookError(
                LSM_REFUSED if context else MOUNT_REFUSED,
                f"cannot mount a tmpfs{label} on {paths.BASE} in the container: {error.strerror}",
            ) from None
        self._rootfs.note(MOUNT, paths.BASE, "")
        try:
            base = self._rootfs.open(paths.BASE, os.O_RDONLY | os.O_DIRECTORY)
            if syscalls.filesystem_type(base) == syscalls.TMPFS_MAGIC and os.fstatvfs(base).f_files == inodes:
                return base
        except OSError:
            pass  # replaced by something that cannot be opened
        raise HookError(IMAGE_UNFIT, f"{paths.BASE} in the container was moved during setup")
