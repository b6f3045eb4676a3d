"""The scripts that the role ssh_hook runs on nodes, as far as they need neither root nor a node."""

from __future__ import annotations

import copy
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from role_scripts import load

check_json = load("ssh_hook", "check_json")
docker_cdi = load("ssh_hook", "docker_cdi")
loaded = load("ssh_hook", "loaded")
probe = load("ssh_hook", "probe")
refresh_passwd = load("ssh_hook", "refresh_passwd")
remove_empty = load("ssh_hook", "remove_empty")

HOOK: dict[str, Any] = {
    "version": "1.0.0",
    "hook": {"path": "/bin/sh", "args": ["ssh_hook", "start-ssh-daemon"], "env": ["PORT=15263", "EMPTY="]},
    "when": {"annotations": {r"^com\.hooks\.ssh\.enabled$": "^true$"}},
    "stages": ["createRuntime", "poststop"],
}


def test_a_right_hook_is_accepted() -> None:
    check_json.check(json.dumps(HOOK))
    check_json.check(json.dumps({**HOOK, "hook": {"path": "/bin/sh", "timeout": 3}, "when": {"always": True}}))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda hook: hook.pop("version"), "the file has no 'version'"),
        (lambda hook: hook.update(version="1.1.0"), "version is not '1.0.0'"),
        (lambda hook: hook.update(stage=["poststop"]), "the file has the unknown key 'stage'"),
        (lambda hook: hook.update(hook="/bin/sh"), "hook is not an object"),
        (lambda hook: hook["hook"].update(path="bin/sh"), "hook.path is not an absolute path"),
        (
            lambda hook: hook["hook"].update(path="/bin/no such program"),
            "hook.path /bin/no such program is not a program",
        ),
        (lambda hook: hook["hook"].update(args=[]), "hook.args is empty"),
        (lambda hook: hook["hook"].update(args="ssh_hook"), "hook.args is not a list of strings"),
        (lambda hook: hook["hook"].update(args=["a\0b"]), "hook.args is not a list of strings"),
        (lambda hook: hook["hook"].update(env=["PORT"]), "hook.env has 'PORT', which is not NAME=value"),
        (lambda hook: hook["hook"].update(env=[15263]), "hook.env is not a list of strings"),
        (lambda hook: hook["hook"].update(environment=[]), "hook has the unknown key 'environment'"),
        (lambda hook: hook["hook"].update(timeout=True), "hook.timeout is not a number of seconds from 1 on"),
        (lambda hook: hook.update(when={}), "when names no condition"),
        (lambda hook: hook.update(when={"annotation": {}}), "when has the unknown key 'annotation'"),
        (lambda hook: hook.update(when={"annotations": []}), "when.annotations is not a dict"),
        (
            lambda hook: hook.update(when={"annotations": {"(": "x"}}),
            "when.annotations: '(' is not a regular expression",
        ),
        (
            lambda hook: hook.update(when={"annotations": {"x": True}}),
            "when.annotations: the value of 'x' is not a string",
        ),
        (lambda hook: hook.update(when={"commands": ["*"]}), "when.commands: '*' is not a regular expression"),
        (lambda hook: hook.update(stages=[]), "stages is empty"),
        (lambda hook: hook.update(stages=["createruntime"]), "stages has 'createruntime', which is none of"),
    ],
)
def test_a_wrong_hook_is_refused_for_its_reason(harm: Callable[[dict[str, Any]], object], reason: str) -> None:
    hook = copy.deepcopy(HOOK)
    harm(hook)
    with pytest.raises(check_json.BadHook) as refused:
        check_json.check(json.dumps(hook))
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", json.dumps(HOOK)[:-1]])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(check_json.BadHook):
        check_json.check(text)


def test_the_checker_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hook.json"
    assert check_json.main([str(path)]) == 1
    path.write_bytes(b"\xff")
    assert check_json.main([str(path)]) == 1
    path.write_text(json.dumps(HOOK), encoding="utf-8")
    assert check_json.main([str(path)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith(f"{path} is not an OCI hook of schema 1.0.0: ") for line in said)


def test_a_right_hook_is_put_in_its_place_and_a_wrong_one_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, place = tmp_path / "source", tmp_path / "hooks.d" / "hook.json"
    source.write_text(json.dumps(HOOK), encoding="utf-8")
    assert check_json.main([str(source), str(place)]) == 1
    place.parent.mkdir()
    assert check_json.main([str(source), str(place)]) == 0
    source.write_text("{", encoding="utf-8")
    assert check_json.main([str(source), str(place)]) == 1
    assert (json.loads(place.read_text(encoding="utf-8")), place.stat().st_mode) == (HOOK, 0o100644)
    assert list(place.parent.iterdir()) == [place]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{place} cannot be written: No such file or directory"
    assert said[1].startswith(f"{place} is not an OCI hook of schema 1.0.0: ")


CDI: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "ocihooks.org/ssh",
    "devices": [
        {
            "name": "on",
            "containerEdits": {
                "hooks": [
                    {"hookName": "createRuntime", "path": "/bin/sh", "args": ["ssh_hook"], "env": ["PORT=1"]},
                    {"hookName": "poststop", "path": "/bin/sh", "timeout": 3},
                ]
            },
        }
    ],
}


def test_a_right_cdi_spec_is_put_in_its_place(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "spec.json"
    source.write_text(json.dumps(CDI), encoding="utf-8")
    assert check_json.main(["--cdi", str(source), str(place)]) == 0
    assert (json.loads(place.read_text(encoding="utf-8")), place.stat().st_mode) == (CDI, 0o100644)


def device_of(spec: dict[str, Any]) -> Any:
    return spec["devices"][0]


def hooks_of(spec: dict[str, Any]) -> Any:
    return device_of(spec)["containerEdits"]["hooks"]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda spec: spec.pop("kind"), "the file has no 'kind'"),
        (lambda spec: spec.update(version="1.0.0"), "the file has the unknown key 'version'"),
        (lambda spec: spec.update(cdiVersion="2.0.0"), "cdiVersion is '2.0.0', which CDI does not take"),
        (lambda spec: spec.update(kind="ssh"), "kind is 'ssh', which CDI does not take"),
        (lambda spec: spec.update(kind=1), "kind is '1', which CDI does not take"),
        (lambda spec: spec.update(devices={}), "devices is not a list with an entry"),
        (lambda spec: spec.update(devices=[]), "devices is not a list with an entry"),
        (lambda spec: spec.update(devices=["on"]), "devices[0] is not an object"),
        (lambda spec: device_of(spec).update(name=""), "devices[0].name is '', which CDI does not take"),
        (
            lambda spec: device_of(spec)["containerEdits"].update(mounts=[]),
            "devices[0].containerEdits has the unknown key 'mounts'",
        ),
        (lambda spec: hooks_of(spec).clear(), "devices[0].hooks is not a list with an entry"),
        (lambda spec: hooks_of(spec)[1].pop("hookName"), "devices[0].hooks[1] has no 'hookName'"),
        (
            lambda spec: hooks_of(spec)[1].update(hookName="createruntime"),
            "devices[0].hooks[1].hookName is 'createruntime', none of prestart",
        ),
        (lambda spec: hooks_of(spec)[0].update(path="sh"), "devices[0].hooks[0].path is not an absolute path"),
        (lambda spec: hooks_of(spec)[0].update(env=["PORT"]), "devices[0].hooks[0].env has 'PORT', which is not"),
    ],
)
def test_a_wrong_cdi_spec_is_refused_for_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[dict[str, Any]], object], reason: str
) -> None:
    spec = copy.deepcopy(CDI)
    harm(spec)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    assert check_json.main(["--cdi", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{path} is not a CDI spec of OCI hooks: {reason}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {"features": {"cdi": True}}),
        ("", {"features": {"cdi": True}}),
        (
            '{"log-level": "warn", "features": {"buildkit": false}, "proxies": {"no-proxy": "\u00e9"}}',
            {"log-level": "warn", "features": {"buildkit": False, "cdi": True}, "proxies": {"no-proxy": "\u00e9"}},
        ),
        ('{"features": {"cdi": false}}', {"features": {"cdi": True}}),
        ('{"features": null}', {"features": {"cdi": True}}),
    ],
)
def test_dockers_settings_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: dict[str, object]
) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(docker_cdi.os, "fchown", lambda _file, uid, gid: owners.append((uid, gid)))
    path = tmp_path / "docker" / "daemon.json"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before, encoding="utf-8")
        path.chmod(0o600)
    assert docker_cdi.switch_on(str(path), check=True)
    assert not path.exists() if before is None else path.read_text(encoding="utf-8") == before
    assert docker_cdi.switch_on(str(path), check=False)
    assert list(json.loads(path.read_text(encoding="utf-8")).items()) == list(after.items())
    assert path.stat().st_mode & 0o777 == (0o644 if before is None else 0o600)
    assert owners == [(0, 0) if before is None else (os.getuid(), os.getgid())]
    assert not docker_cdi.switch_on(str(path), check=False)
    assert list(path.parent.iterdir()) == [path]


def test_a_link_to_dockers_settings_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_cdi.os, "fchown", lambda _file, _uid, _gid: None)
    target, link = tmp_path / "site.json", tmp_path / "daemon.json"
    target.write_text("{}", encoding="utf-8")
    link.symlink_to(target)
    assert docker_cdi.switch_on(str(link), check=False)
    assert link.is_symlink()
    assert json.loads(target.read_text(encoding="utf-8")) == {"features": {"cdi": True}}


@pytest.mark.parametrize("text", ["{", "[]", '{"features": []}', "\xff"])
def test_settings_that_docker_would_not_take_are_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text, encoding="latin-1")
    assert docker_cdi.main([str(path)]) == 1
    assert path.read_text(encoding="latin-1") == text
    said = capsys.readouterr().err
    assert said.startswith(f"{path} is not ")
    assert said.count("\n") == 1


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
    monkeypatch.setattr(probe, "SEARCH_PATH", str(tmp_path))
    path = tmp_path / "daemon.json"
    assert probe.docker(str(path)) is None
    program = tmp_path / "dockerd"
    program.write_text(f"#!/bin/sh\necho '{said}'\n", encoding="utf-8")
    program.chmod(0o755)
    if settings is not None:
        path.write_text(settings, encoding="utf-8")
    assert probe.docker(str(path)) == (found and {"version": found[0], "cdi": found[1]})


def test_the_version_that_runs_comes_before_newer_ones(tmp_path: Path) -> None:
    old, new = (tmp_path / "lib" / f"ssh_hook-{name}" for name in ("old", "new"))
    for age, directory in enumerate((new, old)):
        directory.mkdir(parents=True)
        os.utime(directory, (1000 - age, 1000 - age))
    assert probe.versions(str(tmp_path)) == [str(new), str(old)]
    launcher = tmp_path / "bin" / "ssh_hook"
    launcher.parent.mkdir()
    launcher.write_text(f'import sys\n\nif True:\n    sys.path.insert(0, "{old}")\n', encoding="utf-8")
    assert probe.versions(str(tmp_path)) == [str(old), str(new)]


def test_accounts_lose_their_passwords_and_what_is_none_is_left_out() -> None:
    listing = b"""\
root:$6$secret:0:0:root:/root:/bin/sh

# comment
+@group::::::
-mallory:x:7:7::/:/bin/sh
short:x:1:1
word:x:one:1::/:/bin/sh
b\xe9a:x:5:5:B\xe9a:/home/bea:/bin/sh
root:other:0:0:later:/:/bin/sh
ctrl\tname:x:8:8::/:/bin/sh
"""
    assert list(refresh_passwd.entries(listing).values()) == [
        b"root:x:0:0:root:/root:/bin/sh",
        b"b\xe9a:x:5:5:B\xe9a:/home/bea:/bin/sh",
    ]


def accounts(people: int) -> dict[bytes, bytes]:
    lines = [b"root:x:0:0::/root:/bin/sh", b"nobody:x:65534:65534::/:/bin/false"]
    lines += [b"user%d:x:%d:1::/:/bin/sh" % (uid, uid) for uid in range(1000, 1000 + people)]
    return dict(refresh_passwd.entries(b"\n".join(lines)))


@pytest.mark.parametrize(("before", "now"), [(0, 0), (0, 5), (1, 0), (2, 1), (10, 5), (10, 10)])
def test_a_plausible_listing_is_accepted(before: int, now: int) -> None:
    refresh_passwd.accepted(accounts(now), accounts(before), "/etc/p")


@pytest.mark.parametrize(("before", "now"), [(2, 0), (3, 1), (10, 4), (1000, 0)])
def test_a_listing_that_lost_most_users_is_refused(before: int, now: int) -> None:
    with pytest.raises(
        refresh_passwd.NotRefreshed, match=f"no longer lists {before - now} of the {before} users in /etc/p"
    ):
        refresh_passwd.accepted(accounts(now), accounts(before), "/etc/p")


def test_an_empty_listing_is_refused_even_where_no_file_is() -> None:
    with pytest.raises(refresh_passwd.NotRefreshed, match="does not list root"):
        refresh_passwd.accepted({}, {}, "/etc/p")


def test_a_directory_that_is_missing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(refresh_passwd, "list_accounts", lambda: b"root:x:0:0::/root:/bin/sh\n")
    path = tmp_path / "missing" / "passwd"
    assert refresh_passwd.main(["--check", str(path)]) == 0
    assert refresh_passwd.main([str(path)]) == 1
    assert capsys.readouterr().err == f"{path} cannot be refreshed: No such file or directory\n"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_holder_of_a_port_is_named_unless_it_is_ours(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        port = taken.getsockname()[1]
        assert probe.port_holders(port, []) == []  # not listening yet
        taken.listen()
        holders = probe.port_holders(port, [])
        assert [holder.rpartition(" (")[2] for holder in holders] == [f"pid {os.getpid()})"]
        assert probe.port_holders(port, [os.getpid()]) == []
    assert probe.port_holders(port, []) == []


def test_engines_are_found_on_the_search_path_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(probe.glob, "glob", lambda pattern: [])
    (tmp_path / "crun").touch(mode=0o755)
    (tmp_path / "runc").touch(mode=0o644)
    assert probe.engines() == {"crun": str(tmp_path / "crun")}


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
    assert probe.hooks_dirs({"sarus": str(program), "crun": "/bin/crun"}) == {"sarus": directories}


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
    assert probe.hooks_dirs({"podman": str(podman)}) == {"podman": directories}


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
        ("08-ssh-hook.json", {**OTHER, "when": {"always": True}}, False),
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
    stale, others = probe.superfluous_hooks(directories, "/bin/sh", [str(tmp_path / "07-ssh-hook.json")])
    assert (stale, others) == ([], [str(tmp_path / name)] * found)


def test_an_ssh_hook_of_ours_is_superfluous_where_it_is_not_to_be(tmp_path: Path) -> None:
    launcher, older, link = tmp_path / "ssh_hook", tmp_path / "older", tmp_path / "link"
    for program in (launcher, older):
        program.write_text(f"#!/usr/bin/python3\n# {probe.MARK}: changes here do not last.\n", encoding="utf-8")
    link.symlink_to(launcher)
    named = {
        "new": older,
        "old": launcher,
        "older": older,
        "linked": link,
        "sites": "/bin/sh",
        "gone": tmp_path / "none",
    }
    for name, program in named.items():
        content = {**HOOK, "hook": {**HOOK["hook"], "path": str(program)}}
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    stale, others = probe.superfluous_hooks([str(tmp_path)], str(launcher), [str(tmp_path / "new.json")])
    assert stale == [str(tmp_path / f"{name}.json") for name in ("old", "older")]
    assert others == [str(tmp_path / f"{name}.json") for name in ("gone", "linked", "sites")]


def test_python_packages_are_looked_for_in_the_sites_directory(tmp_path: Path) -> None:
    (tmp_path / "cryptography").mkdir()
    (tmp_path / "pyroute2").mkdir()
    (tmp_path / "pyroute2/__init__.py").touch()
    assert probe.package_homes(str(tmp_path)) == {"cryptography": None, "pyroute2": str(tmp_path)}


def test_the_report_is_json(tmp_path: Path) -> None:
    question = {
        "prefix": str(tmp_path),
        "dropbear_dir": str(tmp_path / "dropbear"),
        "port": "15263",
        "addresses": ["127.0.0.1", "192.0.2.1"],
        "packages_dir": "",
        "passwd_file": "/etc/passwd",
        "directories": [str(tmp_path), str(tmp_path / "none")],
        "launcher": "/bin/sh",
        "json_files": [str(tmp_path / "07-ssh-hook.json")],
        "unwanted": [str(tmp_path / "cdi.json"), str(tmp_path / "cdi.json.old")],
        "docker_json": str(tmp_path / "daemon.json"),
        "written": [str(tmp_path / "none"), "/proc/self"],
    }
    (tmp_path / "cdi.json").touch()
    (tmp_path / "08-ssh-hook.json").write_text(json.dumps(OTHER), encoding="utf-8")
    (tmp_path / "lib/ssh_hook-1").mkdir(parents=True)
    (tmp_path / "lib/ssh_hook-2").mkdir()
    os.utime(tmp_path / "lib/ssh_hook-1", (2, 2))
    os.utime(tmp_path / "lib/ssh_hook-2", (1, 1))
    report = json.loads(json.dumps(probe.report(question)))
    assert report["kernel"] == os.uname().release
    assert report["missing"] == [str(tmp_path / "none")]
    assert (report["read_only"], report["full"]) == ([], ["/proc/self"])
    assert report["passwd_file"] is True
    assert report["foreign"] == ["192.0.2.1"]
    assert report["other_hooks"] == [str(tmp_path / "08-ssh-hook.json")]
    assert report["stale"] == [str(tmp_path / "cdi.json")]
    assert report["libseccomp"] == probe.loads("libseccomp.so.2")
    assert report["versions"] == [str(tmp_path / "lib/ssh_hook-1"), str(tmp_path / "lib/ssh_hook-2")]
    assert report["import_path"] == [path for path in sys.path if os.path.exists(path)]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0:0:0::1"])
def test_a_node_can_listen_at_its_own_addresses(address: str) -> None:
    assert probe.can_listen(address)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "localhost", "127.1", "bad.cafe", "::1%lo", "", ":"])
def test_a_node_cannot_listen_at_what_is_no_address_of_its_own(address: str) -> None:
    assert not probe.can_listen(address)


def test_a_library_can_be_loaded_or_not() -> None:
    assert probe.loads("libc.so.6")
    assert not probe.loads("libc.so.66")


def test_only_empty_directories_are_removed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    removed = [
        name for name in ("empty", "full", "full/file", "none") if remove_empty.remove_empty(str(tmp_path / name))
    ]
    assert removed == ["empty"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_suid_dumpable_of_a_kernel_without_it_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "suid_dumpable").write_text("2\n", encoding="ascii")
    assert probe.suid_dumpable(str(tmp_path / "suid_dumpable")) == 2
    assert probe.suid_dumpable(str(tmp_path / "none")) == 0


def test_what_ldconfig_reads_and_where_it_looks(tmp_path: Path) -> None:
    main, first, second, other = (tmp_path / name for name in ("ld.so.conf", "conf.d/1.conf", "conf.d/2.conf", "other"))
    first.parent.mkdir()
    main.write_text(
        f"# comment\ninclude conf.d/*.conf none.d/*.conf # and\n\n/opt/main\nhwcap 1 x\ninclude {other}\n",
        encoding="utf-8",
    )
    first.write_text("/opt/first/ # slash\n/opt/typed=libc6\n/\nrelative\n", encoding="utf-8")
    second.write_bytes(f"/opt/main\n/opt/caf\udce9\ninclude {main}\n".encode("utf-8", "surrogateescape"))
    configuration = loaded.Configuration(str(main))
    assert configuration.files == [str(main), str(first), str(second)]
    assert configuration.directories == {
        "/opt/first": str(first),
        "/opt/typed": str(first),
        "/": str(first),
        "/opt/main": str(second),
        "/opt/caf\udce9": str(second),
    }
    assert configuration.searched == {str(first.parent), f"{tmp_path}/none.d", str(tmp_path)}
    assert loaded.Configuration(str(tmp_path / "none")).files == []


def test_libraries_to_preload_are_those_named_by_path(tmp_path: Path) -> None:
    path = tmp_path / "ld.so.preload"
    path.write_text(
        "libfirst.so /opt/second.so:/opt/third.so\n# /opt/none.so\n\t/opt/fourth.so # last\n", encoding="utf-8"
    )
    assert loaded.preloaded(str(path)) == ["/opt/second.so", "/opt/third.so", "/opt/fourth.so"]
    assert loaded.preloaded(str(tmp_path / "none")) == []


def test_where_the_dynamic_loader_looked(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    debug = f"""\
       123:\tfind library=libx.so [0]; searching
       123:\t search path={tmp_path}/link/..\t\t(RUNPATH from file python)
       123:\t  trying file={tmp_path}/link/../libx.so
       123:\t search cache=/etc/ld.so.cache
       123:\t  trying file=/opt/with blank/libx.so
Traceback
"""
    assert list(loaded.tried(debug)) == [f"{tmp_path}/a/libx.so", "/opt/with blank/libx.so"]


def test_files_are_mapped_and_devices_and_what_is_deleted_are_not(tmp_path: Path) -> None:
    library = tmp_path / "lib x.so"
    library.touch()
    maps = f"""\
7f0000000000-7f0000001000 r-xp 00000000 fe:00 1234                       {library}
7f0000001000-7f0000002000 r-xp 00000000 fe:00 1235                       {tmp_path}/ffi (deleted)
7f0000002000-7f0000003000 rw-p 00000000 00:05 1                          /dev/zero
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0                          [stack]
"""
    assert list(loaded.mapped(maps)) == [str(library)]


def test_an_interpreter_that_cannot_load_them_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loaded, "NOBODY", os.geteuid())  # who may not run each interpreter of the unit tests
    assert loaded.main(["/no/such/directory"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{sys.executable} cannot import cryptography and pyroute2 as an ordinary user: ")
    assert said.count("\n") == 1
    monkeypatch.setattr(sys, "executable", str(tmp_path))
    assert loaded.main([]) == 1
    assert capsys.readouterr().err == f"{tmp_path} cannot be run by an ordinary user: Permission denied\n"
