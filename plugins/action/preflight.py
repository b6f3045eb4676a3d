# Copyright (c) ocihooks.ssh contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the variables on the controller, then runs the module node_facts on the node, and checks the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.loader import module_loader
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.ocihooks.ssh.plugins.module_utils import _diff
from ansible_collections.ocihooks.ssh.plugins.plugin_utils import _fitness, _interpreter, _sources, _variables
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._answers import is_node, unexpected
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._engine_paths import EnginePaths, engine_paths
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._node_action import NodeAction
from ansible_collections.ocihooks.ssh.plugins.plugin_utils._text import escaped, printable

_ROLES = Path(__file__).parents[2] / "roles"
_display = Display()
LOGIN_NODES = "login_nodes"  # a group


def role_options(role: str) -> dict[str, dict[str, Any]]:
    """Return the variables of a role from its meta/argument_specs.yml."""
    text = (_ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    specs = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["argument_specs"]
    return {
        name: {key: option[key] for key in ("type", "elements", "choices", "required", "default") if key in option}
        for name, option in specs["main"]["options"].items()
    }


# Read when the plugin is loaded, in the process that all hosts' workers are forked from.
OPTIONS = {name: option for role in ("ssh_hook", "dropbear") for name, option in role_options(role).items()}
DEFAULT_VERSIONS = {name: option["default"] for name, option in OPTIONS.items() if name.endswith("_version")}
PROGRAMS = {"dropbear": "dropbear_version", "openssh": "dropbear_openssh_version"}
# One host's value of these counts for all: they are read by tasks that run once, or on another host.
ONCE = [name for name in OPTIONS if name.startswith(_variables.DROPBEAR) and name not in _variables.EACH_HOSTS]
ONCE += [*_variables.LISTS, "ssh_hook_report_dir"]
LISTS = [*(name for name, option in OPTIONS.items() if option["type"] == "list"), *_variables.LISTS]


def critical_paths(values: Mapping[str, Any], paths: EnginePaths) -> list[str]:
    """Return those of the role ssh_hook's `ssh_hook__own_paths` that the node cannot find out by itself."""
    launcher = f"{values['ssh_hook_prefix']}/bin/ssh_hook"
    return [launcher, values["ssh_hook_passwd_file"], values["ssh_hook_dropbear_dir"], *paths.wanted]


def question(values: Mapping[str, Any], paths: EnginePaths, purpose: str, *, with_dropbear: bool) -> dict[str, Any]:
    """Return the arguments of the module node_facts."""
    is_removal, versions = purpose == "remove", wanted_versions(values)
    passwd_file, asks_names = values["ssh_hook_passwd_file"], values["ssh_hook_passwd_source"] == "getent"
    return {
        "prefix": values["ssh_hook_prefix"],
        "python": values["ssh_hook_python"],
        "packages_dir": values["ssh_hook_python_packages_dir"],
        "dropbear_dir": values["ssh_hook_dropbear_dir"],
        "port": _variables.port_without_job(values)[0],
        "addresses": values["ssh_hook_listen_addresses"],
        "passwd_file": passwd_file,
        "writes_passwd_file": asks_names,
        "name_service": asks_names and not is_removal,
        "base_dir": values["ssh_hook_base_dir"],
        "directories": [
            values["ssh_hook_base_dir"],
            *(values[name] for name in _fitness.OPTIONAL_DIRECTORIES if values[name]),
        ],
        "json_files": paths.hooks,
        "files": paths.wanted,
        "hook_digests": {} if is_removal else _sources.DIGESTS,
        "dropbear_versions": {
            source: versions[variable] for source, variable in PROGRAMS.items() if with_dropbear and purpose == "deploy"
        },
        "critical": critical_paths(values, paths) if purpose == "deploy" else [],
        "provided": [values["ssh_hook_python"], *[passwd_file] * (not asks_names)],
        "metrics_dir": values["ssh_hook_metrics_dir"],
        "possible": paths.possible,
        "unwanted": [] if values["ssh_hook_cdi"] else [paths.cdi],
        "docker_json": paths.docker,
        "firewalld_zone": values["ssh_hook_firewalld_zone"],
        "lists_daemons": purpose == "audit",
    }


def wanted_versions(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions to build, keyed by the variables that set them."""
    return {name: values.get(name, default) for name, default in DEFAULT_VERSIONS.items()}


def has_module(name: str) -> bool:
    """Return whether a module is installed on the controller."""
    return bool(module_loader.find_plugin_with_context(name).resolved)


class ActionModule(NodeAction):
    """The action plugin."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the variables and, unless the purpose is ``variables``, the node."""
        answer: dict[str, Any]
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host, purpose = variables["inventory_hostname"], self._task.args.get("purpose", "deploy")
        with_dropbear = self._task.args.get("with_dropbear", False)
        if purpose == "remarks":
            return {**result, "changed": False, "said": self._repeat_remarks(variables)}
        suspicious = self.wrong_facts(variables)
        if suspicious:
            return {**result, "failed": True, "msg": suspicious[0]}
        values, wrong = self._values(variables)
        if LOGIN_NODES in variables.get("group_names", []):
            values["ssh_hook_require_engine"] = False
        wrong = wrong or self.of_one_host(variables, ONCE)
        wrong = wrong or _variables.wrong_dropbear_paths(values) + _variables.missing_collections(values, has_module)
        if with_dropbear:
            wrong = _variables.ignored(variables["hostvars"][host], load_extra_vars(self._loader)) + wrong
        wrong = _sources.missing_sources() + wrong
        if purpose == "variables" and values.get("dropbear_programs_archive_dest"):
            wrong += _variables.foreign_archive(values["dropbear_programs_archive_dest"])
        if purpose != "variables" and not wrong:
            wrong = _variables.wrong_paths(values) + _variables.wrong_values(values)
            if with_dropbear:
                wrong += _variables.wrong_dropbear_dir(values, self._set_prefix(variables, host))
        if wrong:
            return {**result, "changed": False, "failed": True, "msg": " ".join(wrong)}
        result = {
            **result,
            "changed": False,
            "versions": wanted_versions(values),
        }
        if purpose == "values":
            self._announce_batch(variables)
        if purpose in ("variables", "values"):
            return result
        if purpose == "users":
            users = list(map(str, values.get("ssh_hook_users", [])))
            return {**result, **self._key_users(users, self._task.args["node_values"], variables)}
        paths = engine_paths(values)
        answer = self._execute_module(
            module_name="ocihooks.ssh.node_facts",
            module_args=question(values, paths, purpose, with_dropbear=bool(with_dropbear)),
            task_vars=task_vars,
        )
        node: Any = answer.get("node")
        if not is_node(node):
            problem = _interpreter.too_old(self, host)
            return {**result, **({"failed": True, "msg": problem} if problem else unexpected(answer, "node_facts"))}
        is_audit = purpose == "audit"
        found = _fitness.foreign(host, values, node, paths)
        if purpose != "remove":
            found += _fitness.complaints(host, values, node, audit=is_audit, with_dropbear=bool(with_dropbear))
        if found:
            unsafe = node["python"]["unsafe"] is True
            return {**result, "failed": True, "unsafe": unsafe, "msg": " ".join(map(printable, found))}
        remarks = [printable(remark) for remark in _fitness.remarks(host, values, node)]
        return {
            **result,
            "warnings": remarks if purpose == "deploy" else [],
            "node": node,
            "paths": {**paths._asdict(), "wanted": list(paths.wanted)},
            "node_values": {name: values[variable] for name, variable in _variables.FOR_KEYS.items()},
            "client_only": _fitness.is_client(values, node),
            "missing_packages": _fitness.missing_packages(values, node),
            "remarks": remarks,
        }

    @staticmethod
    def _announce_batch(variables: dict[str, Any]) -> None:
        """Display, once for each batch but the last, that Ansible ends the run if all of its nodes fail."""
        batch, every = variables["ansible_play_batch"], variables["ansible_play_hosts_all"]
        following = len(every) - 1 - every.index(batch[-1])
        if variables["inventory_hostname"] == batch[0] and following:
            _display.display(
                f"Nodes in this batch: {len(batch)}, after it: {following}. If all of this batch fail or are down, the "
                "run ends here, and those after it are not in the recap."
            )

    @staticmethod
    def _repeat_remarks(variables: dict[str, Any]) -> list[str]:
        """Display the warnings of the batch's nodes, since a site may not display the tasks that had them.

        Those that differ only in the node's name are one line.
        """
        nodes: dict[str, list[str]] = {}
        first: dict[str, str] = {}
        for host in variables["ansible_play_batch"]:
            found = variables["hostvars"][host]
            remarks = [*(found.get("ssh_hook__preflight") or {}).get("remarks", [])]
            remarks += map(str, (found.get("ssh_hook__engines") or {}).get("warnings") or [])
            for remark in remarks:
                general = remark.replace(host, "\0")
                first.setdefault(general, printable(remark))
                nodes.setdefault(general, []).append(host)
        said = [
            f"{first[general]} ({_diff.of_names({'more': hosts[1:]})})" if hosts[1:] else first[general]
            for general, hosts in nodes.items()
        ]
        said += map(str, (variables.get("ssh_hook__key_users") or {}).get("warnings") or [])
        if said:
            _display.display("\n".join(["", "WARNINGS", *said]))
        return said

    def _key_users(self, users: list[str], node: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return which users get keys, and a warning about those who do not.

        Args:
            node: the values that the preflight took from the variables of the node on which keys are created
        """
        path, base_dir = node["passwd_file"], node["base_dir"]
        question = {
            "path": path,
            "known": True,  # only looked up, in check mode
            "users": users,
            "base_dir": base_dir,
            "state": "present" if node["passwd_source"] == "getent" else "provided",
        }
        answer = self._execute_module(module_name="ocihooks.ssh.passwd_file", module_args=question, task_vars=variables)
        lists = [answer.get(name) for name in ("unknown", "without_home")]
        left = [name for names in lists if isinstance(names, list) for name in names]
        if answer.get("failed") or None in lists or not all(name in users for name in left):
            return unexpected(answer, "passwd_file")
        said = [printable(sentence) for sentence in _variables.without_keys(answer, path, base_dir)]
        return {"users": [user for user in users if user not in left], "warnings": said}

    def _values(self, variables: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the values of the roles' variables, converted to their types, and errors in names and types."""
        names = {*OPTIONS, *_variables.PLAYBOOKS}
        values, wrong = {}, _variables.misspelt(variables, names)
        for name in sorted(names & variables.keys()):
            try:
                values[name] = self._templar.template(variables[name])
            except AnsibleError as error:  # which does not name the variable
                wrong.append(f"{name} has a value that Ansible cannot evaluate: {escaped(str(error)).splitlines()[0]}")
        wrong += _variables.wrong_lists(values, LISTS)
        if wrong:
            return values, wrong
        spec = {name: option for name, option in OPTIONS.items() if name in values}
        checked = ArgumentSpecValidator(spec).validate({name: values[name] for name in spec})
        wrong = [f"{message}." for message in checked.error_messages]
        return {**values, **checked.validated_parameters}, wrong + _variables.wrong_users(values)

    def _set_prefix(self, variables: dict[str, Any], host: str) -> str | None:
        """Return dropbear_prefix if the inventory or the command line sets it; its role default is not visible here."""
        own = variables["hostvars"][host]
        return self._templar.template(own["dropbear_prefix"]) if "dropbear_prefix" in own else None
