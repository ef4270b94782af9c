"""Layers of graph networks, as `tests/graph_layers.py` writes them, beside PyTorch Geometric's and torch's product.

A layer is all of it: features transformed, attention over random edges, the bias. Results are held against the peer's
in float64 before they are timed, gradients against its own. ``python benchmarks/graphs.py`` prints the rows.
"""

import importlib
from typing import Any

import numpy as np
from graph_cases import FORWARD, HEADS, LARGE, SMALL, STEP, WIDTH, Arrays, Case, arrays_of, edges_of, ours
from graph_peers import theirs
from growth import watched
from measure import PAUSE, paired, turns
from processes import ProcessError, run_alone

import attngraph as ag

Rows = list[dict[str, Any]]

THREADS = 2
# Largest differences, relative to the largest value: from float64, and of gradients from the peer's own.
TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 1e-3
_BUDGET = 40.0

CASES = (
    Case("GAT", FORWARD, *LARGE, "PyG", 10),
    Case("GAT", FORWARD, *LARGE, "torch.compile", 6),
    Case("GAT", FORWARD, *LARGE, "PyG, sorted", None),
    Case("GAT", STEP, *LARGE, "PyG", 8),
    Case("GAT", STEP, *LARGE, "torch.compile", 5),
    Case("GATv2", FORWARD, *LARGE, "PyG", 8),
    Case("GATv2", STEP, *LARGE, "PyG", 5),
    Case("mean", FORWARD, *LARGE, "torch.sparse", 1),
    Case("sum", FORWARD, *LARGE, "torch.sparse", 1),
    Case("GAT", FORWARD, *SMALL, "PyG", 10),
)


def rows(rounds: int, quick: bool) -> Rows:
    """A row for each case; the last one is what making a graph takes."""
    making = Case("graph", "made of edges", *(SMALL if quick else LARGE), "SciPy", None)
    found = [
        {**_named(case), "peer": case.peer} | _alone("of_case", {"case": case, "rounds": rounds})
        for case in (CASES[-1:] if quick else CASES)
    ]
    return [
        *found,
        {**_named(making), "peer": making.peer} | _alone("of_making", {"case": making, "rounds": rounds}),
    ]


def growth_rows(quick: bool) -> Rows:
    """A row for each direction: growth beyond graph, inputs and results, which no array of all messages fits into."""
    found: Rows = []
    for direction in (FORWARD, STEP):
        case = Case("GAT", direction, *(SMALL if quick else LARGE), "", None)
        row = _named(case) | _alone("growth_of", {"case": case})
        limit = case.edges * HEADS * WIDTH * 4 / 2**20
        found.append(row if "note" in row else {**row, "limit": limit, "meets": row["mebibytes"] < limit})
    return found


def _alone(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(run_alone("graphs", function, arguments, THREADS))
    except ProcessError as error:
        return {"note": str(error)}


def _named(case: Case) -> dict[str, Any]:
    shape = f"{case.nodes} nodes, {case.edges} edges"
    return {"case": f"{case.layer}, {case.direction}", "shape": shape, "threads": THREADS}


def of_case(case: Any, rounds: int) -> dict[str, Any]:
    """Ours and the peer's in turn, after their results were compared."""
    case = Case(*case)
    edges, sets = edges_of(case), [arrays_of(case, seed) for seed in range(3)]
    given = 2 if case.direction == STEP else 1  # what is not a weight
    weights = sets[0][given:]
    sets = [[*each[:given], *weights] for each in sets]  # the peer's weights are in it
    torch = importlib.import_module("torch")
    tensors = [[torch.from_numpy(array) for array in each[:given]] for each in sets]
    with ag.config.set(threads=THREADS):
        mine, peer = ours(case, ag.CSR.from_edge_index(edges, case.nodes)), theirs(case, edges, weights, THREADS)
        error, gradient_error = _differences(case, edges, sets[0], mine, peer)
        if not (error <= TOLERANCE and gradient_error <= GRADIENT_TOLERANCE):
            return {"note": f"differs by {error:.1e}, its gradients by {gradient_error:.1e}", "defect": True}
        times = paired(turns(mine, sets), turns(peer, tensors), rounds, PAUSE, _calls(case), _BUDGET)
    meets = {} if case.target is None else {"target": case.target, "meets": times.ratio >= case.target}
    return {
        "milliseconds": times.ours * 1e3,
        "peer_milliseconds": times.other * 1e3,
        "ratio": times.ratio,
        "difference": error,
        **meets,
        **({} if meets.get("meets", True) else {"note": f"below the target of {case.target:g}"}),
    }


def _calls(case: Case) -> int:
    return 1 if case.nodes > 10_000 else 20


def _differences(case: Case, edges: np.ndarray, arrays: Arrays, mine: Any, peer: Any) -> tuple[float, float]:
    """Of the output from the peer's in float64, and of the gradients from its own: relative to the largest value."""
    torch = importlib.import_module("torch")
    given = 2 if case.direction == STEP else 1
    exact = theirs(case._replace(direction=FORWARD), edges, arrays[given:], THREADS, double=True)
    truth = exact(torch.from_numpy(arrays[given - 1]).double()).numpy()
    results = mine(*arrays)
    if case.direction == FORWARD:
        return _relative(results, truth), 0.0
    due = [each.numpy() for each in peer(*map(torch.from_numpy, arrays[:given]))]
    pairs = zip(results[1:], due[1:], strict=True)
    return _relative(results[0], truth), max(_relative(result, gradient) for result, gradient in pairs)


def _relative(result: np.ndarray, due: np.ndarray) -> float:
    return float(np.abs(result - due).max() / np.abs(due).max())


def growth_of(case: Any) -> dict[str, Any]:
    """What our process grows by beyond the results, what it keeps of the graph's order included."""
    case = Case(*case)
    small = case._replace(nodes=SMALL[0] // 2, edges=SMALL[1] // 2)  # that code is compiled and loaded
    ours(small, ag.CSR.from_edge_index(edges_of(small), small.nodes))(*arrays_of(small, 0))
    arrays, run = arrays_of(case, 0), ours(case, ag.CSR.from_edge_index(edges_of(case), case.nodes))
    results: list[Any] = []
    grown = watched(lambda: results.append(run(*arrays)), "RssAnon")
    made = results[0] if case.direction == STEP else results
    return {"mebibytes": max(grown - sum(each.nbytes for each in made), 0) / 2**20}


def of_making(case: Any, rounds: int) -> dict[str, Any]:
    """A graph made of a list of edges, beside SciPy's compressed rows."""
    sparse = importlib.import_module("scipy.sparse")
    case = Case(*case)
    edges = edges_of(case)

    def peer() -> Any:
        places = np.arange(case.edges)
        return sparse.csr_array((places, (edges[1], edges[0])), shape=(case.nodes, case.nodes))

    times = paired(lambda: ag.CSR.from_edge_index(edges, case.nodes), peer, rounds, budget=_BUDGET)
    return {"milliseconds": times.ours * 1e3, "peer_milliseconds": times.other * 1e3, "ratio": times.ratio}


if __name__ == "__main__":
    for row in [*rows(5, quick=False), *growth_rows(quick=False)]:
        print({name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()}, flush=True)
