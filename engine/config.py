"""Settings: for the process, for a context, from the environment."""

import difflib
import functools
import os
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import ArgumentError

TARGETS = ("native", "x86-64-v2", "x86-64-v3", "x86-64-v4", "reference", "reference64")
DISTANCE_FORMS = ("direct", "gram")
_MOST_THREADS = 4096
# How alike two names are that are taken for one, between 0 and 1.
_NEAR = 0.6
_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def _available_threads() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


@dataclass(frozen=True)
class Settings:
    """What one evaluation runs under.

    Attributes:
        threads: How many threads a call may use.
        cache_dir: Where compiled kernels are kept.
        memory_limit: Most bytes that an evaluation may plan for intermediates and results, or None.
        target: What runs the graph: ``native`` or an instruction set, ``reference`` (the interpreter
            on the graph as written) or ``reference64`` (the same with every float in float64).
        check_finite: Whether NaN or infinity in q, k or v of an attention is an error; None means
            the default of the call (on for ``.compute()``). A compiled function checks only if it was made
            by ``compile(check_finite=True)``, or by ``compile(check_finite=None)``, which follows this setting.
        distance_form: How manifolds compute distances: ``direct`` (from differences) or ``gram``.
        max_length: The longest sequence an attention takes, or None.
    """

    threads: int
    cache_dir: str
    memory_limit: int | None = None
    target: str = "native"
    check_finite: bool | None = None
    distance_form: str = "direct"
    max_length: int | None = None


@functools.lru_cache(maxsize=64)
def _same(settings: Settings) -> Settings:
    """The one object of these settings: who holds it can tell by identity that nothing has changed."""
    return settings


def _positive(name: str, value: Any) -> int:
    try:
        number = int(value) if isinstance(value, str) else int(value.__index__())
    except (AttributeError, TypeError, ValueError):
        raise ArgumentError(f"config: {name} is a whole number, not {value!r}") from None
    if number < 1 or isinstance(value, bool):
        raise ArgumentError(f"config: {name} is at least 1, not {value!r}")
    return number


def _threads(name: str, value: Any) -> int:
    number = _positive(name, value)
    if number > _MOST_THREADS:
        raise ArgumentError(f"config: {name} is at most {_MOST_THREADS}, not {value!r}")
    return number


def _is_unset(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == "")


def _bytes(name: str, value: Any) -> int | None:
    if _is_unset(value):
        return None
    if not isinstance(value, str):
        return _positive(name, value)
    digits = value.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = value.strip()[len(digits) :].upper()
    try:
        return _positive(name, int(float(digits) * _UNITS[unit]))
    except (KeyError, ValueError, OverflowError):
        raise ArgumentError(f'config: {name} is a number of bytes or like "256MiB", not {value!r}') from None


def _one_of(choices: tuple[str, ...]) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ArgumentError(f"config: {name} is one of {', '.join(choices)}, not {value!r}")
        return str(value)

    return check


def _switch(name: str, value: Any) -> bool | None:
    words = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False, "": None}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if value is None or isinstance(value, bool):
        return value
    raise ArgumentError(f"config: {name} is True, False or None, not {value!r}")


def _path(name: str, value: Any) -> str:
    try:
        return str(Path(value))
    except TypeError:
        raise ArgumentError(f"config: {name} is a path, not {value!r}") from None


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "threads": lambda name, value: _available_threads() if _is_unset(value) else _threads(name, value),
    "cache_dir": lambda name, value: _path(name, value) if value is not None else _default_cache(),
    "memory_limit": _bytes,
    "target": _one_of(TARGETS),
    "check_finite": _switch,
    "distance_form": _one_of(DISTANCE_FORMS),
    "max_length": lambda name, value: None if _is_unset(value) else _positive(name, value),
}


_CHECKS_IN_CAPITALS = [name.upper() for name in _CHECKS]


def _default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME")
    return str((Path(base) if base else Path.home() / ".cache") / "attngraph")


def _check_spelling() -> None:
    """Raise ArgumentError for a variable that is nearly one of ours; others may belong to somebody else."""
    known = [f"ATTNGRAPH_{field.name.upper()}" for field in fields(Settings)]
    for name in os.environ:
        given = name.upper()
        if name in known or not given.startswith("ATTNGRAPH_"):
            continue
        near = difflib.get_close_matches(given.removeprefix("ATTNGRAPH_"), _CHECKS_IN_CAPITALS, 1, _NEAR)
        if near:
            raise ArgumentError(
                f"config: there is no environment variable {name} (ATTNGRAPH_{near[0]}?); there are {', '.join(known)}"
            )


def _from_environment() -> Settings:
    _check_spelling()
    given = Settings(threads=_available_threads(), cache_dir=_default_cache())
    for field in fields(Settings):
        text = os.environ.get(f"ATTNGRAPH_{field.name.upper()}")
        if text is not None:
            given = replace(given, **{field.name: _CHECKS[field.name](field.name, text)})
    return given


class Config:
    """The library's settings (`Settings` lists them): ``config.threads``, ``config.set(threads=1)``.

    Each can come from the environment too, where it is read once: ``ATTNGRAPH_THREADS``,
    ``ATTNGRAPH_CACHE_DIR``, ``ATTNGRAPH_MEMORY_LIMIT``, ``ATTNGRAPH_TARGET``, ``ATTNGRAPH_CHECK_FINITE``,
    ``ATTNGRAPH_DISTANCE_FORM`` and ``ATTNGRAPH_MAX_LENGTH``. A name that is nearly one of these is an error.
    """

    def __init__(self) -> None:
        self._process: Settings | None = None
        self._context: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("attngraph_config", default=())
        # The settings that were last asked for in a context, and what they came of.
        self._merged: tuple[Settings | None, Any, Settings | None] = None, None, None

    def settings(self) -> Settings:
        """The settings in force here and now.

        Raises:
            ArgumentError: If an environment variable holds what the setting cannot be.
        """
        process = self._process
        if process is None:
            process = self._process = _same(_from_environment())
        context = self._context.get()
        if not context:
            return process
        base, changes, settings = self._merged
        if settings is None or base is not process or changes is not context:
            settings = _same(replace(process, **dict(context)))
            self._merged = process, context, settings
        return settings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _CHECKS:
            raise AttributeError(f"config has no setting {name!r}; there are {', '.join(_CHECKS)}")
        return getattr(self.settings(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.set(**{name: value})

    def set(self, **changes: Any) -> "Setting":
        """Change settings, for the process at once; in a ``with``, for this context until its end.

        Raises:
            ArgumentError: For an unknown setting or a value it cannot have.
        """
        checked = {}
        for name, value in changes.items():
            if name not in _CHECKS:
                raise ArgumentError(f"config: there is no setting {name!r}; there are {', '.join(_CHECKS)}")
            checked[name] = _CHECKS[name](name, value)
        return Setting(self, checked)

    def __repr__(self) -> str:
        return f"<attngraph.config {self.settings()}>"


class Setting:
    """A change of settings: in force for the process, or inside ``with`` for the context alone."""

    def __init__(self, config: Config, changes: dict[str, Any]) -> None:
        self._config, self._changes = config, changes
        now = config.settings()
        self._before = {name: getattr(config._process, name) for name in changes}
        self._tokens: list[Token[Any]] = []
        assert config._process is not None, now
        config._process = _same(replace(config._process, **changes))

    def __enter__(self) -> Config:
        process = self._config._process
        assert process is not None
        if not self._tokens:  # take the change back from the process: it is this context's
            self._config._process = _same(replace(process, **self._before))
        overrides = {**dict(self._config._context.get()), **self._changes}
        self._tokens.append(self._config._context.set(tuple(overrides.items())))
        return self._config

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._config._context.reset(self._tokens.pop())


config = Config()
