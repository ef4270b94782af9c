"""Modules that are imported when something of them is first asked for: a start pays for nothing it does not need."""

import importlib
from typing import Any


class Lazily:
    """Stands for a module.

    Args:
        name: Its full name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)
