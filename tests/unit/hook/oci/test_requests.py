"""Environment variables that stand for annotations."""

from __future__ import annotations

from ssh_hook.oci.annotations import PORT, WAIT
from ssh_hook.oci.requests import named_by_variables, requested

VARIABLES = {"OCIHOOKS_SSH": "1", "OCIHOOKS_SSH_PORT": "15300", "OCIHOOKS_SSH_WAIT": "", "OCIHOOKS_SSH_HOSTS": "a"}


def test_only_what_is_known_and_not_empty_counts() -> None:
    assert requested(VARIABLES, (PORT, WAIT)) == {PORT: "15300"}
    assert requested(VARIABLES) == {PORT: "15300", "com.hooks.ssh.hosts": "a"}


def test_messages_name_what_the_user_wrote() -> None:
    said = "the annotation com.hooks.ssh.wait is 'x': give seconds from 0 to 86400"
    assert named_by_variables(said) == "OCIHOOKS_SSH_WAIT is 'x': give seconds from 0 to 86400"
    assert named_by_variables("the annotation com.hooks.ssh.user") == "the annotation com.hooks.ssh.user"
