"""What an audit has found becomes one table, one JSON document and one page, whatever strangers called their things."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _audit as audit
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._text import printable

SERVER = {"pid": 7, "user": "alice", "ports": [15263], "sessions": 2, "release": "dropbear-1-a", "outdated": False}
NODE = {
    "hook_version": "1.0.0",
    "kernel": "6.12.0",
    "engines": {"podman": "/usr/bin/podman"},
    "servers": [SERVER],
    "port": 15263,
}
PROGRAMS = {"programs": {"dropbear": "2026.94", "openssh": "10.3p1"}, "problem": None}
VIOLATION = {"path": "/opt/x", "rule": "owner", "message": "/opt/x is owned by bob and must not be", "uid": 7}
VARIABLES = audit.Variables("/opt/oci-hooks/bin/ssh_hook", "/etc/docker/daemon.json", "hpc")
DIFFERS = {"ssh_hook__timers_result": {"written": ["ssh-hook-sweep.timer"]}}
HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e\udc80"


def results(**changes: Any) -> dict[str, Any]:
    """What the tasks of an audit register on a node where all is well, but for `changes`."""
    found = {
        "ssh_hook__facts": {"changed": False},
        "ssh_hook__preflight": {"node": NODE, "remarks": []},
        "dropbear__programs": PROGRAMS,
        "ssh_hook__installed": {"changed": False},
        "ssh_hook__verified": {"violations": []},
    }
    return {**found, **changes}


def row(name: str = "node1", **changes: Any) -> dict[str, Any]:
    return audit.node_row(name, results(**changes), VARIABLES)


def test_a_row_of_a_node_where_all_is_well() -> None:
    assert row() == {
        "name": "node1",
        "state": "ok",
        "problem": None,
        "hook": "1.0.0",
        "dropbear": "2026.94",
        "openssh": "10.3p1",
        "kernel": "6.12.0",
        "engines": ["podman"],
        "differences": [],
        "changes": [],
        "tamper": [],
        "remarks": [],
        "port": 15263,
        "daemons": [SERVER],
    }


@pytest.mark.parametrize(
    ("changes", "state", "problem"),
    [
        (DIFFERS, "differs", None),
        ({**DIFFERS, "ssh_hook__verified": {"violations": [VIOLATION]}}, "unsafe", None),
        ({"ssh_hook__verified": {"violations": [{**VIOLATION, "rule": "missing"}]}}, "differs", None),
        ({"ssh_hook__facts": {"unreachable": True, "msg": "no\nroute"}}, "unreachable", "no route"),
        (
            {"ssh_hook__preflight": {"failed": True, "msg": "Task failed: Action failed: There is no engine."}},
            *("failed", "There is no engine."),
        ),
        ({"ssh_hook__preflight": {}}, "failed", "it was not asked"),
        ({**DIFFERS, "ssh_hook__verified": {"failed": True}}, "failed", "no reason was given"),
    ],
)
def test_the_state_of_a_node(changes: dict[str, Any], state: str, problem: str | None) -> None:
    found = row(**changes)
    assert (found["state"], found["problem"]) == (state, problem)


def test_ports_that_follow_from_jobs() -> None:
    assert row(ssh_hook__preflight={"node": {**NODE, "port": "auto"}})["port"] == "auto"


def test_daemons_that_nobody_could_list() -> None:
    """None is another answer than no daemon."""
    unknown, none = (row(ssh_hook__preflight={"node": {**NODE, "servers": servers}}) for servers in (None, []))
    assert (unknown["daemons"], none["daemons"]) == (None, [])
    assert [audit._cells(group)[-1] for group in ([unknown], [none], [unknown, row()])] == ["-", "0", "1"]
    assert ">\u2013<" in audit.page(audit.report([unknown], None, None, "1.0.0"))


def test_what_is_missing_is_said_once() -> None:
    missing = {"path": "/opt/x", "rule": "missing", "message": "/opt/x does not exist"}
    other = {"path": "/opt/y", "rule": "dangling_link", "message": "/opt/y, to which /opt/z leads, does not exist"}
    found = row(ssh_hook__verified={"violations": [missing, other]}, ssh_hook__engines={"written": ["/opt/x"]})
    assert found["differences"] == ["/opt/x differs from the configuration", other["message"]]
    assert found["tamper"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"ssh_hook__verified": {"violations": [{}]}},
        {"ssh_hook__preflight": {"node": {**NODE, "servers": 7}}},
        {"ssh_hook__preflight": {"node": {**NODE, "servers": [{"pid": "x", "user": "", "ports": [], "sessions": 0}]}}},
        {"ssh_hook__preflight": {"node": {**NODE, "engines": 3}}},
        {"ssh_hook__engines": {"written": 7}},
        {"ssh_hook__firewall": {"results": [{"module_changed": True}]}},
        {"ssh_hook__engines": {"diff": "text"}},
        {"ssh_hook__engines": {"diff": [{"before": 7, "after": ""}]}},
        {"ssh_hook__preflight": {"node": {**NODE, "port": "many"}}},
        {"ssh_hook__firewall": {"results": "changed"}},
    ],
)
def test_a_node_that_answers_nonsense_has_a_row(changes: dict[str, Any]) -> None:
    found = row(**changes)
    assert (found["state"], found["problem"]) == ("failed", "unexpected response from the collection's modules")


def test_a_node_whose_audit_did_not_end_is_not_ok() -> None:
    found = audit.unfinished_row("node1", results())
    assert (found["state"], found["problem"]) == (
        "failed",
        "the audit did not finish: see the task that failed",
    )
    found = audit.unfinished_row("node1", results(ssh_hook__firewall={"failed": True, "msg": "no such zone"}))
    assert (found["state"], found["problem"]) == ("failed", "no such zone")


def test_the_row_of_an_audit_before_is_not_that_of_this_one() -> None:
    """Of a node that was well, and in the same run could not be audited a second time."""
    before = {"row": row()}
    assert audit.reported_row("node1", before, results()) == row()
    refused = {"ssh_hook__preflight": {"failed": True, "unsafe": True, "msg": "On node1 /x/python3 is alice's."}}
    gone = {"ssh_hook__facts": {"unreachable": True, "msg": "no route"}, "ssh_hook__preflight": {"skipped": True}}
    found = [audit.reported_row("node1", before, results(**changes))["state"] for changes in (refused, gone)]
    assert found == ["unsafe", "unreachable"]
    own = row(**DIFFERS, ssh_hook__verified={"failed": True, "msg": "no"})
    again = audit.reported_row(
        "node1", {"row": own}, results(**DIFFERS, ssh_hook__verified={"failed": True, "msg": "no"})
    )
    assert again == own
    assert audit.reported_row("node1", {}, results())["state"] == "failed"


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({}, []),
        ({"ssh_hook__installed": {"package_changed": True}}, ["the hook is not the one of this collection"]),
        (
            {"ssh_hook__installed": {"launcher_changed": True}},
            ["/opt/oci-hooks/bin/ssh_hook differs from the configuration"],
        ),
        (
            {"ssh_hook__engines": {"removed": ["/old.json"], "written": ["/hook.json"], "docker_changed": True}},
            [
                "/old.json is a surplus hook JSON",
                "/hook.json differs from the configuration",
                "/etc/docker/daemon.json does not switch on CDI",
            ],
        ),
        (
            {
                "ssh_hook__firewall": {
                    "results": [{"module_changed": False, "item": 15263}, {"module_changed": True, "item": 15264}]
                },
                "dropbear__selinux": {"module_changed": True},
            },
            [
                "firewalld does not open port 15264 in the zone hpc",
                "no SELinux rule gives Dropbear the type container_ro_file_t",
            ],
        ),
        (DIFFERS, ["the systemd timers differ from the configuration"]),
        (
            {"ssh_hook__preflight": {"missing_packages": ["cryptography"], "node": {}}},
            ["the Python packages of the hook are missing"],
        ),
        (
            {"dropbear__programs": {"problem": "/x/dropbear should be 2026.94, but is not there."}},
            ["/x/dropbear should be 2026.94, but is not there"],
        ),
        (
            {"ssh_hook__preflight": {"node": {"suid_dumpable": 1}, "client_only": False}},
            ["fs.suid_dumpable is 1, so users can trace Dropbear: first set it to 0 or 2"],
        ),
        ({"ssh_hook__preflight": {"node": {"suid_dumpable": 1}, "client_only": True}}, []),
        ({"ssh_hook__preflight": {"node": {"dropbear": True}, "client_only": False}}, []),
        (
            {
                "ssh_hook__preflight": {"node": {"dropbear": True}, "client_only": True},
                "ssh_hook__engines": {"removed": ["/hook.json"]},
            },
            [
                "/hook.json, and no container engine reads it",
                "Dropbear is installed, but there is no container engine to use it",
            ],
        ),
        *(({name: {"skipped": True, "changed": False}}, []) for name in audit.RESULTS),
    ],
)
def test_what_the_deployment_would_change_is_a_difference(changes: dict[str, Any], differences: list[str]) -> None:
    assert audit.differences(results(**changes), VARIABLES) == differences


HOOKS = {"paths": {"hooks": ["/usr/hooks.d/07.json", "/etc/hooks.d/07.json"]}, "remarks": []}


@pytest.mark.parametrize(
    ("node", "client_only", "sentence"),
    [
        ({"drop_ins": ["/etc/x.d/a.conf"]}, False, "/etc/x.d/a.conf changes a systemd unit of the hook: remove it"),
        ({"hooks_dirs": {"podman": ["/x", "/usr/hooks.d"]}}, False, ""),
        ({"hooks_dirs": {}}, False, ""),  # engines whose bundles name the hook
        ({"hooks_dirs": {"podman": ["/x"]}}, True, ""),
        (
            {"hooks_dirs": {"podman": ["/x", "/y"], "sarus": []}},
            False,
            "no engine reads the hook JSON in /usr/hooks.d and /etc/hooks.d, so the annotation com.hooks.ssh.enabled "
            "has no effect: name a directory in ssh_hook_hooks_dirs that one reads (podman: /x, /y; sarus: none)",
        ),
    ],
)
def test_what_no_deployment_changes_is_a_difference_that_says_what_to_do(
    node: dict[str, Any], client_only: bool, sentence: str
) -> None:
    found = results(ssh_hook__preflight={**HOOKS, "client_only": client_only, "node": {**NODE, **node}})
    assert audit.by_hand(found) == [sentence] * bool(sentence)
    made = audit.node_row("n1", found, VARIABLES)
    assert (made["state"], made["differences"]) == ("differs" if sentence else "ok", [sentence] * bool(sentence))
    assert audit.verdict(made, found) == (f"On n1 {sentence}." if sentence else "")
    timers = {**found, **DIFFERS}
    said = audit.verdict(audit.node_row("n1", timers, VARIABLES), timers)
    wanted = "On n1 the systemd timers differ from the configuration. Run the deployment."
    assert said == wanted + (f" On n1 {sentence}." if sentence else "")


def test_daemons_of_an_earlier_release_are_named() -> None:
    old = [{**SERVER, "user": user, "outdated": True} for user in ("bob", "alice", "bob")]
    found = [row("n1"), row("n2", ssh_hook__preflight={"node": {**NODE, "servers": old[:1]}})]
    found.append(row("n3", ssh_hook__preflight={"node": {**NODE, "servers": [SERVER, *old]}}))
    lines = audit.table(found, None, "").splitlines()
    said = "daemons of an earlier release of Dropbear, until their containers end: 4 on n[2-3] (alice, bob)"
    assert lines[-1] == said
    assert "earlier release" not in audit.table(found[:1], None, "")
    assert "earlier Dropbear (dropbear-1-a)" in audit.page(audit.report(found, None, None, "1.0.0"))


def test_the_lines_that_differ() -> None:
    before = '{\n "a": 1,\n "SERVER_PORT_DEFAULT=15264"\n}\n'
    diffs = [
        {"before_header": "/hook.json", "before": before, "after": before.replace("15264", "15263")},
        {"before_header": "/mode.json", "before": before, "after": before},
        {"prepared": "new: /etc/cdi/x.json (20 lines)\n"},
    ]
    found = row(ssh_hook__engines={"written": ["/hook.json"], "diff": diffs})
    assert found["changes"] == [
        {"path": "/hook.json", "lines": ['- "SERVER_PORT_DEFAULT=15264"', '+ "SERVER_PORT_DEFAULT=15263"']},
        {"path": "/mode.json", "lines": ["its contents are right, but its type, owner or mode differs"]},
        {"path": "", "lines": ["new: /etc/cdi/x.json (20 lines)"]},
    ]
    lines = audit.table([found], None, "", with_lines=True).splitlines()
    assert lines[2:5] == [
        "    /hook.json differs from the configuration",
        "    /hook.json",
        '      - "SERVER_PORT_DEFAULT=15264"',
    ]
    assert len(audit.table([found], None, "").splitlines()) == 5
    page = audit.page(audit.report([found], None, None, "1.0.0"))
    assert "<pre>- &#34;SERVER_PORT_DEFAULT=15264&#34;\n+ &#34;SERVER_PORT_DEFAULT=15263&#34;</pre>" in page


KEYS = (
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW",
    '"TOKEN=0123456789abcdef0123456789abcdef"',
    "\0\0\0\x0bssh-ed25519\0\0\0@\ufffd\ufffd",
)


@pytest.mark.parametrize("secret", KEYS)
def test_a_key_that_lies_in_the_place_of_a_file_is_not_shown(secret: str) -> None:
    own = ' "path": "/opt/oci-hooks/bin/ssh_hook", "/usr/share/containers/oci/hooks/directory/of/the/site"'
    diff = {"before_header": "/hook.json", "before": f"{secret}\n{own}\n", "after": "{}\n"}
    shown = "\n".join(row(ssh_hook__engines={"diff": [diff]})["changes"][0]["lines"])
    assert "that is not shown, since it may contain a key" in shown
    assert f"-{own}" in shown
    assert printable(secret)[1:20] not in shown


def test_what_a_node_says_of_its_lines_is_bounded() -> None:
    text = "".join(f"{number} {'x ' * 500}\n" for number in range(5000))
    diffs = [{"before_header": str(number), "before": text, "after": "{}\n"} for number in range(1000)]
    changes = row(ssh_hook__engines={"diff": diffs})["changes"]
    assert (len(changes), len(changes[0]["lines"]), changes[0]["lines"][-1]) == (12, 25, "and 177 more lines")
    assert max(len(line) for change in changes for line in change["lines"]) <= 203


REMEDY = (
    "whoever can change this can change what root runs. "
    "Give it to root, and take write permission from group and others"
)


def test_what_an_audit_fails_with() -> None:
    def verdict(**changes: Any) -> str:
        return audit.verdict(row(**changes), results(**changes))

    assert verdict() == ""
    assert verdict(ssh_hook__engines={"removed": ["/a"], "written": ["/b"]}) == (
        "On node1 /a is a surplus hook JSON; /b differs from the configuration. Run the deployment."
    )
    violations = [{**VIOLATION, "message": f"/{number} is owned by bob"} for number in range(5)]
    unsafe = {
        "violations": [*violations[:3], {**VIOLATION, "rule": "missing", "path": "/c", "message": "/c is missing"}]
    }
    assert verdict(ssh_hook__verified=unsafe) == (
        "On node1 /c is missing. Run the deployment. "
        f"On node1 /0 is owned by bob; /1 is owned by bob; /2 is owned by bob: {REMEDY}."
    )
    named = {"violations": violations, "named_by": ["/etc/ld.so.conf.d/a\n.conf"]}
    assert verdict(ssh_hook__verified=named) == (
        f"On node1 /0 is owned by bob; /1 is owned by bob; /2 is owned by bob; and 2 more: {REMEDY}, or remove the "
        "directory from /etc/ld.so.conf.d/a\\n.conf and run ldconfig."
    )
    assert verdict(ssh_hook__verified={"violations": violations[:1], "named_by": 7}).endswith(f"{REMEDY}.")
    assert verdict(ssh_hook__facts={"unreachable": True, "msg": "no route"}) == "node1 was not reached: no route"
    interpreter = {"failed": True, "unsafe": True, "msg": "On node1 /x/python3 is alice's."}
    assert row(ssh_hook__preflight=interpreter)["state"] == audit.UNSAFE
    assert verdict(ssh_hook__preflight=interpreter) == "On node1 /x/python3 is alice's."
    not_run = {"problem": f"{VIOLATION['message']}, so Dropbear was not run."}
    unsafe = {"violations": [VIOLATION]}
    assert row(dropbear__programs=not_run)["differences"] == [f"{VIOLATION['message']}, so Dropbear was not run"]
    assert row(dropbear__programs=not_run, ssh_hook__verified=unsafe)["differences"] == []


@pytest.mark.parametrize("answer", [{"users": 7}, {"users": [{}]}, {"users": [7]}])
def test_nonsense_about_keys_is_no_answer(answer: dict[str, Any]) -> None:
    keys = audit.user_keys("node1", "/home", answer)
    assert keys["problem"] == "unexpected response from node1"


def test_a_node_that_was_never_asked_has_a_row() -> None:
    found = audit.node_row("node9", {})
    assert (found["state"], found["hook"], found["port"], found["daemons"]) == ("failed", None, None, [])


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["login"], "login"),
        ([f"node{number:03}" for number in (1, 2, 3, 7)], "node[001-003,007]"),
        (["node9", "node10", "node11"], "node9,node[10-11]"),
        (["b2.site.org", "b1.site.org", "a1"], "a1,b[1-2].site.org"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.1,10.0.0.2"),
        (["r1n1", "r1n2", "r2n1"], "r1n[1-2],r2n1"),
        (["n1", "n1"], "n1"),
    ],
)
def test_names_are_folded(names: list[str], folded: str) -> None:
    assert audit.fold(names) == folded


def test_the_table_of_five_hundred_nodes_fits_on_a_screen_and_begins_with_the_worst() -> None:
    rows = [row(f"node{number:03}") for number in range(1, 501)]
    rows[6] = row("node007", ssh_hook__facts={"unreachable": True, "msg": "ssh: connect: No route to host"})
    rows[41] = row("node042", ssh_hook__engines={"written": [f"/opt/{number}" for number in range(9)]})
    rows[42] = row("node043", ssh_hook__verified={"violations": [VIOLATION]})
    lines = audit.table(rows, None, "/srv/audit.html").splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 110
    assert lines[0].split() == ["NODES", "STATE", "HOOK", "DROPBEAR", "OPENSSH", "PORT", "DAEMONS"]
    assert [line.split()[1] for line in lines[1:] if line.startswith("node")] == [
        *("unreachable", "unsafe", "differs", "ok"),
    ]
    assert "    and 3 more: see /srv/audit.html" in lines
    assert any(
        re.match(r"node\[001-006,008-041,044-500\] +ok +1\.0\.0 +2026\.94 +10\.3p1 +15263 +497$", x) for x in lines
    )
    assert lines[-1] == "500 nodes: 1 unreachable, 1 unsafe, 1 differs, 497 ok"


def test_the_table_of_one_node() -> None:
    assert audit.table([row()], None, "").splitlines() == [
        "NODES  STATE  HOOK   DROPBEAR  OPENSSH  PORT   DAEMONS",
        "node1  ok     1.0.0  2026.94   10.3p1   15263  1",
        "",
        "1 node: 1 ok",
    ]


def test_many_names_are_wrapped_in_their_column() -> None:
    names = [f"rack{number}node{number % 7}" for number in range(200)]
    lines = audit.table([row(name) for name in names], None, "").splitlines()
    listed = [line[:36].split(" ")[0] for line in lines[1:-2]]
    assert "".join(f"{part}," if not part.endswith(",") else part for part in listed).rstrip(",") == audit.fold(names)


ANSWER = {
    "users": [
        {"name": "alice", "error": None, "changed": False},
        {"name": HOSTILE, "error": None, "changed": True},
        {"name": "carol", "error": "carol has no <home>", "changed": False},
    ]
}


def test_who_has_keys() -> None:
    keys = audit.user_keys("node1", "/home", ANSWER)
    assert [user["state"] for user in keys["users"]] == ["present", "missing", "error"]
    said = audit.table([row()], keys, "").splitlines()[-1]
    assert said.startswith("keys of ssh_hook_users below /home, as node1 sees them: no keys: <script>")
    assert said.isprintable()
    nobody = audit.user_keys("node1", "/home", {"failed": True, "msg": "cannot read passwd_file /x"})
    assert audit.table([row()], nobody, "").endswith("keys of ssh_hook_users: cannot read passwd_file /x")


@pytest.mark.parametrize(
    "preflight", [{"node": {**NODE, "image": True}}, {"node": {**NODE, "image": False}}, None, {"node": []}]
)
def test_an_image_is_told_from_a_node_that_has_homes(preflight: object) -> None:
    assert audit.is_image(preflight) is (preflight == {"node": {**NODE, "image": True}})


def test_a_node_that_others_can_change_is_not_asked() -> None:
    found = [
        audit.is_safe(row(**changes)) for changes in ({}, DIFFERS, {"ssh_hook__verified": {"violations": [VIOLATION]}})
    ]
    assert found == [True, True, False]


class Page(HTMLParser):
    """The elements of a page, and its texts by the element around them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    def inside(self, tag: str) -> str:
        return "".join(text for name, text in self.texts if name == tag)


def hostile_report() -> str:
    """Strangers' text wherever there is some."""
    violation = dict.fromkeys(("path", "rule", "message"), HOSTILE)
    node = {
        "hook_version": HOSTILE,
        "kernel": HOSTILE,
        "engines": {HOSTILE: "/x"},
        "servers": [{**SERVER, "user": HOSTILE, "release": HOSTILE, "outdated": True}],
    }
    diff = {"before_header": HOSTILE, "before": f"{HOSTILE}\n<b>bold</b>\n", "after": ""}
    changes: dict[str, Any] = {
        "ssh_hook__preflight": {"node": node, "remarks": [HOSTILE]},
        "dropbear__programs": {"programs": {"dropbear": HOSTILE, "openssh": HOSTILE}},
        "ssh_hook__verified": {"violations": [violation]},
        "ssh_hook__engines": {"removed": [HOSTILE], "written": [HOSTILE], "diff": [diff]},
    }
    rows = [row(HOSTILE, **changes), row("b", ssh_hook__facts={"unreachable": True, "msg": HOSTILE})]
    keys = {**audit.user_keys(HOSTILE, HOSTILE, ANSWER), "problem": printable(HOSTILE)}
    return audit.report(rows, keys, HOSTILE, "1.0.0")


def texts(value: Any) -> Iterator[str]:
    """All texts in a report."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts(each)


def test_strangers_text_is_text_on_the_page_and_in_the_json() -> None:
    text = hostile_report()
    assert [character for character in text if not character.isprintable()] == ["\n"] * text.count("\n")
    assert [one for one in texts(json.loads(text)) if not one.isprintable()] == []
    page = audit.page(text)
    assert [character for character in "\x1b\u202e\udc80" if character in page] == []
    assert page.count("<script>alert(1)") == 0
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;\\x1b[31m\\u202e\\udc80") >= 12
    parsed = Page(page)
    assert [tag for tag, _attributes in parsed.elements].count("script") == 1
    own = {"lang", "charset", "name", "content", "http-equiv", "id", "class", "aria-label", "data-state", "title"}
    own |= {"hidden", "type", "placeholder", "role", "scope", "data-label", "data-value", "for"}
    assert {name for _tag, attributes in parsed.elements for name in attributes} <= own


def test_the_page_takes_nothing_from_elsewhere_and_allows_its_own_style_and_script_alone() -> None:
    page = audit.page(audit.report([row()], None, None, "1.0.0"))
    parsed = Page(page)
    policy = next(attributes["content"] for _tag, attributes in parsed.elements if "http-equiv" in attributes)
    for tag in ("style", "script"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert found
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in (policy or "")
    assert (policy or "").startswith("default-src 'none'; ")
    assert re.findall(r"https?:|url\(|@import|src=|href=", page) == []
    assert [tag for tag, _attributes in parsed.elements].count("tr") == 2


def test_the_same_facts_give_the_same_files_in_any_order() -> None:
    first = audit.report([row("node10"), row("node9")], None, "node*", "1.0.0")
    again = audit.report([row("node9"), row("node10")], None, "node*", "1.0.0")
    assert first == again
    facts = json.loads(first)
    assert [facts[key] for key in ("format", "collection", "limit", "keys")] == [1, "1.0.0", "node*", None]
    assert [node["name"] for node in facts["nodes"]] == ["node9", "node10"]
    assert audit.page(first) == audit.page(again)
