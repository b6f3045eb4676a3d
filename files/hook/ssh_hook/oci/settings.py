# SPDX-License-Identifier: GPL-3.0-or-later
"""The site's settings: the environment variables of the OCI hook's JSON file."""

from __future__ import annotations

from ..errors import SETTING_WRONG, HookError, printable
from ..fast_stdlib import TYPE_CHECKING
from ..linux.process import is_decimal

if TYPE_CHECKING:
    from collections.abc import Mapping

LAST_PORT = 65535
AUTO = "auto"  # instead of a port: the one derived from the container's job
NONE = "none"  # instead of a port: the container has only its door
NO_PORT = 0
_MAX_ADDRESSES = 10  # Dropbear's DROPBEAR_MAX_PORTS
_WHERE = "in the 'env' of the OCI hook's JSON file"


class Settings:
    """The site's settings for ``start-ssh-daemon``.

    Attributes:
        base_dir, passwd_file, dropbear_dir: absolute paths (HOOK_BASE_DIR, PASSWD_FILE, DROPBEAR_DIR).
        port: 1 to 65535 (SERVER_PORT_DEFAULT, or the deprecated SERVER_PORT); with `has_automatic_port`, that of
            containers outside jobs (SERVER_PORT_WITHOUT_JOB).
        has_automatic_port: whether SERVER_PORT_DEFAULT is "auto": the port of a job's containers is derived from the
        job.
        overlay, join, require_seccomp: true by default (OVERLAY_MOUNT_HOME_SSH, JOIN_NAMESPACES, REQUIRE_SECCOMP).
        require_shell: whether a container without a shell fails to start; true by default (REQUIRE_SHELL).
        make_keys: true by default (MAKE_KEYS).
        log_commands: whether to log the text of commands; false by default (LOG_COMMANDS).
        key_type: the type of new keys; empty for the default (SSH_KEY_TYPE).
        require_user_annotation: false by default (REQUIRE_USER_ANNOTATION).
        container_ports: further ports at which only the user's containers may answer (CONTAINER_PORTS).
        listen: the node's addresses to listen on; empty for all (LISTEN_ADDRESSES).
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Validate the variables in `environment`. Raises HookError, which names the missing or invalid variable."""
        self.base_dir = _absolute_path(environment, "HOOK_BASE_DIR")
        self.passwd_file = _absolute_path(environment, "PASSWD_FILE")
        self.dropbear_dir = _absolute_path(environment, "DROPBEAR_DIR")
        self.port = default_port(environment)
        self.has_automatic_port = is_port_automatic(environment)
        self.overlay = _boolean(environment, "OVERLAY_MOUNT_HOME_SSH")
        self.join = _boolean(environment, "JOIN_NAMESPACES")
        self.require_seccomp = _boolean(environment, "REQUIRE_SECCOMP")
        self.require_shell = _boolean(environment, "REQUIRE_SHELL")
        self.require_user_annotation = _boolean(environment, "REQUIRE_USER_ANNOTATION", "false")
        self.make_keys = _boolean(environment, "MAKE_KEYS")
        self.log_commands = _boolean(environment, "LOG_COMMANDS", "false")
        self.key_type = environment.get("SSH_KEY_TYPE", "")
        self.container_ports = _ports(environment, "CONTAINER_PORTS")
        self.listen = _addresses(environment, "LISTEN_ADDRESSES")


def default_port(environment: Mapping[str, str]) -> int:
    """Return the port of containers outside jobs that do not choose one. Raises HookError."""
    name = "SERVER_PORT" if "SERVER_PORT_DEFAULT" not in environment else "SERVER_PORT_DEFAULT"
    text = _required(environment, name, "SERVER_PORT_DEFAULT")
    if text != AUTO:
        return parse_port(text, f"{name} {_WHERE}", SETTING_WRONG, f", or {AUTO}")
    name = "SERVER_PORT_WITHOUT_JOB"
    return parse_port(_required(environment, name), f"{name} {_WHERE}", SETTING_WRONG)


def is_port_automatic(environment: Mapping[str, str]) -> bool:
    """Return whether a job's containers that do not choose a port use the job's."""
    return environment.get("SERVER_PORT_DEFAULT", environment.get("SERVER_PORT")) == AUTO


def parse_port(text: str, where: str, kind: str, alternative: str = "") -> int:
    """Return `text`, decimal digits only, as a TCP port. Raises HookError of `kind`, which begins with `where`.

    `alternative` ends the message: other accepted values.
    """
    if is_decimal(text, 5) and 1 <= int(text) <= LAST_PORT:
        return int(text)
    raise HookError(kind, f"{where} is '{printable(text)}': give a port number from 1 to {LAST_PORT}{alternative}")


def parse_port_choice(text: str, where: str, kind: str) -> int | None:
    """Return `text` as a TCP port; None for "auto", NO_PORT for "none". Raises as `parse_port` does."""
    if text == NONE:
        return NO_PORT
    return None if text == AUTO else parse_port(text, where, kind, f", {AUTO} or {NONE}")


def _required(environment: Mapping[str, str], name: str, wanted: str = "") -> str:
    value = environment.get(name, "")
    if not value:
        raise HookError(SETTING_WRONG, f"{wanted or name} is not set: set it {_WHERE}")
    return value


def _absolute_path(environment: Mapping[str, str], name: str) -> str:
    value = _required(environment, name)
    if not value.startswith("/"):
        raise HookError(SETTING_WRONG, f"{name} {_WHERE} is '{printable(value)}': give an absolute path")
    return value


def _ports(environment: Mapping[str, str], name: str) -> list[int]:
    text = environment.get(name)
    return [parse_port(port, f"{name} {_WHERE}", SETTING_WRONG) for port in text.split(",")] if text else []


def _addresses(environment: Mapping[str, str], name: str) -> list[str]:
    if not environment.get(name):
        return []

    from ..linux import syscalls  # here: most sites set no addresses

    addresses = environment[name].split(",")
    for address in addresses:
        if not syscalls.is_address(address):
            raise HookError(SETTING_WRONG, f"{name} {_WHERE}: '{printable(address)}' is not an IP address")
    if len(addresses) > _MAX_ADDRESSES:
        raise HookError(
            SETTING_WRONG, f"{name} {_WHERE} has {len(addresses)} addresses: Dropbear accepts at most {_MAX_ADDRESSES}"
        )
    return addresses


def _boolean(environment: Mapping[str, str], name: str, default: str = "true") -> bool:
    value = environment.get(name, default).lower()
    if value not in ("true", "false"):
        raise HookError(SETTING_WRONG, f"{name} {_WHERE} is '{printable(value)}': give true or false")
    return value == "true"
