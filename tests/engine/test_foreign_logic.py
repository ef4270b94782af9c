import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_array_equal

import attngraph as ag
from attngraph.engine.codegen.interpreter import FUNCTIONS
from attngraph.engine.errors import CompileError
from attngraph.engine.foreign_logic import predicate
from attngraph.engine.kernel import Elements
from attngraph.engine.scalar import below
from attngraph.engine.scalar_code import ScalarCode
from attngraph.engine.types import BOOL, INT64
from scalar_programs import conditions

COUNT = 12


def taken_apart(function, kinds=("int64", "int64")):
    """The predicate over two axes, or one axis and a truth; None if it is opaque."""
    return code_taken_apart(ScalarCode(function, kinds, "function"), kinds)


def code_taken_apart(code, kinds):
    elements = Elements(lambda node: False)
    if code.foreign is None:
        return None
    args = []
    for kind in kinds:
        index = elements.index(elements.new_axis("i", COUNT))
        truth = elements.apply("equal", BOOL, index, elements.constant(3))
        args.append(index if kind == "int64" else truth)
    return predicate(elements, code.foreign, args)


def evaluated(scalar, first, second):
    values = {}
    for each in below([scalar]):
        if each.op == "axis":
            value = first if each.attribute.name == "i1" else second
        elif each.is_constant:
            value = np.asarray(each.attribute, each.dtype)
        else:
            name = {"where": np.where}.get(each.op) or FUNCTIONS.get(each.op) or getattr(np, each.op)
            value = name(*[values[argument] for argument in each.args])
        values[each] = np.asarray(value)
    return np.broadcast_to(values[scalar], np.broadcast_shapes(first.shape, second.shape))


def causal(q, k):
    return q >= k


def window(q, k):
    return q >= k and q - k < 5


def branches(q, k):
    if q < 3:
        return True
    if k % 4 == 0:
        return k // 2 < q
    return not (abs(q - k) > 3 or max(q, 5) == k)


def unsigned(q, k):
    return 0 <= q - k < 4


def constant(q, k):
    return q >= 0


FUNCTIONS_OF_POSITIONS = [causal, window, branches, unsigned]


@pytest.mark.parametrize("function", [*FUNCTIONS_OF_POSITIONS, constant], ids=lambda function: function.__name__)
def test_predicates_are_taken_apart(function):
    scalar = taken_apart(function)
    assert scalar is not None
    assert scalar.dtype == BOOL
    assert "call" not in {each.op for each in below([scalar])}
    first, second = np.arange(COUNT)[:, None], np.arange(COUNT)[None, :]
    wanted = [[function(q, k) for k in range(COUNT)] for q in range(COUNT)]
    assert_array_equal(evaluated(scalar, first, second), wanted)


def test_a_window_is_a_conjunction():
    scalar = taken_apart(window)
    assert scalar.op == "logical_and"


def test_booleans_are_arguments():
    scalar = taken_apart(lambda b, q: (b and q > 3) or not b, ("boolean", "int64"))
    first, second = np.arange(COUNT)[:, None], np.arange(COUNT)[None, :]
    assert_array_equal(evaluated(scalar, first, second), ((first == 3) & (second > 3)) | (first != 3))


def opaque_division(q, k):
    return (q - k) // 3 > 1 and q // (k - 5) > 2


def opaque_float(q, k):
    return q * 0.5 > k


def opaque_loop(q, k):
    for i in range(1000):  # noqa: SIM110
        if (q ^ i) * k == 7 * i + 5:
            return True
    return False


@pytest.mark.parametrize("function", [opaque_division, opaque_float, opaque_loop])
def test_anything_else_is_left_as_it_came(function):
    assert taken_apart(function) is None


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=conditions(2, []), second=conditions(1, []))
def test_random_predicates(first, second):
    names = {"np": np, "math": math}
    source = f"def program(n, m):\n    x = y = 1.0\n    if {first}:\n        return {second}\n    return n <= m"
    exec(source, names)
    try:
        code = ScalarCode(names["program"], ("int64", "int64"), "program")
        scalar = code_taken_apart(code, ("int64", "int64"))
    except CompileError:
        return
    if scalar is not None:
        first, second = np.arange(COUNT)[:, None], np.arange(COUNT)[None, :]
        found = evaluated(scalar, first, second)
        with np.errstate(all="ignore"):
            assert_array_equal(found, code.evaluate(first, second), source)


@pytest.mark.parametrize("function", FUNCTIONS_OF_POSITIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("rows", [2, 200])
def test_masks_in_kernels(function, rows):
    rng = np.random.default_rng(0)
    columns = 40000 // rows
    q = rng.standard_normal((1, 1, rows, 16), dtype="float32")
    k, v = (rng.standard_normal((1, 1, columns, 16), dtype="float32") for _ in range(2))
    visible = ag.scalar_function(function)
    score = lambda s, b, h, i, j: ag.where(visible(i, j), s, -ag.inf)  # noqa: E731
    attended = ag.flex_attention(q, k, v, score_mod=score)
    with ag.config.set(target="reference"):
        expected = attended.compute()
    for target in ("native", "x86-64-v2"):
        with ag.config.set(target=target):
            np.testing.assert_allclose(attended.compute(), expected, rtol=2e-5, atol=2e-6)
    assert visible(np.arange(3), 1).dtype == BOOL
    assert ag.arange(3).dtype == INT64
