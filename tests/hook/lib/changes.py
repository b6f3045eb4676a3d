"""Changes of a container's config.json, for the argument `change` of plain_create(), and mounts for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from containers import BOB


def bind(source: str | Path, destination: str, *options: str) -> dict[str, Any]:
    """Return a bind mount."""
    return {
        "destination": destination,
        "type": "bind",
        "source": str(source),
        "options": ["rbind", *(options or ("rprivate", "rw"))],
    }


def without_home(config: dict[str, Any]) -> None:
    """Mount no home: the container has the image's."""
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/home/alice"]


def of_bob(config: dict[str, Any]) -> None:
    """Make the container bob's."""
    config["process"]["user"] = {"uid": BOB, "gid": BOB}
    config["process"]["env"].append("HOME=/home/bob")
    config["mounts"][-1] = bind("/home/bob", "/home/bob")


def beside_others(config: dict[str, Any]) -> None:
    """Put the container among the processes of others, as in a pod."""
    config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] != "pid"]


def with_home(home: Path) -> Callable[[dict[str, Any]], None]:
    """Mount `home` where alice's home is in the container."""

    def change(config: dict[str, Any]) -> None:
        mount = next(mount for mount in config["mounts"] if mount["destination"] == "/home/alice")
        mount["source"] = str(home)

    return change


def with_resources(**resources: Any) -> Callable[[dict[str, Any]], None]:
    """Limit the container to these resources, named and nested as in config.json."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["cgroupsPath"] = "/hook-test/limits"
        config["linux"]["resources"] = resources

    return change
