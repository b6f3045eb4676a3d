"""What of the name service's accounts comes into a passwd file, and when it stays as it is."""

from __future__ import annotations

import pytest
from ssh_hook.keys import name_service


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
    assert list(name_service.entries(listing).values()) == [
        b"root:x:0:0:root:/root:/bin/sh",
        b"b\xe9a:x:5:5:B\xe9a:/home/bea:/bin/sh",
    ]


def accounts(people: int) -> dict[bytes, bytes]:
    lines = [b"root:x:0:0::/root:/bin/sh", b"nobody:x:65534:65534::/:/bin/false"]
    lines += [b"user%d:x:%d:1::/:/bin/sh" % (uid, uid) for uid in range(1000, 1000 + people)]
    return dict(name_service.entries(b"\n".join(lines)))


@pytest.mark.parametrize(("before", "now"), [(0, 0), (0, 5), (1, 0), (2, 1), (10, 5), (10, 10)])
def test_a_plausible_listing_is_accepted(before: int, now: int) -> None:
    name_service.accepted(accounts(now), accounts(before), "/etc/p")


@pytest.mark.parametrize(("before", "now"), [(2, 0), (3, 1), (10, 4), (1000, 0)])
def test_a_listing_that_lost_most_users_is_refused(before: int, now: int) -> None:
    with pytest.raises(
        name_service.NotRefreshed, match=f"no longer lists {before - now} of the {before} users in /etc/p"
    ):
        name_service.accepted(accounts(now), accounts(before), "/etc/p")


def test_an_empty_listing_is_refused_even_where_no_file_is() -> None:
    with pytest.raises(name_service.NotRefreshed, match="does not list root"):
        name_service.accepted({}, {}, "/etc/p")


def test_the_content_is_a_line_of_each_account() -> None:
    assert name_service.new_content("/etc/p", b"", accounts(1)).splitlines()[1:] == list(accounts(1).values())
