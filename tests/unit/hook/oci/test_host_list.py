"""The one word that tells a container the hosts of its job."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssh_hook.errors import HookError
from ssh_hook.oci.host_list import MAX_HOSTS, MAX_TEXT, compress, expand, in_slurms_notation, parse


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a", "a:1"),
        ("a:4,b", "a:4 b:1"),
        ("n1+2", "n1:1 n2:1 n3:1"),
        ("n08+3:2", "n08:2 n09:2 n10:2 n11:2"),
        ("n9+1", "n9:1 n10:1"),
        ("rack1n03-ib.cluster+1:65535", "rack1n03-ib.cluster:65535 rack1n04-ib.cluster:65535"),
        ("192.0.2.9+1:8", "192.0.2.9:8 192.0.2.10:8"),
        ("n999999999+1", "n999999999:1 n1000000000:1"),
        ("x001+2-hsn0:4,y", "x001-hsn0:4 x002-hsn0:4 x003-hsn0:4 y:1"),
        ("node9+1-ib", "node9-ib:1 node10-ib:1"),
        ("x1+1c2b3", "x1c2b3:1 x2c2b3:1"),
        ("192.0.2+1.9", "192.0.2.9:1 192.0.3.9:1"),
        ("_a,9", "_a:1 9:1"),
        ("nid[001-003,007]", "nid001:1 nid002:1 nid003:1 nid007:1"),
        ("nid[001-002/007]:4/login", "nid001:4 nid002:4 nid007:4 login:1"),
        ("nid[08-10]:4,login", "nid08:4 nid09:4 nid10:4 login:1"),
        ("r[1-2]n[0,3]-ib:2,n7+1:9", "r1n0-ib:2 r1n3-ib:2 r2n0-ib:2 r2n3-ib:2 n7:9 n8:9"),
    ],
)
def test_lists(text: str, hosts: str) -> None:
    assert [f"{name}:{slots}" for name, slots in parse(text, "x", "system")] == hosts.split()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ",",
            "a,",
            ",a",
            "a,,b",
            "a b",
            " a",
            "a\n",
            "-a",
            ".a",
            "a//b",
            "node1/0",
            "10.0.0.0/24",
            "n1/2:8",
            "a\\b",
            "a*",
            "a?",
            "a{1,2}",
            "~a",
            "a=b",
        ),
        *("a:", "a:0", "a:-1", "a:x", "a:1:2", "a:65536", "a:\u0661", "a: 1", "::1", "fd00::1"),
        *("n+1-a", "n+1-1", "n1-+1-a", "n1+-a", "n1+0-a", "n1+1+-a", "n1+1-a+1", "n1+1-a b", "n1234567890+1-a", "+1-a"),
        *("a+", "a+0", "a+1", "n1+", "n1+-1", "n1+x", "n1+\u0661", f"n1+{MAX_HOSTS}", "n1+1+1", "+1", "n1234567890+1"),
        *(
            "a[1",
            "a1]",
            "a[]",
            "a[x]",
            "a[3-1]",
            "a[1-]",
            "a[[1]]",
            "a[1-2]+3",
            "a+1[1-2]",
            "a[1]:0",
            "a[1]:x",
            "a[1]b c",
        ),
        *(
            "[1-2],",
            "-[1-2]",
            "fd00::[1-2]",
            "n[1-2],n2",
            f"n[1-{MAX_HOSTS + 1}]",
            f"n[1-{MAX_HOSTS}],a",
            "n[1-2]" * 40,
        ),
        *("n[1-999999999]", "n" * 253 + "[1-2]", f"{'n' * 240}[1-9999]"),
        *("a,a", "n1+3,n3", "n" * 254, "\xe4", "\ud800", "a" * (MAX_TEXT + 1), f"n1+{MAX_HOSTS - 1},a"),
        ",".join(f"{'n' * 240}{number}+9999" for number in range(10000, 10002)),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_list_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(HookError) as caught:
        parse(text, "the annotation", "system")
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("the annotation ")
    assert len(str(caught.value)) < 300
    assert caught.value.kind == "system"


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ([("n1", 1)], "n1:1"),
        ([("n1", 2), ("n2", 2), ("n4", 2)], "n1+1:2,n4:2"),
        ([("n1", 1), ("n2", 2)], "n1:1,n2:2"),
        ([("n2", 1), ("n1", 1)], "n2:1,n1:1"),
        ([("n09", 1), ("n10", 1), ("n011", 1)], "n09+1:1,n011:1"),
        ([("a1b", 1), ("a2b", 1), ("a2c", 1)], "a1b+1:1,a2c:1"),
        ([("x001-hsn0", 4), ("x002-hsn0", 4), ("x003-hsn0", 4)], "x001+2-hsn0:4"),
        ([("node9-ib1", 1), ("node10-ib1", 1), ("node10-ib2", 1)], "node9+1-ib1:1,node10-ib2:1"),
        ([("a1b1", 1), ("a2b2", 1)], "a1b1:1,a2b2:1"),
        ([("a1-0", 1), ("a01-0", 1), ("a2-0", 1)], "a1-0:1,a01-0:1,a2-0:1"),
        ([], ""),
    ],
)
def test_consecutive_names_are_short(hosts: list[tuple[str, int]], text: str) -> None:
    assert compress(hosts) == text


def test_as_many_as_may_be() -> None:
    hosts = [(f"node{number:05d}", 128) for number in range(MAX_HOSTS)]
    assert compress(hosts) == f"node00000+{MAX_HOSTS - 1}:128"
    assert parse(compress(hosts), "x", "system") == hosts


def test_long_names_are_counted_before_they_are_made() -> None:
    most = f"{'n' * 59}[10000-{9999 + MAX_HOSTS}]"
    assert len(expand(most, "x", "system", MAX_HOSTS)) == MAX_HOSTS
    for longer in (f"n{most}", f"n{most}" + "[1]" * 60):
        with pytest.raises(HookError, match=r"^x has names of more than 1048576 characters in total$"):
            expand(longer, "x", "system", MAX_HOSTS)


def test_many_hosts_by_the_name_of_an_interface() -> None:
    hosts = [(f"x{number:05d}-hsn0", 128) for number in range(MAX_HOSTS)]
    assert compress(hosts) == f"x00000+{MAX_HOSTS - 1}-hsn0:128"
    assert parse(compress(hosts), "x", "system") == hosts


def test_many_hosts_whose_names_have_several_numbers() -> None:
    """Names as of HPE's cabinets: one number counts, and the others make entries of their own."""

    def cabinets(count: int) -> list[tuple[str, int]]:
        places = itertools.product(range(count), range(8), range(8), range(2), range(2))
        return [(f"x{1000 + x}c{c}s{s}b{b}n{n}", 8) for x, c, s, b, n in places]

    for count in (16, 48):
        text = compress(cabinets(count))
        assert text.startswith("x1000c0s0b0n0+1:8,x1000c0s0b1n0+1:8,")
        assert parse(text, "x", "system") == cabinets(count)
    with pytest.raises(
        HookError, match=rf"it may have {MAX_TEXT}: order the hosts .* give your launcher your own host file"
    ):
        parse(compress(cabinets(64)), "x", "system")


NAMES = st.from_regex(r"[a-c_0-9][a-c0-9._-]{0,6}", fullmatch=True)


@given(st.dictionaries(NAMES, st.integers(1, 3), min_size=1, max_size=40))
def test_what_compress_writes_parse_reads(hosts: dict[str, int]) -> None:
    for order in (list(hosts), sorted(hosts)):
        pairs = [(name, hosts[name]) for name in order]
        assert parse(compress(pairs), "x", "system") == pairs


COUNTED = st.tuples(
    st.from_regex(r"[a-c]{1,2}", fullmatch=True),
    st.integers(0, 12),
    st.sampled_from(["", "-ib", "-hsn0", "n1", "b", ".2.c"]),
)


@given(st.lists(COUNTED, max_size=8, unique=True), st.integers(1, 2), st.booleans(), st.integers(1, 15))
def test_what_compress_writes_of_consecutive_names_parse_reads(
    starts: list[tuple[str, int, str]], width: int, is_sorted: bool, length: int
) -> None:
    names = [f"{a}{number:0{width}d}{b}" for a, start, b in starts for number in range(start, start + length)]
    names = list(dict.fromkeys(names))
    pairs = [(name, 1 + len(name) % 2) for name in (sorted(names) if is_sorted else names)]
    text = compress(pairs)
    assert not pairs or parse(text, "x", "system") == pairs
    if not is_sorted and len(starts) == 1:
        assert text.count(",") <= 1  # slots are others where a digit more is


@given(st.text("ab019,:+._-", max_size=30))
def test_what_parse_takes_is_the_same_once_more(text: str) -> None:
    try:
        hosts = parse(text, "x", "system")
    except HookError:
        return
    assert parse(compress(hosts), "x", "system") == hosts


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("", ""),
        ("login", "login"),
        ("nid001 nid002 nid003", "nid[001-003]"),
        ("n9 n10 n12 a", "n[9-10],n12,a"),
        ("x1c1-hsn0 x1c2-hsn0 x2c1-hsn0", "x1c[1-2]-hsn0,x2c1-hsn0"),
    ],
)
def test_slurms_notation(names: str, text: str) -> None:
    assert in_slurms_notation(names.split()) == text


@given(st.lists(st.from_regex(r"\A[a-c]{1,2}(0?[0-9]{1,2})?\Z"), unique=True, min_size=1, max_size=40))
def test_what_slurms_notation_names_parse_reads(names: list[str]) -> None:
    assert [name for name, _slots in parse(in_slurms_notation(names), "x", "system")] == names
