"""secure_path: every rule, both ends of links, repairs, and what a hostile user may have left in a tree. Needs root."""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.ocihooks.ssh.plugins.module_utils import _secure_path as secure_path
from ansible_collections.ocihooks.ssh.plugins.module_utils._secure_path import Permissions

STRANGER = 54321  # a uid and gid without a name
DAEMON = 1  # uid and gid of the user daemon on every Linux distribution


@pytest.fixture
def tree() -> Iterator[Path]:
    """A root-owned directory outside of /tmp, for what lies below that is never safe."""
    directory = Path(tempfile.mkdtemp(prefix="secure-path-", dir="/var/lib"))
    directory.chmod(0o755)
    umask = os.umask(0o022)
    yield directory
    os.umask(umask)
    shutil.rmtree(directory)


def parsed(*paths: Path | str) -> list[bytes]:
    return secure_path.parse_paths([str(path) for path in paths])


def verify(*paths: Path | str) -> list[secure_path.Violation]:
    return secure_path.verify(paths=parsed(*paths))


def rules(*paths: Path | str) -> set[tuple[str, str]]:
    found = verify(*paths)
    brief = {(violation.path, violation.rule) for violation in found}
    assert len(brief) == len(found), "each place and rule once"
    return brief


def repair(*paths: Path | str, apply: bool = True) -> secure_path.Outcome:
    return secure_path.repair(paths=parsed(*paths), apply=apply)


def make(path: Path, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Path:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def directory(path: Path, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Path:
    path.mkdir(parents=True)
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def link(path: Path, target: Path | str, uid: int = 0) -> Path:
    path.symlink_to(target)
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


def owner_and_mode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, stat.S_IMODE(status.st_mode)


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY_NAMED = 0xFFFFFFFF
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def full_acl(*named: tuple[int, int, int], group: int = 4, mask: int = 6) -> bytes:
    own = (
        (USER_OBJ, 6, NOBODY_NAMED),
        (GROUP_OBJ, group, NOBODY_NAMED),
        (MASK, mask, NOBODY_NAMED),
        (OTHER, 4, NOBODY_NAMED),
    )
    return acl(*sorted((*own, *named)))  # the kernel wants them in the order of their tags


def alone(*directories: Path | str) -> dict[str, tuple[str, str]]:
    """Path -> rule and message of what is wrong with directories that are checked without what they hold."""
    found = secure_path.verify(paths=[], directories=parsed(*directories))
    return {violation.path: (violation.rule, violation.message) for violation in found}


# What is asked for


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ([], "path is an empty list: name at least one path"),
        (["etc"], "path 'etc' must be absolute"),
        ([""], "path '' must be absolute"),
        (["/etc", "a\nb"], r"path 'a\nb' must be absolute"),
        (["/a\0b"], r"path '/a\x00b' must not contain a NUL character"),
        (["/etc/../home"], "path '/etc/../home' must not contain '..': name the directory that is meant"),
    ],
)
def test_bad_paths_are_refused_with_a_sentence(paths: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        secure_path.parse_paths(paths)


def test_paths_are_put_in_order_and_said_once() -> None:
    assert secure_path.parse_paths(["/b/", "//a/./c", "/b", "/a", "/"]) == [b"/", b"/a", b"/a/c", b"/b"]


# Rules


def test_a_safe_tree_has_no_violation(tree: Path) -> None:
    make(tree / "bin" / "program", 0o755)
    make(tree / "secret", 0o600)
    make(tree / "suid", 0o4755)
    link(tree / "absolute", tree / "bin" / "program")
    link(tree / "relative", "bin/../bin/./program")
    link(tree / "outside", "/etc/passwd")
    assert verify(tree) == []


def test_a_path_that_is_missing_is_a_violation(tree: Path) -> None:
    make(tree / "file")
    assert rules(tree / "no", tree / "no" / "such", tree / "file" / "below") == {
        (f"{tree}/no", "missing"),
        (f"{tree}/no/such", "missing"),
        (f"{tree}/file/below", "missing"),
    }
    (violation,) = verify(tree / "no")
    assert violation == secure_path.Violation(
        f"{tree}/no", "missing", f"{tree}/no does not exist", None, None, None, f"{tree}/no"
    )


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize(
    ("uid", "mode", "expected"),
    [
        (STRANGER, 0o644, {"owner"}),
        (0, 0o664, {"group_writable"}),
        (0, 0o646, {"other_writable"}),
        (0, 0o020, {"group_writable"}),
        (0, 0o1777, {"group_writable", "other_writable"}),
        (STRANGER, 0o666, {"owner", "group_writable", "other_writable"}),
        (0, 0o755, set()),
        (0, 0o000, set()),
    ],
)
def test_rules_of_owner_and_mode(tree: Path, kind: str, uid: int, mode: int, expected: set[str]) -> None:
    (make if kind == "file" else directory)(tree / "x", mode, uid)
    assert rules(tree) == rules(tree / "x") == {(f"{tree}/x", rule) for rule in expected}


def test_a_violation_says_path_owner_mode_and_rule(tree: Path) -> None:
    make(tree / "x", 0o664, DAEMON, DAEMON)
    owner, group = verify(tree)
    assert owner == secure_path.Violation(
        path=f"{tree}/x",
        rule="owner",
        message=f"{tree}/x is owned by daemon (uid 1) and must be owned by root",
        owner="daemon",
        uid=1,
        mode="0664",
        via=str(tree),
    )
    assert group.message == f"{tree}/x is writable by its group daemon (gid 1) and must not be"


def test_a_uid_without_a_name_is_shown_as_a_number(tree: Path) -> None:
    make(tree / "x", 0o644, STRANGER)
    (violation,) = verify(tree)
    assert violation.owner is None
    assert violation.uid == STRANGER
    assert violation.message == f"{tree}/x is owned by uid {STRANGER} and must be owned by root"


@pytest.mark.parametrize("mode", [0o1777, 0o775, 0o757])
def test_every_directory_above_counts_and_sticky_is_no_excuse(tree: Path, mode: int) -> None:
    parent = directory(tree / "parent", mode)
    make(parent / "a" / "b" / "file")
    found = verify(parent / "a" / "b" / "file")
    assert {violation.path for violation in found} == {str(parent)}
    assert found[0].message.startswith(f"{parent}, above {parent}/a/b/file, is writable by ")


def test_an_unsafe_parent_of_several_paths_is_reported_once(tree: Path) -> None:
    parent = directory(tree / "parent", uid=STRANGER)
    assert rules(make(parent / "a"), make(parent / "b")) == {(str(parent), "owner")}


def test_a_directory_can_be_checked_without_what_it_holds(tree: Path) -> None:
    make(tree / "library/file", uid=STRANGER)
    assert alone(tree / "library") == {}
    assert rules(tree / "library") == {(str(tree / "library/file"), "owner")}
    (tree / "library").chmod(0o775)
    said = f"{tree}/library is writable by its group root (gid 0) and must not be"
    assert alone(tree / "library") == {str(tree / "library"): ("group_writable", said)}
    both = secure_path.verify(paths=parsed(tree / "library/file"), directories=parsed(tree / "library"))
    assert [(found.rule, found.via) for found in both] == [
        ("group_writable", str(tree / "library")),
        ("owner", str(tree / "library/file")),
    ]


def test_a_directory_that_could_be_made_is_judged_by_the_nearest_one_above_it(tree: Path) -> None:
    missing = directory(tree / "above") / "not/yet/there"
    assert alone(missing) == {}
    (tree / "above").chmod(0o757)
    rule, said = alone(missing)[str(tree / "above")]
    assert (rule, said) == (
        "other_writable",
        f"{tree}/above, above {missing}, is writable by everyone and must not be",
    )
    behind = link(tree / "link", missing, uid=STRANGER)
    assert {path: rule for path, (rule, _said) in alone(behind).items()} == {
        str(behind): "owner",
        str(tree / "above"): "other_writable",
    }
    circle = link(tree / "circle", "circle")
    assert [rule for rule, _said in alone(circle).values()] == ["link_loop"]


def test_what_is_below_tmp_is_never_safe() -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        assert ("/tmp", "other_writable") in rules(file.name)


def test_special_files_are_judged_and_not_opened(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    (tree / "fifo").chmod(0o622)  # opening it would block for ever
    os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(tree / "device", STRANGER, 0)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tree}/socket")
    (tree / "socket").chmod(0o755)
    assert rules(tree) == {
        (f"{tree}/fifo", "group_writable"),
        (f"{tree}/fifo", "other_writable"),
        (f"{tree}/device", "owner"),
    }


def test_hard_links_and_setuid_are_no_violations(tree: Path) -> None:
    make(tree / "a" / "x", 0o6755)
    os.link(tree / "a" / "x", tree / "y")
    assert verify(tree / "a") == []


def test_what_cannot_be_read_is_a_violation_and_the_rest_is_checked(tree: Path) -> None:
    directory(tree / "a" / "closed", 0o700)
    directory(tree / "a" / "listed", 0o744)
    directory(tree / "a" / "passable", 0o711)
    make(tree / "a" / "z", 0o646)
    os.seteuid(STRANGER)
    try:
        found = verify(tree, tree / "a" / "closed" / "x")
    finally:
        os.seteuid(0)
    assert {(violation.path, violation.rule) for violation in found} == {
        (f"{tree}/a/closed", "unverifiable"),
        (f"{tree}/a/listed", "unverifiable"),
        (f"{tree}/a/passable", "unverifiable"),
        (f"{tree}/a/closed/x", "unverifiable"),
        (f"{tree}/a/z", "other_writable"),
    }
    assert found[0].message == f"{tree}/a/closed cannot be checked: Permission denied"


def test_find_agrees_on_random_trees(tree: Path) -> None:
    chance = random.Random(20260101)
    directories = [tree]
    for number in range(400):
        path = chance.choice(directories) / str(number)
        uid = chance.choice([0, 0, 0, STRANGER])
        mode = chance.randrange(0o10000)
        if chance.random() < 0.3:
            directories.append(directory(path, mode, uid))
        else:
            make(path, mode, uid)
    command = ["find", tree, "(", "!", "-uid", "0", "-o", "-perm", "/022", ")"]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(expected) > 200
    assert {violation.path for violation in verify(tree)} == set(expected)


# Access control lists


def test_an_acl_that_lets_somebody_write_names_who(tree: Path) -> None:
    make(tree / "x")
    os.setxattr(tree / "x", "system.posix_acl_access", full_acl((USER, 6, STRANGER), (GROUP, 6, DAEMON)))
    (violation,) = verify(tree)
    assert (violation.rule, violation.mode) == ("acl_writable", "0664")
    assert violation.message == (
        f"{tree}/x is writable by user uid {STRANGER}, group daemon (gid 1) through its access control list"
        " and must not be"
    )


def test_an_acl_on_a_parent_counts(tree: Path) -> None:
    parent = directory(tree / "parent")
    os.setxattr(
        parent,
        "system.posix_acl_access",
        acl(
            (USER_OBJ, 7, NOBODY_NAMED),
            (USER, 7, DAEMON),
            (GROUP_OBJ, 5, NOBODY_NAMED),
            (MASK, 7, NOBODY_NAMED),
            (OTHER, 5, NOBODY_NAMED),
        ),
    )
    assert rules(make(parent / "x")) == {(str(parent), "acl_writable")}


def test_an_acl_without_effective_write_permission_is_none(tree: Path) -> None:
    make(tree / "x")
    os.setxattr(tree / "x", "system.posix_acl_access", full_acl((USER, 6, STRANGER), mask=4))
    assert verify(tree) == []


def test_the_mode_decides_even_where_an_acl_gives_nobody_else_anything(tree: Path) -> None:
    make(tree / "x")
    os.setxattr(tree / "x", "system.posix_acl_access", full_acl((USER, 6, 0)))
    assert rules(tree) == {(f"{tree}/x", "group_writable")}


def test_a_default_acl_gives_nothing_on_what_is_there(tree: Path) -> None:
    os.setxattr(tree, "system.posix_acl_default", full_acl((USER, 6, STRANGER)))
    assert verify(tree) == []
    assert rules(make(tree / "x", 0o664)) == {(f"{tree}/x", "acl_writable")}


def test_enforcing_takes_the_effect_from_an_acl(tree: Path) -> None:
    make(tree / "x")
    os.setxattr(tree / "x", "system.posix_acl_access", full_acl((USER, 6, STRANGER)))
    assert [change.path for change in repair(tree).repairs] == [f"{tree}/x"]
    assert verify(tree) == []


@pytest.mark.parametrize(
    ("value", "named", "own_group"),
    [
        (acl(), [], False),
        (acl((USER_OBJ, 7, NOBODY_NAMED), (GROUP_OBJ, 6, NOBODY_NAMED), (OTHER, 7, NOBODY_NAMED)), [], True),
        (full_acl((USER, 7, 0)), [], False),
        (full_acl((USER, 7, 0), group=6), [], True),
        (full_acl((USER, 4, STRANGER), (GROUP, 2, STRANGER)), [f"group gid {STRANGER}"], False),
        (full_acl((GROUP, 7, 0)), ["group root (gid 0)"], False),
        (full_acl((USER, 7, STRANGER), group=7, mask=5), [], False),
    ],
)
def test_who_can_write_by_an_acl(value: bytes, named: list[str], own_group: bool) -> None:
    assert secure_path.acl_writers(value) == (named, own_group)


@pytest.mark.parametrize("value", [b"", b"\2\0\0", b"\1\0\0\0", struct.pack(">I", 2), acl((USER, 7, 5))[:-1]])
def test_what_is_no_acl_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not an access control list: "):
        secure_path.acl_writers(value)


# Links


def test_a_link_must_be_owned_by_root_and_its_mode_means_nothing(tree: Path) -> None:
    make(tree / "file")
    link(tree / "good", "file")
    link(tree / "bad", "file", STRANGER)
    assert rules(tree) == rules(tree / "good", tree / "bad") == {(f"{tree}/bad", "owner")}


@pytest.mark.parametrize("asked_for", [True, False])
def test_the_target_of_a_link_and_all_above_it_count(tree: Path, asked_for: bool) -> None:
    outside = directory(tree / "outside", 0o775)
    make(outside / "sub" / "file", 0o646)
    critical = directory(tree / "critical")
    link(critical / "link", outside / "sub" / "file")
    found = verify(critical / "link" if asked_for else critical)
    assert {(violation.path, violation.rule) for violation in found} == {
        (str(outside), "group_writable"),
        (f"{outside}/sub/file", "other_writable"),
    }
    assert {violation.via for violation in found} == {f"{critical}/link"}
    assert found[0].message == (
        f"{outside}, to which {critical}/link leads, is writable by its group root (gid 0) and must not be"
    )


def test_a_name_that_begins_like_another_is_not_below_it(tree: Path) -> None:
    make(tree / "critical-too", 0o646)
    link(tree / "critical", "critical-too")
    (violation,) = verify(tree / "critical")
    assert violation.message.startswith(f"{tree}/critical-too, to which {tree}/critical leads, is writable")


def test_every_hop_of_a_chain_counts_with_the_directories_above_it(tree: Path) -> None:
    for name in ("a", "b", "c"):
        directory(tree / name)
    make(tree / "c" / "file")
    link(tree / "a" / "first", "../b/second")
    link(tree / "b" / "second", tree / "c" / "file", STRANGER)
    (tree / "b").chmod(0o757)
    assert rules(tree / "a") == {(f"{tree}/b", "other_writable"), (f"{tree}/b/second", "owner")}


def test_a_link_among_the_directories_above_is_followed(tree: Path) -> None:
    make(tree / "real" / "sub" / "file", 0o646)
    directory(tree / "alias")
    link(tree / "alias" / "way", "../real", STRANGER)
    assert rules(tree / "alias" / "way" / "sub" / "file") == {
        (f"{tree}/alias/way", "owner"),
        (f"{tree}/real/sub/file", "other_writable"),
    }


def test_two_dots_in_a_link_go_up_from_where_it_leads_not_from_its_text(tree: Path) -> None:
    make(tree / "real" / "file", 0o646)
    directory(tree / "real" / "deep")
    make(tree / "alias" / "file")
    link(tree / "alias" / "way", "../real/deep")
    link(tree / "alias" / "link", "way/../file")
    assert (tree / "alias" / "link").resolve() == tree / "real" / "file"
    assert rules(tree / "alias" / "link") == {(f"{tree}/real/file", "other_writable")}


def test_a_link_cannot_lead_above_the_root(tree: Path) -> None:
    make(tree / "file", 0o646)
    link(tree / "link", "../" * 30 + str(tree / "file")[1:])
    assert rules(tree / "link") == {(f"{tree}/file", "other_writable")}


def test_a_directory_that_a_link_leads_to_is_checked_with_what_it_holds(tree: Path) -> None:
    make(tree / "outside" / "sub" / "file", 0o646)
    directory(tree / "critical")
    link(tree / "critical" / "link", "../outside")
    assert rules(tree / "critical") == {(f"{tree}/outside/sub/file", "other_writable")}


def test_dangling_links_are_violations(tree: Path) -> None:
    make(tree / "file")
    directory(tree / "links")
    link(tree / "links" / "nothing", "no/such")
    link(tree / "links" / "through", "../file/below")
    link(tree / "links" / "chained", "nothing")
    found = {violation.path: violation for violation in verify(tree / "links")}
    assert {violation.rule for violation in found.values()} == {"dangling_link"}
    assert set(found) == {f"{tree}/links/nothing", f"{tree}/links/through"}
    nothing = found[f"{tree}/links/nothing"]
    assert nothing.message == f"{tree}/links/nothing is a link to {tree}/links/no, which does not exist"
    assert (nothing.owner, nothing.uid, nothing.mode) == ("root", 0, "0777")


def test_what_is_missing_behind_a_good_link_is_missing(tree: Path) -> None:
    directory(tree / "real")
    link(tree / "way", "real")
    assert rules(tree / "way" / "no") == {(f"{tree}/way/no", "missing")}


def test_links_in_circles_end(tree: Path) -> None:
    directory(tree / "links")
    link(tree / "links" / "self", "self")
    link(tree / "links" / "a", "b")
    link(tree / "links" / "b", "a")
    link(tree / "links" / "up", "..")
    assert rules(tree / "links") == {(f"{tree}/links/{name}", "link_loop") for name in ("self", "a", "b")}


def test_as_many_links_as_the_kernel_follows(tree: Path) -> None:
    make(tree / "0")
    for number in range(1, 42):
        link(tree / str(number), str(number - 1))
    assert verify(tree / "40") == []
    assert (tree / "40").exists()
    (violation,) = verify(tree / "41")
    assert violation.rule == "link_loop"
    with pytest.raises(OSError, match="Too many levels"):
        (tree / "41").stat()


def test_nested_and_repeated_paths_are_walked_once_and_reported_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tree / "a" / "b" / "file", 0o646)
    link(tree / "a" / "b" / "loop", tree)
    link(tree / "a" / "b" / "other", tree / "a" / "b")
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda place: listed.append(place) or real(place))
    assert rules(tree, tree / "a", tree / "a" / "b", tree / "a" / "b" / "file", tree / "a" / "b" / "loop") == {
        (f"{tree}/a/b/file", "other_writable")
    }
    assert len(listed) == 3


# Hostile trees


def test_odd_names_are_shown_on_one_line(tree: Path) -> None:
    odd = b"new\nline \xff\xfe \\ \x1b[31m \xc3\xa9"
    path = os.fsencode(tree) + b"/" + odd
    os.mkdir(path)
    os.close(os.open(path + b"/x", os.O_CREAT))
    os.chmod(path + b"/x", 0o646)
    for violations in (verify(tree), verify(os.fsdecode(path))):
        (violation,) = violations
        assert violation.path == f"{tree}/new\\nline \\xff\\xfe \\\\ \\x1b[31m é/x"
        assert secure_path.summary(violations, []).isprintable()
    repair(os.fsdecode(path))
    assert verify(tree) == []


def test_a_tree_deeper_than_any_limit(tree: Path) -> None:
    depth, name = 3000, "deep"
    above = os.open(tree, os.O_RDONLY)
    for _level in range(depth):
        os.mkdir(name, 0o755, dir_fd=above)
        below = os.open(name, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(os.open("x", os.O_CREAT, 0o644, dir_fd=above))
    os.chmod("x", 0o666, dir_fd=above)
    os.close(above)
    make(tree / "z", 0o646)
    try:
        found = verify(tree)
        assert {violation.path.count("/deep") for violation in found} == {depth, 0}
        assert len(found) == 3
        assert len(repair(tree).repairs) == 2
        assert verify(tree) == []
    finally:
        subprocess.run(["rm", "-rf", tree / name], check=True)  # the fixture's rmtree recurses


def test_no_descriptor_is_left_open(tree: Path) -> None:
    make(tree / "a" / "b" / "file", 0o646, STRANGER)
    link(tree / "a" / "loop", "loop")
    link(tree / "a" / "away", "/no/such")
    before = os.listdir("/proc/self/fd")
    verify(tree, tree / "a", tree / "no", tree / "a" / "loop", tree / "a" / "away" / "x")
    repair(tree, tree / "no")
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_that_is_moved_while_it_is_walked_is_noticed(tree: Path) -> None:
    make(tree / "top" / "a" / "x")
    make(tree / "top" / "b" / "x")
    directory(tree / "elsewhere")
    top = secure_path.resolve(os.fsencode(tree / "top"), follow=True, visit=lambda file: None)
    failures = []

    def visit(file: secure_path.File) -> bool:
        if file.path.endswith(b"/a/x"):
            (tree / "top" / "a").rename(tree / "elsewhere" / "a")
        return file.is_directory

    secure_path._walk(top, visit=visit, fail=lambda path, error: failures.append((path, error.strerror)))
    top.close()
    assert failures == [(os.fsencode(tree / "top" / "a"), "it was moved during the check, try again")]


def test_a_file_that_vanishes_while_its_directory_is_walked_is_none(tree: Path) -> None:
    make(tree / "a")
    make(tree / "b")
    top = secure_path.resolve(os.fsencode(tree), follow=True, visit=lambda file: None)
    seen, failures = [], []

    def visit(file: secure_path.File) -> bool:
        seen.append(file.path)
        (tree / "b").unlink()
        return file.is_directory

    secure_path._walk(top, visit=visit, fail=lambda path, error: failures.append(path))
    top.close()
    assert (seen, failures) == ([os.fsencode(tree / "a")], [])


# Repairs


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize(("uid", "special", "writable"), list(itertools.product([0, STRANGER], range(8), range(4))))
def test_check_mode_foresees_what_the_kernel_does(tree: Path, kind: str, uid: int, special: int, writable: int) -> None:
    mode = special << 9 | 0o755 | (0o020 if writable & 1 else 0) | (0o002 if writable & 2 else 0)
    path = (make if kind == "file" else directory)(tree / "x", mode, uid, DAEMON)

    foreseen = repair(tree, apply=False)
    assert owner_and_mode(path) == (uid, mode)
    assert secure_path.verify(paths=parsed(tree), planned=foreseen.planned) == []

    done = repair(tree)
    assert done.repairs == foreseen.repairs
    assert done.planned == {}
    assert verify(tree) == []
    assert path.stat().st_gid == DAEMON
    if uid == 0:
        assert owner_and_mode(path) == (0, mode & ~0o022)
    elif kind == "file":
        assert owner_and_mode(path) == (0, mode & ~0o6022), "a program does not become setuid root"
    else:
        assert owner_and_mode(path) == (0, mode & ~0o022)

    assert repair(tree).repairs == []


def test_a_repair_says_before_and_after(tree: Path) -> None:
    make(tree / "x", 0o664, DAEMON, DAEMON)
    make(tree / "y", 0o644)
    outcome = repair(tree, apply=False)
    assert outcome.repairs == [secure_path.Repair(f"{tree}/x", Permissions(1, 0o664), Permissions(0, 0o644))]
    assert secure_path.report(outcome) == {
        "changed": True,
        "repaired": [
            {
                "path": f"{tree}/x",
                "before": {"owner": "daemon", "uid": 1, "mode": "0664"},
                "after": {"owner": "root", "uid": 0, "mode": "0644"},
            }
        ],
        "diff": [
            {
                "before_header": f"{tree}/x",
                "after_header": f"{tree}/x",
                "before": "owner: daemon (uid 1)\nmode: 0664\n",
                "after": "owner: root (uid 0)\nmode: 0644\n",
            }
        ],
    }


def test_nothing_to_repair_is_no_change(tree: Path) -> None:
    make(tree / "x")
    assert secure_path.report(repair(tree)) == {"changed": False, "repaired": [], "diff": []}


def test_a_whole_tree_is_repaired_from_the_top_down(tree: Path) -> None:
    top = directory(tree / "top", 0o777, STRANGER)
    directory(top / "sub", 0o2775, STRANGER)
    make(top / "sub" / "file", 0o666, STRANGER)
    os.mkfifo(top / "sub" / "fifo")
    (top / "sub" / "fifo").chmod(0o622)
    link(top / "sub" / "link", "file", STRANGER)
    foreseen = repair(top, apply=False)
    assert secure_path.verify(paths=parsed(top), planned=foreseen.planned) == []
    outcome = repair(top)
    assert outcome.repairs == foreseen.repairs
    assert [change.path[len(str(top)) :] for change in outcome.repairs] == [
        "",
        "/sub",
        "/sub/fifo",
        "/sub/file",
        "/sub/link",
    ]
    assert verify(top) == []
    assert owner_and_mode(top / "sub") == (0, 0o2755)
    assert repair(top).repairs == []


def test_what_lies_above_is_never_repaired_nor_anything_below_it(tree: Path) -> None:
    parent = directory(tree / "parent", 0o775)
    make(parent / "sub" / "file", 0o646, STRANGER)
    for apply in (False, True):
        outcome = repair(parent / "sub", apply=apply)
        assert outcome.repairs == []
        assert outcome.refused == {os.fsencode(parent / "sub"): f"{parent} must be safe first"}
    assert owner_and_mode(parent) == (0, 0o775)
    assert owner_and_mode(parent / "sub" / "file") == (STRANGER, 0o646)
    assert (str(parent), "group_writable") in rules(parent / "sub")


def test_a_parent_that_is_asked_for_as_well_is_repaired_first(tree: Path) -> None:
    parent = directory(tree / "parent", 0o775, STRANGER)
    make(parent / "file", 0o646, STRANGER)
    for apply in (False, True):
        outcome = repair(parent / "file", parent, apply=apply)
        assert [change.path for change in outcome.repairs] == [str(parent), f"{parent}/file"]
        assert secure_path.verify(paths=parsed(parent), planned=outcome.planned) == []


def test_the_permissions_of_the_directories_above_stay(tree: Path) -> None:
    parent = directory(tree / "parent", 0o711)
    make(parent / "file", 0o666)
    before = [path.stat() for path in (parent, *parent.parents)]
    repair(parent / "file")
    assert [path.stat()[:9] for path in (parent, *parent.parents)] == [status[:9] for status in before]


@pytest.mark.parametrize("asked_for", [True, False])
def test_links_are_repaired_and_never_followed(tree: Path, asked_for: bool) -> None:
    outside = make(tree / "outside", 0o646, STRANGER)
    directory(tree / "critical")
    path = link(tree / "critical" / "link", outside, STRANGER)
    asked = path if asked_for else tree / "critical"
    assert [change.path for change in repair(asked).repairs] == [str(path)]
    assert owner_and_mode(path)[0] == 0
    assert owner_and_mode(outside) == (STRANGER, 0o646)
    assert rules(asked) == {(str(outside), "owner"), (str(outside), "other_writable")}


def test_below_a_link_in_the_way_that_belongs_to_others_nothing_is_repaired(tree: Path) -> None:
    make(tree / "real" / "file", 0o646)
    link(tree / "way", "real", STRANGER)
    assert repair(tree / "way" / "file").repairs == []
    for apply in (False, True):
        outcome = repair(tree / "way" / "file", tree / "way", apply=apply)
        assert [change.path for change in outcome.repairs] == [f"{tree}/way", f"{tree}/real/file"]
        assert outcome.refused == {}


def test_a_hard_link_is_not_given_to_root(tree: Path) -> None:
    victim = make(tree / "home" / "mail", 0o620, STRANGER)
    directory(tree / "critical", 0o777)
    os.link(victim, tree / "critical" / "planted")
    for apply in (False, True):
        outcome = repair(tree / "critical", apply=apply)
        assert [change.path for change in outcome.repairs] == [f"{tree}/critical"]
        left = secure_path.verify(paths=parsed(tree / "critical"), planned=outcome.planned, refused=outcome.refused)
        assert {violation.rule for violation in left} == {"owner", "group_writable"}
        assert left[0].message == (
            f"{tree}/critical/planted is owned by uid {STRANGER} and must be owned by root"
            " (not repaired: it has 2 hard links, replace it by a copy)"
        )
    assert owner_and_mode(victim) == (STRANGER, 0o620)


def test_a_safe_hard_link_is_left_alone(tree: Path) -> None:
    make(tree / "a")
    os.link(tree / "a", tree / "b")
    assert repair(tree) == secure_path.Outcome([], {}, {})


def test_the_file_that_was_judged_is_changed_whatever_takes_its_name(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = make(tree / "victim", 0o600, STRANGER)
    path = make(tree / "critical" / "x", 0o666, STRANGER)
    real = os.chown

    def swap_first(*arguments: int | str, **options: bool) -> None:
        path.rename(tree / "moved")
        path.symlink_to(victim)
        real(*arguments, **options)

    monkeypatch.setattr(os, "chown", swap_first)
    repair(tree / "critical")
    monkeypatch.undo()
    assert owner_and_mode(victim) == (STRANGER, 0o600)
    assert owner_and_mode(tree / "moved") == (0, 0o644)


def test_what_the_kernel_refuses_is_a_violation_with_its_reason(tree: Path) -> None:
    make(tree / "x", 0o646)
    os.seteuid(STRANGER)
    try:
        outcome = repair(tree)
    finally:
        os.seteuid(0)
    assert outcome.repairs == []
    (violation,) = secure_path.verify(paths=parsed(tree), refused=outcome.refused)
    assert violation.message == (
        f"{tree}/x is writable by everyone and must not be (not repaired: Operation not permitted)"
    )


def test_below_a_directory_that_cannot_be_repaired_nothing_is(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = directory(tree / "top", 0o755, STRANGER)
    make(top / "file", 0o646)

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "chown", refuse)
    outcome = repair(top)
    assert outcome == secure_path.Outcome([], {}, {os.fsencode(top): "Read-only file system"})
    assert owner_and_mode(top / "file") == (0, 0o646)


def test_a_missing_path_is_left_to_verify(tree: Path) -> None:
    assert repair(tree / "no") == secure_path.Outcome([], {}, {})


@pytest.mark.parametrize("path", ["/", "//", "/./"])
def test_the_whole_system_is_not_given_to_root(path: str) -> None:
    with pytest.raises(ValueError, match=r"^path '/' cannot be enforced: "):
        repair(path, "/etc")


# Summary


def test_a_summary_counts_all_and_says_the_first(tree: Path) -> None:
    for name in "abcde":
        make(tree / name, 0o646)
    violations = verify(tree)
    line = "is writable by everyone and must not be"
    assert secure_path.summary(violations[:1], []) == f"1 violation: {tree}/a {line}: {secure_path.remedy([])}"
    assert secure_path.summary(violations, ["/etc/x.conf"]) == (
        f"5 violations: {tree}/a {line}; {tree}/b {line}; {tree}/c {line}; and 2 more: whoever can change this can "
        "change what root runs. Give it to root, and take write permission from group and others, or remove the "
        "directory from /etc/x.conf and run ldconfig."
    )
    missing = verify(tree / "none")
    assert secure_path.summary(missing, []) == f"1 violation: {tree}/none does not exist."
