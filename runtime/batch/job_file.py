"""A batch as a file says it: ``job.toml``."""

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ...engine.config import config
from ...engine.errors import ArgumentError
from ...ops.array import asarray
from ..store import KVStore
from ..store.record import ATTRIBUTE
from .run import batch
from .summary import BatchSummary

_KNOWN = {
    "function": str,
    "inputs": dict,
    "constants": dict,
    "output": str,
    "chunk": int,
    "over": int,
    "resume": bool,
    "scheduler": str,
    "config": dict,
}
_REQUIRED = ("function", "inputs", "output")
_ENTRY = {"path": str, "array": str, "whole": bool}


def run_job_file(file: Path, scheduler: str | None = None, resume: bool | None = None) -> BatchSummary:
    """Run the batch that a file describes.

    It is TOML::

        function = "model:attend"           # or "model.py:attend"; looked for beside this file, too
        output = "out.zarr"
        chunk = 4096                        # this and what follows may be left out
        over = 0
        resume = true
        scheduler = "tcp://host:8786"       # or "threads", "processes"

        [inputs]                            # arguments by name
        queries = "queries.zarr"            # cut along `over`: a zarr array or a .npy file
        keys = "memory"                     # of a store of keys and values: given whole, read block by block
        values = { path = "memory", array = "values" }  # which array it is, if not the one of that name

        [constants]                         # numbers, text, or { path = ... }: given whole
        slope = 0.5

        [config]                            # as ag.config.set
        threads = 4

    Paths are relative to the file. An array of ``[inputs]`` with ``whole = true`` is not cut, either.

    Args:
        file: The file.
        scheduler: Goes before the file's.
        resume: The same.

    Raises:
        ArgumentError: If the file is no TOML, lacks something, or says what nobody knows.
        StoreError: If a file is missing.
    """
    job = _read(file)
    folder = file.resolve().parent
    fn = _function(job["function"], folder)
    cut, given_whole = _inputs(job["inputs"], folder)
    for name, entry in job.get("constants", {}).items():
        is_path = isinstance(entry, dict)
        given_whole[name] = asarray(_array(name, _entry(name, entry), folder)) if is_path else entry
    with config.set(**job.get("config", {})):
        return batch(
            fn,
            cut,
            folder / job["output"],
            over=job.get("over", 0),
            chunk=job.get("chunk"),
            constants=given_whole,
            resume=job.get("resume", True) if resume is None else resume,
            scheduler=scheduler or job.get("scheduler"),
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        job = tomllib.loads(file.read_text())
    except OSError as error:
        raise ArgumentError(f"batch: {file}: {error.strerror or error}") from None
    except ValueError as error:  # no TOML, or no text
        raise ArgumentError(f"batch: {file} is not TOML: {error}") from None
    _check(f"{file}", job, _KNOWN)
    missing = [name for name in _REQUIRED if name not in job]
    if missing:
        raise ArgumentError(f"batch: {file} lacks {', '.join(missing)}")
    return job


def _check(place: str, given: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for name, value in given.items():
        if name not in known:
            raise ArgumentError(f"batch: {place} says {name!r}; there are {', '.join(known)}")
        if type(value) is not known[name]:
            raise ArgumentError(f"batch: {place}: {name} is {known[name].__name__}, not {type(value).__name__}")


def _entry(name: str, entry: Any) -> dict[str, Any]:
    """A path, and what to take of it."""
    found = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(found, dict) or "path" not in found:
        raise ArgumentError(f"batch: {name} is a path, or a table with one, not {entry!r}")
    _check(name, found, _ENTRY)
    return found


def _inputs(inputs: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is cut, and what is given whole."""
    cut: dict[str, Any] = {}
    given_whole: dict[str, Any] = {}
    for name, value in inputs.items():
        entry = _entry(name, value)
        if entry.get("whole", _is_store(folder / entry["path"])):
            given_whole[name] = asarray(_array(name, entry, folder))
        else:
            cut[name] = _array(name, entry, folder)
    return cut, given_whole


def _is_store(path: Path) -> bool:
    try:
        return f'"{ATTRIBUTE}"' in (path / "zarr.json").read_text() and (path / "keys").is_dir()
    except (OSError, ValueError):
        return False


def _array(name: str, entry: Mapping[str, Any], folder: Path) -> Any:
    from ..mapped_file import MappedFile
    from .sources import Stored, source_of

    path = folder / entry["path"]
    if _is_store(path):
        key = entry.get("array", name)
        if key not in ("keys", "values"):
            raise ArgumentError(f"batch: {name}: which of keys and values of {path}? {{ path = ..., array = ... }}")
        return KVStore.open(path).stored_array(key)
    found = source_of(path / entry["array"] if "array" in entry else path, f"input {name!r}")
    source = found.source if isinstance(found, Stored) else None
    return source.whole("batch") if isinstance(source, MappedFile) else source


def _function(text: str, folder: Path) -> Any:
    """The function that ``module:name`` or ``file.py:name`` names."""
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise ArgumentError(f'batch: function is "module:name" or "file.py:name", not {text!r}')
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = _loaded(folder / place) if place.endswith(".py") else importlib.import_module(place)
    except (ImportError, OSError, SyntaxError) as error:
        raise ArgumentError(f"batch: function {text!r}: {error}") from error
    _send_with_job(module, folder)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ArgumentError(f"batch: function {text!r}: {getattr(module, '__file__', place)} has no function {name!r}")
    return found


def _loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _send_with_job(module: ModuleType, folder: Path) -> None:
    """Workers know the packages that are installed, not what lies beside a job's file: that travels by value."""
    import cloudpickle

    file = getattr(module, "__file__", None)
    if file is not None and folder in Path(file).resolve().parents:
        cloudpickle.register_pickle_by_value(module)
