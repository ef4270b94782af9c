"""Something to do once another library is loaded, which may be before or after this one."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def when_loaded(name: str, act: Callable[[ModuleType], None]) -> None:
    """Call ``act`` with a top-level module: now, if it is loaded, or as soon as its import is done."""
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        act(module)
    else:
        sys.meta_path.insert(0, _Watch(name, act))


class _Watch:
    """Finds nothing itself: it lets others find the module, and is told when that has been run.

    (The base class of finders, and that of loaders, take a start 5 ms, and need not be.)
    """

    def __init__(self, name: str, act: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.act = act

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            told: Any = _Told(spec.loader, self)
            spec.loader = told
        return spec


class _Told:
    """A module's own loader, which says when it is done."""

    def __init__(self, loader: Any, watch: _Watch) -> None:
        self.loader = loader
        self.watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self.loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        # Whoever asks the module for its loader shall find its own.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if self.watch in sys.meta_path:
            sys.meta_path.remove(self.watch)
        self.watch.act(module)
