"""What a job's containers are started with: from the variables of Slurm, PBS and LSF, and from the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ssh_hook.commands import options
from ssh_hook.dispatch import dispatch
from ssh_hook.errors import HookError
from ssh_hook.keys.errors import KeyStoreError
from ssh_hook.oci.host_list import MAX_TEXT
from ssh_hook.start.port import job_port

SITE = {"SERVER_PORT_DEFAULT": "15263", "PATH": "/nowhere"}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, **environment: str) -> dict[str, str]:
    """The annotations by their names after com.hooks.ssh."""
    assert dispatch("options", ["--engine", "podman", *arguments], {**SITE, **environment}) == 0
    words = capsys.readouterr().out.split()
    prefix = "--annotation=com.hooks.ssh."
    return dict(word.removeprefix(prefix).split("=", 1) for word in words if word.startswith(prefix))


def test_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch("options", ["--engine", "podman", "--hosts", "node[001-128]:8"], SITE)
    assert capsys.readouterr().out.split() == [
        "--network=host",
        "--annotation=com.hooks.ssh.enabled=true",
        "--annotation=com.hooks.ssh.port=15263",
        "--annotation=com.hooks.ssh.wait=300",
        "--annotation=com.hooks.ssh.hosts=node001+127:8",
        "--env=PRTE_MCA_prte_default_hostfile=/opt/oci-hooks/ssh/hostfile",
        "--env=OMPI_MCA_orte_default_hostfile=/opt/oci-hooks/ssh/hostfile",
        "--env=HYDRA_HOST_FILE=/opt/oci-hooks/ssh/hostfile.mpich",
        "--env=HYDRA_LAUNCHER=ssh",
        "--env=I_MPI_HYDRA_HOST_FILE=/opt/oci-hooks/ssh/hostfile.mpich",
        "--env=I_MPI_HYDRA_BOOTSTRAP=ssh",
        "--env=PDSH_RCMD_TYPE=ssh",
        "--env=WCOLL=/opt/oci-hooks/ssh/hosts",
    ]


def test_a_base_of_edfs(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch("options", ["--engine", "edf"], {**SITE, **SLURM})
    assert (
        capsys.readouterr().out
        == """\
[annotations]
com.hooks.ssh.enabled = "true"
com.hooks.ssh.port = "21234"
com.hooks.ssh.wait = "300"
com.hooks.ssh.hosts = "gpu1+2:1,login1:1"

[env]
PRTE_MCA_prte_default_hostfile = "/opt/oci-hooks/ssh/hostfile"
OMPI_MCA_orte_default_hostfile = "/opt/oci-hooks/ssh/hostfile"
HYDRA_HOST_FILE = "/opt/oci-hooks/ssh/hostfile.mpich"
HYDRA_LAUNCHER = "ssh"
I_MPI_HYDRA_HOST_FILE = "/opt/oci-hooks/ssh/hostfile.mpich"
I_MPI_HYDRA_BOOTSTRAP = "ssh"
PDSH_RCMD_TYPE = "ssh"
WCOLL = "/opt/oci-hooks/ssh/hosts"
MASTER_PORT = "11234"
PET_MASTER_PORT = "11234"
"""
    )


GPUS = {"SLURM_GPUS_ON_NODE": "4"}
SLURM = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NODELIST": "gpu[1-3],login1"}


@pytest.mark.parametrize(
    ("variables", "hosts"),
    [
        ({}, "gpu1+2:1/login1:1"),
        ({"SLURM_TASKS_PER_NODE": "8(x3),2"}, "gpu1+2:8/login1:2"),
        ({"SLURM_TASKS_PER_NODE": "1,2,3(x2)"}, "gpu1:1/gpu2:2/gpu3:3/login1:3"),
        ({"SLURM_TASKS_PER_NODE": "1(x4)", "SLURM_JOB_CPUS_PER_NODE": "72(x3),36"}, "gpu1+2:72/login1:36"),
        ({"SLURM_TASKS_PER_NODE": "1(x4)", "SLURM_JOB_CPUS_PER_NODE": "9(x4)", **GPUS}, "gpu1+2:4/login1:4"),
        ({"SLURM_TASKS_PER_NODE": "2(x4)", "SLURM_JOB_CPUS_PER_NODE": "9(x4)", **GPUS}, "gpu1+2:2/login1:2"),
        ({"SLURM_GPUS_ON_NODE": "0"}, "gpu1+2:1/login1:1"),
        ({"SLURM_JOB_GPUS": "0,1", "SLURM_JOB_CPUS_PER_NODE": "9(x4)"}, "gpu1+2:2/login1:2"),
    ],
)
def test_slurm(capsys: pytest.CaptureFixture[str], variables: dict[str, str], hosts: str) -> None:
    assert printed(capsys, **SLURM, **variables) == {
        "enabled": "true",
        "port": "21234",
        "wait": "300",
        "hosts": hosts,
    }


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_TASKS_PER_NODE": "8"},
        {"SLURM_TASKS_PER_NODE": "8(x5)"},
        {"SLURM_TASKS_PER_NODE": "8(x0),1"},
        {"SLURM_TASKS_PER_NODE": "0(x4)"},
        {"SLURM_TASKS_PER_NODE": "x"},
        {"SLURM_JOB_CPUS_PER_NODE": "8(x4"},
        {"SLURM_JOB_ID": "x"},
        {"SLURM_JOB_NODELIST": ""},
        {"SLURM_JOB_NODELIST": "a[1"},
        {"SLURM_JOB_NODELIST": "fd00::1"},
    ],
)
def test_variables_that_make_no_sense(variables: dict[str, str]) -> None:
    with pytest.raises(HookError) as caught:
        dispatch("options", ["--engine", "podman"], {**SITE, **SLURM, **variables})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("nodes", "cpus", "hosts"),
    [
        ("a1 a1 a2 a2", None, "a1+1:2"),
        ("a1 a2", None, "a1+1:1"),
        ("a1 a2", "16", "a1+1:16"),
        ("a1 a1 a2", "16", "a1:2/a2:1"),
        ("a1 b a1 b b", None, "a1:2/b:3"),  # chunks of one host apart from each other
        ("b7.example.org b7.example.org", "0", "b7.example.org:2"),
        ("a1 a2", "x", "a1+1:1"),
    ],
)
def test_pbs(capsys: pytest.CaptureFixture[str], tmp_path: Path, nodes: str, cpus: str | None, hosts: str) -> None:
    (tmp_path / "nodes").write_text(nodes.replace(" ", "\n") + "\n", encoding="ascii")
    variables = {"PBS_JOBID": "77.server", "PBS_NODEFILE": str(tmp_path / "nodes"), **({"NCPUS": cpus} if cpus else {})}
    found = printed(capsys, **variables)
    assert (found["port"], found["hosts"]) == ("20077", hosts)


def test_nodes_of_a_large_job(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Ten thousand nodes with a dozen processes each, by long names."""
    names = [f"x{number:05d}.cluster.example.org\n" for number in range(10_000)]
    path = tmp_path / "nodes"
    path.write_text("".join(name * 12 for name in names), encoding="ascii")
    found = printed(capsys, PBS_JOBID="7.pbs", PBS_NODEFILE=str(path))["hosts"]
    assert found == "x00000.cluster.example.org+9999:12"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read PBS_NODEFILE {path}: No such file or directory"),
        (b"", "PBS_NODEFILE {path} lists no host"),
        (b"\n # only a comment\n", "PBS_NODEFILE {path} lists no host"),
        (b"a1\n\xff\xfe\n", "{path} line 2 has "),
        (b"a1\na2;id\n", "{path} line 2 has 'a2;id', not the name or address of a host"),
        (b"a" * 300 + b"\n", "{path} line 1 has "),
        (b"a1\n" * 6_000_000, "PBS_NODEFILE {path} is larger than 16777216 bytes"),
    ],
    ids=["missing", "empty", "comment", "binary", "shell", "long-name", "long-file"],
)
def test_node_files_that_make_no_sense(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "nodes"
    if content is not None:
        path.write_bytes(content)
    for variables in (
        {"PBS_JOBID": "7", "PBS_NODEFILE": str(path)},
        {"LSB_JOBID": "7", "LSB_DJOB_HOSTFILE": str(path)},
    ):
        with pytest.raises(HookError) as caught:
            dispatch("options", ["--engine", "podman"], {**SITE, **variables})
        expected = words.format(path=path)
        if "LSB_JOBID" in variables:
            expected = expected.replace("PBS_NODEFILE", "LSB_DJOB_HOSTFILE")
        assert str(caught.value).startswith(expected)
        assert str(caught.value).isprintable()


def test_variables_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(HookError, match=r"^cannot read PBS_NODEFILE .*: Is a directory$"):
        dispatch("options", ["--engine", "podman"], {**SITE, "PBS_JOBID": "7", "PBS_NODEFILE": str(tmp_path)})
    for name in ("PBS_NODEFILE", "LSB_MCPU_HOSTS"):
        job = "PBS_JOBID" if name.startswith("PBS") else "LSB_JOBID"
        with pytest.raises(HookError, match=f"^{name} is not set: give the hosts with --hosts$"):
            dispatch("options", ["--engine", "podman"], {**SITE, job: "7", name: ""})


@pytest.mark.parametrize(
    ("job", "port"),
    [
        ("77", "20077"),
        ("77.server.example.org", "20077"),
        ("77[5].server", "20082"),
        ("77[].server", "20077"),
        ("77-5.server", "20082"),
    ],
)
def test_numbers_of_pbs(capsys: pytest.CaptureFixture[str], job: str, port: str) -> None:
    assert printed(capsys, "--hosts", "a", PBS_JOBID=job)["port"] == port


@pytest.mark.parametrize(("index", "port"), [("0", "29999"), ("2", "20001"), ("x", "29999")])
def test_lsf(capsys: pytest.CaptureFixture[str], index: str, port: str) -> None:
    found = printed(capsys, LSB_JOBID="9999", LSB_JOBINDEX=index, LSB_MCPU_HOSTS="a1 4 a2 4 b 2 ")
    assert (found["port"], found["hosts"]) == (port, "a1+1:4/b:2")


@pytest.mark.parametrize(
    ("variables", "hosts"),
    [
        ({"LSB_MCPU_HOSTS": "b 1 a1 4 a2 4 b 2", "LSB_HOSTS": "x"}, "b:3/a1+1:4"),
        ({"LSB_HOSTS": "a1 a1 b a1"}, "a1:3/b:1"),
        ({"LSB_DJOB_HOSTFILE": "{file}", "LSB_HOSTS": "x"}, "a1:2/a2:1"),
        ({"LSB_MCPU_HOSTS": "", "LSB_DJOB_HOSTFILE": "{file}"}, "a1:2/a2:1"),
    ],
)
def test_hosts_of_lsf(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, variables: dict[str, str], hosts: str
) -> None:
    (tmp_path / "hosts").write_text("a1\na2\na1\n", encoding="ascii")
    given = {name: value.format(file=tmp_path / "hosts") for name, value in variables.items()}
    assert printed(capsys, LSB_JOBID="5", **given)["hosts"] == hosts


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LSB_MCPU_HOSTS": "a1 4 a2"}, "LSB_MCPU_HOSTS ends with the host 'a2', without a number of processes"),
        ({"LSB_MCPU_HOSTS": "a1 0"}, "LSB_MCPU_HOSTS has '0', not a number of processes"),
        ({"LSB_MCPU_HOSTS": "4 a1"}, "LSB_MCPU_HOSTS has 'a1', not a number of processes"),
        ({"LSB_MCPU_HOSTS": "a1 999999"}, "LSB_MCPU_HOSTS has '999999'"),
        ({"LSB_HOSTS": "a1 a2;id"}, "LSB_HOSTS has 'a2;id'"),
        ({"LSB_HOSTS": "  "}, "the scheduler's variables list no host"),
        ({"LSB_MCPU_HOSTS": "  "}, "the scheduler's variables list no host"),
        ({}, "LSB_MCPU_HOSTS is not set: give the hosts with --hosts"),
    ],
)
def test_lsf_that_makes_no_sense(variables: dict[str, str], words: str) -> None:
    with pytest.raises(HookError) as caught:
        dispatch("options", ["--engine", "podman"], {**SITE, "LSB_JOBID": "5", **variables})
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("job", ["77x", "77-", "77-5-6", "77[5", "1" * 19])
def test_numbers_that_are_none(job: str) -> None:
    for variable in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"):
        with pytest.raises(HookError, match=f"^{variable} is "):
            dispatch("options", ["--engine", "podman", "--hosts", "a"], {**SITE, variable: job})


def test_hosts_of_the_command_line_and_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(
        "n1 slots=4\nn2:4 # two\nn[3-4]\nn5\nn5\nn5 max_slots=9 slots=7\n", encoding="ascii"
    )
    assert printed(capsys, "--hostfile", str(tmp_path / "hosts"))["hosts"] == "n1+1:4/n3+1:1/n5:9"
    assert printed(capsys, "--hosts", "b[1-2]:3,c,d:2")["hosts"] == "b1+1:3/c:1/d:2"
    assert printed(capsys, "--hosts", "b", **SLURM)["hosts"] == "b:1"
    assert printed(capsys, "--hosts", "b", **SLURM)["port"] == "21234"


def test_words_are_arguments_for_the_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """Those with as many characters as the list of hosts may have, also in one string for a shell, or as a variable."""
    hosts = ",".join(f"n{number}:1" for number in range(10001, 10001 + 2 * (MAX_TEXT // 9), 2))
    hosts = hosts[:-2] + "x" * (MAX_TEXT - len(hosts)) + ":1"
    assert len(hosts) == MAX_TEXT
    assert printed(capsys, "--hosts", hosts)["hosts"] == hosts.replace(",", "/")
    dispatch("options", ["--engine", "podman", "--hosts", hosts], SITE)
    words = capsys.readouterr().out
    subprocess.run(["true", *words.split()], check=True)
    subprocess.run(["sh", "-c", f": srun podman run --rm {words}"], check=True)
    subprocess.run(["true"], env={"PATH": "/usr/bin:/bin", "OCIHOOKS_SSH_HOSTS": hosts}, check=True)


def test_ports(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--hosts", "a")["port"] == "15263"
    assert 20000 <= int(printed(capsys, "--hosts", "a", "--set", "2")["port"]) < 30000
    assert printed(capsys, "--hosts", "a", "--port", "17", **SLURM)["port"] == "17"
    assert printed(capsys, "--hosts", "a", "--set", "2", **SLURM)["port"] == "22337"
    automatic = {"SERVER_PORT_DEFAULT": "auto", "SERVER_PORT_WITHOUT_JOB": "15263"}
    assert printed(capsys, "--hosts", "a", **automatic)["port"] == "15263"
    assert printed(capsys, "--hosts", "a", **automatic, **SLURM)["port"] == "21234"
    assert printed(capsys, "--hosts", "a", **SLURM, SLURM_HET_JOB_ID="1230")["port"] == "21230"


def test_ports_for_pytorch(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of jobs and sets differ from each other and from all ports of containers."""

    def variables(*arguments: str, **environment: str) -> list[str]:
        dispatch("options", ["--engine", "podman", "--hosts", "a", *arguments], {**SITE, **environment})
        return [word for word in capsys.readouterr().out.split() if "MASTER_PORT" in word]

    assert variables(**SLURM) == ["--env=MASTER_PORT=11234", "--env=PET_MASTER_PORT=11234"]
    assert variables("--set", "2", **SLURM) == ["--env=MASTER_PORT=12337", "--env=PET_MASTER_PORT=12337"]
    assert variables() == []
    assert variables("--port", "30000", **SLURM) == []
    of_site = {**SLURM, "SLURM_JOB_ID": "5263"}  # 15263 is the port of containers without a job
    assert variables(**of_site) == ["--env=MASTER_PORT=30000", "--env=PET_MASTER_PORT=30000"]


def test_ports_of_jobs_that_follow_each_other_and_of_their_sets_differ() -> None:
    for first in (0, 9999, 123456):
        ports = [job_port(job, number) for job in range(first, first + 100) for number in range(1, 10)]
        assert len(set(ports)) == len(ports)
        assert 20000 <= min(ports)
        assert max(ports) < 30000
    assert len({job_port(job, 1) for job in range(10000)}) == 10000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no hosts: give them with --hosts or --hostfile, or run this in a Slurm, PBS or LSF job"),
        (["--hosts", "a", "--set", "0"], "--set is '0': give a number from 1 to 9"),
        (["--hosts", "a", "--set", "10"], "--set is '10'"),
        (["--hosts", "a", "--port", "0"], "--port is '0'"),
        (["--hosts", "a", "--wait", "soon"], "--wait is 'soon': give seconds from 0 to 86400"),
        (["--hosts", "a", "--engine", "x"], "--engine is 'x': give one of podman, podman-hpc, docker, edf"),
        (["--hosts", "a b"], "--hosts has 'a b'"),
        (["--hosts", "fd00::1"], "cannot use the host 'fd00::1': launchers accept only names and IPv4 addresses"),
        (["--hosts", "n[1-99999]"], "more than 65536 hosts"),
        (["--hosts", "n[1-20000]"], "the list of hosts"),
        (["--hosts", "a:0"], "the list of hosts has 'a:0'"),
        (["a"], "unrecognized arguments"),
    ],
)
def test_bad_calls(arguments: list[str], words: str) -> None:
    with pytest.raises(HookError) as caught:
        dispatch("options", [*arguments, *([] if "--engine" in arguments else ["--engine", "podman"])], SITE)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("there", "used"), [("docker", "docker"), ("docker podman-hpc", "podman"), ("podman", "podman")]
)
def test_guess_of_the_engine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: str, used: str
) -> None:
    monkeypatch.setattr(options, "caller", lambda _settings: ("/home/alice", "alice"))
    for name in there.split():
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(0o755)
    dispatch("options", ["--hosts", "a"], {**SITE, "PATH": str(tmp_path)})
    words = capsys.readouterr().out.split()
    assert ("--device=ocihooks.org/ssh=on" in words) == (used == "docker")
    assert ("--annotation=com.hooks.ssh.user=alice" in words) == (used == "docker")
    assert ("--annotation=com.hooks.ssh.enabled=true" in words) == (used == "podman")


def test_no_engine_to_guess() -> None:
    with pytest.raises(HookError, match="there is no container engine in PATH"):
        dispatch("options", ["--hosts", "a"], SITE)


def test_docker_takes_the_site() -> None:
    with pytest.raises((HookError, KeyStoreError), match="HOOK_BASE_DIR is not set"):
        dispatch("options", ["--hosts", "a", "--engine", "docker"], SITE)
