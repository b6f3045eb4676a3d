"""The targets in C, in place of the hook's Python: Dropbear's packets before a login, and files of our own.

packets is upstream's fuzzer-preauth_nomaths with our patches; table and parsers are in c/. All of them have libFuzzer
and AddressSanitizer, the latter two UndefinedBehaviorSanitizer too, and are built again if a source has changed.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/dropbear/files"
OWN = FILES / "src/dropbear"
HERE = ROOT / "tests/fuzz/c"
PACKETS = "fuzzer-preauth_nomaths"
ALONE = ("parsers", "table")
NAMES = tuple(f"c/{name}" for name in ("packets", *ALONE))
SANITIZERS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined")
# Small, so that an input reaches the bounds
LOCALOPTIONS = """\
#define MAX_UNAUTH_CLIENTS 12
#define MAX_UNAUTH_PROCESSES 8
#define UNAUTH_SHARE 2
#define BANNER_TIMEOUT 20
#define AUTH_TIMEOUT 60
#define DROPBEAR_LISTEN_BACKLOG 16
"""


def programs(cache: Path) -> Path:
    """Return the directory with a program for each name, below `cache`."""
    sources = sorted(path for top in (FILES, HERE, ROOT / "tests/role_dropbear") for path in top.rglob("*.[chp]*"))
    made = hashlib.sha256(b"\0".join(path.read_bytes() for path in [Path(__file__), *sources])).hexdigest()[:12]
    directory = cache / f"c-{made}"
    if not directory.is_dir():
        for old in cache.glob("c-*"):
            shutil.rmtree(old)
        scratch = cache / "c-new"
        scratch.mkdir(parents=True)
        (scratch / "c").mkdir()
        _build_alone(scratch)
        _build_packets(scratch)
        scratch.rename(directory)
    return directory


def _build_alone(directory: Path) -> None:
    headers = directory / "headers"  # in place of Dropbear's
    headers.mkdir()
    for name in ("includes", "dbutil", "session", "dbrandom", "chansession", "runopts"):
        (headers / f"{name}.h").touch()
    (headers / "localoptions.h").write_text(LOCALOPTIONS, encoding="ascii")
    for name in ALONE:
        options = [*SANITIZERS, "-fsanitize=fuzzer,address,undefined", f"-I{headers}", f"-I{OWN}"]
        _run(["clang", *options, "-o", directory / "c" / name, HERE / f"{name}.c"], directory)


def _build_packets(directory: Path) -> None:
    collection = directory / "ansible_collections/ocihooks/ssh"  # where the names of what c_files imports lead
    collection.parent.mkdir(parents=True)
    collection.symlink_to(ROOT)
    sys.path[:0] = [str(directory), str(ROOT / "tests/lint")]
    c_files = importlib.import_module("c_files")
    c_files.CACHE.mkdir(parents=True, exist_ok=True)
    (project,) = (project for project in c_files.PROJECTS if project.name == "dropbear")
    source = project.source()
    top = c_files.unpack.unpack(c_files.archive(project, source), source, directory)
    for path in OWN.iterdir():
        shutil.copy(path, top / "src")
    # By patch 02-limits the longest packet depends on the session, which upstream's mutator does not know
    mutator = top / "fuzz/fuzz-sshpacketmutator.c"
    mutator.write_text(mutator.read_text(encoding="utf-8").replace("RECV_MAX_PACKET_LEN", "35000"), encoding="utf-8")
    # libsodium takes random bytes when it begins
    common = top / "fuzz/fuzz-common.c"
    before, after = "crypto_init();", 'fuzz_seed("start", 5);'
    text = common.read_text(encoding="utf-8")
    common.write_text(text.replace(after, "", 1).replace(before, f"{after}\n\t{before}", 1), encoding="utf-8")
    # Upstream puts a header before each allocation where it fuzzes; libsodium's ciphers need 16 bytes of alignment
    malloc = top / "src/dbmalloc.c"
    text = malloc.read_text(encoding="utf-8")
    malloc.write_text(
        text.replace("struct dbmalloc_header {", "struct __attribute__((aligned(16))) dbmalloc_header {", 1)
    )
    flags = [*SANITIZERS, "-fsanitize=fuzzer-no-link,address"]
    variables = ["CC=clang", "CXX=clang++", f"CFLAGS={' '.join(flags)}", "LIBS=-lsodium"]
    _run(["env", *variables, *project.configure, "--enable-fuzz"], top)
    jobs = f"-j{os.cpu_count()}"
    # Upstream's copies of libraries, without sanitizers: these would take most of the time
    _run(["make", jobs, "libtomcrypt/libtomcrypt.a", "libtommath/libtommath.a", "CFLAGS=-O1"], top)
    _run(["make", jobs, PACKETS, "FUZZLIB=-fsanitize=fuzzer,address"], top)
    shutil.move(top / PACKETS, directory / "c/packets")
    shutil.rmtree(top)


def _run(command: Sequence[str | Path], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nfuzz: {command[0]} failed in {directory}")
