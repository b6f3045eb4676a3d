# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private and public keys in the formats of Dropbear, OpenSSH, and the SSH protocol.

A *string* is a 32-bit big-endian length and that many bytes; an *mpint* is a string with a number, big-endian, signed,
and as short as possible (RFC 4251, section 5). Dropbear's private keys are sequences of strings, as in its signkey.c.
"""

from __future__ import annotations

from ..fast_stdlib import TYPE_CHECKING, fsencode, sha256
from .errors import KEYS_DAMAGED, REPLACE, KeyStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

HOST_KEY_ALIAS = "oci-hooks"  # in known_hosts: one line per host key covers all hosts and ports

_CURVES = {b"nistp256": 32, b"nistp384": 48, b"nistp521": 66}  # bytes of one coordinate


def string(data: bytes) -> bytes:
    """Return `data` as a string of the SSH protocol."""
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    """Return a positive number as an mpint, with a leading zero byte if the top bit would make it negative."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _strings(data: bytes) -> list[bytes] | None:
    """Return the strings that `data` consists of, or None if it is not a sequence of strings."""
    fields = []
    position = 0
    while position < len(data):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "big")
        fields.append(data[start:position])
    return fields if position == len(data) else None


def check_private_key(data: bytes, path: str) -> bytes:
    """Return the type of the private key in `data`. Raises KeyStoreError if Dropbear cannot read it."""
    if data.startswith(b"-----BEGIN"):
        raise KeyStoreError(
            KEYS_DAMAGED, f"{path} is in OpenSSH's format: convert it with dropbearconvert, or {REPLACE}"
        )
    fields = _strings(data)
    if not fields or not _well_formed(fields):
        raise KeyStoreError(KEYS_DAMAGED, f"{path} is not a Dropbear private key, or is damaged: {REPLACE}")
    return fields[0]


def _well_formed(fields: list[bytes]) -> bool:
    """Return whether these are the fields of a private key in Dropbear's format."""
    kind, values = fields[0], fields[1:]
    if kind == b"ssh-ed25519":
        return len(values) == 1 and len(values[0]) == 64
    if kind == b"ssh-rsa":
        return len(values) == 5 and all(values)
    if len(values) != 3 or kind != b"ecdsa-sha2-" + values[0] or values[0] not in _CURVES:
        return False
    size = _CURVES[values[0]]
    point, secret = values[1], values[2]
    return (
        len(point) == 1 + 2 * size and point[0] == 4 and 0 < len(secret) <= size + 1 and secret[0] < 128 and any(secret)
    )


def public_blob(private: bytes) -> bytes:
    """Return the public key of a well-formed private key, in the format of the SSH protocol."""
    fields = _strings(private) or []
    kind = fields[0]
    public = [kind, fields[1][32:]] if kind == b"ssh-ed25519" else fields[:3]
    return b"".join(map(string, public))


def _openssh_fields(fields: list[bytes]) -> list[bytes]:
    """Return the fields of a well-formed private key in OpenSSH's order."""
    kind, values = fields[0], fields[1:]
    if kind == b"ssh-ed25519":
        return [kind, values[0][32:], values[0]]
    if kind == b"ssh-rsa":
        e, n, d, p, q = values
        return [kind, n, e, d, _inverse(q, p), p, q]
    return fields


def _inverse(number: bytes, modulus: bytes) -> bytes:
    try:
        return mpint(pow(int.from_bytes(number, "big"), -1, int.from_bytes(modulus, "big")))[4:]
    except ValueError:
        raise KeyStoreError(KEYS_DAMAGED, f"the RSA key in id_dropbear is damaged: {REPLACE}") from None


def public_line(blob: bytes) -> str:
    """Return the public key `blob` as OpenSSH writes it: ``<type> <base64>``."""
    import binascii

    kind = (_strings(blob) or [])[0]
    return f"{kind.decode()} {binascii.b2a_base64(blob, newline=False).decode()}"


def known_hosts(public_keys: Iterable[str], names: Iterable[str] = ()) -> bytes:
    """Return a known_hosts file for a user's containers, whose host keys are `public_keys`, each ``<type> <base64>``.

    It contains the alias of all containers, and `names` for clients without aliases: ``host`` or ``[host]:port``,
    several on a line separated by commas.
    """
    return "".join(f"{name} {key}\n" for name in (HOST_KEY_ALIAS, *names) for key in public_keys).encode()


def blob_fingerprint(blob: bytes) -> str:
    """Return the fingerprint of the public key `blob` as ``ssh-keygen -l`` writes it: ``SHA256:<base64>``."""
    import binascii

    return "SHA256:" + binascii.b2a_base64(sha256(blob), newline=False).decode().rstrip("=")


def key_comment(name: str) -> str:
    """Return the comment of the keys of the user `name`."""
    return f"{name}@ocihooks"


def openssh_private_key(private_key: bytes, comment: str) -> bytes:
    """Return a well-formed private key as an OpenSSH file (openssh-key-v1), without a passphrase.

    The same key and `comment` always give the same bytes. The comment must not be empty: without one, paramiko expects
    padding at the end, which half of these keys lack. Raises KeyStoreError for a damaged RSA key.
    """
    import binascii

    fields = _openssh_fields(_strings(private_key) or [])
    # Two equal check numbers, which may be 0 without a passphrase; then the key and the comment.
    private = bytes(8) + b"".join(map(string, [*fields, fsencode(comment)]))
    private += bytes(range(1, 1 + -len(private) % 8))
    one_key = (1).to_bytes(4, "big")
    header = b"openssh-key-v1\0" + string(b"none") + string(b"none") + string(b"") + one_key
    data = header + string(public_blob(private_key)) + string(private)
    lines = [binascii.b2a_base64(data[start : start + 48]) for start in range(0, len(data), 48)]
    return b"".join([b"-----BEGIN OPENSSH PRIVATE KEY-----\n", *lines, b"-----END OPENSSH PRIVATE KEY-----\n"])
