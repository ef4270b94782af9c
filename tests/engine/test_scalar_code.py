import math
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from attngraph.engine.errors import ArgumentError, CompileError
from attngraph.engine.scalar_code import ScalarCode


def score(x, n):
    if n > 3:
        return math.exp(x) * n
    return x


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (score, "float64"),
        (lambda x, n: n + 1, "int64"),
        (lambda x, n: x > n, "boolean"),
        (lambda x, n: np.float32(x), "float64"),
        (lambda x, n: np.int16(n), "int64"),
        (lambda x, n: (x, n), ("float64", "int64")),
        (lambda x, n: 5, "int64"),
    ],
)
def test_results(function, result):
    assert ScalarCode(function, ("float64", "int64"), "function").result == result


def test_it_is_evaluated_element_by_element():
    code = ScalarCode(score, ("float64", "int64"), "score")
    x, n = np.linspace(-1, 1, 5)[:, None], np.arange(6)
    found = code.evaluate(x, n)
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found, np.where(n > 3, np.exp(x) * n, x), rtol=1e-15)


def test_integers_divided_by_zero():
    code = ScalarCode(lambda a, b: a // b + a % b, ("int64", "int64"), "function")
    least = -(2**63)
    assert_array_equal(code.evaluate(np.array([7, least, 7, -7]), np.array([0, -1, 2, 2])), [0, 0, 4, -3])


def test_the_reason_is_kept():
    code = ScalarCode(lambda x: math.lgamma(x), ("float64",), "name")  # noqa: PLW0108
    assert code.foreign is None
    assert code.reason == "name: a call of lgamma"
    assert code.evaluate(np.array([3.0])) == pytest.approx(math.log(2))


def test_a_name_is_in_the_message():
    with pytest.raises(CompileError, match="name: numba cannot compile it for float64"):
        ScalarCode(lambda x: x.real_part, ("float64",), "name")
    with pytest.raises(ArgumentError, match="name: returns"):
        ScalarCode(lambda x: str(x), ("float64",), "name")  # noqa: PLW0108
    with pytest.raises(CompileError, match="name: it may raise"):
        ScalarCode(lambda x, n: x**n if n > 2 else (1, 2, 3)[n], ("float64", "int64"), "name")


PROGRAM = """
from attngraph.engine.scalar_code import ScalarCode
def score(x, n):
    return x * n if x > {} else -x
def another(x): return x
if {}: ScalarCode(another, ("float64",), "another")
print(ScalarCode(score, ("float64", "int64"), "score"))
"""


def printed(*values):
    program = PROGRAM.format(*values)
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_equal_functions_are_called_the_same_in_every_process():
    first = printed(0.5, False)
    assert first == printed(0.5, True)
    assert first != printed(0.25, False)
