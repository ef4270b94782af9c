"""Whether an installed wheel works: it is complete, starts quickly and evaluates an expression.

Usage: python -I first_expression.py CHECKOUT WHEEL, with the Python that the wheel is installed for.
"""

import statistics
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

FOLDERS = ["engine", "ops", "attention", "runtime"]
IMPORT_LIMIT = 0.200  # seconds, beyond those of an empty interpreter
RUNS = 9
ROUNDS = 3  # a busy machine only ever adds time, so one good round is proof


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-I", "-c", code]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def check_contents(checkout: Path, wheel: Path, settings: dict) -> None:
    """Every module of the checkout is in the wheel, and nothing but modules and the typing marker."""
    patterns = ["__init__.py", "py.typed", *(f"{name}/**/*.py" for name in FOLDERS)]
    paths = [path for pattern in patterns for path in checkout.glob(pattern)]
    expected = {f"attngraph/{path.relative_to(checkout).as_posix()}" for path in paths}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == expected, f"missing in the wheel: {expected - found}, too much: {found - expected}"
    packages = {Path(name).parent.as_posix().replace("/", ".") for name in found}
    assert packages == set(settings["setuptools"]["packages"]), packages
    print(f"{wheel.name}: {len(found)} files in {len(packages)} packages")


def check_start(settings: dict) -> None:
    """The import is quick, and loads nothing that only some users need."""
    heavy = settings["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]
    loaded = run(f"import attngraph, sys; print(*sorted(sys.modules.keys() & set({heavy})))").split()
    assert not loaded, f"import attngraph loads {', '.join(loaded)}"

    def seconds(code: str) -> float:
        start = time.perf_counter()
        run(code)
        return time.perf_counter() - start

    for _ in range(ROUNDS):
        pairs = [(seconds("import attngraph"), seconds("pass")) for _ in range(RUNS)]
        extra = statistics.median(full - empty for full, empty in pairs)
        print(f"import attngraph: {extra * 1000:.0f} ms (at most {IMPORT_LIMIT * 1000:.0f})")
        if extra <= IMPORT_LIMIT:
            return
    raise AssertionError("import attngraph takes too long")


def check_expression() -> None:
    """Causal attention, written out, equals NumPy's."""
    import numpy as np

    import attngraph as ag

    assert Path(ag.__file__).is_relative_to(sys.prefix), f"not the installed wheel: {ag.__file__}"
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, 65, 16), dtype="float32") for _ in range(3))
    i, j = ag.arange(65)[:, None], ag.arange(65)[None, :]
    scores = ag.where(i >= j, ag.asarray(q) @ ag.asarray(k).mT / 4, -ag.inf)
    result = (ag.softmax(scores, axis=-1) @ ag.asarray(v)).compute()

    weights = np.where(np.tri(65, dtype=bool), np.exp(q.astype("float64") @ k.mT / 4), 0)
    weights /= weights.sum(axis=-1, keepdims=True)
    assert result.dtype == np.float32, result.dtype
    np.testing.assert_allclose(result, weights @ v, rtol=1e-5, atol=1e-5)
    print(f"the first expression: attention of shape {result.shape}, as NumPy has it")


def main() -> None:
    """Run every check; an AssertionError says what does not hold."""
    checkout, wheel = map(Path, sys.argv[1:])
    settings = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]
    check_contents(checkout, wheel, settings)
    check_start(settings)
    check_expression()


if __name__ == "__main__":
    main()
