# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of an audit: a row for each node, and the table, the JSON and the page made from the rows.

Names of nodes and users, paths and messages are untrusted input: rows contain only printable characters, and the page
escapes them.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.ocihooks.ssh.plugins.module_utils import _secure_path
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._text import printable
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._variables import AUTO
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_ROLE = Path(__file__).parents[2] / "roles" / "ssh_hook"
FORMAT = 1
# Worst first: a row has the first of these that applies.
UNREACHABLE, FAILED, UNSAFE, DIFFERS, OK = STATES = ("unreachable", "failed", "unsafe", "differs", "ok")
MEANINGS = {
    UNREACHABLE: "was not reached",
    FAILED: "could not be audited",
    UNSAFE: "users other than root can change what runs as root: make it root's, find out who could, and deploy again",
    DIFFERS: "differs from the configuration",
    OK: "matches the configuration",
}
NOT_COMPARED = (
    "Not compared: kernel, engines, Python and its libraries, containers, homes, firewalls other than firewalld."
)
# The names that the tasks of an audit register, in order.
RESULTS = (
    "ssh_hook__facts",
    "ssh_hook__preflight",
    "dropbear__selinux",
    "dropbear__programs",
    "ssh_hook__installed",
    "ssh_hook__refreshed",
    "ssh_hook__engines",
    "ssh_hook__firewall",
    "ssh_hook__timers_result",
    "ssh_hook__verified",
)
# The results whose differences the page shows, and the limits of text.
_COMPARED = ("ssh_hook__installed", "ssh_hook__engines", "ssh_hook__timers_result")
_MAX_TEXTS = 12  # of a node
_MAX_READ = 200  # lines of a text
_MAX_LINES = 24  # that differ
_MAX_WIDTH = 200  # characters of a line
_MAX_SHOWN = 6  # findings in a line of the table
_LONG_WORD = re.compile(r"[A-Za-z0-9+/=]{32,}")
_NAMES_WIDTH = 36  # characters of the table's first column
_WIDTH = 110  # characters of a line
_SAME = ("state", "hook", "dropbear", "openssh", "port")  # equal for the nodes that share a line
_COLUMNS = ("NODES", "STATE", "HOOK", "DROPBEAR", "OPENSSH", "PORT", "DAEMONS")


class Variables(NamedTuple):
    """The values of a node's variables that its row mentions.

    Attributes:
        launcher: path of the hook's launcher
        docker_json: path of the configuration of Docker's daemon
        firewalld_zone: the zone in which firewalld opens the daemons' ports
    """

    launcher: str
    docker_json: str
    firewalld_zone: str


def plain(value: Any) -> Any:
    """Return a JSON value without the types with which Ansible tracks its origin."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts node9 before node10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part) for part in parts)


def node_row(name: str, results: Mapping[str, Any], variables: Variables | None = None) -> dict[str, Any]:
    """Return the row of a node whose audit was completed, or had a failed task.

    Args:
        name: the node's name in the inventory
        results: what the tasks of the audit have registered, keyed by the names in RESULTS, as far as they ran
        variables: None if the audit ended before the node was compared with them
    """
    try:
        return _row(name, results, variables)
    except (AttributeError, KeyError, TypeError, ValueError):
        return failed_row(name, "unexpected response from the collection's modules")


def failed_row(name: str, problem: str) -> dict[str, Any]:
    """Return the row of a node of which only the problem is known."""
    return _row(name, {"ssh_hook__facts": {"failed": True, "msg": problem}}, None)


def unfinished_row(name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a node whose audit was not completed, for a reason that may be unknown."""
    row = node_row(name, results)
    if row["problem"] is None:
        row.update(state=FAILED, problem="the audit did not finish: see the task that failed")
    return row


def reported_row(name: str, audited: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a node for the report: the one from this audit, or one that says why there is none.

    Args:
        audited: what the task audit_node has registered, which may be from an earlier audit in the same run
        results: what the tasks of the audit have registered
    """
    row = _as_dict(audited.get("row"))
    if row and row["problem"] == _problem(results)[1]:
        own: dict[str, Any] = plain(row)
        return own
    return unfinished_row(name, results)


def differences(results: Mapping[str, Any], variables: Variables) -> list[str]:
    """Return sentences, without a full stop, about what the deployment's tasks would change on a node.

    Args:
        results: what they have registered in check mode, keyed by the names in RESULTS

    Raises:
        AttributeError, KeyError, TypeError: a result is not what this collection's modules give.
    """
    preflight, installed = _as_dict(results.get("ssh_hook__preflight")), _as_dict(results.get("ssh_hook__installed"))
    files, programs = _as_dict(results.get("ssh_hook__engines")), _as_dict(results.get("dropbear__programs"))
    timers, node = _as_dict(results.get("ssh_hook__timers_result")), _as_dict(preflight.get("node"))
    is_client = bool(preflight.get("client_only"))
    superfluous = ", and no container engine reads it" if is_client else " is a surplus hook JSON"
    said = (
        (installed.get("package_changed"), "the hook is not the one of this collection"),
        (installed.get("launcher_changed"), f"{variables.launcher} differs from the configuration"),
        *((True, f"{path}{superfluous}") for path in files.get("removed") or []),
        *((True, f"{path} differs from the configuration") for path in files.get("written") or []),
        (files.get("docker_changed"), f"{variables.docker_json} does not switch on CDI"),
        *(
            (True, f"firewalld does not open port {port} in the zone {variables.firewalld_zone}")
            for port in _closed_ports(results)
        ),
        (
            _as_dict(results.get("dropbear__selinux")).get("module_changed"),
            "no SELinux rule gives Dropbear the type container_ro_file_t",
        ),
        (
            any(timers.get(name) for name in ("written", "started", "removed")),
            "the systemd timers differ from the configuration",
        ),
        (preflight.get("missing_packages"), "the Python packages of the hook are missing"),
        (programs.get("problem"), str(programs.get("problem")).removesuffix(".")),
        (is_client and node.get("dropbear"), "Dropbear is installed, but there is no container engine to use it"),
        (
            node.get("suid_dumpable") == 1 and not is_client,
            "fs.suid_dumpable is 1, so users can trace Dropbear: first set it to 0 or 2",
        ),
    )
    return [sentence for is_so, sentence in said if is_so]


def by_hand(results: Mapping[str, Any]) -> list[str]:
    """Return sentences, without a full stop, about what differs and no deployment changes, with what to do about it.

    Args:
        results: what the audit's tasks have registered, keyed by the names in RESULTS

    Raises:
        AttributeError, KeyError, TypeError: a result is not what this collection's modules give.
    """
    preflight = _as_dict(results.get("ssh_hook__preflight"))
    node, paths = _as_dict(preflight.get("node")), _as_dict(preflight.get("paths"))
    found = [f"{path} changes a systemd unit of the hook: remove it" for path in node.get("drop_ins") or []]
    places, readers = [path.rpartition("/")[0] for path in paths.get("hooks") or []], _as_dict(node.get("hooks_dirs"))
    read = [directory for directories in readers.values() for directory in directories]
    if places and readers and not preflight.get("client_only") and not set(places) & set(read):
        known = "; ".join(f"{name}: {', '.join(each) or 'none'}" for name, each in readers.items())
        found.append(
            f"no engine reads the hook JSON in {' and '.join(places)}, so the annotation com.hooks.ssh.enabled has no "
            f"effect: name a directory in ssh_hook_hooks_dirs that one reads ({known})"
        )
    return found


def changes(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines that differ, keyed by path: those that a deployment would remove, and those that it would write.

    The text is untrusted and may have any length: it is read and shown up to a limit. A line that may contain a key,
    for example in a file that replaced ours, is not shown.

    Raises:
        AttributeError, KeyError, TypeError: a result is not what this collection's modules give.
    """
    found = []
    for name in _COMPARED:
        diffs = _as_dict(results.get(name)).get("diff") or []
        for diff in (diffs if isinstance(diffs, list) else [diffs])[:_MAX_TEXTS]:
            if "prepared" in diff:
                lines = str(diff["prepared"]).splitlines()
            else:
                before, after = (diff[side].splitlines()[:_MAX_READ] for side in ("before", "after"))
                lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
                lines = [line for line in lines if not line.startswith("@@")]
                lines = lines or ["its contents are right, but its type, owner or mode differs"]
            more = [f"and {len(lines) - _MAX_LINES} more lines"] * (len(lines) > _MAX_LINES)
            shown = [*map(_shown, lines[:_MAX_LINES]), *more]
            found.append({"path": printable(diff.get("before_header", "")), "lines": shown})
    return found[:_MAX_TEXTS]


def _shown(line: str) -> str:
    """Return a line as the page shows it."""
    text = line.expandtabs()
    if not text.isprintable() or any(map(_may_be_key, _LONG_WORD.findall(text))) or "PRIVATE KEY" in text:
        sign = text[:1] if text[:1] in "+-" else ""
        return f"{sign}(a line of {len(text)} characters that is not shown, since it may contain a key)"
    return text if len(text) <= _MAX_WIDTH else f"{text[:_MAX_WIDTH]}..."


def _may_be_key(word: str) -> bool:
    """Return whether a long word looks like random bytes in base64 or hexadecimal, and not like a path."""
    is_mixed = bool(re.search(r"[a-z]", word) and re.search(r"[A-Z]", word))
    return is_mixed or len(re.findall(r"[0-9]", word)) > len(word) // 6


def _closed_ports(results: Mapping[str, Any]) -> list[Any]:
    """Return the ports that the loop of the role's task for firewalld would have opened."""
    rounds = _as_dict(results.get("ssh_hook__firewall")).get("results") or []
    return [each["item"] for each in rounds if each.get("module_changed")]


def _row(name: str, results: Mapping[str, Any], variables: Variables | None) -> dict[str, Any]:
    state, problem = _problem(results)
    preflight = _as_dict(results.get("ssh_hook__preflight"))
    node, programs = _as_dict(preflight.get("node")), _as_dict(results.get("dropbear__programs"))
    violations = _as_dict(results.get("ssh_hook__verified")).get("violations") or []
    tamper = [{key: printable(found[key]) for key in ("path", "rule", "message")} for found in violations]
    absent = [found for found in tamper if found["rule"] in _secure_path.ABSENT]
    tamper = [found for found in tamper if found["rule"] not in _secure_path.ABSENT]
    differing = [] if variables is None else list(map(printable, differences(results, variables)))
    # What was not run because of the findings in `tamper`.
    differing = [sentence for sentence in differing if not any(sentence.startswith(f["message"]) for f in tamper)]
    named = "\n".join(differing)
    differing += [found["message"] for found in absent if found["path"] not in named]
    differing += [] if variables is None else map(printable, by_hand(results))
    if not state:
        state = UNSAFE if tamper else DIFFERS if differing else OK
    servers = [
        {
            "pid": int(server["pid"]),
            "user": printable(server["user"]),
            "ports": [int(port) for port in server["ports"]],
            "sessions": int(server["sessions"]),
            "release": printable(server["release"]),
            "outdated": bool(server["outdated"]),
        }
        for server in node.get("servers") or []
    ]
    versions, port = _as_dict(programs.get("programs")), node.get("port")
    return {
        "name": printable(name),
        "state": state,
        "problem": problem,
        "hook": _version(node.get("hook_version")),
        "dropbear": _version(versions.get("dropbear")),
        "openssh": _version(versions.get("openssh")),
        "kernel": _version(node.get("kernel")),
        "engines": sorted(map(printable, node.get("engines", {}))),
        "differences": differing,
        "changes": [] if variables is None else changes(results),
        "tamper": tamper,
        "remarks": list(map(printable, preflight.get("remarks") or [])),
        "port": port if port in (None, AUTO) else int(port),
        "daemons": None if node.get("servers", []) is None else servers,
    }


def _as_dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _version(value: object) -> str | None:
    return None if value is None else printable(value)


def _problem(results: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the state of a node whose audit was not completed, and the reason; empty and None for others."""
    for name in RESULTS:
        result = _as_dict(results.get(name))
        if result.get("unreachable"):
            return UNREACHABLE, _message(result)
        if result.get("failed"):
            return UNSAFE if result.get("unsafe") is True else FAILED, _message(result)
    if not _as_dict(results.get("ssh_hook__preflight")):
        return FAILED, "it was not asked"
    return "", None


def _message(result: Mapping[str, Any]) -> str:
    """Return why a task failed, in one line, without Ansible's common prefix."""
    text = printable(" ".join(str(result.get("msg") or "no reason was given").split()))
    return re.sub(r"^(Task failed: |Action failed: )+", "", text)


def findings(row: Mapping[str, Any]) -> list[str]:
    """Return all sentences about what is wrong with a node."""
    messages = [found["message"] for found in row["tamper"]]
    return [*[row["problem"]] * (row["problem"] is not None), *messages, *row["differences"]]


def verdict(row: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Return the message with which a node's audit fails; empty if it passes.

    Args:
        results: the results that the row was made from
    """
    named_by = _as_dict(results.get("ssh_hook__verified")).get("named_by")
    remedy = _secure_path.remedy(list(map(printable, named_by)) if isinstance(named_by, list) else [])
    about = "" if row["state"] == UNSAFE else f"{row['name']} {MEANINGS[row['state']]}: "
    name, tamper = row["name"], [found["message"] for found in row["tamper"]]
    manual = list(map(printable, by_hand(results))) if row["differences"] else []
    differing = [sentence for sentence in row["differences"] if sentence not in manual]
    said = (
        (differing, f"On {name} {'; '.join(differing)}. Run the deployment."),
        (manual, f"On {name} {'; '.join(manual)}."),
        (tamper, f"On {name} {_secure_path.first_messages(tamper)}: {remedy}"),
        (row["problem"], f"{about}{row['problem']}"),
    )
    return " ".join(sentence for is_so, sentence in said if is_so)


def count(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of nodes in each state, worst first; states without nodes are omitted."""
    states = [row["state"] for row in rows]
    return {state: states.count(state) for state in STATES if state in states}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return one line with the number of nodes in each state."""
    return f"{len(rows)} {'node' if len(rows) == 1 else 'nodes'}: " + ", ".join(
        f"{number} {state}" for state, number in count(rows).items()
    )


def fold(names: Iterable[str]) -> str:
    """Return names in the notation of ClusterShell and Slurm, such as node[001-128,130],login1."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    others = []
    for name in sorted(set(names), key=natural):
        parts = re.fullmatch(r"([^.]*?[^.0-9])([0-9]{1,9})([^.0-9]*(?:\..*)?)", name)
        if parts:
            groups.setdefault((parts[1], parts[3], len(parts[2])), []).append(int(parts[2]))
        else:
            others.append(name)
    folded = []
    for (before, after, width), numbers in groups.items():
        ranges = [f"{start:0{width}}" + (f"-{end:0{width}}" if end > start else "") for start, end in _ranges(numbers)]
        only = len(numbers) == 1
        folded.append(f"{before}{ranges[0]}{after}" if only else f"{before}[{','.join(ranges)}]{after}")
    return ",".join([*folded, *others])


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return sorted numbers as ranges (first, last)."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        start = ranges.pop()[0] if ranges and ranges[-1][1] == number - 1 else number
        ranges.append((start, number))
    return ranges


def table(
    rows: Sequence[Mapping[str, Any]], keys: Mapping[str, Any] | None, page: str, *, with_lines: bool = False
) -> str:
    """Return the table for a terminal: one line for all nodes with identical results, worst first.

    Args:
        keys: of users, as in `report`
        page: path of the page with all details; empty if there is none
        with_lines: whether to also show the lines that differ
    """
    groups = _groups(rows, (*_SAME, *["changes"] * with_lines))
    names = [_names_lines(group) for group in groups]
    cells = [[lines[0], *_cells(group)] for group, lines in zip(groups, names)]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *cells)]
    text = [_line(_COLUMNS, widths)]
    for group, lines, line in zip(groups, names, cells):
        text += [_line(line, widths), *lines[1:], *_findings_lines(findings(group[0]), page)]
        text += _changes_lines(group[0]["changes"]) if with_lines else []
    return "\n".join([*text, "", summary(rows), *_outdated_lines(rows), *_keys_lines(keys)])


def _outdated_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return where containers run an earlier Dropbear, which they do until they end, and whose they are."""
    found = {row["name"]: [each for each in row["daemons"] or [] if each["outdated"]] for row in rows}
    nodes, daemons = [name for name, old in found.items() if old], [each for old in found.values() for each in old]
    users = ", ".join(sorted({each["user"] for each in daemons}))
    where = f"{len(daemons)} on {fold(nodes)} ({users})"
    said = f"daemons of an earlier release of Dropbear, until their containers end: {where}"
    return textwrap.wrap(said, _WIDTH, subsequent_indent="    ", break_on_hyphens=False) if daemons else []


def _groups(rows: Iterable[Mapping[str, Any]], same: Iterable[str]) -> list[list[Mapping[str, Any]]]:
    """Return the rows in groups with identical results in the table, worst first.

    Args:
        same: keys of the values that a group shares, besides its findings
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (STATES.index(row["state"]), natural(row["name"]))):
        key = json.dumps([[row[name] for name in same], findings(row)])
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _names_lines(group: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the first cell of a group."""
    folded = fold(row["name"] for row in group)
    lines = textwrap.wrap(folded.replace(",", ", "), _NAMES_WIDTH)  # breaks lines at blanks
    return [line.replace(", ", ",") for line in lines] or [""]


def _cells(group: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the other cells of a group."""
    row, daemons = group[0], [len(row["daemons"]) for row in group if row["daemons"] is not None]
    cells = [row["state"], *(row[key] or "-" for key in ("hook", "dropbear", "openssh", "port"))]
    return [*map(str, cells), str(sum(daemons)) if daemons and not row["problem"] else "-"]


def _findings_lines(said: Sequence[str], page: str) -> list[str]:
    """Return the lines below a group's cells: what is wrong, and where to read the omitted findings."""
    lines = [line for sentence in said[:_MAX_SHOWN] for line in _sentence(sentence)]
    where = f"see {page}" if page else "set ssh_hook_report_dir for all of them"
    return lines + [f"    and {len(said) - _MAX_SHOWN} more: {where}"] * (len(said) > _MAX_SHOWN)


def _changes_lines(changes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines that differ, formatted for below a group's findings."""
    lines = []
    for change in changes:
        lines += [f"    {change['path']}"] * bool(change["path"]) + [f"      {line}" for line in change["lines"]]
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths)).rstrip()


def _sentence(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, _WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)


def _keys_lines(keys: Mapping[str, Any] | None) -> list[str]:
    if keys is None:
        return []
    if keys["problem"]:
        return [f"keys of ssh_hook_users: {keys['problem']}"]
    lacking = [user["name"] for user in keys["users"] if user["state"] != "present"]
    said = f"no keys: {', '.join(lacking)}" if lacking else "all have keys"
    return [f"keys of ssh_hook_users below {keys['base_dir']}, as {keys['node']} sees them: {said}"]


def is_safe(row: Mapping[str, Any]) -> bool:
    """Return whether only root can change what the node runs, according to the audit."""
    return row["state"] in (OK, DIFFERS)


def is_image(preflight: object) -> bool:
    """Return whether a node is an image, which has no homes, from the result of the preflight task."""
    return bool(_as_dict(_as_dict(preflight).get("node")).get("image"))


def user_keys(node: str, base_dir: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return who has keys, from the result of the module user_keys in check mode.

    Args:
        node: the node on which it ran
        base_dir: the parent directory of users' homes
    """
    try:
        users = _users(answer.get("users", []))
    except (AttributeError, KeyError, TypeError):
        answer, users = {"msg": f"unexpected response from {node}"}, []
    problem = None if "users" in answer else _message(answer)
    return {"node": printable(node), "base_dir": printable(base_dir), "users": users, "problem": problem}


def _users(users: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": printable(user["name"]),
            "state": "error" if user["error"] else "missing" if user["changed"] else "present",
            "problem": printable(user["error"]) if user["error"] else None,
        }
        for user in users
    ]


def report(rows: Iterable[Mapping[str, Any]], keys: Mapping[str, Any] | None, limit: str | None, version: str) -> str:
    """Return the JSON of an audit: the admin guide describes its format.

    Args:
        keys: what `user_keys` returned, or None if no users were named
        limit: the value of --limit, or None
        version: of the collection
    """
    facts = {
        "format": FORMAT,
        "collection": version,
        "limit": None if limit is None else printable(limit),
        "nodes": sorted(rows, key=lambda row: natural(row["name"])),
        "keys": keys,
    }
    return json.dumps(facts, indent=1) + "\n"


def page(text: str) -> str:
    """Return the HTML page of a report's JSON."""
    facts = json.loads(text)
    style, script = ((_ROLE / "files" / f"audit.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    templates = Environment(
        loader=FileSystemLoader(_ROLE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    worst_first = sorted(facts["nodes"], key=lambda row: STATES.index(row["state"]))
    return templates.get_template("audit.html.j2").render(
        **{**facts, "nodes": worst_first},
        counts=count(facts["nodes"]),
        states=STATES,
        meanings=MEANINGS,
        not_compared=NOT_COMPARED,
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
    )


def _digest(text: str) -> str:
    """Return the digest with which a content security policy allows an element with this text."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
