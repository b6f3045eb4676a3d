# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each source is built: options of configure and make, and the files to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ZIG_TARGETS = {
    "x86_64": "x86_64-linux-musl",
    "aarch64": "aarch64-linux-musl",
    "ppc64le": "powerpc64le-linux-musl",
    "riscv64": "riscv64-linux-musl",
}


@dataclass(frozen=True)
class Recipe:
    """How to build programs, or a static library, from a source.

    Attributes:
        kept: files to keep, as patterns in the source's directory, and the directory in the store that each goes to
        configure: command, without the options for the architecture
        make: arguments of each call of make
        libraries: recipes of the static libraries to link with
        bundled: libraries whose copies in the source are linked
        variables: for the environment of configure and make
        targets: configure's names of the architectures, passed as its first argument (default: --host when crossing)
        left_out: directories of the source that the build does not need, except their build.info files
    """

    kept: tuple[tuple[str, str], ...]
    configure: tuple[str, ...]
    make: tuple[tuple[str, ...], ...]
    libraries: tuple[str, ...] = ()
    bundled: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] | None = None
    left_out: tuple[str, ...] = ()

    def configure_for(self, architecture: str, compiler: str) -> list[str]:
        """Return the command of configure for an architecture; `compiler` is "musl-gcc" or "zig"."""
        options = []
        if self.targets is not None:
            options = [self.targets[architecture]]
        elif compiler == "zig":
            options = [f"--host={ZIG_TARGETS[architecture]}"]
        return [self.configure[0], *options, *self.configure[1:]]


# Without the utmp and wtmp options, musl logs an error for every terminal.
DROPBEAR = Recipe(
    kept=(("dropbearmulti", ""),),
    configure=(
        "./configure",
        "--disable-harden",
        "--disable-zlib",
        "--enable-bundled-libtom",
        "--disable-lastlog",
        "--disable-utmp",
        "--disable-utmpx",
        "--disable-wtmp",
        "--disable-wtmpx",
        "--disable-loginfunc",
        "--disable-pututline",
        "--disable-pututxline",
    ),
    make=(("MULTI=1", "PROGRAMS=dropbear dropbearkey"),),
    libraries=("libsodium",),
    bundled=("libtomcrypt", "libtommath"),
    variables={"LIBS": "-lsodium"},
)

# compilers.py has the flags for the stack protector and linking. scp and sftp run the hook's ssh, which is in every
# container. configure cannot run programs of another architecture, so results are preset: musl's malloc(0) is not NULL,
# and configure adds OPENSSL_API_COMPAT itself only if it can run a program to get the library's version.
OPENSSH = Recipe(
    kept=(("ssh", ""), ("scp", ""), ("sftp", ""), ("sftp-server", "")),
    configure=(
        "./configure",
        "--with-openssl",
        "--without-openssl-header-check",
        "--without-zlib",
        "--without-pam",
        "--without-shadow",
        "--without-sandbox",
        "--disable-security-key",
        "--disable-pkcs11",
        "--without-stackprotect",
        "--without-pie",
        "--sysconfdir=/etc/ssh",
    ),
    make=(("ssh", "scp", "sftp", "sftp-server", "SSH_PROGRAM=/opt/oci-hooks/ssh/bin/ssh"),),
    libraries=("openssl",),
    variables={
        "CPPFLAGS": "-DOPENSSL_API_COMPAT=0x10100000L",
        "ac_cv_func_calloc_0_nonnull": "yes",
        "ac_cv_func_malloc_0_nonnull": "yes",
        "ac_cv_func_realloc_0_nonnull": "yes",
    },
)

# Otherwise its configure adds the weaker -fstack-protector.
LIBSODIUM = Recipe(
    kept=(
        ("src/libsodium/.libs/libsodium.a", "lib"),
        ("src/libsodium/include/sodium.h", "include"),
        ("src/libsodium/include/sodium/*.h", "include/sodium"),
    ),
    configure=(
        "./configure",
        "--disable-shared",
        "--enable-static",
        "--with-pic",
        "--disable-ssp",
        "--disable-pie",
        "--disable-dependency-tracking",
    ),
    make=(("-C", "src/libsodium"),),
)

# libcrypto with what OpenSSH uses. OpenSSH's Ed25519 comes from libcrypto, so ecx must stay on.
OPENSSL_OFF = (
    "shared module dso engine tests apps docs ssl tls dtls quic cms cmp ct ocsp ts srp srtp comp zlib legacy async aria"
    " bf camellia cast des dsa idea md4 mdc2 rc2 rc4 rc5 rmd160 seed siphash sm2 sm3 sm4 whirlpool blake2 ec2m gost"
    " ml-kem ml-dsa slh-dsa secure-memory sock http argon2 scrypt siv ocb rfc3779 ui-console err autoload-config uplink"
    " padlockeng afalgeng makedepend filenames"
)
OPENSSL = Recipe(
    kept=(("libcrypto.a", "lib"), ("include/openssl/*.h", "include/openssl")),
    configure=(
        "./Configure",
        *(f"no-{name}" for name in OPENSSL_OFF.split()),
        "enable-ec_nistp_64_gcc_128",  # the generic code for nistp384 and nistp521 leaks secrets through timing
        "--with-rand-seed=getrandom",
        # Below the hook's read-only mount, where no image can put a configuration.
        "--openssldir=/opt/oci-hooks/ssh/openssl",
    ),
    make=(("build_generated",), ("libcrypto.a",)),
    targets={
        "x86_64": "linux-x86_64",
        "aarch64": "linux-aarch64",
        "ppc64le": "linux-ppc64le",
        "riscv64": "linux64-riscv64",
    },
    left_out=("demos", "doc", "fuzz", "test"),  # three quarters of 130 MB
)

RECIPES = {"dropbear": DROPBEAR, "libsodium": LIBSODIUM, "openssh": OPENSSH, "openssl": OPENSSL}
PROGRAMS = ("dropbear", "openssh")  # recipes of programs; the others are of libraries
