"""A function in a process of its own: what one library leaves behind, another never sees.

``python processes.py module function result.json '{"argument": ...}'`` is that process.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CACHE = Path("build/bench/cache").resolve()
_LONGEST = 900.0
# Every library that is measured reads its threads from one of these.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "ATTNGRAPH_THREADS")


class ProcessError(Exception):
    """The process failed; the message is its last words."""


def caches(folder: Path) -> dict[str, str]:
    """Variables that tell each compiler to keep what it makes in this folder."""
    return {
        "ATTNGRAPH_CACHE_DIR": str(folder / "attngraph"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "KEOPS_CACHE_FOLDER": str(folder / "keops"),
        "KEOPS_VERBOSE": "0",
    }


def run_alone(module: str, function: str, arguments: dict[str, Any], threads: int, cache: Path = CACHE) -> Any:
    """What ``module.function(**arguments)`` returns in a fresh process with so many threads.

    Raises:
        ProcessError: If it fails, crashes, or takes too long.
    """
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "keops").mkdir(exist_ok=True)  # KeOps does not make it
    environment = {**os.environ, **caches(cache), **dict.fromkeys(_THREADS, str(threads))}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, __file__, module, function, str(result), json.dumps(arguments)]
        _finish(command, environment)
        return json.loads(result.read_text())


def _finish(command: list[str], environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LONGEST, check=False)
    except subprocess.TimeoutExpired:
        raise ProcessError(f"took more than {_LONGEST:.0f} s") from None
    if done.returncode:
        # What a process has no memory for, the system kills without a word.
        words = done.stderr.strip().splitlines() or ["no message"]
        raise ProcessError(f"{words[-1][:200]} (exit code {done.returncode})")


def main(module: str, function: str, result: str, arguments: str) -> None:
    answer = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    Path(result).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
