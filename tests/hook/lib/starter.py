"""The fixtures `start` and `start_shared`: their type, and the class behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from containers import Container, Engine

Start = Callable[..., Container]


class Starter:
    """Starts containers and removes them at the end."""

    def __init__(self) -> None:
        self._started: list[Container] = []

    def __call__(self, engine: str, image: str = "debian", **options: Any) -> Container:
        container = Engine(engine).start(image, **options)
        self._started.append(container)
        return container

    def remove_all(self) -> None:
        for container in reversed(self._started):
            container.remove()
