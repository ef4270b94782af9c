"""How long until the first result: with empty caches, and with what an earlier process left on disk.

Libraries are loaded and arrays made before the clock starts; making the mask counts. What a call takes without
compiling is taken off.
"""

import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

from beside import said
from cases import Case, square
from measure import seconds
from peers import BY_NAME
from processes import ProcessError, run_alone
from training import Step, arrays_of, ours

SHAPE = (1, 8, 1024, 64)
NAMES = ("causal", "ALiBi, causal")
# With their gradients, compiled within this many seconds.
STEPS, STEP_LIMIT = ("full", "causal", "ALiBi, learned slopes, causal", "softcap, causal"), 1.0
# What is loaded before the clock starts: a library's own modules are not its compiler's time.
_MODULES = {"torch": "torch.nn.attention.flex_attention", "jax": "jax.numpy", "pykeops": "pykeops.numpy"}


def rows(quick: bool) -> list[dict[str, Any]]:
    """A row for each case and library; one thread."""
    found = []
    for name in NAMES[:1] if quick else NAMES:
        for peer in ("attngraph", "FlexAttention", "torch.compile", "onnxruntime", "JAX", "KeOps"):
            row: dict[str, Any] = {"case": name, "shape": square(name, SHAPE).shape, "library": peer}
            with tempfile.TemporaryDirectory() as folder:
                for kind in ("cold", "from_disk"):
                    row |= _first(peer, square(name, SHAPE), kind, Path(folder))
            found.append(row)
    return found


def step_rows(quick: bool) -> list[dict[str, Any]]:
    """A row for each forward and backward pass of ours; one thread."""
    found = []
    for name in STEPS[:1] if quick else STEPS:
        row: dict[str, Any] = {"case": name, "shape": SHAPE}
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("cold", "from_disk"):
                try:
                    row |= {f"{kind}_seconds": run_alone("compiling", "first_step", {"name": name}, 1, Path(folder))}
                except ProcessError as error:
                    row |= {"note": str(error), "defect": True}
        found.append({**row, "meets": row.get("cold_seconds", STEP_LIMIT + 1) <= STEP_LIMIT})
    return found


def first_step(name: str) -> float:
    """Seconds until a step's first result, beyond a later call's. Runs in a process of its own."""
    step = Step(name, "", SHAPE, 0.0)
    arrays = arrays_of(step, 0)
    start = time.perf_counter()
    run = ours(step)
    run(*arrays)
    first = time.perf_counter() - start
    return first - min(seconds(lambda: run(*arrays)) for _ in range(3))


def _first(peer: str, case: Case, kind: str, folder: Path) -> dict[str, Any]:
    try:
        answer = run_alone("compiling", "first_seconds", {"name": peer, "case": case}, 1, folder)
    except ProcessError as error:
        return {"note": str(error)}
    return answer if "note" in answer else {f"{kind}_seconds": answer["seconds"]}


def first_seconds(name: str, case: list[Any]) -> dict[str, Any]:
    """Seconds until the first result, beyond a later call's. Runs in a process of its own."""
    peer, this = BY_NAME[name], Case(*case)
    if peer.version() is None:
        return {"note": f"{peer.package} is not installed"}
    try:
        importlib.import_module(_MODULES.get(peer.package, peer.package))
        arrays = this.arrays(0)
        start = time.perf_counter()
        prepared = peer.prepare(this, 1)
        loaded = prepared.load(*arrays)
        prepared.run(*loaded)
        first = time.perf_counter() - start
        return {"seconds": first - min(seconds(lambda: prepared.run(*loaded)) for _ in range(3))}
    except Exception as error:  # whatever a library does, the table goes on
        return {"note": said(error)}
