"""Requests to the program `primitives`, with the answers that the package cryptography and the RFCs give."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

P = 2**255 - 19  # the field's prime
L = 2**252 + 27742317777372353535851937790883648493  # the order of Ed25519's base point

# RFC 7748, 5.2: scalar, point, product.
X25519_VECTORS = (
    (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
)
# RFC 8032, 7.1, tests 1 to 3: seed, message, public key, signature.
ED25519_VECTORS = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246551"
        "41438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d"
        "291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027"
        "beceea1ec40a",
    ),
)

# Points of small order, also by encodings that are not canonical: https://cr.yp.to/ecdh.html#validate
X25519_SMALL_ORDER = tuple(
    number.to_bytes(32, "little").hex()
    for number in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        P - 1,
        P,
        P + 1,
    )
)
# The same of Ed25519: order 1, 2, 4 and 8, each with either sign bit.
_ORDER_8 = (
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
)
ED25519_SMALL_ORDER = tuple(
    number.to_bytes(32, "little").hex()
    for y in (1, P - 1, 0, *(int.from_bytes(bytes.fromhex(text), "little") for text in _ORDER_8), P, P + 1)
    for number in (y, y | 1 << 255)
)

ZERO = bytes(32).hex()


class Case(NamedTuple):
    """A request, and the right answer."""

    request: str
    answer: str


def ask(program: Path, requests: list[str]) -> list[str]:
    """Return the answers to requests, each in one line."""
    done = subprocess.run([program], input="\n".join(requests) + "\n", capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _words(*arguments: bytes | str) -> str:
    texts = (argument if isinstance(argument, str) else argument.hex() for argument in arguments)
    return " ".join(text or "-" for text in texts)


def exchanges() -> Iterator[Case]:
    """X25519: vectors, the base point, random points, and such as are not below the field's prime."""
    for scalar, point, product in X25519_VECTORS:
        yield Case(f"x25519 {scalar} {point}", product)
    source = random.Random(1)
    base = (9).to_bytes(32, "little")
    odd = [number.to_bytes(32, "little") for number in (2, P - 2, P + 2, P + 18, 2**255 - 1, 2**256 - 1, 2**255 + 9)]
    for point in (base, *odd, *(source.randbytes(32) for _number in range(100))):
        scalar = source.randbytes(32)
        product = X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(point))
        yield Case(f"x25519 {_words(scalar, point)}", product.hex())


def signatures() -> Iterator[Case]:
    """Ed25519: the public key and the signature of a seed and a message, and whether that is valid."""
    for seed, message, public, signature in ED25519_VECTORS:
        yield Case(f"sign {_words(seed, message)}", f"{public} {signature}")
        yield Case(f"verify {_words(public, message, signature)}", "valid")
    source = random.Random(2)
    for length in range(0, 300, 3):
        seed, message = source.randbytes(32), source.randbytes(length)
        key = Ed25519PrivateKey.from_private_bytes(seed)
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        yield Case(f"sign {_words(seed, message)}", f"{public.hex()} {signature.hex()}")
        yield Case(f"verify {_words(public, message, signature)}", "valid")
        for which, number in ((0, length % 32), (2, length % 64), (2, 63 - length % 64)):
            changed = [bytearray(public), bytearray(message), bytearray(signature)]
            changed[which][number] ^= 1 << length % 8
            yield Case(f"verify {_words(*map(bytes, changed))}", "refused")
        yield Case(f"verify {_words(public, message + b'x', signature)}", "refused")
        yield Case(f"verify {_words(public, message, signature[:63])}", "refused")
        # The same point, with a number that is not below the order
        above = signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")
        yield Case(f"verify {_words(public, message, above)}", "refused")


LENGTHS = (*range(4, 700), 1024, 4096, 32768 + 13, 35000)


def _sealed(key: bytes, sequence: int, packet: bytes) -> bytes:
    """Encrypt as OpenSSH's PROTOCOL.chacha20poly1305 says: block counter and nonce have 64 bits each."""

    def chacha20(part: bytes, counter: int, data: bytes) -> bytes:
        nonce = counter.to_bytes(8, "little") + sequence.to_bytes(8, "big")
        return Cipher(ChaCha20(part, nonce), mode=None).encryptor().update(data)

    sealed = chacha20(key[32:], 0, packet[:4]) + chacha20(key[:32], 1, packet[4:])
    return sealed + Poly1305.generate_tag(chacha20(key[:32], 0, bytes(32)), sealed)


def packets() -> Iterator[Case]:
    """chacha20-poly1305: lengths up to some blocks and full packets, at all alignments, in place or not."""
    source = random.Random(3)
    sequences = [0, 1, 255, 256, 2**31, 2**32 - 1]
    for length in LENGTHS:
        key, sequence, packet = source.randbytes(64), source.choice(sequences), source.randbytes(length)
        sequences.append(source.getrandbits(32))
        sealed = _sealed(key, sequence, packet)
        places = bytes([length % 16, source.choice([length % 16, length // 16 % 16])])
        arguments = places, key, sequence.to_bytes(4, "big")
        yield Case(f"aead 00 {_words(*arguments, sealed)}", f"length {packet[:4].hex()} {packet.hex()}")
        # The length is read before the tag is checked, here of a packet that is not encrypted
        yield Case(f"aead 01 {_words(*arguments, packet)}", f"length {sealed[:4].hex()} {sealed.hex()}")
        forged = bytearray(sealed)
        forged[source.randrange(4, len(forged))] ^= 1 << source.randrange(8)
        yield Case(f"aead 00 {_words(*arguments, bytes(forged))}", f"length {packet[:4].hex()} refused")
        forged = bytearray(sealed)
        forged[3] ^= 1
        misread = packet[:3] + bytes([packet[3] ^ 1])
        yield Case(f"aead 00 {_words(*arguments, bytes(forged))}", f"length {misread.hex()} refused")
    yield Case(f"aead 01 {_words(bytes(2), bytes(64), bytes(4), b'abc')}", "short 00000000 refused")
    yield Case(f"aead 01 {_words(bytes(2), bytes(63), bytes(4), b'abcd')}", "key refused")


def gcm_packets() -> Iterator[Case]:
    """aes256-gcm as RFC 5647 says, in place: the same lengths and alignments; the packet's length is not encrypted."""
    source = random.Random(4)
    counters = [0, 1, 255, 2**32 - 1, 2**63, 2**64 - 2, 2**64 - 1]
    for length in LENGTHS:
        key, fixed, packet = source.randbytes(32), source.randbytes(4), source.randbytes(length)
        counter = source.choice(counters)
        counters.append(source.getrandbits(64))
        nonce = fixed + ((counter + 1) % 2**64).to_bytes(8, "big")
        sealed = packet[:4] + AESGCM(key).encrypt(nonce, packet[4:], packet[:4])
        arguments = bytes([length % 16, length % 16]), key, fixed + counter.to_bytes(8, "big")
        yield Case(f"gcm 00 {_words(*arguments, sealed)}", f"length {packet[:4].hex()} {packet.hex()}")
        yield Case(f"gcm 01 {_words(*arguments, packet)}", f"length {packet[:4].hex()} {sealed.hex()}")
        forged = bytearray(sealed)
        forged[source.randrange(len(forged))] ^= 1 << source.randrange(8)
        yield Case(f"gcm 00 {_words(*arguments, bytes(forged))}", f"length {forged[:4].hex()} refused")
    yield Case(f"gcm 01 {_words(bytes(2), bytes(32), bytes(12), b'abc')}", "short 00000000 refused")
    yield Case(f"gcm 01 {_words(bytes(2), bytes(31), bytes(12), b'abcd')}", "key refused")
