from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ssh_hook.keys import passwd

SAMPLE = b"""\
# a comment
root:x:0:0:root:/root:/bin/bash

+@netgroup::::::
-mallory:x:1007:1007::/home/mallory:/bin/sh
short:x:1001:1001
long:x:1001:1001::/home/long:/bin/sh:more
alice:x:1001:100:Alice \xe9,,,:/home/alice:/bin/zsh
other:x:2001:1002::/home/other:/bin/sh
bob:x:1002:1002::/home/bob:/bin/sh
twin:x:1002:1002::/home/twin:/bin/sh
alice:x:1999:1999::/home/alice2:/bin/sh
last:x:65534:65534::/:/usr/sbin/nologin"""


def shown(entry: passwd.Entry | None) -> tuple[object, ...] | None:
    if entry is None:
        return None
    return (entry.name, entry.uid, entry.gid, entry.gecos, entry.home, entry.shell)


def test_every_field_is_returned_and_odd_bytes_survive() -> None:
    entry = next(entry for entry in passwd.iterate(SAMPLE) if entry.name == "alice")
    assert shown(entry) == ("alice", 1001, 100, "Alice \udce9,,,", "/home/alice", "/bin/zsh")


@pytest.mark.parametrize(
    ("uid", "name"),
    [(0, "root"), (1001, "alice"), (1002, "bob"), (2001, "other"), (65534, "last"), (1999, "alice")],
)
def test_a_uid_is_found_though_a_gid_is_the_same_number(uid: int, name: str) -> None:
    entry = passwd.find_by_uid(SAMPLE, uid)
    assert entry is not None
    assert (entry.uid, entry.name) == (uid, name)


@pytest.mark.parametrize("uid", [100, 1007, 3, -1, 0xFFFFFFFF])
def test_a_uid_that_no_entry_has(uid: int) -> None:
    assert passwd.find_by_uid(SAMPLE, uid) is None


@pytest.mark.parametrize(
    "number", [b"", b"-1", b"+1", b" 1", b"1 ", b"0x1", b"01", b"1_0", b"4294967295", b"9" * 5000, b"\xb2"]
)
def test_a_line_with_an_odd_uid_or_gid_is_no_entry(number: bytes) -> None:
    data = b"a:x:" + number + b":5::/:/bin/sh\nb:x:5:" + number + b"::/:/bin/sh\n"
    assert list(passwd.iterate(data)) == []
    assert passwd.find_by_uid(data, 5) is None


field = st.text(alphabet="ab10x#+- /\udce9é", max_size=4)
number = st.sampled_from(["0", "1", "10", "01", "", "x", "4294967294", "4294967295"])
line = st.one_of(
    st.tuples(field, st.just("x"), number, number, field, field, field).map(":".join),
    st.text(alphabet="ab10:x\n", max_size=20),
)
passwd_files = st.lists(line, max_size=8).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogateescape"))


@given(passwd_files | st.binary(max_size=200))
@example(b"\n\n:")
def test_a_look_up_finds_the_first_entry_that_iteration_finds(data: bytes) -> None:
    entries = list(passwd.iterate(data))
    for wanted in entries:
        first = next(entry for entry in entries if entry.uid == wanted.uid)
        assert shown(passwd.find_by_uid(data, wanted.uid)) == shown(first)
    uids = {entry.uid for entry in entries}
    for uid in {0, 1, 10} - uids:
        assert passwd.find_by_uid(data, uid) is None


@given(passwd_files)
def test_an_entry_is_a_line_of_the_file(data: bytes) -> None:
    lines = data.split(b"\n")
    for entry in passwd.iterate(data):
        tail = f":{entry.uid}:{entry.gid}:{entry.gecos}:{entry.home}:{entry.shell}".encode("utf-8", "surrogateescape")
        head = entry.name.encode("utf-8", "surrogateescape") + b":"
        assert any(text.startswith(head) and text.endswith(tail) for text in lines)


@pytest.mark.parametrize(
    "template",
    [
        b"user%d:x:%d:100:A User,,,:/home/user:/bin/bash\n",  # all in the group whose number is asked for
        b"100:100:%d%d\n",  # the number in every line, and no entry
    ],
)
def test_two_hundred_thousand_lines_are_searched_without_parsing_them_all(template: bytes) -> None:
    data = b"".join(template % (uid, uid) for uid in range(1000, 201000)) + b"wanted:x:100:5::/:/bin/sh\n"
    start = time.process_time()
    entry = passwd.find_by_uid(data, 100)
    assert time.process_time() - start < 1.0
    assert entry is not None
    assert entry.name == "wanted"


def test_a_usual_look_up_in_a_large_file_takes_milliseconds() -> None:
    data = b"".join(b"user%d:x:%d:%d::/home/user:/bin/sh\n" % (uid, uid, uid) for uid in range(1000, 201000))
    start = time.process_time()
    for uid in range(190000, 190010):
        assert passwd.find_by_uid(data, uid) is not None
    assert (time.process_time() - start) / 20 < 0.05
