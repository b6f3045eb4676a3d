"""OpenSSH's client in the bed, with keys that this makes or takes over from a key set of the hook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from containers import ALICE, LAUNCHER, PORT, Container, Result, as_user, run
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

# Options of ssh by which it lands in alice's only container, by its door.
BY_DOOR = ("-o", f"ProxyCommand={' '.join(as_user(ALICE, LAUNCHER, 'connect', 'localhost'))}")


def _strings(data: bytes) -> Iterator[bytes]:
    while data:
        size = int.from_bytes(data[:4], "big")
        yield data[4 : 4 + size]
        data = data[4 + size :]


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> Path:
    """Write a private key as OpenSSH reads it."""
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.write_bytes(text)
    path.chmod(0o600)
    return path


def convert(source: Path, target: Path) -> Path:
    """Write a private key in Dropbear's format anew in OpenSSH's."""
    kind, *fields = _strings(source.read_bytes())
    if kind == b"ssh-ed25519":
        return write_key(target, ed25519.Ed25519PrivateKey.from_private_bytes(fields[0][:32]))
    assert (kind, fields[0]) == (b"ecdsa-sha2-nistp256", b"nistp256")
    return write_key(target, ec.derive_private_key(int.from_bytes(fields[2], "big"), ec.SECP256R1()))


def new_key(path: Path) -> str:
    """Make a private key; returns its public key as a line without an end."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(path, key)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()


def client(key: Path, *options: str, port: int = PORT) -> list[str]:
    """The command `ssh` with what makes it independent of the bed's own configuration."""
    defaults = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    command = ["ssh", "-F", "none", "-i", str(key), "-p", str(port)]
    for option in [*defaults, "IdentitiesOnly=yes"]:
        command += ["-o", option]
    return [*command, *options]


def copier(program: str, key: Path, *options: str, port: int = PORT) -> list[str]:
    """The command `sftp` or `scp`, likewise."""
    command = client(key, *options, port=port)
    command[0] = program
    command[command.index("-p")] = "-P"
    return command


def login(
    key: Path,
    *command: str,
    container: Container | None = None,
    host: str = "127.0.0.1",
    user: str = "alice",
    port: int = PORT,
    stdin: bytes = b"",
    options: tuple[str, ...] = (),
) -> Result:
    """Log in from the bed, or from within the network of `container`."""
    enter = [] if container is None else ["nsenter", "--net", "--target", str(container.init())]
    return run([*enter, *client(key, *options, port=port), f"{user}@{host}", *command], stdin)
