"""Symbolic links that real SFTP clients make: they point where the user said.

SSH_FXP_SYMLINK has two paths. OpenSSH's server expects them in the opposite order to the protocol's draft, so a client
has to know which server it talks to.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import asyncssh
import openssh
import paramiko
import pytest
from containers import PORT, Container, keys, run
from starter import Start

HOST = "127.0.0.1"
LIBSSH_HOST, LIBSSH_PORT, LIBSSH_USER = 0, 1, 4  # enum ssh_options_e of libssh/libssh.h
TARGET = "where the user said"


@pytest.fixture(scope="module")
def container(start_shared: Start) -> Container:
    return start_shared("crun", "busybox", settings={"LISTEN_ADDRESSES": HOST})


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return openssh.convert(keys() / "id_dropbear", tmp_path_factory.mktemp("keys") / "id")


def by_libssh(key: Path, link: str, _scratch: Path) -> None:
    library = ctypes.CDLL("libssh.so.4")
    for name in ("ssh_new", "sftp_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.ssh_get_error.restype = ctypes.c_char_p
    session, private = ctypes.c_void_p(library.ssh_new()), ctypes.c_void_p()
    library.ssh_options_set(session, LIBSSH_HOST, HOST.encode())
    library.ssh_options_set(session, LIBSSH_PORT, ctypes.byref(ctypes.c_uint(PORT)))
    library.ssh_options_set(session, LIBSSH_USER, b"alice")
    assert library.ssh_connect(session) == 0, library.ssh_get_error(session)
    assert library.ssh_pki_import_privkey_file(str(key).encode(), None, None, None, ctypes.byref(private)) == 0
    assert library.ssh_userauth_publickey(session, None, private) == 0, library.ssh_get_error(session)
    sftp = ctypes.c_void_p(library.sftp_new(session))
    assert library.sftp_init(sftp) == 0, library.ssh_get_error(session)
    assert library.sftp_symlink(sftp, TARGET.encode(), link.encode()) == 0, library.ssh_get_error(session)
    library.sftp_free(sftp)
    library.ssh_disconnect(session)
    library.ssh_free(session)


def by_asyncssh(key: Path, link: str, _scratch: Path) -> None:
    async def make() -> None:
        async with (
            asyncssh.connect(HOST, PORT, username="alice", client_keys=[str(key)], known_hosts=None) as connection,
            connection.start_sftp_client() as sftp,
        ):
            await sftp.symlink(TARGET, link)

    asyncio.run(make())


def by_paramiko(key: Path, link: str, _scratch: Path) -> None:
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(HOST, PORT, "alice", key_filename=str(key), allow_agent=False, look_for_keys=False)
        client.open_sftp().symlink(TARGET, link)


def by_sshfs(key: Path, link: str, scratch: Path) -> None:
    top, name = os.path.split(link)
    command = f"ssh_command={shlex.join(openssh.client(key))}"
    run(["sshfs", "-o", command, f"alice@{HOST}:{top}", scratch]).checked()
    try:
        (scratch / name).symlink_to(TARGET)
        assert os.readlink(scratch / name) == TARGET
    finally:
        run(["umount", scratch]).checked()


def by_sftp(key: Path, link: str, _scratch: Path) -> None:
    batch = f'symlink "{TARGET}" {link}\n'.encode()
    run([*openssh.copier("sftp", key, "-b", "-"), f"alice@{HOST}"], batch).checked()


@pytest.mark.parametrize("make", [by_libssh, by_asyncssh, by_paramiko, by_sshfs, by_sftp])
def test_link(container: Container, key: Path, tmp_path: Path, make: Callable[[Path, str, Path], None]) -> None:
    link = f"/tmp/{make.__name__}"
    make(key, link, tmp_path)
    assert os.readlink(container.path(link)) == TARGET
