# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the variables of the roles: unknown names, values of a wrong type, invalid values."""

from __future__ import annotations

import difflib
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

NODES_FILE = "/etc/passwd"  # not imported from the hook's files: if these are missing, the preflight reports that
PLAYBOOKS = (
    "ssh_hook_hosts",
    "ssh_hook_max_fail_percentage",
    "ssh_hook_remove_keys_of",
    "ssh_hook_revoke_keys_of",
    "ssh_hook_revoke_state",
    "ssh_hook_serial",
    "ssh_hook_users",
)
LISTS = ("ssh_hook_users", "ssh_hook_remove_keys_of", "ssh_hook_revoke_keys_of")  # of PLAYBOOKS
EACH_HOSTS = ("dropbear_prefix", "dropbear_selinux_type")  # of the role dropbear: its others are global
FOR_KEYS = {  # what the playbooks use to create and remove keys
    "base_dir": "ssh_hook_base_dir",
    "passwd_file": "ssh_hook_passwd_file",
    "passwd_source": "ssh_hook_passwd_source",
    "key_type": "ssh_hook_key_type",
    "python": "ssh_hook_python",
    "packages_dir": "ssh_hook_python_packages_dir",
}
HEADER = (
    "ssh_hook_hosts",
    "ssh_hook_serial",
    "ssh_hook_max_fail_percentage",
)  # of PLAYBOOKS: read before the inventory is known
DROPBEAR = "dropbear_"
PREFIXES = ("ssh_hook_", DROPBEAR)
PRIVATE = ("ssh_hook__", "dropbear__")
NEAR = 0.8  # the similarity (0 to 1) from which a name counts as a misspelling

# Absolute paths that are valid in a "#!" line, a unit file and a colon-separated list, and without "." or "..".
PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._+@-]+)+")
OPTIONAL_PATHS = (  # which may be empty
    "ssh_hook_python_packages_dir",
    "ssh_hook_enroot_hooks_dir",
    "ssh_hook_podman_hpc_modules_dir",
    "ssh_hook_slurm_prolog_dir",
    "ssh_hook_slurm_epilog_dir",
    "ssh_hook_metrics_dir",
    "ssh_hook_report_dir",
    "ssh_hook_dev_template",
)
PATHS = (
    "ssh_hook_prefix",
    "ssh_hook_python",
    "ssh_hook_base_dir",
    "ssh_hook_passwd_file",
    "ssh_hook_dropbear_dir",
    *OPTIONAL_PATHS,
)
ADDRESS = re.compile(r"[0-9A-Fa-f:.]+")
JSON_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.json")
PORTS = range(1, 65536)
AUTO = "auto"  # the port derived from a container's job
PORTS_OF_JOBS = range(20000, 30000)  # as in the hook
SSHD = 22  # its port
MAX_ADDRESSES = 10  # on which Dropbear can listen
MOST_MINUTES = 7 * 24 * 60
SYSTEM_DIRECTORIES = "/bin /boot /dev /etc /home /lib /lib64 /opt /proc /root /run /sbin /sys /tmp /usr /var".split()
PORTS_OF_CLIENTS = range(32768, 61000)  # Linux's net.ipv4.ip_local_port_range unless it is set
MAX_PYTHON_LENGTH = 100  # characters of an interpreter's path in a "#!" line


def misspelt(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Return a sentence for each name that is not a variable of this collection, with the closest one.

    A name that begins with dropbear_, but is otherwise unlike ours, may be another role's.
    """
    sentences = []
    for name in sorted(names):
        if not name.startswith(PREFIXES) or name.startswith(PRIVATE) or name in known:
            continue
        is_dropbears = name.startswith(DROPBEAR)
        near = _near_dropbears(name, known) if is_dropbears else difflib.get_close_matches(name, known, 1, NEAR)
        if near:
            sentences.append(f"{name} is not a variable of this collection: did you mean {near[0]}?")
        elif not is_dropbears:
            nearest = difflib.get_close_matches(name, known, 1, 0.0)[0]
            sentences.append(f"{name} is not a variable of this collection (the nearest is {nearest}): remove it.")
    return sentences


def _near_dropbears(name: str, known: Iterable[str]) -> list[str]:
    """Return the variable of the role dropbear that `name` resembles, if there is one.

    Only what follows dropbear_ is compared: with the common prefix, all of these names are similar.
    """
    rests = [other.removeprefix(DROPBEAR) for other in known if other.startswith(DROPBEAR)]
    return [DROPBEAR + near for near in difflib.get_close_matches(name.removeprefix(DROPBEAR), rests, 1, NEAR)]


def in_facts(facts: Iterable[str]) -> list[str]:
    """Return the names of facts that would set variables of this collection: a node controls its facts."""
    return sorted(name for name in facts if name.startswith(PREFIXES))


def wrong_facts(host: str, facts: Iterable[str]) -> list[str]:
    """Return a sentence if facts of a host set variables of this collection, which only the site may set."""
    names = in_facts(facts)
    if not names:
        return []
    return [
        f"The facts of {host} set variables of this collection ({', '.join(map(repr, names[:3]))}), which the facts "
        "of a genuine node never do: find out what answers there, and exclude the host with --limit until then."
    ]


def shadowing(host: str, facts: Mapping[str, Any], variables: Mapping[str, Any], site: Mapping[str, Any]) -> list[str]:
    """Return a sentence if facts of a host, gathered by an earlier play, override variables of the site.

    Args:
        host: the host's name
        facts: its facts, without the prefix ansible_
        variables: the variables of the play, in which facts override the inventory
        site: only the variables of the inventory and of the command line
    """
    names = [name for name, value in site.items() if is_fact(name, variables, facts) and variables[name] != value]
    if not names:
        return []
    return [
        f"Facts of {host}, which an earlier play gathered, replace variables of the inventory "
        f"({', '.join(map(repr, sorted(names)[:3]))}): find out why that host has facts with these names, and exclude "
        "it with --limit until then."
    ]


def is_fact(name: str, variables: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Return whether a variable of a play gets its value from the host's facts."""
    return any(
        fact in facts and name in variables and bool(variables[name] == facts[fact])
        for fact in (name, name.removeprefix("ansible_"))
    )


def of_one_host(host: str, names: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that counts for all hosts but is a template of one host's facts."""
    return [
        f"{name} is a template of facts, and the value of one host ({host}) would apply to all: write it without facts."
        for name in names
    ]


def ignored(inventory: Iterable[str], command_line: Collection[str]) -> list[str]:
    """Return a sentence for each variable of a play's header that is set where the header ignores it.

    Args:
        inventory: names of the variables that the inventory or the command line sets
        command_line: names of those that the command line sets
    """
    return [
        f"{name} has no effect in the inventory, because it applies to the whole play: set it on the command line "
        f"(--extra-vars {name}=...), and remove it from the inventory."
        for name in HEADER
        if name in inventory and name not in command_line
    ]


def wrong_lists(variables: Mapping[str, Any], lists: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that must be a list but is not: a string would be a list of letters."""
    wrong = {name: variables[name] for name in lists if not isinstance(variables.get(name, []), list)}
    return [
        f"{name} has no value, but must be a list: write []."
        if value is None
        else f"{name} is '{value}', but must be a list: write [{value}]."
        for name, value in wrong.items()
    ]


def wrong_users(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each list of users with an item that is neither a name nor a uid."""
    wrong = {name: [user for user in variables.get(name, []) if not _is_user(user)] for name in LISTS}
    return [
        f"{name} has '{users[0]}': give names or uids of users, such as [alice, 1002]."
        for name, users in wrong.items()
        if users
    ]


def without_keys(answer: Mapping[str, Any], passwd_file: str, base_dir: str) -> list[str]:
    """Return a sentence for each group of users who get no keys.

    Args:
        answer: the result of the module passwd_file about them
    """
    unknown, without_home = answer["unknown"], answer["without_home"]
    rules = [
        (
            unknown,
            f"No keys are created for {_and(unknown)} (ssh_hook_users), who are not in {passwd_file}: remove users who "
            "have left from ssh_hook_users, or correct the names.",
        ),
        (
            without_home,
            f"No keys are created for {_and(without_home)} (ssh_hook_users), who have no directory in {base_dir}: make "
            "it, or name the parent directory of the users' homes in ssh_hook_base_dir.",
        ),
    ]
    return [sentence for is_so, sentence in rules if is_so]


def _is_user(value: object) -> bool:
    return value != "" and isinstance(value, (str, int)) and not isinstance(value, bool)


def wrong_paths(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each invalid path of the role ssh_hook."""
    named = [(name, variables[name]) for name in PATHS]
    named += [("ssh_hook_hooks_dirs", path) for path in variables["ssh_hook_hooks_dirs"]]
    return [
        f"{name} is '{path}': it must be an absolute path of letters, digits and . _ + @ -, without a slash at its end."
        for name, path in named
        if not PATH.fullmatch(str(path)) and not (name in OPTIONAL_PATHS and path == "")
    ]


# Variable -> collection and name of the module that it requires.
OTHER_MODULES = {
    "ssh_hook_firewalld_zone": ("ansible.posix", "firewalld"),
    "dropbear_selinux_type": ("community.general", "sefcontext"),
}


def missing_collections(variables: Mapping[str, Any], has_module: Callable[[str], bool]) -> list[str]:
    """Return a sentence for each variable that requires a collection's module which the controller lacks."""
    return [
        f"{name} needs the module {collection}.{module}, which is missing on the controller: run ansible-galaxy "
        "collection "
        f"install {collection} there, or remove {name}."
        for name, (collection, module) in OTHER_MODULES.items()
        if variables.get(name) and not has_module(f"{collection}.{module}")
    ]


DROPBEAR_PATHS = (  # name, pattern, what else is right
    ("dropbear_prefix", re.compile(r"/\S+"), ""),
    ("dropbear_build_dir", re.compile(r"(/\S+)?"), ", or leave it empty"),
    *(
        (f"dropbear_{name}", re.compile(r"(/.+)?"), ", or leave it empty")
        for name in (
            "source_archive",
            "libsodium_source_archive",
            "openssh_source_archive",
            "openssl_source_archive",
            "programs_archive",
        )
    ),
)


def wrong_dropbear_paths(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each invalid path of the role dropbear."""
    return [
        f"{name} is '{variables[name]}': set an absolute path without spaces{alternative}."
        for name, pattern, alternative in DROPBEAR_PATHS
        if name in variables and not pattern.fullmatch(str(variables[name]))
    ]


def foreign_archive(path: str) -> list[str]:
    """Return a sentence if something other than an archive of programs is where one will be written."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            first = archive.next()
    except FileNotFoundError:
        return []
    except (OSError, EOFError, tarfile.TarError):
        first = None
    if first is not None and first.name.startswith(DROPBEAR.replace("_", "-")):
        return []
    return [f"{path} (dropbear_programs_archive_dest) is not an archive of programs, so it stays: name another path."]


def wrong_dropbear_dir(variables: Mapping[str, Any], prefix: str | None) -> list[str]:
    """Return what is wrong with Dropbear's directory in the playbooks.

    Args:
        prefix: dropbear_prefix if the site has set it
    """
    directory = variables["ssh_hook_dropbear_dir"]
    parent, _slash, name = directory.rpartition("/")
    if name != "dropbear":
        return [
            f"ssh_hook_dropbear_dir is '{directory}': this playbook installs Dropbear as a directory with the name "
            "dropbear, so the path must end in /dropbear."
        ]
    if prefix not in (None, parent):
        wanted = f"{str(prefix).rstrip('/')}/dropbear"
        advice = f"set ssh_hook_dropbear_dir to {wanted}, and " if wanted != directory else ""
        return [
            f"dropbear_prefix is '{prefix}', and this playbook installs Dropbear where the hook looks for it, in "
            f"{directory} (ssh_hook_dropbear_dir): {advice}remove dropbear_prefix."
        ]
    return []


def wrong_values(variables: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each invalid value of the role ssh_hook that has the right type."""
    python, name, port = (variables[f"ssh_hook_{key}"] for key in ("python", "json_name", "server_port"))
    dirs, cdi, docker_cdi = (variables[f"ssh_hook_{key}"] for key in ("hooks_dirs", "cdi", "docker_cdi"))
    ports, addresses, stages = (
        variables[f"ssh_hook_{key}"] for key in ("container_ports", "listen_addresses", "stages")
    )
    minutes, joins = variables["ssh_hook_passwd_refresh_minutes"], variables["ssh_hook_join_namespaces"]
    is_own = variables["ssh_hook_passwd_source"] == "getent"
    names = [address for address in addresses if not ADDRESS.fullmatch(address)]
    without_job = variables["ssh_hook_server_port_without_job"]
    prolog, epilog = variables["ssh_hook_slurm_prolog_dir"], variables["ssh_hook_slurm_epilog_dir"]
    starting = "createRuntime" if joins else "createContainer"
    rules = [
        (
            len(python) <= MAX_PYTHON_LENGTH,
            f"ssh_hook_python has {len(python)} characters, but a program can name an interpreter of at most "
            f"{MAX_PYTHON_LENGTH}.",
        ),
        (
            dirs or cdi,
            "ssh_hook_hooks_dirs is empty, so no engine would find the hook: name a directory that the engine "
            "reads, or set ssh_hook_cdi to true.",
        ),
        (
            cdi or not docker_cdi,
            "ssh_hook_docker_cdi is true and ssh_hook_cdi is false, so Docker would find no device: set both to true, "
            "or neither.",
        ),
        (
            JSON_NAME.fullmatch(name),
            f"ssh_hook_json_name is '{name}': it must be a file name of letters, digits and . _ - that ends in .json, "
            "since engines read no others.",
        ),
        (
            port == AUTO or _port(port) in PORTS,
            f"ssh_hook_server_port is {port}, but a TCP port is a number from 1 to 65535: give one, or {AUTO} for "
            "ports that are calculated from jobs.",
        ),
        (
            without_job in PORTS,
            f"ssh_hook_server_port_without_job is {without_job}, but a TCP port is a number from 1 to 65535.",
        ),
        (
            port != AUTO or without_job not in PORTS_OF_JOBS,
            f"ssh_hook_server_port_without_job is {without_job}, which with ssh_hook_server_port: {AUTO} is in the "
            f"range for jobs: give one that is not from {PORTS_OF_JOBS[0]} to {PORTS_OF_JOBS[-1]}.",
        ),
        (
            bool(prolog) == bool(epilog) and not (prolog and prolog == epilog),
            f"ssh_hook_slurm_prolog_dir is '{prolog}' and ssh_hook_slurm_epilog_dir is '{epilog}': name two "
            "directories, since one script removes what the other writes, or none.",
        ),
        (
            all(port in PORTS for port in ports),
            f"ssh_hook_container_ports is {shown(ports)}, but a TCP port is a number from 1 to 65535.",
        ),
        (
            SSHD not in ports,
            f"ssh_hook_container_ports has {SSHD}, where the nodes' sshd answers, whose host keys the containers' ssh "
            "would refuse: remove it.",
        ),
        (
            not names,
            f"ssh_hook_listen_addresses has '{_and(names, quote=True)}': give IPv4 or IPv6 addresses, no names, scopes "
            "or networks.",
        ),
        (
            len(set(addresses)) == len(addresses),
            f"ssh_hook_listen_addresses is {shown(addresses)}: give each address once.",
        ),
        (
            len(addresses) <= MAX_ADDRESSES,
            f"ssh_hook_listen_addresses has {len(addresses)} addresses, but Dropbear listens on {MAX_ADDRESSES} at "
            "most.",
        ),
        (
            starting in stages,
            f"ssh_hook_stages is {shown(stages)}: without "
            f"{starting}{'' if joins else ' (ssh_hook_join_namespaces is false)'} no daemon is ever started.",
        ),
        (
            not {"createRuntime", "createContainer"} <= set(stages),
            "ssh_hook_stages has both createRuntime and createContainer: the daemon can be started at one of them "
            "only.",
        ),
        (
            not is_own or variables["ssh_hook_passwd_file"] != NODES_FILE,
            f"ssh_hook_passwd_file is '{NODES_FILE}', the node's own file, which the role would replace, and later "
            "remove: set ssh_hook_passwd_source to 'file', or name another file.",
        ),
        (
            1 <= minutes <= MOST_MINUTES,
            f"ssh_hook_passwd_refresh_minutes is {minutes}: give 1 minute at least, and at most a week "
            f"({MOST_MINUTES}).",
        ),
        (
            variables["ssh_hook_prefix"] not in SYSTEM_DIRECTORIES,
            f"ssh_hook_prefix is '{variables['ssh_hook_prefix']}', a directory of the system: name one for the "
            "installation alone, such as /opt/oci-hooks.",
        ),
    ]
    return [sentence for holds, sentence in rules if not holds]


def port_without_job(variables: Mapping[str, Any]) -> tuple[int, str]:
    """Return the port of containers outside jobs, and the variable that sets it."""
    name = "ssh_hook_server_port"
    name = f"{name}_without_job" if variables[name] == AUTO else name
    return int(variables[name]), name


def _port(value: object) -> int:
    """Return a port's number, which is a string on a command line; 0 if it is not a number."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0


def shown(values: Iterable[object]) -> str:
    """Return a list as written in an inventory."""
    return f"[{', '.join(map(str, values))}]"


def _and(values: Iterable[str], *, quote: bool = False) -> str:
    return ("' and '" if quote else " and ").join(values)
