"""Looks for the private keys of a set in a text, in every form in which bytes are usually written.

secrets.py TEXT DIRECTORY
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path


def forms(secret: bytes) -> list[str]:
    """Return `secret` as it would look in a text."""
    found = [secret.hex(), secret.hex(" "), secret.hex(":"), str(int.from_bytes(secret, "big"))]
    # Base64 looks different for each position in a group of three bytes; the ends depend on the neighbours.
    found += [base64.b64encode(bytes(shift) + secret).decode()[4:-4] for shift in range(3)]
    found += [repr(secret)[2:-1], json.dumps(secret.decode("latin-1"))[1:-1], secret.decode("latin-1")]
    return found


def main() -> int:
    """Print what was found; the exit status is 0 if it is the public key alone."""
    text = Path(sys.argv[1]).read_text(encoding="utf-8", errors="surrogateescape").lower()
    keys = Path(sys.argv[2])
    public = (keys / "authorized_keys").read_text(encoding="utf-8").split()[1]
    if public.lower() not in text:
        print("not even the public key is there")
        return 1
    for path in [keys / "id_dropbear", *keys.glob("*_host_key")]:
        data = path.read_bytes()
        secret = data[-60:-36] if b"ed25519" in data else data[-24:]  # of Ed25519 the public half is behind the seed
        for form in forms(secret):
            if form.lower() in text:
                print(f"{path.name} is there")
                return 1
    print("the public key, and no private one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
