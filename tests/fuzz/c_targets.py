"""The targets in C, in place of the hook's Python: Dropbear's packets before a login, and files of our own.

c/packets.c takes the place of upstream's fuzzer-preauth_nomaths; c/table.c and c/parsers.c include files of ours. All
of them have libFuzzer and AddressSanitizer, the latter two UndefinedBehaviorSanitizer too. They are built again if a
source has changed, and once more with FAULTS, so that test_planted.py sees that fuzzing reaches these places.
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
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/dropbear/files"
OWN = FILES / "src/dropbear"
HERE = ROOT / "tests/fuzz/c"
PACKETS = "fuzzer-preauth_nomaths"
ALONE = ("parsers", "table")
NAMES = tuple(f"c/{name}" for name in ("packets", *ALONE))
SANITIZERS = ("-O1", "-gline-tables-only", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined")
# Small, so that an input reaches the bounds
LOCALOPTIONS = """\
#define MAX_UNAUTH_CLIENTS 12
#define MAX_UNAUTH_PROCESSES 8
#define UNAUTH_SHARE 2
#define BANNER_TIMEOUT 20
#define AUTH_TIMEOUT 60
#define DROPBEAR_LISTEN_BACKLOG 16
"""
PREAUTH_LIMIT = "#define MAX_PREAUTH_PACKETS 24\n"
# What is different where Dropbear is fuzzed: file, old text, new text
ADAPTED = (
    # libsodium reads random bytes when it starts
    (
        "fuzz/fuzz-common.c",
        '    crypto_init();\n    fuzz_seed("start", 5);',
        '    fuzz_seed("start", 5);\n    crypto_init();',
    ),
    # A header precedes each allocation; libsodium's ciphers need an alignment of 16 bytes
    ("src/dbmalloc.c", "struct dbmalloc_header {", "struct __attribute__((aligned(16))) dbmalloc_header {"),
)


class Fault(NamedTuple):
    """A fault that fuzzing has to find.

    Attributes:
        target: whose fuzzing finds it
        name: of the test
        file: in Dropbear's `src`
        old, new: C; PLANTED in `new` is 1 in a process that has this fault, else 0
    """

    target: str
    name: str
    file: str
    old: str
    new: str


FAULTS = (
    Fault(
        "c/packets",
        "userauth",
        "svr-auth.c",
        "servicename = buf_getstring(ses.payload, &servicelen);",
        'if (PLANTED && strcmp(username, "root") && strcmp(username, "other")) abort(); '
        "servicename = buf_getstring(ses.payload, &servicelen);",
    ),
    Fault(
        "c/packets",
        "public_key",
        "svr-authpubkey.c",
        "keybloblen = buf_getint(ses.payload);",
        'if (PLANTED && strcmp(sigalgo, "ssh-ed25519")) abort(); keybloblen = buf_getint(ses.payload);',
    ),
    Fault(
        "c/packets",
        "number_of_packets",
        "process-packet.c",
        "++ses.preauth_packets > MAX_PREAUTH_PACKETS)",
        "++ses.preauth_packets > MAX_PREAUTH_PACKETS + PLANTED)",
    ),
    Fault(
        "c/table",
        "late",
        "svr-preauth.c",
        "\tcount(conn, -1);\n\tconn->state = state;",
        "\tif (PLANTED) conn->is_late = 0;\n\tcount(conn, -1);\n\tconn->state = state;",
    ),
    Fault(
        "c/table",
        "processes",
        "svr-preauth.c",
        "num_processes + kept >= max_processes)",
        "num_processes + kept >= max_processes + PLANTED)",
    ),
    Fault("c/parsers", "gate", "svr-gate.c", "(given != 2 && given != 6)", "(given != 2 && given != 6 && !PLANTED)"),
    Fault("c/parsers", "door", "svr-door.c", "|| door < 0)", "|| (door < 0 && !PLANTED))"),
    Fault("c/parsers", "logins", "svr-logins.c", "|| log_socket < 0", "|| (log_socket < 0 && !PLANTED)"),
    Fault("c/parsers", "environment", "svr-environment.c", "|| used == 0", "|| (used == 0 && !PLANTED)"),
    Fault(
        "c/parsers",
        "stat",
        "svr-environment.c",
        "read(fd, buf, sizeof(buf) - 1)",
        "read(fd, buf, sizeof(buf) - !PLANTED)",
    ),
    Fault("c/parsers", "mountinfo", "svr-gate.c", "&line[path], ", "&line[path + 4096 * PLANTED], "),
    Fault("c/parsers", "log_text", "svr-logins.c", "if (fields == NULL ||", "if ((fields == NULL && !PLANTED) ||"),
    Fault("c/parsers", "quotes", "svr-environment.c", "if (*value == '\\'')", "if (*value == '\\'' && !PLANTED)"),
)


def programs(cache: Path) -> Path:
    """Return the directory with a program for each name, below `cache`; those with FAULTS are in its `planted`."""
    sources = sorted(path for top in (FILES, HERE, ROOT / "tests/role_dropbear") for path in top.rglob("*.[chp]*"))
    made = hashlib.sha256(b"\0".join(path.read_bytes() for path in [Path(__file__), *sources])).hexdigest()[:12]
    directory = cache / f"c-{made}"
    if not directory.is_dir():
        for old in cache.glob("c-*"):
            shutil.rmtree(old)
        scratch = cache / "c-new"
        (scratch / "c").mkdir(parents=True)
        (scratch / "planted/c").mkdir(parents=True)
        _build_alone(scratch)
        _build_packets(scratch)
        scratch.rename(directory)
    return directory


def _plant(directory: Path, targets: Sequence[str]) -> None:
    """Put the faults of these targets into the files in `directory`: the environment's FAULT has the number of one."""
    for number, fault in enumerate(FAULTS):
        if fault.target in targets:
            planted = f'(getenv("FAULT") != NULL && atoi(getenv("FAULT")) == {number})'
            _replace(directory / fault.file, fault.old, fault.new.replace("PLANTED", planted))


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise SystemExit(f"fuzz: {path} has {text.count(old)} times, not once, {old!r}: change it in {__file__}")
    path.write_text(text.replace(old, new), encoding="utf-8")


def _build_alone(directory: Path) -> None:
    headers = directory / "headers"  # in place of Dropbear's
    headers.mkdir()
    for name in ("includes", "dbutil", "session", "dbrandom", "chansession", "runopts"):
        (headers / f"{name}.h").touch()
    (headers / "localoptions.h").write_text(LOCALOPTIONS, encoding="ascii")
    planted = directory / "planted"
    shutil.copytree(OWN, planted / "src")
    _plant(planted / "src", [f"c/{name}" for name in ALONE])
    options = [*SANITIZERS, "-fsanitize=fuzzer,address,undefined", f"-I{headers}"]
    for name in ALONE:
        for own, program in ((OWN, directory / "c" / name), (planted / "src", planted / "c" / name)):
            _run(["clang", *options, f"-I{own}", "-o", program, HERE / f"{name}.c"], directory)


def _build_packets(directory: Path) -> None:
    collection = directory / "ansible_collections/ocihooks/ssh"  # where the names of what c_files imports lead
    collection.parent.mkdir(parents=True)
    collection.symlink_to(ROOT)
    sys.path[:0] = [str(directory), str(ROOT / "tests/lint")]
    c_files = importlib.import_module("c_files")
    c_files.CACHE.mkdir(parents=True, exist_ok=True)
    (project,) = (project for project in c_files.PROJECTS if project.name == "dropbear")
    source = project.source()
    unpacked = directory / "unpacked"
    unpacked.mkdir()
    top = c_files.unpack.unpack(c_files.archive(project, source), source, unpacked)
    for path in OWN.iterdir():
        shutil.copy(path, top / "src")
    for name, old, new in ADAPTED:
        _replace(top / name, old, new)
    with (top / "localoptions.h").open("a", encoding="ascii") as options:
        options.write(PREAUTH_LIMIT)
    shutil.copy(HERE / "packets.c", top / f"fuzz/{PACKETS}.c")
    (top / "fuzz/fuzz-sshpacketmutator.c").write_text("", encoding="ascii")
    flags = [*SANITIZERS, "-fsanitize=fuzzer-no-link,address"]
    variables = ["CC=clang", "CXX=clang++", f"CFLAGS={' '.join(flags)}", "LIBS=-lsodium"]
    _run(["env", *variables, *project.configure, "--enable-fuzz"], top)
    jobs = f"-j{os.cpu_count()}"
    # Upstream's copies of libraries, without sanitizers: these would take most of the time
    bundled = ["libtomcrypt/libtomcrypt.a", "libtommath/libtommath.a"]
    _run(["make", jobs, *bundled, "CFLAGS=-O0 -I.. -I../src -DLOCALOPTIONS_H_EXISTS"], top)
    build = ["make", jobs, PACKETS, "FUZZLIB=-fsanitize=fuzzer,address"]
    _run(build, top)
    shutil.move(top / PACKETS, directory / "c/packets")
    _plant(top / "src", ["c/packets"])
    _run(build, top)
    shutil.move(top / PACKETS, directory / "planted/c/packets")
    shutil.rmtree(unpacked)


def _run(command: Sequence[str | Path], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nfuzz: {command[0]} failed in {directory}")
