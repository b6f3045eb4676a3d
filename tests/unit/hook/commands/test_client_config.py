from __future__ import annotations

import errno
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ssh_hook.cli import main
from ssh_hook.commands import client_config as module
from ssh_hook.commands import connect, doctor, keygen
from ssh_hook.commands.client_config import config
from ssh_hook.dispatch import parse
from ssh_hook.errors import HookError
from ssh_hook.keys import formats, store, writer
from ssh_hook.keys.errors import KeyStoreError, MissingKeysError
from ssh_hook.schedulers.host_notation import selected_hosts
from ssh_hook.schedulers.jobs import selected_port
from ssh_hook.schedulers.nodes import SSH, launcher

FILES = {"id_container", "known_hosts", "config"}

BY_COMMAND = {  # the arguments of ssh_hook by which these names lead to containers
    "job1234": "connect --job",
    "node002.job98": "connect --job",
    "node002.container": "connect",
}


def client_config(words: list[str], settings: dict[str, str]) -> str:
    """Return what `ssh_hook client-config` prints with these arguments."""
    _command, arguments = parse("client-config", words)
    names = selected_hosts(arguments, settings) if words else []
    return module.client_config(names, selected_port(arguments, settings), settings, arguments.jump)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Return the settings of a site where the caller is called alice, and has no keys."""
    (tmp_path / "home" / "alice").mkdir(parents=True, mode=0o755)
    (tmp_path / "passwd").write_text(f"alice:x:{os.getuid()}:100::/elsewhere:/bin/sh\n")
    home, passwd = str(tmp_path / "home"), str(tmp_path / "passwd")
    return {"HOOK_BASE_DIR": home, "PASSWD_FILE": passwd, "SERVER_PORT_DEFAULT": "15263"}


@pytest.fixture
def client(settings: dict[str, str]) -> Path:
    """Return the client's directory of a user who has keys, and no such directory yet."""
    keygen.keygen(settings)
    return Path(settings["HOOK_BASE_DIR"], "alice", ".oci-hooks/ssh/client")


def loaded(settings: dict[str, str]) -> store.KeySet:
    return store.load(store.key_directory(settings["HOOK_BASE_DIR"], "alice"), "alice")


def ssh_reads(file: Path, host: str) -> dict[str, str]:
    """Return what OpenSSH's client makes of the configuration in `file`."""
    done = subprocess.run(["ssh", "-T", "-G", "-F", file, host], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def known_by(file: Path, name: str) -> list[str]:
    """Return the host keys that OpenSSH finds for this name in a known_hosts file."""
    found = subprocess.run(["ssh-keygen", "-F", name, "-f", file], capture_output=True, text=True, check=False)
    assert found.stderr == ""
    return [line.split(" ", 1)[1] for line in found.stdout.splitlines() if not line.startswith("#")]


def identities(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Return what changes when a file is written or replaced."""
    found = [directory, *directory.iterdir()]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_mode) for path in found}


def test_three_files_for_the_user_alone(settings: dict[str, str], client: Path) -> None:
    old_mask = os.umask(0)
    try:
        told = client_config(["node1"], settings)
        assert os.umask(0) == 0
    finally:
        os.umask(old_mask)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in client.iterdir()} == dict.fromkeys(FILES, 0o600)
    assert stat.S_IMODE(client.stat().st_mode) == 0o700
    assert told.splitlines()[1] == f"Include {client}/config"
    assert told.splitlines()[-1] == "Or directly: ssh container-node1"
    keys = loaded(settings)
    assert (client / "id_container").read_bytes() == formats.openssh_private_key(keys.id_dropbear, "alice@ocihooks")
    public = store.host_public_keys(keys)
    assert [key.split()[0] for key in public] == ["ssh-ed25519", "ecdsa-sha2-nistp256"]
    assert known_by(client / "known_hosts", "oci-hooks") == public
    for name in ("node1", *BY_COMMAND):  # some clients know no aliases
        assert known_by(client / "known_hosts", f"[{name}]:15263") == public
    assert known_by(client / "known_hosts", "[node2]:15263") == []
    client_config(["node1", "--port", "22"], settings)
    for name in ("node1", *BY_COMMAND):
        assert known_by(client / "known_hosts", name) == public


@pytest.mark.parametrize("key_type", ["ed25519", "ecdsa"])
def test_new_keys_are_those_of_the_files_too(settings: dict[str, str], client: Path, key_type: str) -> None:
    """As another run of the command with the same hosts and port would write them."""
    words = ["--port", "2222", "node1", "node2"]
    client_config(words, settings)
    before = {name: (client / name).read_bytes() for name in FILES}
    keygen.keygen({**settings, "SSH_KEY_TYPE": key_type}, overwrite=True)
    renewed = {name: (client / name).read_bytes() for name in FILES}
    assert [name for name in FILES if renewed[name] == before[name]] == (["config"] if key_type == "ed25519" else [])
    client_config(words, settings)
    assert {name: (client / name).read_bytes() for name in FILES} == renewed
    assert doctor._check_keys(settings)[0] == "ok"
    (client / "id_container").write_bytes(before["id_container"])
    warning = f"{client}/id_container is not your current key: run 'ssh_hook client-config' again, for the same hosts"
    assert doctor._check_keys(settings) == ("warning", warning)


def test_new_keys_make_no_files_for_who_has_none(settings: dict[str, str], client: Path) -> None:
    keygen.keygen(settings, overwrite=True)
    assert not client.exists()
    client.mkdir(mode=0o700)
    (client / "id_container").symlink_to("/etc/passwd")
    keygen.keygen(settings, overwrite=True)
    assert [path.name for path in client.iterdir()] == ["id_container"]
    assert doctor._check_keys(settings)[0] == "ok"


def test_files_that_stay_old_are_an_error(
    settings: dict[str, str], client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_config(["node1"], settings)

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, "_write_client_file", full)
    with pytest.raises(KeyStoreError, match=r"has the old ones \(No space left on device\): run 'ssh_hook client-"):
        keygen.keygen(settings, overwrite=True)
    assert doctor._check_keys(settings)[0] == "warning"


def test_a_set_with_one_host_key(settings: dict[str, str], client: Path) -> None:
    keygen.keygen({**settings, "SSH_KEY_TYPE": "ecdsa"}, overwrite=True)
    client_config(["node1"], settings)
    (public,) = store.host_public_keys(loaded(settings))
    assert public.startswith("ecdsa-sha2-nistp256 ")
    assert known_by(client / "known_hosts", "[node1]:15263") == [public]
    assert ssh_reads(client / "config", "container-node1")["hostkeyalgorithms"] == "ecdsa-sha2-nistp256"


def test_what_ssh_makes_of_it(settings: dict[str, str], client: Path) -> None:
    client_config(["node1", "gpu[01-02]", "fd00::1"], settings)
    for host in ("node1", "gpu01", "gpu02", "fd00::1"):
        read = ssh_reads(client / "config", f"container-{host}")
        expected = {
            "hostname": host,
            "port": "15263",
            "user": "alice",
            "identityfile": f"{client}/id_container",
            "identitiesonly": "yes",
            "hostkeyalias": "oci-hooks",
            "hostkeyalgorithms": "ssh-ed25519,ecdsa-sha2-nistp256",
            "userknownhostsfile": f"{client}/known_hosts",
            "globalknownhostsfile": "/dev/null",
            "stricthostkeychecking": "true",
            "forwardx11": "no",
            "updatehostkeys": "false",
        }
        assert {name: read[name] for name in expected} == expected
    assert ssh_reads(client / "config", "node1")["port"] == "22", "the host itself is reached as ever"


def test_addresses_stand_for_themselves(settings: dict[str, str], client: Path) -> None:
    """As of programs that resolve names themselves, such as `ray up`."""
    client_config(["node1", "10.77.1.2", "fd00::1", "--jump", LOGIN], settings)
    for host in ("10.77.1.2", "fd00::1"):
        read = ssh_reads(client / "config", host)
        assert (read["hostname"], read["port"], read["hostkeyalias"]) == (host, "15263", "oci-hooks")
        assert read["identityfile"] == f"{client}/id_container"
    assert ssh_reads(client / "config", "10.77.1.3")["port"] == "22"


def test_jobs_and_nodes_by_the_nodes_own_sshd(settings: dict[str, str], client: Path) -> None:
    """No host has to be named for them, and no other host is taken for one."""
    assert "directly" not in client_config([], settings)
    for alias, command in (
        ("job1234", "connect --job '%h'"),
        ("node002.job98", "connect --job '%h'"),
        ("node002.container", "connect '%h'"),
    ):
        read = ssh_reads(client / "config", alias)
        assert read["proxycommand"] == f"{launcher()} {command}"
        assert (read["user"], read["hostkeyalias"]) == ("alice", "oci-hooks")
        assert (read["stricthostkeychecking"], read["identityfile"]) == ("true", f"{client}/id_container")
    # Before OpenSSH 9.6 a name with shell characters came from a stranger's URL into the shell that runs the command.
    entries = re.split("^(?:Host|Match) ", (client / "config").read_text(), flags=re.MULTILINE)
    assert ["!*'*\"" in entry.splitlines()[0] for entry in entries if "ProxyCommand" in entry] == [True] * 3
    for other in ("jobs", "job", "job0", "node.jobs", "container", "container.example.org"):
        assert "proxycommand" not in ssh_reads(client / "config", other)


LOGIN = "alice@login.example.org"


def proxy_command(command: str) -> str:
    """Return the command by which a laptop has the login node run this command of ssh_hook."""
    return f'"ssh" {" ".join(SSH[1:])} -- {LOGIN} {launcher()} {command} ' + r"\''%h'\'"


def test_on_a_laptop_all_goes_by_the_jump_host(settings: dict[str, str], client: Path, tmp_path: Path) -> None:
    told = client_config(["node1", "--jump", LOGIN], settings).splitlines()
    assert told[-3] == f"mkdir -p {client.parent} && scp -pr {LOGIN}:{client} {client.parent}/"
    assert told[-1] == f"Include {client}/laptop"
    own = tmp_path / "own"
    own.write_text(f"{told[-1]}\nUser zoe\n")
    for alias, command in BY_COMMAND.items():
        read = ssh_reads(own, alias)
        assert (read["proxycommand"], read["user"]) == (proxy_command(command), "alice")
        assert read["hostkeyalias"] == "oci-hooks"
        assert (read["stricthostkeychecking"], read["identityfile"]) == ("true", f"{client}/id_container")
    read = ssh_reads(own, "container-node1")
    assert (read["proxyjump"], read["hostname"], read["port"]) == (LOGIN, "node1", "15263")
    for other in ("login.example.org", "jobs.example.org", "node1"):
        read = ssh_reads(own, other)
        assert ("proxycommand" in read, "proxyjump" in read, read["user"]) == (False, False, "zoe")
    # Without a jump host the file is left as it is: it names no key.
    before = (client / "laptop").stat().st_ino
    assert client_config(["node1"], settings).endswith("Or directly: ssh container-node1")
    assert (client / "laptop").stat().st_ino == before


def laptop_lines(words: list[str], settings: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `ssh_hook client-config` prints with these arguments."""
    _command, arguments = parse("client-config", words)
    assert module.run(arguments, settings) == 0
    return capsys.readouterr().out


def test_lines_for_a_laptop_need_no_file_and_no_key(
    settings: dict[str, str], client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "config"
    # Also in a job, whose hosts are not asked for.
    lines = laptop_lines(["--jump", LOGIN], {**settings, "SLURM_JOB_NODELIST": "node[001-002]"}, capsys)
    own.write_text(f"{lines}User zoe\nUserKnownHostsFile ~/.ssh/mine\n")  # for all hosts, though they come after them
    assert not client.exists()
    for alias, command in BY_COMMAND.items():
        read = ssh_reads(own, alias)
        assert (read["proxycommand"], read["user"]) == (proxy_command(command), "alice")
        assert (read["hostkeyalias"], read["hostkeyalgorithms"]) == ("oci-hooks", "ssh-ed25519,ecdsa-sha2-nistp256")
        assert (read["stricthostkeychecking"], read["updatehostkeys"]) == ("true", "false")
        assert read["userknownhostsfile"] == str(Path("~/.ssh/config").expanduser())
        assert read["globalknownhostsfile"] == "/dev/null"
    for other in ("login.example.org", "node002", "host", "oci-hooks", "ssh-ed25519"):
        assert (ssh_reads(own, other)["user"], "proxycommand" in ssh_reads(own, other)) == ("zoe", False)
        assert ssh_reads(own, other)["userknownhostsfile"] == str(Path("~/.ssh/mine").expanduser())


def test_by_steps_of_jobs_sessions_share_a_connection(
    settings: dict[str, str], client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is a step, and so work for Slurm."""
    own = tmp_path / "config"
    own.write_text(
        laptop_lines(["--jump", LOGIN, "--via", "srun"], settings, capsys)
        + "Host *\n    User zoe\n    ControlPersist 60\n"
    )
    laptop_lines(["--keys", "--jump", LOGIN, "--via", "srun"], settings, capsys)
    for file in (own, client / "config", client / "laptop"):
        for alias in ("job1234", "node002.job98"):
            read = ssh_reads(file, alias)
            assert " connect --via srun --job " in read["proxycommand"]
            # With ControlPersist what the step says would go to /dev/null.
            assert (read["controlmaster"], read["controlpersist"], read["user"]) == ("auto", "no", "alice")
            assert read["controlpath"].startswith(str(Path("~/.ssh/oci-hooks-").expanduser()))
        read = ssh_reads(file, "node002.container")
        assert "srun" not in read["proxycommand"]
        assert "controlpath" not in ssh_reads(file, "login.example.org")
    plain = tmp_path / "plain"
    plain.write_text(laptop_lines(["--jump", LOGIN], settings, capsys))
    assert "controlpath" not in ssh_reads(plain, "job1234")


def test_what_ssh_hook_says_is_seen(
    settings: dict[str, str], client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a connection that others may share, and whatever the user has in store for those."""
    real = shutil.which("ssh")
    assert real is not None
    (tmp_path / "ssh").write_text("#!/bin/sh\necho 'ssh_hook: error: job 1234 has no node yet' >&2\n")
    (tmp_path / "ssh").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SHELL": "/bin/sh"}
    own = tmp_path / "config"
    for way in ("ssh", "srun"):
        lines = laptop_lines(["--jump", LOGIN, "--via", way], settings, capsys)
        own.write_text(lines + "Host *\n    ControlPersist 60\n")
        done = subprocess.run(
            [real, "-F", own, "job1234", "true"], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (255, "")
        assert done.stderr.startswith("ssh_hook: error: job 1234 has no node yet\n")


def test_the_lines_are_the_known_hosts_too(
    settings: dict[str, str], client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For the alias, and for names of containers: sshj, which is in JetBrains' IDEs, knows no aliases."""
    own = tmp_path / "config"
    lines = laptop_lines(["--jump", LOGIN], settings, capsys)
    own.write_text(lines + "Host other\n    User zoe\n")
    public = store.host_public_keys(loaded(settings))
    for name in ("oci-hooks", *BY_COMMAND):
        assert known_by(own, name) == public
    for other in ("login.example.org", "node002", "jobs.example.org", "other"):
        assert known_by(own, other) == []
    # sshj compares the host's name, in small letters, with what is in the file.
    names = [line.split()[0] for line in lines.splitlines() if line.endswith(tuple(public))]
    assert [name.removeprefix("Host=") for name in names] == [names[0].removeprefix("Host=").lower()] * len(public)


def test_the_guides_command_renews_the_lines(
    settings: dict[str, str], client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is between the two marks is all that is ours: sed removes it."""
    guide = (Path(__file__).resolve().parents[4] / "docs/start-here.md").read_text()
    script = guide.partition("  sed '")[2].partition("'")[0]
    own = "Host other\n    User zoe\n"
    for way in ("ssh", "srun"):
        lines = laptop_lines(["--jump", LOGIN, "--via", way], settings, capsys)
        done = subprocess.run(["sed", script], input=lines + own, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout == own


def test_hosts_by_their_ports_take_a_key(settings: dict[str, str], client: Path) -> None:
    _command, arguments = parse("client-config", ["--jump", LOGIN, "node1"])
    with pytest.raises(HookError, match=r"^connecting directly to hosts needs .*: add --keys$"):
        module.run(arguments, settings)


def test_the_users_own_entries_do_not_change_the_name(
    settings: dict[str, str], client: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which `ssh_hook connect` is given as %h: before OpenSSH 8.1 a ProxyCommand has no %n."""
    own = tmp_path / "config"
    told = [
        laptop_lines(["--jump", LOGIN], settings, capsys),
        laptop_lines([], settings, capsys).splitlines()[1] + "\n",
    ]
    for lines in told:
        own.write_text(lines + "Host *\n    HostName %h.example.org\n    CanonicalizeHostname always\n")
        for alias in ("job1234", "node002.job98", "node002.container"):
            read = ssh_reads(own, alias)
            assert (read["hostname"], read["canonicalizehostname"]) == (alias, "false")
            assert "%h" in read["proxycommand"]
            assert "%n" not in read["proxycommand"]
        assert ssh_reads(own, "login")["hostname"] == "login.example.org"


# Names of hosts, and what `ssh_hook connect` has got of them from Windows' ssh: Microsoft's 8.6p1, under Wine 10.0.
BY_WINDOWS = {
    "job1234": "job1234",
    "job1 two  three": "job1 two three",
    'job1"x': "job1x",
    "job1\\": "job1\\",
    'job1\\\\"y': "job1\\y",
    "job1&calc.exe": "job1&calc.exe",
    "job1%USERNAME%": "job1%USERNAME%",
    'job1$(id)`id`";id;"\\': "job1$(id)`id`;id;\\",
}


def windows_runs(command: str) -> list[str]:
    """Return the arguments of the program in quotes that this ProxyCommand begins with, as Windows' ssh runs it.

    That has no fork and no shell. It hands the command to CreateProcess, and the C runtime of the program splits the
    rest. This is made from its source and Microsoft's documents.
    """
    found = re.fullmatch(r'"([^"\\/ ]+)" (.*)', command)
    assert found is not None, "Windows would have to guess where the program's name ends"
    arguments, in_quotes = [found.group(1), ""], False
    for part in re.findall(r'\\*"|\\+|[ \t]+|[^\\" \t]+', found.group(2)):
        if part.endswith('"'):
            arguments[-1] += "\\" * (len(part) // 2) if len(part) % 2 else "\\" * (len(part) // 2 - 1) + '"'
            in_quotes ^= len(part) % 2 == 1
        elif part.isspace() and not in_quotes:
            arguments.append("")
        else:
            arguments[-1] += part
    return arguments


def test_how_windows_splits() -> None:
    """The examples of Microsoft's documents, and what a host's name of ours becomes."""
    for text, words in (
        ('"a b c" d e', ["a b c", "d", "e"]),
        (r'"ab\"c" "\\" d', ['ab"c', "\\", "d"]),
        (r'a\\\b d"e f"g h', ["a\\\\\\b", "de fg", "h"]),
        (r"a\\\"b c d", ['a\\"b', "c", "d"]),
        (r"x \''job1'\'", ["x", r"\''job1'\'"]),
    ):
        assert windows_runs(f'"ssh" {text}') == ["ssh", *words]


def test_neither_shell_expands_a_hosts_name(settings: dict[str, str], client: Path, tmp_path: Path) -> None:
    """Before OpenSSH 9.6 a stranger's URL could name any host."""
    client_config(["node1", "--jump", LOGIN], settings)
    lines = (client / "laptop").read_text().splitlines()
    commands = [line.split("ProxyCommand ")[1] for line in lines if "ProxyCommand " in line]
    # Prints what the login node's shell makes of the command.
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nshift {len(SSH) + 1}\neval "set -- $*"\nprintf "%s\\n" "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for command, words in zip(commands, (["connect", "--job"], ["connect"])):
        for host, by_windows in BY_WINDOWS.items():
            by_shell = ["sh", "-c", command.replace("%h", host)]
            by_none = windows_runs(command.replace("%h", host))
            for here in (by_shell, by_none):
                there = subprocess.run(here, env=environment, capture_output=True, text=True, check=True)
                *before, name = there.stdout.splitlines()
                assert (before, there.stderr) == ([launcher(), *words], "")
                assert connect._unquoted(name) == (host if here is by_shell else by_windows)


@pytest.mark.parametrize(
    "path", ["/a b", "/a;id", "/a&b", "/a|b", "/a<b", "/a>b", "/a(b", "/a`id`", "/a\nb", "/a~", "/ä"]
)
def test_a_path_of_the_program_that_a_shell_reads_otherwise(
    settings: dict[str, str], client: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{path}/ssh_hook"])
    for call in (lambda: client_config([], settings), lambda: module.laptop_lines(LOGIN, settings)):
        with pytest.raises(HookError, match=r"^ssh's configuration cannot contain the path /.*: ask the administrator"):
            call()


@pytest.mark.parametrize(
    "jump",
    ["", "-oProxyCommand=x", "-F@host", "a b", "a;id", "a@b@c", "$(id)", "a\nUser x", "fd00::1", "ä@host", "host٣"],
)
def test_jump_hosts_that_are_none(settings: dict[str, str], client: Path, jump: str) -> None:
    for call in (
        lambda: client_config(["node1", f"--jump={jump}"], settings),
        lambda: module.laptop_lines(jump, settings),
    ):
        with pytest.raises(HookError, match=r"^--jump is '.*': give the name of a login node, or USER@NAME$"):
            call()
    assert not client.exists()


def test_included_it_leaves_the_rest_as_it_is(settings: dict[str, str], client: Path, tmp_path: Path) -> None:
    include = client_config(["node1"], settings).splitlines()[1]
    own = tmp_path / "own"
    own.write_text(f"{include}\nUser zoe\nPort 2222\nHost other\n    User bob\n")
    assert ssh_reads(own, "elsewhere")["user"] == "zoe"
    assert ssh_reads(own, "elsewhere")["port"] == "2222"
    assert ssh_reads(own, "container-node1")["user"] == "alice"
    assert ssh_reads(own, "container-node1")["port"] == "15263"


def test_hosts_of_others_are_left_alone(settings: dict[str, str], client: Path) -> None:
    """Also those with names like our aliases, with many hosts of ours and with a jump host before them."""
    client_config(["node[001-120]", "--jump", LOGIN], settings)
    for file in ("config", "laptop"):
        assert ssh_reads(client / file, "container-node120")["hostkeyalias"] == "oci-hooks"
        other = ssh_reads(client / file, "container-registry.example.org")
        assert (other["port"], "hostkeyalias" in other, "proxyjump" in other) == ("22", False, False)
    assert ssh_reads(client / "laptop", "container-node120")["proxyjump"] == LOGIN
    client_config([], settings)
    assert ssh_reads(client / "config", "container-node1")["port"] == "22"


@pytest.mark.parametrize("jump", ["job1.example.org", "alice@login.job1", "node.container"])
def test_a_jump_host_with_a_containers_name_is_refused(settings: dict[str, str], client: Path, jump: str) -> None:
    for call in (
        lambda: client_config(["node1", "--jump", jump], settings),
        lambda: module.laptop_lines(jump, settings),
    ):
        with pytest.raises(
            HookError, match=f"^--jump is '{jump}', and ssh takes such a name for a container: give another"
        ):
            call()
    assert not client.exists()


def test_port_and_hosts_of_the_last_run_count(settings: dict[str, str], client: Path) -> None:
    client_config(["node1", "--port", "16000"], settings)
    assert ssh_reads(client / "config", "container-node1")["port"] == "16000"
    assert client_config(["node[2-4]"], settings).endswith("Or directly: ssh container-node2, and 2 more hosts")
    assert ssh_reads(client / "config", "container-node1")["hostname"] == "container-node1"
    assert ssh_reads(client / "config", "container-node2")["port"] == "15263"


def test_once_more_changes_nothing(settings: dict[str, str], client: Path) -> None:
    told = client_config(["node1"], settings)
    before = identities(client)
    assert client_config(["node1"], settings) == told
    assert identities(client) == before


def test_after_new_keys_it_has_those(settings: dict[str, str], client: Path) -> None:
    client_config(["node1"], settings)
    keygen.keygen(settings, overwrite=True)
    client_config(["node1"], settings)
    keys = loaded(settings)
    assert (client / "id_container").read_bytes() == formats.openssh_private_key(keys.id_dropbear, "alice@ocihooks")
    assert all(key in (client / "known_hosts").read_text() for key in store.host_public_keys(keys))


def test_without_keys_it_says_how_to_make_them(settings: dict[str, str]) -> None:
    with pytest.raises(MissingKeysError, match=r"^alice has no SSH keys in .*: run 'ssh_hook keygen'$"):
        client_config(["node1"], settings)
    assert os.listdir(Path(settings["HOOK_BASE_DIR"], "alice")) == []


def test_nothing_is_written_for_a_bad_host(settings: dict[str, str], client: Path) -> None:
    for host in ("-oProxyCommand=x", "a\nProxyCommand x", "gpu*", "a b"):
        with pytest.raises(HookError, match="the command line has"):
            client_config(["node1", "--", host], settings)
    assert not client.exists()


def test_no_secret_is_told(settings: dict[str, str], client: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["client-config", "node1"], settings) == 0
    out, err = capfd.readouterr()
    assert err == ""
    secrets = (client / "id_container").read_text().splitlines()[1:-1]
    assert not [line for line in secrets if line in out]
    assert "PRIVATE" not in out


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("kind", ["link", "open to all", "other content", "fifo", "left over"])
def test_whatever_is_in_its_place_is_replaced(settings: dict[str, str], client: Path, name: str, kind: str) -> None:
    client_config(["node1"], settings)
    path = client / name
    right = path.read_bytes()
    victim = client.parent / "victim"
    victim.write_bytes(right)
    if kind == "open to all":
        path.chmod(0o644)
    elif kind == "other content":
        path.write_bytes(right[:-1] + b"x")
    elif kind == "left over":
        path.unlink()
        (client / f".{name}.new").write_bytes(b"half")
    else:
        path.unlink()
        path.symlink_to(victim) if kind == "link" else os.mkfifo(path, 0o600)
    client_config(["node1"], settings)
    status = path.lstat()
    assert status.st_mode == stat.S_IFREG | 0o600
    assert path.read_bytes() == right
    assert victim.read_bytes() == right
    assert {entry.name for entry in client.iterdir()} == FILES


def test_a_link_in_the_place_of_the_directory_is_refused(settings: dict[str, str], client: Path) -> None:
    victim = client.parent / "victim"
    victim.mkdir()
    client.symlink_to(victim)
    with pytest.raises(KeyStoreError, match="/client must be a directory, but is a file or a link"):
        client_config(["node1"], settings)
    assert not list(victim.iterdir())


def test_a_directory_in_the_place_of_a_file_is_an_error(settings: dict[str, str], client: Path) -> None:
    (client / "config").mkdir(parents=True)
    with pytest.raises(KeyStoreError, match=r"^cannot write into .*/client: Is a directory$"):
        client_config(["node1"], settings)


def test_what_the_user_keeps_there_stays(settings: dict[str, str], client: Path) -> None:
    client_config(["node1"], settings)
    (client / "notes").write_text("mine")
    client_config(["node2"], settings)
    assert (client / "notes").read_text() == "mine"


def test_it_goes_with_the_keys(settings: dict[str, str], client: Path) -> None:
    client_config(["node1"], settings)
    directory = store.key_directory(settings["HOOK_BASE_DIR"], "alice")
    assert writer.remove(directory)
    assert not client.parent.exists()
    assert not writer.removable(directory)


def test_a_copy_of_the_private_key_alone_is_removed_too(settings: dict[str, str], client: Path) -> None:
    client_config(["node1"], settings)
    directory = store.key_directory(settings["HOOK_BASE_DIR"], "alice")
    for path in Path(directory).iterdir():
        path.unlink()
    Path(directory).rmdir()
    assert writer.removable(directory)
    assert writer.remove(directory)
    assert not client.exists()


def test_below_the_home_paths_begin_there(
    settings: dict[str, str], client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the directory can be copied to the same place on another machine."""
    entry = pwd.struct_passwd(("alice", "x", os.getuid(), 100, "", str(client.parents[2]), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", {os.getuid(): entry}.__getitem__)
    assert client_config(["node1"], settings).splitlines()[1] == "Include ~/.oci-hooks/ssh/client/config"
    text = (client / "config").read_text()
    assert "\n    IdentityFile ~/.oci-hooks/ssh/client/id_container\n" in text
    assert str(client) not in text


def test_a_directory_with_blanks(settings: dict[str, str], client: Path, tmp_path: Path) -> None:
    (tmp_path / "a b#").symlink_to(settings["HOOK_BASE_DIR"])
    include = client_config(["node1"], {**settings, "HOOK_BASE_DIR": f"{tmp_path}/a b#"}).splitlines()[1]
    (tmp_path / "own").write_text(include + "\n")
    read = ssh_reads(tmp_path / "own", "container-node1")
    assert read["identityfile"] == f"{tmp_path}/a b#/alice/.oci-hooks/ssh/client/id_container"
    assert client.exists()


@pytest.mark.parametrize("name", ["alice", "alice.b-c_d@site", "DOM\\alice"])
def test_names_of_users(tmp_path: Path, name: str) -> None:
    (tmp_path / "config").write_text(config(["node1"], 1, name, "/x", ["ssh-ed25519"]))
    assert ssh_reads(tmp_path / "config", "container-node1")["user"] == name


@pytest.mark.parametrize("name", ["a b", 'a"b', "a#", "a%h", "a$b", "a\\", "", "a\nPort 1"])
def test_names_that_ssh_would_read_as_something_else(name: str) -> None:
    with pytest.raises(HookError, match="cannot contain the user name"):
        config(["node1"], 1, name, "/x", ["ssh-ed25519"])


@pytest.mark.parametrize("path", ["/a%h", "/a$x", '/a"', "/a\\b", "/a*", "/a?", "/a[b]"])
def test_paths_that_ssh_would_read_as_something_else(path: str) -> None:
    with pytest.raises(HookError, match="cannot contain the path"):
        config(["node1"], 1, "alice", path, ["ssh-ed25519"])


def test_install_and_uninstall(
    settings: dict[str, str], client: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a user types it, and as ssh reads the result: a host of the user's own keeps its options."""
    home = Path(settings["HOOK_BASE_DIR"], "alice")
    entry = pwd.struct_passwd(("alice", "x", os.getuid(), os.getgid(), "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry)
    monkeypatch.delenv("SLURM_JOB_NODELIST", raising=False)
    own = home / ".ssh/config"
    own.parent.mkdir(mode=0o700)
    own.write_text("User bob\nHost server\n    Port 2222\n")
    include = "Include ~/.oci-hooks/ssh/client/config"
    for first in (f"Added at the top of {own}: {include}", f"~/.ssh/config begins with: {include}"):
        assert main(["client-config", "--install"], settings) == 0
        said = capfd.readouterr().out.splitlines()
        assert said[0] == first and said[2].startswith("ssh job1234 ")
        assert own.read_text() == f"{include}\nUser bob\nHost server\n    Port 2222\n"
    at_their_places = home / "absolute"  # ssh takes ~ from the real passwd database
    at_their_places.write_text(own.read_text().replace("~", str(home)))
    assert "connect --job" in ssh_reads(at_their_places, "job1234")["proxycommand"]
    server = ssh_reads(at_their_places, "server")
    assert (server["user"], server["port"]) == ("bob", "2222") and "proxycommand" not in server
    assert main(["client-config", "--uninstall"], settings) == 0
    assert capfd.readouterr().out == f"Removed the line from {own}.\n"
    assert own.read_text() == "User bob\nHost server\n    Port 2222\n"
    assert main(["client-config", "--uninstall"], settings) == 0
    assert capfd.readouterr().out == "~/.ssh/config has no such line.\n"
    assert main(["client-config", "--jump", "login", "--install"], settings) == 1
    assert "--install and --uninstall are for this host" in capfd.readouterr().err


@pytest.fixture(name="hook")
def fixture_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an ssh_hook, by its path, that knows one profile: gpu."""
    program = tmp_path / "bin/ssh_hook"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ntest "$*" = "dev --has dev-gpu"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    return program


def test_profiles_on_a_login_node(settings: dict[str, str], client: Path, hook: Path) -> None:
    """Which there are is asked at each connection: a host of the user's own is not taken."""
    client_config([], settings)
    found = ssh_reads(client / "config", "dev-gpu")
    assert found["proxycommand"] == f"{hook} dev --connect '%h'"
    assert (found["hostkeyalias"], found["stricthostkeychecking"]) == ("oci-hooks", "true")
    for host in ("dev-server", "dev-gpu2", "xdev-gpu"):
        assert not {"proxycommand", "hostkeyalias"} & ssh_reads(client / "config", host).keys()
    hook.unlink()
    assert "proxycommand" not in ssh_reads(client / "config", "dev-gpu")
    text = config([], 15263, "alice", "~/x", ["ssh-ed25519"], "srun")
    assert "dev --via srun --connect '%h'\n    ControlMaster auto\n" in text


@pytest.mark.parametrize("at_terminal", [False, True])
def test_profiles_on_a_laptop(settings: dict[str, str], client: Path, tmp_path: Path, at_terminal: bool) -> None:
    """Only in a terminal, ssh has the jump host submit a job."""
    assert "dev-" not in module.laptop_lines("login", settings)
    profile = Path(settings["HOOK_BASE_DIR"], "alice/.oci-hooks/dev/gpu.sh")
    profile.parent.mkdir()
    profile.touch()
    file = tmp_path / "lines"
    file.write_text(module.laptop_lines("login", settings))
    controller, terminal = os.openpty()
    command = ["ssh", "-T", "-G", "-F", file, "dev-gpu"]
    stderr = terminal if at_terminal else subprocess.DEVNULL
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
    os.close(terminal)
    os.close(controller)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    end = r"dev --connect \''%h'\'" + (" --terminal" if at_terminal else "")
    assert found["proxycommand"] == f'"ssh" {" ".join(SSH[1:])} -- login {launcher()} {end}'
    assert (found["hostname"], found["hostkeyalias"], found["user"]) == ("dev-gpu", "oci-hooks", "alice")
    assert "proxycommand" not in ssh_reads(file, "dev-server")
    assert client.parent.exists()
