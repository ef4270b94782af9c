"""Expressions as dask collections."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...engine.config import Settings, config
from ...engine.errors import ArgumentError
from ...engine.immediate import evaluate_now
from ...engine.interpreter import finish
from ...engine.ir import Node, Values
from ...engine.room import is_alone
from ...ops.array import Array
from .cutting import LEAST_THREADED, Chunks, Resources
from .graph import Made, TaskGraph, Wanted
from .job import assembled, job_of
from .work import UNDECIDED


class Collection:
    """A lazy expression as a dask collection: its tasks are fused kernels, its result is an array.

    Made by `Array.to_dask`. It goes wherever dask's own collections go: ``dask.compute``, ``dask.persist``,
    ``ProgressBar``, ``dask.visualize``, a ``distributed.Client``. Keys and values that lie in stores, zarr arrays or
    memory maps are read by the tasks; arrays in memory travel as the pieces that a task needs.
    """

    def __init__(
        self, node: Node, layers: Mapping[str, Any], made: Made, token: str, chunks: Mapping[int, Chunks]
    ) -> None:
        self._node, self._layers, self._made, self._token = node, dict(layers), made, token
        self._chunks = dict(chunks)

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape."""
        return tuple(int(length) for length in self._node.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The result's type."""
        return np.dtype(self._node.dtype)

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return sum(len(layer) for layer in self._layers.values())

    @property
    def expression(self) -> Array:
        """What it computes."""
        return Array(self._node)

    @property
    def plan(self) -> str:
        """How many tasks there are, and how each kernel's work is cut."""
        return f"{self.tasks} tasks, " + ("; ".join(map(str, self._chunks.values())) or "not cut")

    def __repr__(self) -> str:
        return f"<attngraph.Collection {self.dtype.name}{list(self.shape)}: {self.plan}>"

    # --- dask's protocol

    # Tasks are whole kernels already, and keep the annotations that they were made under.
    __dask_optimize__ = None

    def __dask_graph__(self) -> Any:
        from dask.base import get_annotations
        from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

        annotations = get_annotations() or None
        layers = {name: MaterializedLayer(tasks, annotations=annotations) for name, tasks in self._layers.items()}
        owner = {key: name for name, tasks in self._layers.items() for key in tasks}
        needs = {
            name: {owner[key] for task in tasks.values() for key in getattr(task, "dependencies", ())} - {name}
            for name, tasks in self._layers.items()
        }
        return HighLevelGraph(layers, needs)

    def __dask_layers__(self) -> Sequence[str]:
        return tuple(dict.fromkeys(key[0] for key in self._made.keys))

    def __dask_keys__(self) -> list[Any]:
        return list(self._made.keys)

    def __dask_tokenize__(self) -> Any:
        return ("attngraph", self._token, self._node.name, self._made.keys)

    @property
    def __dask_scheduler__(self) -> Any:
        from dask.threaded import get

        return get

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _result, (self._node, self._made)

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _persisted, (self._node, self._made, self._token, self._chunks)

    # --- what dask's collections have

    def compute(self, **options: Any) -> Any:
        """The array, by a scheduler of dask: ``compute(scheduler="threads")``, as for dask's collections."""
        return _dask().compute(self, **options)[0]

    def persist(self, **options: Any) -> Any:
        """The same with the tasks' results in the memory of whoever has computed them."""
        return _dask().persist(self, **options)[0]

    def visualize(self, filename: str = "tasks", **options: Any) -> Any:
        """A picture of the tasks, by dask."""
        return _dask().visualize(self, filename=filename, **options)


def _dask() -> Any:
    return importlib.import_module("dask")


def _result(pieces: Sequence[Any], node: Node, made: Made) -> Values:
    """The array of the tasks' results: computed whole where one of them is in doubt."""
    if any(each is UNDECIDED for each in pieces):
        return evaluate_now([node])[0]
    named = {place: (box, each[made.number]) for place, (box, each) in enumerate(zip(made.boxes, pieces, strict=True))}
    value = finish(assembled(node.shape, node.dtype, named), node.type, False)
    return value if is_alone(value) and value.flags.writeable else np.array(value)


def _persisted(
    graph: Mapping[Any, Any], node: Node, made: Made, token: str, chunks: Mapping[int, Chunks], *, rename: Any = None
) -> Collection:
    names = rename or {}
    keys = tuple((names.get(key[0], key[0]), *key[1:]) for key in made.keys)
    layers: dict[str, dict[Any, Any]] = {}
    for key in keys:
        layers.setdefault(key[0], {})[key] = _node_of(key, graph[key])
    return Collection(node, layers, Made(made.number, made.boxes, keys), token, chunks)


def _node_of(key: Any, value: Any) -> Any:
    from dask._task_spec import DataNode, GraphNode

    # A result on a cluster stands for itself.
    return value if isinstance(value, GraphNode) or hasattr(value, "client") else DataNode(key, value)


def to_dask(
    x: Array | Sequence[Array],
    chunks: Any = None,
    *,
    keys: int | None = None,
    resources: Resources | None = None,
    settings: Settings | None = None,
) -> list[Collection]:
    """Collections of one or several expressions, which share their tasks.

    Args:
        x: The expressions.
        chunks: Lengths of chunks along the axes of the result, as dask's: a tuple, or a dict by axis; -1 or None for
            a whole axis. Of one expression that is a kernel's own result.
        keys: Keys of a chunk, for such an expression.
        resources: Who does the tasks; the threads of ``ag.config`` if None.
        settings: Those in force if None.

    Raises:
        ArgumentError: If something cannot be cut so.
    """
    settings = config.settings() if settings is None else settings
    arrays = [x] if isinstance(x, Array) else list(x)
    nodes = [each.node for each in arrays]
    if resources is None:
        resources = Resources(settings.threads, LEAST_THREADED, settings.memory_limit)
    job, held = job_of(nodes, settings, settings.check_finite is not False)
    wanted = None
    if chunks is not None or keys is not None:
        wanted = Wanted(_sizes(chunks, nodes[0].shape), _keys(keys), chunks)
    graph = TaskGraph(job, held, resources, settings, wanted)
    return [
        Collection(node, graph.layers, made, graph.token, graph.chunks)
        for node, made in zip(nodes, graph.roots, strict=True)
    ]


def _keys(keys: Any) -> int | None:
    if keys is None or (isinstance(keys, int | np.integer) and not isinstance(keys, bool) and keys > 0):
        return None if keys is None else int(keys)
    raise ArgumentError(f"to_dask: keys is a positive number of keys, not {keys!r}")


def _sizes(chunks: Any, shape: Sequence[int]) -> dict[int, int]:
    """Lengths of chunks, by axes that are cut."""
    if chunks is None:
        return {}
    named = dict(chunks) if isinstance(chunks, Mapping) else None
    if named is None:
        if not isinstance(chunks, tuple | list) or len(chunks) != len(shape):
            raise ArgumentError(f"to_dask: chunks={chunks!r} where the result has {len(shape)} axes: one for each")
        named = dict(enumerate(chunks))
    found: dict[int, int] = {}
    for axis, size in named.items():
        if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            raise ArgumentError(f"to_dask: chunks={chunks!r}: the result has no axis {axis!r}")
        if size is None or size == -1:
            continue
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ArgumentError(f"to_dask: chunks={chunks!r}: a chunk is some elements long, not {size!r}")
        if size < shape[axis]:
            found[axis % len(shape)] = int(size)
    return found
