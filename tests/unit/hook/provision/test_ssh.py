"""The container's ssh, as the shells run it: what goes to a container, and what to the image's own client."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from ssh_hook.keys.formats import known_hosts
from ssh_hook.provision.ssh import script
from ssh_hook.spec import container_paths as paths

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
KEY = "/home/o'brien/.ssh/id_dropbear"
TRUSTED = [
    *("-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=oci-hooks"),
    *("-o", f"UserKnownHostsFile={paths.KNOWN_HOSTS}"),
]
OPENSSH_PINNED = [
    *("-p", "2222", "-l", "o'brien", "-i", paths.OPENSSH_KEY, "-o", "IdentitiesOnly=yes"),
    *TRUSTED,
    *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "KnownHostsCommand=none", "-o", "VerifyHostKeyDNS=no"),
    *("-o", "UpdateHostKeys=no", "-o", "NoHostAuthenticationForLocalhost=no", "-o", "ConnectionAttempts=1"),
]
LOST = "takes OpenSSH's client, which this image lacks: leave it out, or add the client"
RECORDER = """#!/bin/sh
[ "$*" != -V ] || exec echo {version}
printf '%s\\0' {name} "$(readlink /proc/$$/fd/0)" "$@"
"""


def pinned(*words: str, user: str = "o'brien") -> list[str]:
    """What Dropbear's client gets for a container."""
    return ["dbclient", *TRUSTED, "-p", "2222", "-i", KEY, "-l", user, *words]


class Client:
    """The script, with programs that tell how they were called. `openssh` is the image's own client, or `own`."""

    def __init__(self, shell: list[str], directory: Path, wait: int = 0) -> None:
        self._shell = shell
        self._directory = directory
        text = script(2222, wait, KEY, "o'brien", ["o'brien", "the guest"])
        for name, path in (("dbclient", f"{paths.PROGRAMS}/dbclient"), ("own", paths.IMAGE_CLIENT)):
            text = text.replace(path.encode(), os.fsencode(directory / name))
        (directory / "ssh").write_bytes(text)
        self._program("dbclient", "Dropbear v1")
        self.image_has("Other client")

    def _program(self, name: str, version: str) -> None:
        program = self._directory / name
        program.write_text(RECORDER.format(name=name, version=f"'{version}'"), encoding="ascii")
        program.chmod(0o755)

    def image_has(self, version: str | None) -> None:
        """The image's own client says that it is `version`; None: there is none."""
        (self._directory / "own").unlink(missing_ok=True)
        if version is not None:
            self._program("own", version)

    def image_says(self, command: str) -> None:
        """The image's own client runs this command."""
        (self._directory / "own").write_text(f"#!/bin/sh\n{command}\n", encoding="ascii")

    def run(self, *arguments: str, stdin: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        command = [*self._shell, str(self._directory / "ssh"), *arguments]
        return subprocess.run(command, stdin=stdin, capture_output=True, check=False, text=True)

    def called(self, *arguments: str, stdin: int = subprocess.PIPE) -> tuple[list[str], str]:
        """Which program was called with what; and what its standard input was."""
        result = self.run(*arguments, stdin=stdin)
        assert (result.returncode, result.stderr) == (0, "")
        name, source, *words = result.stdout.split("\0")[:-1]
        return [name, *words], source

    def __call__(self, *arguments: str) -> list[str]:
        return self.called(*arguments)[0]

    def refusal(self, *arguments: str) -> str:
        """The one line that it says, where no program runs."""
        result = self.run(*arguments)
        assert (result.returncode, result.stdout) == (255, ""), result
        line, end = result.stderr.split("\n")
        assert line.startswith("ssh: ") and end == ""
        return line.removeprefix("ssh: ")


@pytest.fixture(params=SHELLS, name="ssh")
def _ssh(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    return Client(SHELLS[request.param], tmp_path)


# What is a container, and what Dropbear's client gets for it: words before the host, and the host with the command

ODD = ["echo 'a   b' '*'", "", "$(id)", "`id`", "a\nb\n", '"', "\\", "*", "-x", "ä", "\t "]
TO_A_CONTAINER: list[tuple[list[str], list[str], list[str]]] = [
    (["host"], [], ["host"]),
    (["host", "command"], [], ["host", "command"]),
    (["host", *ODD], [], ["host", *ODD]),
    (["-4", "--", "host", *ODD], [], ["host", *ODD]),
    (["o'brien@host", "true"], [], ["host", "true"]),
    (["ssh://host"], [], ["host"]),
    (["ssh://host/", "true"], [], ["host", "true"]),
    (["ssh://o'brien@host:2222", "true"], [], ["host", "true"]),
    (["ssh://[fe80::1%eth0]:2222/"], [], ["fe80::1%eth0"]),
    (["ssh://[::1]"], [], ["::1"]),
    (["::1"], [], ["::1"]),
    (["[::1]"], [], ["::1"]),
    (["o'brien@::1"], [], ["::1"]),
    # the port, and the user
    (["-p", "2222", "host"], [], ["host"]),
    (["-p2222", "host"], [], ["host"]),
    (["-vp", "2222", "host"], [], ["host"]),
    (["-oPort=2222", "host"], [], ["host"]),
    (["-o", "port 2222", "host"], [], ["host"]),
    (["-o", 'Port="2222"', "host"], [], ["host"]),
    (["-o", "Port\t2222", "host"], [], ["host"]),
    (["-o", " Port = 2222\n", "host"], [], ["host"]),
    (["-p", "2222", "-p", "22", "host"], [], ["host"]),
    (["-p", "22", "-oPort=2222", "host"], [], ["host"]),
    (["-p", "22", "ssh://host:2222"], [], ["host"]),
    (["-o", "User = o'brien", "host"], [], ["host"]),
    (["-o", "user=\"o'brien\"", "git@host"], [], ["host"]),
    (["host", "-p", "2222", "command"], [], ["host", "command"]),
    # what follows the host's options is the command's
    (["host", "ssh", "-p", "22", "other"], [], ["host", "ssh", "-p", "22", "other"]),
    (["host", "--", "-p", "22"], [], ["host", "", "-p", "22"]),
    (["--", "host", "-p", "22"], [], ["host", "", "-p", "22"]),
    (["host", "-"], [], ["host", "", "-"]),
    # harmless
    (["-46CKkMvxXYy", "-vvv", "-Ptag", "host"], [], ["host"]),
    (["-e", "none", "-e~", "-F", "none", "-F/dev/null", "-S", "none", "host"], [], ["host"]),
    (["-i", "~/.ssh/id_rsa", "-oIdentityFile=/x", "host", "true"], [], ["host", "true"]),
    (["-y", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "host"], [], ["host"]),
    (["-oGlobalKnownHostsFile=/dev/null", "-oHostKeyAlias=x", "-oCheckHostIP=no", "host"], [], ["host"]),
    (["-oControlMaster=auto", "-oControlPersist=60", "-oControlPath=none", "host"], [], ["host"]),
    (["-oSendEnv=LANG LC_*", "-oLogLevel=ERROR", "-oConnectionAttempts=2", "-oTCPKeepAlive=yes", "host"], [], ["host"]),
    (["-oPasswordAuthentication=no", "-oPreferredAuthentications=publickey", "host"], [], ["host"]),
    (["-oNumberOfPasswordPrompts=0", "-oIdentitiesOnly=yes", "-oCompression=yes", "host"], [], ["host"]),
    (["-oAddressFamily=inet", "-oForwardX11=yes", "-oForwardX11Trusted=no", "host"], [], ["host"]),
    (["-oProxyCommand=none", "-oProxyJump=none", "-oPermitLocalCommand=no", "-oTunnel=no", "host"], [], ["host"]),
    (["-oPubkeyAcceptedKeyTypes=+ssh-rsa", "-oHostKeyAlgorithms=+ssh-rsa", "host"], [], ["host"]),
    # translated
    (["-q", "host"], ["-q"], ["host"]),
    (["-oLogLevel=QUIET", "host"], ["-q"], ["host"]),
    (["-A", "host"], ["-A"], ["host"]),
    (["-A", "-a", "host"], [], ["host"]),
    (["-oForwardAgent=yes", "host"], ["-A"], ["host"]),
    (["-oForwardAgent=no", "-A", "host"], ["-A"], ["host"]),
    (["-A", "-oForwardAgent=no", "host"], ["-A"], ["host"]),
    (["-tt", "host", "command"], ["-t"], ["host", "command"]),
    (["-t", "host", "-t", "command"], ["-t"], ["host", "command"]),
    (["-T", "host", "command"], ["-T"], ["host", "command"]),
    (["-t", "-T", "host"], ["-T"], ["host"]),
    (["-oRequestTTY=no", "host"], ["-T"], ["host"]),
    (["-oRequestTTY=Force", "host"], ["-t"], ["host"]),
    (["-oRequestTTY=auto", "host"], [], ["host"]),
    (["-s", "host", "sftp"], ["-s"], ["host", "sftp"]),
    (["-oSessionType=subsystem", "host", "sftp"], ["-s"], ["host", "sftp"]),
    (["-N", "host"], ["-N"], ["host"]),
    (["-oSessionType=none", "host"], ["-N"], ["host"]),
    (["-W", "other:22", "host"], ["-B", "other:22"], ["host"]),
    (["-L", "8080:other:80", "host"], ["-L", "8080:other:80"], ["host"]),
    (["-L127.0.0.1:8080:other:80", "host"], ["-L", "127.0.0.1:8080:other:80"], ["host"]),
    (["-L*:8080:other:80", "host"], ["-L", ":8080:other:80"], ["host"]),
    (["-gR", "0:other:80", "host"], ["-g", "-R", "0:other:80"], ["host"]),
    (["-oLocalForward=8080 other:80", "host"], ["-L", "8080:other:80"], ["host"]),
    (["-oRemoteForward 8080 other:80", "host"], ["-R", "8080:other:80"], ["host"]),
    (["-oGatewayPorts=yes", "host"], ["-g"], ["host"]),
    (["-L8080:other:80", "-oClearAllForwardings=yes", "host"], [], ["host"]),
    (["-b", "127.0.0.1", "host"], ["-b", "[127.0.0.1]"], ["host"]),
    (["-oBindAddress=::1", "host"], ["-b", "[::1]"], ["host"]),
    (
        ["-c", "aes128-ctr,aes256-ctr", "-mhmac-sha2-256", "host"],
        ["-c", "aes128-ctr,aes256-ctr", "-m", "hmac-sha2-256"],
        ["host"],
    ),
    (["-oCiphers=aes128-ctr", "host"], ["-c", "aes128-ctr"], ["host"]),
    (["-oBatchMode=yes", "host"], ["-o", "batchmode=yes"], ["host"]),
    (["-oBATCHMODE true", "host"], ["-o", "batchmode=yes"], ["host"]),
    (["-oExitOnForwardFailure=false", "host"], ["-o", "exitonforwardfailure=no"], ["host"]),
    (["-oServerAliveInterval=15", "host"], ["-o", "serveraliveinterval=15"], ["host"]),
    (["-oConnectTimeout=10", "host"], ["-o", "connecttimeout=10"], ["host"]),
    (["-oConnectTimeout=none", "host"], [], ["host"]),
    (["-E", "/tmp/a b", "host"], ["-E", "/tmp/a b"], ["host"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "options", "rest"), TO_A_CONTAINER, ids=str)
def test_to_a_container(ssh: Client, arguments: list[str], options: list[str], rest: list[str]) -> None:
    """Also where the image has OpenSSH."""
    ssh.image_has("OpenSSH_10.0p2")
    assert ssh(*arguments) == pinned(*options, *rest)


@pytest.mark.parametrize("arguments", [["the guest@host"], ["-l", "the guest", "git@host"], ["ssh://the guest@host"]])
def test_another_name_of_the_users(ssh: Client, arguments: list[str]) -> None:
    assert ssh(*arguments) == pinned("host", user="the guest")


def test_what_openssh_with_scp_and_sftp_pass(ssh: Client) -> None:
    """Word for word."""
    options = ["-oForwardX11=no", "-oPermitLocalCommand=no", "-oClearAllForwardings=yes", "-oRemoteCommand=none"]
    options += ["-oRequestTTY=no", "-oForwardAgent=no", "-l", "o'brien"]
    assert ssh("-x", *options, "-s", "--", "host", "sftp") == pinned("-T", "-s", "host", "sftp")
    assert ssh("-x", *options, "--", "host", "scp -t -- 'a b'") == pinned("-T", "host", "scp -t -- 'a b'")


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS.keys())
def test_waiting_for_containers_alone(shell: list[str], tmp_path: Path) -> None:
    ssh = Client(shell, tmp_path, wait=300)
    assert ssh("host", "true") == pinned("-o", "ConnectWait=300", "host", "true")
    ssh.image_has("OpenSSH_10.0p2")
    openssh = [*OPENSSH_PINNED[:-1], "ConnectionAttempts=301"]
    assert ssh("-D1080", "host") == ["own", *openssh, "-D1080", "host"]
    ssh.image_has(None)
    assert ssh("-p22", "host") == ["dbclient", "-p", "22", "host"]


# Standard input


@pytest.mark.parametrize("option", ["-n", "-oStdinNull=yes"])
def test_standard_input_is_kept_from_the_command(ssh: Client, option: str) -> None:
    assert ssh.called(option, "host", "true") == (pinned("host", "true"), "/dev/null")


@pytest.mark.parametrize("option", ["-f", "-oForkAfterAuthentication=yes"])
def test_background_takes_no_input(ssh: Client, option: str) -> None:
    assert ssh.called(option, "host", "true") == (pinned("-f", "host", "true"), "/dev/null")
    assert ssh.called(option, "-N", "host") == (pinned("-N", "-f", "host"), "/dev/null")


def test_other_input_is_the_commands(ssh: Client) -> None:
    source = ssh.called("host", "true")[1]
    assert source.startswith("pipe:")


@pytest.mark.parametrize("option", ["-t", "-oRequestTTY=yes"])
def test_terminal_where_there_is_one(ssh: Client, option: str) -> None:
    master, slave = pty.openpty()
    try:
        assert ssh.called(option, "host", "true", stdin=slave)[0] == pinned("-t", "host", "true")
    finally:
        os.close(slave)
        os.close(master)
    result = ssh.run(option, "host", "true")
    assert result.returncode == 0 and "\0-t\0" not in result.stdout
    assert result.stderr == "ssh: no terminal for the command: standard input is none\n"


# What only OpenSSH can do

FOR_OPENSSH = [
    ["-D", "1080"],
    ["-J", "jump"],
    ["-J", "touch /tmp/pwned"],
    ["-F", "file"],
    ["-O", "check"],
    ["-w", "0:0"],
    ["-B", "eth0"],
    ["-I", "/lib/pkcs11.so"],
    ["-G"],
    ["-Q", "cipher"],
    ["-e", "x"],
    ["-c", "help"],
    ["-c", "+aes128-ctr"],
    ["-m", "help"],
    ["-Z"],
    ["-L", "8080:[::1]:80"],
    ["-L", "/tmp/a:/tmp/b"],
    ["-L", "8080"],
    ["-R", "8080"],
    ["-L", "::8080:host:80"],
    ["-L", ":8080:host:80"],
    ["-o", "DynamicForward=1080"],
    ["-o", "ProxyCommand=nc -p 22 host"],
    ["-oProxyJump=jump"],
    ["-o", "proxyuseFdpass=yes"],
    ["-oRemoteCommand=true"],
    ["-oPermitLocalCommand=yes"],
    ["-oHostName=other"],
    ["-oInclude=file"],
    ["-oTunnel=yes"],
    ["-oForwardAgent=$SOCK"],
    ["-oServerAliveInterval=1m"],
    ["-oConnectTimeout="],
    ["-oBatchMode=maybe"],
    ["-oRequestTTY=maybe"],
    ["-oWhatever=yes"],
    ["-ohelp"],
    ["-oPor"],
    ["-o", ""],
    ["-o", "="],
]


@pytest.mark.parametrize("options", FOR_OPENSSH, ids=str)
def test_openssh_for_a_container(ssh: Client, options: list[str]) -> None:
    """Its options come first, since OpenSSH takes the first value."""
    ssh.image_has("OpenSSH_10.0p2 Debian-7, OpenSSL 3.5.1")
    assert ssh(*options, "host", *ODD) == ["own", *OPENSSH_PINNED, *options, "host", *ODD]


@pytest.mark.parametrize("image", [None, "Dropbear v2026.94"])
@pytest.mark.parametrize("options", FOR_OPENSSH, ids=str)
def test_without_openssh(ssh: Client, options: list[str], image: str | None) -> None:
    ssh.image_has(image)
    said = ssh.refusal(*options, "host", "true")
    assert said.startswith(options[0][:2]) and said.endswith(LOST)


def test_shared_connections_where_there_is_openssh(ssh: Client) -> None:
    """Without it there is no connection to share, and OpenSSH too goes on without."""
    for option in (["-S", "/tmp/socket"], ["-o", "ControlPath=/tmp/socket"]):
        ssh.image_has("OpenSSH_10.0p2")
        assert ssh(*option, "host", "true") == ["own", *OPENSSH_PINNED, *option, "host", "true"]
        ssh.image_has(None)
        assert ssh(*option, "host", "true") == pinned("host", "true")


@pytest.mark.parametrize("arguments", [["host", "-p"], ["-p"], ["host", "-o"]])
def test_missing_value(ssh: Client, arguments: list[str]) -> None:
    ssh.image_has(None)
    ssh.refusal(*arguments)


# What is refused, whatever the image has

HOSTILE = [
    # read as options
    ["--", "-Jtouch /tmp/pwned", "true"],
    ["--", "-J", "true"],
    ["-", "true"],
    ["--", "o'brien@-Jtouch /tmp/pwned"],
    ["ssh://-Jtouch"],
    # no host, or several
    ["", "true"],
    ["@host"],
    ["o'brien@"],
    ["ssh://"],
    ["ssh:///path"],
    ["ssh://@host"],
    ["ssh://host/path"],
    ["first,second"],
    ["o'brien@first/2222,second/2222"],
    ["host/2222"],
    ["host/22"],
    ["host^2222"],
    # the container's port in other words
    ["-p", "02222", "host"],
    ["-p", "+2222", "host"],
    ["-p", " 2222", "host"],
    ["-p", "2222 ", "host"],
    ["-p", "0x8ae", "host"],
    ["-p", "ssh", "host"],
    ["-p", "", "host"],
    ["-p", "0", "host"],
    ["-p", "65536", "host"],
    ["-p", "65536000000000000002222", "host"],
    ["-p", "-1", "host"],
    ["-p", "2222\n22", "host"],
    ["-p22", "-p", "02222", "host"],
    ["-oPort=02222", "host"],
    ["-oPort=", "host"],
    ["-o", 'Port=22"22"', "host"],
    ["-o", "Port=2222 #", "host"],
    ["-o", "Port\\=2222", "-p22", "host", "-p02222"],
    ["-o", '"Port" 2222', "host"],
    ["-o", 'Po"rt" 2222', "-p", "22", "host"],
    ["-o", "'Port'=2222", "host"],
    ["ssh://host:02222"],
    ["ssh://host:"],
    ["ssh://[::1]:+2222"],
    ["ssh://::1:2222:x"],
    ["ssh://o%27brien@host:2222"],
    ["ssh://o'brien;x=y@host:2222"],
    # the user's name in other words
    ["-o", "User=o\\'brien", "-p", "2222", "host"],
    ["-o", 'User=o"\'"brien', "host"],
    ["-oUser=%u", "host"],
    ["-oUser=$USER", "host"],
]


@pytest.mark.parametrize("image", [None, "OpenSSH_10.0p2"])
@pytest.mark.parametrize("arguments", HOSTILE, ids=str)
def test_refused(ssh: Client, arguments: list[str], image: str | None) -> None:
    ssh.image_has(image)
    result = ssh.run(*arguments)
    assert (result.returncode, result.stdout) == (255, "")
    assert result.stderr.startswith("ssh: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-f", "host"],
        ["-s", "host"],
        ["-W", "other:22", "host", "command"],
        ["-W", "[::1]:22", "host"],
        ["-W", "a:b:c", "host"],
        ["-p22", "-l", "one@first,two", "host"],  # to Dropbear's client a host on the way
    ],
)
def test_refused_by_dropbear(ssh: Client, arguments: list[str]) -> None:
    ssh.image_has(None)
    ssh.refusal(*arguments)


# What is no container

TO_ANOTHER = [
    [],
    ["-Q", "cipher"],
    ["-G", "-p22", "host"],
    ["-p", "22", "host"],
    ["-p22", "host"],
    ["-Cp22", "host"],
    ["host", "-p", "22"],
    ["-o", "Port=22", "host"],
    ["-oport=22", "host"],
    ["git@host", "git-upload-pack 'x'"],
    ["-l", "git", "host"],
    ["-o", "User=git", "host"],
    ["host", "-l", "git"],
    ["*@host"],
    ["ssh://host:22"],
    ["ssh://git@host/"],
    ["-p", "22", "-J", "jump", "-D1080", "-oWhatever", "-Z", "-i", "a b", "host", *ODD],
]


@pytest.mark.parametrize("arguments", TO_ANOTHER, ids=str)
def test_to_anything_else(ssh: Client, arguments: list[str]) -> None:
    assert ssh(*arguments) == ["own", *arguments]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "22", "host"], ["-p", "22", "host"]),
        (["-v", "git@host", *ODD], ["-l", "git", "host", *ODD]),
        (["-oPort=22", "-i", "k", "-yy", "h"], ["-i", "k", "-y", "-y", "-p", "22", "h"]),
        (
            ["-oStrictHostKeyChecking=no", "-o", "UserKnownHostsFile /x", "ssh://git@host:22", "true"],
            ["-o", "stricthostkeychecking=no", "-o", "userknownhostsfile=/x", "-p", "22", "-l", "git", "host", "true"],
        ),
        (["-p22", "-nL", "1:a:2", "host", "-Nq"], ["-p", "22", "-q", "-L", "1:a:2", "-N", "host"]),
    ],
)
def test_without_a_client_of_the_images_own(ssh: Client, arguments: list[str], words: list[str]) -> None:
    ssh.image_has(None)
    assert ssh(*arguments) == ["dbclient", *words]


@pytest.mark.parametrize("options", FOR_OPENSSH, ids=str)
def test_dropbear_gets_nothing_that_it_reads_otherwise(ssh: Client, options: list[str]) -> None:
    ssh.image_has(None)
    assert ssh.refusal("-p22", *options, "host", "true").endswith(LOST)


def test_variables_of_the_callers_stay(ssh: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients hand them on, and to commands that they run."""
    names = ["host", "user", "port", "key", "login", "names", "alias", "options", "value", "word_1", "wait"]
    for name in names:
        monkeypatch.setenv(name, "kept")
    ssh.image_says("env")
    said = ssh.run("-p22", "-oBatchMode=yes", "-v", "host").stdout.splitlines()
    assert [name for name in names if f"{name}=kept" not in said] == []


# Without a host


@pytest.mark.parametrize("arguments", [["-V"], ["-vV"], ["-V", "host"], ["-p22", "-V", "host", "true"]])
@pytest.mark.parametrize(("image", "version"), [("OpenSSH_10.0p2", "OpenSSH_10.0p2"), (None, "Dropbear v1")])
def test_version(ssh: Client, arguments: list[str], image: str | None, version: str) -> None:
    ssh.image_has(image)
    result = ssh.run(*arguments)
    assert (result.returncode, result.stdout) == (0, f"{version}\n")


def test_usage(ssh: Client) -> None:
    ssh.image_has(None)
    for arguments in ([], ["-v"], ["--"], ["-Q", "cipher"]):
        assert ssh.refusal(*arguments) == "usage: ssh [options] [user@]host [command]"


def test_known_hosts_has_one_name_for_all_containers() -> None:
    assert known_hosts(["ssh-ed25519 AAAA"]) == b"oci-hooks ssh-ed25519 AAAA\n"
