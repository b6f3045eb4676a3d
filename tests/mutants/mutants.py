"""Faults that a test must detect (faults.txt), and why some promises have none.

tests/unit/docs/test_mutants.py checks that each promise of these tables has a fault or is in UNTRIED: docs/security.md
(Promises, Attach), the user guide (Annotations), the admin guide (The hook's environment) and docs/engines/sarus.md.
"""

from __future__ import annotations

from pathlib import Path

from sources import read_faults

FAULTS = read_faults(Path(__file__).with_name("faults.txt"))
UNTRIED = {
    "arguments of `ssh HOST COMMAND` with quotes, blanks, `*` or other bytes": (
        "OpenSSH's client sends them and Dropbear gives them to the shell, both in C; the hook has no part in it "
        "(hook/test_client.py::test_arguments_are_exact)."
    ),
    "Variables are passed on, never executed": "Dropbear quotes them, in C: PATCHES has a test of 09-environment.",
    "No process of a container can prevent a login's line in the system log": (
        "Dropbear's processes see to it, in C: PATCHES has a test of 11-logins, which looks at each process."
    ),
}

# No fault is put into C: each would take a build. Instead, each patch has a test that runs the patched program or code,
# or a reason why it has none. HALF_IN_C has the promises with faults above that also depend on a patch.
_ROLE = "role_dropbear/test_role_dropbear.py"
PATCHES = (
    ("dropbear/01-own-user-only", f"{_ROLE}::test_a_daemon_lets_in_nobody_but_its_own_user"),
    ("dropbear/02-limits", f"{_ROLE}::test_a_client_that_never_logs_in_has_the_server_hold_no_large_packet"),
    ("dropbear/03-terminals", f"{_ROLE}::test_sessions_end_with_their_output_and_status"),
    ("dropbear/04-packet-buffer", "It saves time and promises nothing."),
    ("dropbear/05-seed", "It saves time and promises nothing."),
    ("dropbear/06-gate", "hook/test_gate.py::test_who_comes_early_waits_and_is_served"),
    ("dropbear/07-libsodium", f"{_ROLE}::test_computations_are_the_standards_and_upstreams"),
    ("dropbear/08-floods", f"{_ROLE}::test_who_gives_way_to_a_flood"),
    ("dropbear/09-environment", "hook/test_quoting.py::test_each_value_alone"),
    ("dropbear/10-door", f"{_ROLE}::test_the_door_is_open_to_nobody_else"),
    ("dropbear/11-logins", f"{_ROLE}::test_a_login_leaves_lines_that_no_session_can_prevent"),
    ("openssh/01-speed", "hook/test_hostile_server.py::test_points_of_small_order_are_refused"),
    ("openssh/02-containers", "hook/test_trust.py::test_impostor_is_refused"),
    ("openssh/03-host-key-change", "hook/test_hostile_server.py::test_another_host_key_in_a_later_key_exchange"),
    ("openssh/04-places-of-copies", "hook/test_hostile_server.py::test_sftp_of_the_command_line"),
    ("openssh/04-places-of-copies", "hook/test_hostile_server.py::test_dots_that_match_a_pattern_stay_in_a_remote"),
    ("openssh/05-moved-forwardings", "hook/test_hostile_server.py::test_a_forwarding_that_is_added_before_an_answer"),
    ("openssh/06-empty-names", "hook/test_hostile_server.py::test_sftp_of_a_root_directory"),
    ("openssh/07-user-names", "hook/test_hostile_server.py::test_a_user_name_on_the_command_line"),
)
HALF_IN_C = {
    "No code of the user runs in the container's mount namespace before the container's own program": "06-gate",
    "The owner of a directory above a container's root cannot redirect the hook or a session": "06-gate",
    "The daemon listens where the container's processes would": "06-gate",
    "Only the user's keys open a session": "01-own-user-only",
    "Only the container's user can log in through the door without a key": "10-door",
    "A client at the port cannot end the daemon, take what the job needs, or keep out a user from another address": (
        "08-floods"
    ),
    "Variables of a container's process reach only that container's sessions": "09-environment",
    "A system log that does not respond delays neither a start nor a login": "11-logins",
    "The descriptor of the log's directory leads nowhere else": "11-logins",
    "A user's `ssh` connects only to the user's containers": "02-containers",
}
