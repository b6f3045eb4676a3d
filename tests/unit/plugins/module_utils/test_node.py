"""The properties of a node, as far as they need neither root nor a node of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _node as node

HOOK: dict[str, Any] = {
    "version": "1.0.0",
    "hook": {"path": "/bin/sh", "args": ["ssh_hook", "start-ssh-daemon"], "env": ["PORT=15263", "EMPTY="]},
    "when": {"annotations": {r"^com\.hooks\.ssh\.enabled$": "^true$"}},
    "stages": ["createRuntime", "poststop"],
}


@pytest.fixture
def keeps_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may not enter the directory of this test, which is not root's alone, and of this interpreter perhaps."""
    monkeypatch.setattr(node._nobody, "rights", dict)
    monkeypatch.setattr(node._secure_path, "violations_of", lambda *_paths: [])


@pytest.mark.usefixtures("keeps_rights")
@pytest.mark.parametrize(
    ("said", "settings", "found"),
    [
        ("Docker version 20.10.24+dfsg1, build 297e128", '{"features": {"cdi": true}}', ("20.10", False)),
        ("Docker version 26.1.5+dfsg1, build 411e817", None, ("26.1", False)),
        ("Docker version 26.1.5+dfsg1, build 411e817", '{"features": {"cdi": "yes"}}', ("26.1", False)),
        ("Docker version 26.1.5+dfsg1, build 411e817", '{"features": {"cdi": true}}', ("26.1", True)),
        ("Docker version 28.1.1, build 4eba377", "{}", ("28.1", False)),
        ("Docker version 28.2.0, build 4eba377", "{", ("28.2", True)),
        ("Docker version 29.0.0, build 4eba377", '{"features": {"cdi": false}}', ("29.0", False)),
        ("podman version 5", None, None),
    ],
)
def test_docker_says_whether_it_takes_devices(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    settings: str | None,
    found: tuple[str, bool] | None,
) -> None:
    monkeypatch.setattr(node, "SEARCH_PATH", str(tmp_path))
    path = tmp_path / "daemon.json"
    assert node.docker(str(path)) is None
    program = tmp_path / "dockerd"
    program.write_text(f"#!/bin/sh\necho '{said}'\n", encoding="utf-8")
    program.chmod(0o755)
    if settings is not None:
        path.write_text(settings, encoding="utf-8")
    answer = node.docker(str(path))
    assert (answer and (answer["version"], answer["cdi"])) == found
    if answer:
        assert answer["is_old"] == (answer["version"] == "20.10")
        assert (answer["problem"] is None) == (settings != "{")


def test_engines_are_found_on_the_search_path_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(node.glob, "glob", lambda pattern: [])
    (tmp_path / "crun").touch(mode=0o755)
    (tmp_path / "runc").touch(mode=0o644)
    assert node.engines() == {"crun": str(tmp_path / "crun")}


@pytest.mark.parametrize(
    ("text", "directories"),
    [
        ('{"hooksDir": "/opt/sarus/etc/hooks.d", "centralizedRepositoryDir": "/x"}', ["/opt/sarus/etc/hooks.d"]),
        ("{}", []),
        ("[]", []),
        ("{", []),
        ('{"hooksDir": 1}', []),
        (None, []),
    ],
)
def test_sarus_says_where_it_reads_hooks(tmp_path: Path, text: str | None, directories: list[str]) -> None:
    program = tmp_path / "bin/sarus"
    if text is not None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/sarus.json").write_text(text, encoding="utf-8")
    assert node.hooks_dirs({"sarus": str(program), "crun": "/bin/crun"}) == {"sarus": directories}


@pytest.mark.usefixtures("keeps_rights")
@pytest.mark.parametrize(
    ("text", "directories"),
    [
        ("--hooks-dir strings  Set it (may be set multiple times) (default [/usr/share/x])", ["/usr/share/x"]),
        ("--hooks-dir stringArray  Set it (default [/usr/share/x,/etc/y])", ["/usr/share/x", "/etc/y"]),
        ("--hooks-dir strings  Set it", []),
        ("--log-level (default [x])", []),
    ],
)
def test_podman_says_where_it_reads_hooks(tmp_path: Path, text: str, directories: list[str]) -> None:
    podman = tmp_path / "podman"
    podman.write_text(
        f"#!/bin/sh\necho 'Options:'\necho '      {text}'\necho '  --other (default [z])'\n", encoding="utf-8"
    )
    podman.chmod(0o755)
    assert node.hooks_dirs({"podman": str(podman)}) == {"podman": directories}


@pytest.mark.usefixtures("keeps_rights")
def test_a_podman_that_does_not_run_says_nothing(tmp_path: Path) -> None:
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\necho 'cannot retrieve cmd line' >&2\nexit 1\n", encoding="utf-8")
    podman.chmod(0o755)
    assert node.hooks_dirs({"podman": str(podman)}) == {}


OURS = "start-ssh-daemon REQUIRE_USER_ANNOTATION="
OTHER = {**HOOK, "hook": {**HOOK["hook"], "path": "/opt/sarus/bin/ssh_hook"}}


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("07-ssh-hook.json", HOOK, False),  # ours
        ("07-ssh-hook.json", OTHER, True),  # that ours would replace
        ("08-ssh-hook.json", OTHER, True),
        ("08-ssh-hook.json.old", OTHER, False),
        ("08-ssh-hook.json", {**OTHER, "when": {"annotations": {"^com.hooks.ssh.enabled$": "^true$"}}}, True),
        ("08-ssh-hook.json", {**OTHER, "when": {"annotations": {"^com.hooks.ssh.enabled$": "^sarus$"}}}, False),
        ("08-ssh-hook.json", {**OTHER, "when": {"annotations": {"^com.hooks.mpi.enabled$": "^true$"}}}, False),
        ("08-ssh-hook.json", {**OTHER, "when": {"annotations": {"(": "x"}}}, False),
        ("08-ssh-hook.json", {**OTHER, "when": {"always": True}}, True),
        ("08-ssh-hook.json", {**OTHER, "when": {"always": False}}, False),
        ("08-ssh-hook.json", {**HOOK, "when": {"commands": [".*"]}}, True),  # a second hook for all, with our program
        ("08-ssh-hook.json", {**OTHER, "when": {"always": True, "annotations": {"^org.site$": "^on$"}}}, False),
        ("08-ssh-hook.json", {**OTHER, "hook": {"path": "/bin/log"}}, False),
        ("08-ssh-hook.json", {**OTHER, "hook": {"path": "/bin/log", "args": ["log", "start"]}}, False),
        ("08-ssh-hook.json", ["start-ssh-daemon"], False),
    ],
)
def test_another_ssh_hook_is_found(tmp_path: Path, name: str, content: object, found: bool) -> None:
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "09-broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "10-nowhere.json").symlink_to("nowhere")
    directories = [str(tmp_path), str(tmp_path / "none"), str(tmp_path)]
    stale, others = node.superfluous_hooks(directories, "/bin/sh", [str(tmp_path / "07-ssh-hook.json")])
    assert (stale, others) == ([], [str(tmp_path / name)] * found)


def test_an_ssh_hook_of_ours_is_superfluous_where_it_is_not_to_be(tmp_path: Path) -> None:
    ours = {**HOOK, "hook": {**HOOK["hook"], "env": ["REQUIRE_USER_ANNOTATION=false"]}}
    for name, content in {"new": ours, "old": ours, "older": ours, "sites": OTHER}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    stale, others = node.superfluous_hooks([str(tmp_path)], "/opt/ssh_hook", [str(tmp_path / "new.json")])
    assert stale == [str(tmp_path / f"{name}.json") for name in ("old", "older")]
    assert others == [str(tmp_path / "sites.json")]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0:0:0::1"])
def test_a_node_can_listen_at_its_own_addresses(address: str) -> None:
    assert node.can_listen(address)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "localhost", "127.1", "bad.cafe", "::1%lo", "", ":"])
def test_a_node_cannot_listen_at_what_is_no_address_of_its_own(address: str) -> None:
    assert not node.can_listen(address)


def test_a_link_that_leads_to_nothing_is_found_above_a_path(tmp_path: Path) -> None:
    (tmp_path / "opt").symlink_to("var/opt")
    for below in ("opt/oci-hooks", "opt/oci-hooks/etc"):
        assert node.dead_link(str(tmp_path / below)) == str(tmp_path / "opt")
    (tmp_path / "var/opt").mkdir(parents=True)
    for below in ("opt/oci-hooks/etc", "none/oci-hooks", "opt"):
        assert node.dead_link(str(tmp_path / below)) is None


def test_a_parameter_that_the_kernel_does_not_have_is_0(tmp_path: Path) -> None:
    (tmp_path / "suid_dumpable").write_text("2\n", encoding="ascii")
    assert node.parameter(str(tmp_path / "suid_dumpable")) == 2
    assert node.parameter(str(tmp_path / "none")) == 0


@pytest.mark.usefixtures("keeps_rights")
def test_python_packages_are_looked_for_in_the_sites_directory(tmp_path: Path) -> None:
    (tmp_path / "cryptography").mkdir()
    (tmp_path / "pyroute2").mkdir()
    (tmp_path / "pyroute2/__init__.py").touch()
    facts = node.interpreter(sys.executable, str(tmp_path))
    assert facts["packages"] == {"cryptography": None, "pyroute2": str(tmp_path)}


@pytest.mark.usefixtures("keeps_rights")
def test_an_interpreter_says_what_it_is_or_is_none(tmp_path: Path) -> None:
    facts = node.interpreter(sys.executable, "")
    assert (facts["exists"], facts["version"]) == (True, ".".join(map(str, sys.version_info[:2])))
    environment = [f"{sys.prefix}/pyvenv.cfg"] * (sys.prefix != sys.base_prefix)
    assert facts["import_path"][-1:] == environment
    assert set(facts["import_path"]) <= {*sys.path, *environment}
    assert f"{sys.base_prefix}/lib/python{facts['version']}" in facts["import_path"]
    assert facts["libseccomp"] in (True, False)
    for text, version, problem in (
        ("echo Python 3.8", "3.8", None),
        ("echo else", None, None),
        ("exit 1", None, None),
        (
            "echo 'first'; echo 'no library' >&2; exit 1",
            None,
            "does not report its Python version when an ordinary user runs it: no library.",
        ),
        ("echo >&2; exit 1", None, None),
        ("echo 'Python 3.9'; echo '{'", "3.9", None),
    ):
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        program.chmod(0o755)
        facts = node.interpreter(str(program), "")
        assert (facts["exists"], facts["version"], facts["import_path"]) == (True, version, [])
        assert facts["problem"] == (problem and f"{program} {problem}")
    assert node.interpreter(str(tmp_path), "")["exists"] is False


def test_a_program_that_others_can_change_is_not_run_by_root(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho '--hooks-dir (default [/x])'\n", encoding="utf-8")
    program.chmod(0o755)
    assert node.podman_hooks_dirs(str(program)) is None
    facts = node.interpreter(str(program), "")
    assert (facts["exists"], facts["unsafe"], facts["version"]) == (True, True, None)
    assert ": whoever can change this can change what root runs. Give it to root, " in facts["problem"]
    assert not (tmp_path / "ran").exists()


def test_an_interpreter_that_nobody_may_run_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node._secure_path, "violations_of", lambda *_paths: [])
    program = tmp_path / "python"
    program.write_text("#!/bin/none\n", encoding="utf-8")
    program.chmod(0o755)
    assert str(node.interpreter(str(program), "")["problem"]).startswith(
        f"{program} cannot be run by an ordinary user: "
    )
    monkeypatch.setattr(node._nobody, "rights", dict)
    monkeypatch.setattr(node, "SECONDS", 0.1)
    program.write_text("#!/bin/sh\nsleep 60\n", encoding="utf-8")
    assert node.interpreter(str(program), "")["problem"] == f"{program} did not report its version within 0.1 seconds."


def test_the_report_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = {
        "prefix": str(tmp_path),
        "python": sys.executable,
        "packages_dir": "",
        "dropbear_dir": str(tmp_path / "dropbear"),
        "port": 15263,
        "addresses": ["127.0.0.1", "192.0.2.1"],
        "passwd_file": "/etc/passwd",
        "name_service": False,
        "writes_passwd_file": True,
        "base_dir": str(tmp_path),
        "directories": [str(tmp_path), str(tmp_path / "none")],
        "json_files": [str(tmp_path / "07-ssh-hook.json")],
        "files": {str(tmp_path / "07-ssh-hook.json"): "0644", str(tmp_path / "08-ssh-hook.json"): "0755"},
        "hook_digests": {"package/cli.py": "0"},
        "critical": ["/etc/passwd"],
        "provided": [],
        "metrics_dir": "",
        "dropbear_versions": {"dropbear": "1", "openssh": "2p1"},
        "unwanted": [str(tmp_path / "cdi.json"), str(tmp_path / "cdi.json.old"), str(tmp_path / "other.json")],
        "possible": [str(tmp_path / "other.json")],
        "docker_json": str(tmp_path / "daemon.json"),
        "firewalld_zone": "",
        "lists_daemons": False,
    }
    for name, text in {"cdi.json": OURS, "other.json": "{}", "dropbear": ""}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "08-ssh-hook.json").write_text(json.dumps(OTHER), encoding="utf-8")
    (tmp_path / "lib/ssh_hook-000000000001").mkdir(parents=True)
    monkeypatch.setattr(node._files, "ROOT", (os.getuid(), os.getgid()))
    (tmp_path / "08-ssh-hook.json").chmod(0o755)
    report = json.loads(json.dumps(node.report(question, lambda _path: False)))
    assert report["kernel"] == os.uname().release
    assert report["architecture"] == os.uname().machine
    assert report["missing"] == [str(tmp_path / "none")]
    assert (report["unwritable"], report["full"]) == ([], [])
    with monkeypatch.context() as small:
        small.setattr(node, "ROOM", 1 << 62)
        assert node.report(question, lambda _path: False)["full"] == [str(tmp_path)] * (1 + bool(node.engines()))
    assert (report["passwd_file"], report["passwd_outdated"]) == (True, False)
    assert list(report["files"]) == [str(tmp_path / "08-ssh-hook.json")]
    assert (report["hook_settings"], report["release"], report["units"], report["safe"]) == (None, "", {}, [])
    assert report["foreign"] == ["192.0.2.1"]
    assert report["other_hooks"] == [str(tmp_path / "08-ssh-hook.json")]
    assert report["stale"] == [str(tmp_path / "cdi.json")]
    foreign = [str(tmp_path / name) for name in ("dropbear", "08-ssh-hook.json", "other.json")]
    assert report["foreign_files"] == [foreign[0], "/etc/passwd", *foreign[1:]]
    assert (report["port"], report["dropbear"]) == (None, False)
    assert report["versions"] == [str(tmp_path / "lib/ssh_hook-000000000001")]
    assert report["image"] is False
    monkeypatch.setattr(node._image, "is_image", lambda: True)
    report = json.loads(json.dumps(node.report(question, lambda _path: False)))
    assert report["image"] is True
    assert (report["kernel"], report["foreign"], report["daemons"], report["port_holders"]) == ("", [], [], [])
    assert report["stale"] == [str(tmp_path / "cdi.json")]
    ours = tmp_path / "07-ssh-hook.json"
    (tmp_path / "dropbear").unlink()
    ours.write_text(
        json.dumps({"args": OURS, "env": ["A_SERVER_PORT_DEFAULT=1", "SERVER_PORT_DEFAULT=15264"]}), encoding="utf-8"
    )
    (tmp_path / "dropbear-1-0123456789ab").mkdir()
    question["metrics_dir"] = str(tmp_path / "metrics")
    prom = tmp_path / "metrics/ssh_hook.prom"
    prom.parent.mkdir()
    prom.write_text("# HELP ssh_hook_daemons running SSH daemons\n", encoding="utf-8")
    for found, too_many in (({"crun": "/usr/bin/crun"}, []), ({}, [str(ours), str(prom)])):  # what no engine reads
        monkeypatch.setattr(node, "engines", lambda found=found: found)
        report = json.loads(json.dumps(node.report(question, lambda _path: False)))
        assert (report["port"], report["dropbear"]) == (15264, True)
        assert report["stale"] == sorted([*too_many, str(tmp_path / "cdi.json")])
    ours.write_text(json.dumps({"env": ["SERVER_PORT_DEFAULT=auto", "SERVER_PORT_WITHOUT_JOB=1"]}), encoding="utf-8")
    assert node.given_port([str(ours)]) == "auto"


def test_directories_that_root_cannot_write_to_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is in their way, as no permission is in root's."""
    blocked, ours = tmp_path / "blocked", tmp_path / "ours"
    blocked.touch()
    monkeypatch.setattr(node._timers, "uses_systemd", lambda: True)
    monkeypatch.setattr(node._timers, "UNITS", f"{blocked}/units")
    monkeypatch.setattr(node._hook_package, "MOUNT_POINT", f"{tmp_path}/opt/ssh")
    question = {
        **QUESTION,
        "prefix": f"{tmp_path}/prefix",
        "dropbear_dir": f"{blocked}/none/dropbear",
        "passwd_file": f"{blocked}/etc/passwd",
        "files": {f"{blocked}/hooks.d/hook.json": "0644", f"{ours}/x.json": "0644"},
        "metrics_dir": f"{blocked}/metrics",
    }
    everywhere = [f"{blocked}/{name}" for name in ("none", "etc", "hooks.d", "metrics", "units")]
    assert node.unwritable(question, engines=True) == everywhere
    assert node.unwritable(question, engines=False) == [everywhere[1], everywhere[4]]
    question["files"] = {f"{blocked}": "0644"}
    assert node.unwritable(question, engines=True) == [path for path in everywhere if "hooks.d" not in path]


QUESTION = {
    "prefix": "/usr/none",
    "dropbear_dir": "/usr/none/dropbear",
    "python": "/usr/bin/python3",
    "passwd_file": "/usr/none/etc/passwd",
    "name_service": True,
    "files": {"/usr/share/none/hook.json": "0644"},
    "metrics_dir": "",
    "critical": ["/etc/passwd", "/usr/none"],
    "provided": ["/usr/bin/python3"],
}
PYTHON = {"problem": None, "import_path": ["/usr/bin/env"], "packages": {"cryptography": "/bin/sh", "pyroute2": None}}
FOUND = {"versions": ["/etc/group"], "units": {}, "python": PYTHON, "engines": {"podman": "/usr/bin/podman"}}
OTHERS, OWN = ["/usr/bin/python3", "/usr/bin/env", "/bin/sh"], ["/etc/passwd", "/etc/group"]


@pytest.fixture
def writable(tmp_path: Path) -> str:
    """An empty directory that everyone can write to; /tmp would be walked, with all that its links lead to."""
    tmp_path.chmod(0o777)
    return str(tmp_path)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_loaded(*files: str, directories: tuple[str, ...] = (), **configured: str) -> None:
        loaded = node._loader.Loaded([*files], [*directories], {f"/{name}": path for name, path in configured.items()})
        monkeypatch.setattr(node._loader, "loaded", lambda *_arguments: loaded)

    set_loaded()
    return set_loaded


def test_only_what_root_alone_can_change_is_safe(loads: Callable[..., None], writable: str) -> None:
    def verification(**changes: Any) -> dict[str, object]:
        return node.verification({**QUESTION, **changes}, FOUND)

    assert verification() == {"safe": OTHERS + OWN, "unsafe": ""}
    assert verification(critical=[]) == {"safe": [], "unsafe": ""}
    assert verification(critical=["/etc/passwd", writable]) == {"safe": OTHERS, "unsafe": ""}
    without = node.verification({**QUESTION, "critical": ["/usr/none"]}, {**FOUND, "versions": []})
    assert without == {"safe": OTHERS, "unsafe": ""}
    assert node.verification(QUESTION, {**FOUND, "versions": [writable]}) == {"safe": OTHERS, "unsafe": ""}


def test_others_files_are_unsafe_before_anything_changes(loads: Callable[..., None], writable: str) -> None:
    def unsafe(import_path: tuple[str, ...] = (), **changes: Any) -> object:
        found = {**FOUND, "python": {**PYTHON, "import_path": [*import_path]}}
        verified = node.verification({**QUESTION, **changes}, found)
        assert verified["safe"] == []
        return verified["unsafe"]

    assert str(unsafe(provided=["/etc/none"])).startswith("/etc/none does not exist.")
    assert "/tmp, above /tmp/none, is writable by everyone and" in str(unsafe(provided=["/tmp/none"]))
    assert "'relative' must be absolute" in str(unsafe(provided=["relative"]))
    assert writable in str(unsafe((writable,)))
    loads(writable)
    assert writable in str(unsafe())
    loads(directories=("/tmp/lib",), **{"tmp/lib": "/etc/ld.so.conf.d/x.conf"})
    assert "remove the directory from /etc/ld.so.conf.d/x.conf and run ldconfig." in str(unsafe())


@pytest.mark.parametrize(
    "changes",
    [
        {"prefix": "/tmp/prefix"},
        {"dropbear_dir": "/tmp/none/dropbear"},
        {"prefix": "/tmp"},
        {"passwd_file": "/tmp/passwd"},
        {"files": {"/tmp/hooks.d/hook.json": "0644"}},
        {"metrics_dir": "/tmp"},
        {"prefix": "/opt", "dropbear_dir": "/tmp/dropbear", "metrics_dir": "/tmp/metrics"},
    ],
)
def test_where_an_installation_writes_nobody_else_may(loads: Callable[..., None], changes: dict[str, Any]) -> None:
    assert "/tmp" in str(node.verification({**QUESTION, **changes}, FOUND)["unsafe"])


def test_where_an_installation_does_not_write_others_may(loads: Callable[..., None]) -> None:
    of_engines = {"files": {"/tmp/hooks.d/hook.json": "0644"}, "metrics_dir": "/tmp", "dropbear_dir": "/tmp/x"}
    question = {**QUESTION, **of_engines}
    assert node.verification(question, {**FOUND, "engines": {}})["unsafe"] == ""
    question = {**QUESTION, "passwd_file": "/tmp/passwd", "name_service": False}
    assert node.verification(question, FOUND)["unsafe"] == ""


def test_packages_are_not_safe_before_they_are_installed(monkeypatch: pytest.MonkeyPatch, writable: str) -> None:
    monkeypatch.setattr(node._loader, "loaded", None)
    found = {**FOUND, "python": {**PYTHON, "packages": {"cryptography": None, "pyroute2": None}}}
    assert node.verification(QUESTION, found) == {"safe": OWN, "unsafe": ""}
    assert writable in str(node.verification({**QUESTION, "provided": [writable]}, found)["unsafe"])


def test_programs_that_others_can_change_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node._dropbear, "intact", lambda prefix, _versions, _relabel: f"release in {prefix}")
    versions = {"dropbear": "1", "openssh": "2p1"}
    assert node.release("/etc/passwd", versions, lambda _path: False) == "release in /etc"
    assert node.release("/etc/passwd", {}, lambda _path: False) == ""
    for unsafe in (str(tmp_path), "/etc/none", "relative", "/etc/../etc/passwd"):
        assert node.release(unsafe, versions, lambda _path: False) == ""


def test_an_interpreter_that_cannot_load_the_packages_is_not_safe() -> None:
    verified = node.verification({**QUESTION, "python": "/bin/false"}, FOUND)
    assert verified == {
        "safe": [],
        "unsafe": "/bin/false cannot import cryptography and pyroute2 as an ordinary user: exit status 1.",
    }


def test_files_count_only_as_they_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node._files, "ROOT", (os.getuid(), os.getgid()))
    digest, file = node._files.digest, tmp_path / "hook.json"
    file.write_bytes(b"{}")
    file.chmod(0o644)
    assert digest(str(file)) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    link = tmp_path / "link.json"
    link.symlink_to(file)
    assert (digest(str(link)), digest(str(tmp_path)), digest(str(tmp_path / "no"))) == (None, None, None)
    file.chmod(0o664)
    assert digest(str(file)) is None


def test_a_passwd_file_is_outdated_unless_it_is_what_the_name_service_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node._files, "ROOT", (os.getuid(), os.getgid()))
    listing = b"root:x:0:0:root:/root:/bin/sh\n"
    accounts = {b"root": listing.rstrip()}
    file = tmp_path / "passwd"
    assert node.is_outdated(str(file), accounts) is True
    node._files.update(str(file), node.name_service.new_content(str(file), b"", accounts))
    assert node.is_outdated(str(file), accounts) is False
    file.chmod(0o666)
    assert node.is_outdated(str(file), accounts) is True
    file.chmod(0o644)
    accounts = {b"daemon": b"daemon:x:1:1::/:/bin/sh"}  # no root: an answer of a broken name service
    assert node.is_outdated(str(file), accounts) is True


def test_a_zone_of_firewalld_is_a_file_or_a_directory_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "ZONES", (str(tmp_path / "etc"), str(tmp_path / "usr")))
    (tmp_path / "etc/parts").mkdir(parents=True)
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/public.xml").touch()
    assert [node.has_zone(name) for name in ("parts", "public", "cluster")] == [True, True, False]


def test_homes_without_a_name_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alice", "bob", "lost+found", ".snapshot", "carol"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(node.name_service, "list_accounts", lambda *_seconds: b"alice:x:1:1::/:/bin/sh\n")
    accounts = node.listed_accounts()
    assert node.unnamed_homes(str(tmp_path), accounts) == [2, 3]
    assert node.unnamed_homes(str(tmp_path / "none"), accounts) == [0, 0]

    def broken(*_seconds: int) -> bytes:
        raise node.name_service.NotRefreshed

    monkeypatch.setattr(node.name_service, "list_accounts", broken)
    assert node.unnamed_homes(str(tmp_path), node.listed_accounts()) == [0, 0]


@pytest.mark.parametrize("violations", [[], ["others can write to it"]])
def test_a_hook_that_others_can_change_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, violations: list[str]
) -> None:
    question = {"prefix": str(tmp_path), "python": sys.executable, "dropbear_dir": str(tmp_path / "dropbear")}
    assert node.servers(question) == []  # without a hook
    launcher, asked = tmp_path / "bin/ssh_hook", tmp_path / "asked"
    launcher.parent.mkdir()
    launcher.write_text(f"#!/bin/sh\ntouch {asked}\necho '{{\"containers\": []}}'\n", encoding="utf-8")
    launcher.chmod(0o755)
    verified: list[str] = []
    monkeypatch.setattr(node._secure_path, "violations_of", lambda *paths: verified.extend(paths) or violations)
    assert node.servers(question) == (None if violations else [])
    assert asked.exists() is not bool(violations)
    assert verified == [str(launcher), sys.executable]
