"""Sites that the role deploys to or builds for on this machine, and how their programs are run."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import plays

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VERSION = "2026.94"
SBOM = "sbom.cdx.json"
PROGRAMS = ("dropbearmulti", "scp", "sftp", "sftp-server", "ssh")
NOTHING: Mapping[str, str] = MappingProxyType({})

DEPLOY = ({"hosts": "all:!builder", "gather_facts": False, "roles": ["ocihooks.ssh.dropbear"]},)
# A node whose name is an architecture says that it is one of these.
BUILD = [
    {
        "hosts": "all",
        "gather_subset": ["!all", "min"],
        "tasks": [
            {
                "name": "Pretend to be of the architecture that the node is named after",
                "ansible.builtin.set_fact": {
                    "pretended": {
                        "architecture": "{{ inventory_hostname if inventory_hostname in ['aarch64', 'ppc64le', "
                        "'riscv64'] else ansible_facts.architecture }}"
                    }
                },
            },
            {
                "name": "Build",
                "ansible.builtin.import_role": {"name": "ocihooks.ssh.dropbear", "tasks_from": "build"},
                "vars": {"dropbear__facts_variable": "pretended"},
            },
        ],
    }
]

ARCHIVE = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Archive",
                "ansible.builtin.import_role": {"name": "ocihooks.ssh.dropbear", "tasks_from": "archive"},
            }
        ],
    }
]


class Site:
    """A prefix on the nodes and a build directory, below one directory that is empty at first."""

    def __init__(self, directory: Path, settings: Path) -> None:
        self.directory = directory
        self.settings = settings
        self.prefix = directory / "prefix"
        self.build_dir = directory / "build"

    def command(
        self, *arguments: str, variables: Mapping[str, str] = NOTHING, hosts: str = "node", playbook: object = DEPLOY
    ) -> list[str]:
        """Return the command that runs a play; the variables are the role's, without `dropbear_`."""
        text = json.dumps(playbook)
        path = self.settings / f"{hashlib.sha256(text.encode()).hexdigest()}.yml"
        path.write_text(text)
        extra = {"prefix": str(self.prefix), "build_dir": str(self.build_dir), **variables}
        extra = {f"dropbear_{name}": value for name, value in extra.items()} | {
            "ansible_python_interpreter": sys.executable
        }
        return ["ansible-playbook", "-i", f"{hosts},", "-c", "local", "-e", json.dumps(extra), str(path), *arguments]

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.settings / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.settings / "collections"),
            "ANSIBLE_HOME": str(self.settings / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_PIPELINING": "true",
            "no_proxy": "127.0.0.1",
            **changes,
        }

    def start(self, command: list[str], environment: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def play(
        self,
        *arguments: str,
        variables: Mapping[str, str] = NOTHING,
        hosts: str = "node",
        playbook: object = DEPLOY,
        environment: Mapping[str, str] = NOTHING,
    ) -> plays.Play:
        command = self.command(*arguments, variables=variables, hosts=hosts, playbook=playbook)
        return outcome(self.start(command, environment))

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))

    def artefacts(self, program: str = "dropbearmulti", architecture: str = os.uname().machine) -> list[Path]:
        return sorted(self.build_dir.glob(f"artefacts/*-{architecture}-*/{program}"))

    def newest(self, name: str) -> Path:
        """Return the last build of a source for this machine: one from before its recipe changed may be there too."""
        builds = self.build_dir.glob(f"artefacts/{name}-*-{os.uname().machine}-*")
        return max(builds, key=lambda path: path.stat().st_mtime)

    def take_builds(self, other: Site, *names: str) -> None:
        """Have another site's builds of these sources: static libraries take most of the time."""
        store = self.build_dir / "artefacts"
        store.mkdir(parents=True)
        for name in names:
            build = other.newest(name)
            shutil.copytree(build, store / build.name)


def build_as_another(site: Site, playbook: object, variables: Mapping[str, str]) -> None:
    """Build what the site's build directory lacks as another user, who may read all, on another day."""
    site.build_dir.mkdir(exist_ok=True)
    program, seconds = site.directory / "make", site.directory / "seconds"
    # The build passes nothing on but PATH. So make itself goes to the other day, and all that it starts.
    program.write_text(f"""#!/bin/sh
export FAKETIME=+400d LD_PRELOAD='/usr/$LIB/faketime/libfaketime.so.1'
date +%s >>{seconds}
exec {shutil.which("make")} "$@"
""")
    program.chmod(0o755)
    run("chown", "-R", "65534:65534", site.directory)
    capabilities = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    # With the secure bit access(2) heeds the capability too.
    another = [
        "setpriv",
        "--securebits=+no_setuid_fixup",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        *capabilities,
    ]
    environment = {
        "ANSIBLE_HOME": str(site.directory / "ansible"),
        "ANSIBLE_REMOTE_TMP": str(site.directory / "tmp"),
        "HOME": str(site.directory),
        "PATH": f"{site.directory}:{os.environ['PATH']}",
    }
    succeeded(outcome(site.start([*another, *site.command(playbook=playbook, variables=variables)], environment)))
    assert all(int(line) > time.time() + 399 * 86400 for line in seconds.read_text().split())


def assert_equal_builds(site: Site, other: Site) -> None:
    """The files of each build that the first site has are those of the other site."""
    paths = [path for path in site.build_dir.glob("artefacts/**/*") if path.is_file()]
    assert {"dropbearmulti", SBOM} <= {path.name for path in paths}
    for path in paths:
        assert path.read_bytes() == (other.build_dir / path.relative_to(site.build_dir)).read_bytes(), path


def outcome(process: subprocess.Popen[str]) -> plays.Play:
    said, _errors = process.communicate()
    return plays.outcome(process.returncode, said)


def succeeded(play: plays.Play) -> plays.Play:
    assert play.status == 0, play.said
    return play


def run(*command: str | Path) -> str:
    """Return what a command prints, on both outputs; it must succeed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def alone(*command: str | Path) -> list[str]:
    """Return the lines that a command prints that runs by itself (see the program `alone`)."""
    done = subprocess.run([HERE / "alone", *command], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def copy_by_sftp(directory: Path, *emulator: str, sftp: Path, server: Path) -> None:
    """Have sftp bring a file to a server, which it starts itself, and back, all with one architecture's programs."""
    (directory / "a").write_bytes(os.urandom(300_000))
    (directory / "batch").write_text(f"put -p {directory}/a {directory}/b\nget {directory}/b {directory}/c\n")
    run(*emulator, sftp, "-D", shlex.join([*emulator, str(server)]), "-b", directory / "batch")
    assert (directory / "c").read_bytes() == (directory / "a").read_bytes()
    assert int((directory / "b").stat().st_mtime) == int((directory / "a").stat().st_mtime)


def check_under_emulation(site: Site, architecture: str, directory: Path) -> None:
    """Run the programs for another architecture, as a daemon, in a login and in copies, on this machine's kernel."""
    found = {name: site.artefacts(name, architecture) for name in PROGRAMS}
    programs = {name: paths[0] for name, paths in found.items()}
    emulator = shutil.which(f"qemu-{architecture}") or ""
    assert run(emulator, programs["dropbearmulti"], "dropbear", "-V") == f"Dropbear v{VERSION}\n"
    lines = alone(HERE / "login", programs["dropbearmulti"], programs["ssh"], emulator)
    assert lines == [f"root PATH={os.environ['PATH']}:/from/the/daemon", "status 7"]
    copy_by_sftp(directory, emulator, sftp=programs["sftp"], server=programs["sftp-server"])
