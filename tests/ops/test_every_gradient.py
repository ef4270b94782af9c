"""Gradients of every public function, and their gradients, against central differences in float64."""

from typing import Any

import pytest
from differentiable import TABLE
from gradient_checks import check_along
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine.ir import Node, walk

# Public functions without gradients, or whose gradients are tested elsewhere, and why.
WITHOUT = {
    "integers or booleans come out": """all any argmax argmin argsort bitwise_and bitwise_invert bitwise_left_shift
        bitwise_or bitwise_right_shift bitwise_xor equal greater greater_equal isfinite isinf isnan less less_equal
        logical_and logical_not logical_or logical_xor not_equal signbit and_masks or_masks noop_mask""",
    "what it rounds no difference shows": "astype",
    "integers go in or come out": "pack_int4 unpack_int4 quantize dequantize",
    "nothing goes in": "arange asarray constant eye full full_like ones ones_like placeholder zeros zeros_like",
    "it is no function of arrays": """batch store compile compute explain create_block_mask grad gradients isdtype
        random_features result_type value_and_grad vjp""",
    "numbers come out now": "attention_error",
    "tested with programs": "flex_attention scaled_dot_product_attention",
}
# The same of operators.
OPERATORS_WITHOUT = {
    "integers or booleans come out": """AllTrue AnyTrue Argmax Argmin Argsort Topk BitwiseAnd BitwiseInvert BitwiseOr
        BitwiseLeftShift BitwiseRightShift BitwiseXor Equal Greater GreaterEqual Isfinite Isinf Isnan Less LessEqual
        LogicalAnd LogicalNot LogicalOr LogicalXor NotEqual Signbit InLists UnpackInt4""",
    "nothing goes in": "Arange NoPath",
    "it is gone once there are gradients": "Differentiated",
    "kernels make a softmax of it": "Share Shift",
    "what it rounds no difference shows": "Cast",
}

EXAMPLES = settings.default.max_examples // 8


def gradient_of_squares(function: Any) -> Any:
    """What has second derivatives though a function is linear: the gradient of the sum of its squares."""

    def gradient(*arrays: Any) -> Any:
        found = function(*arrays)
        parts = found if isinstance(found, list | tuple) else [found]
        return ag.gradients(sum(ag.sum(part * part) for part in parts), arrays)

    return gradient


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@settings(max_examples=EXAMPLES)
def test_first_derivatives(name, data):
    function, arrays = TABLE[name](data.draw)
    check_along(function, *arrays)


# What a scalar function is given as its gradient has none.
@pytest.mark.parametrize("name", [name for name in TABLE if name != "scalar_function"])
@given(data=st.data())
@settings(max_examples=EXAMPLES)
def test_second_derivatives(name, data):
    function, arrays = TABLE[name](data.draw)
    check_along(gradient_of_squares(function), *arrays)


def test_no_public_function_is_forgotten():
    functions = {name for name in ag.__all__ if callable(getattr(ag, name)) and not isinstance(getattr(ag, name), type)}
    assert functions - {name for names in WITHOUT.values() for name in names.split()} <= set(TABLE)


def operators(kind: type[Node] = Node) -> set[type[Node]]:
    """The classes of operators that nothing inherits from."""
    below = [each for each in kind.__subclasses__() if each.__module__.startswith("attngraph.")]
    own = {kind} if kind.__module__.startswith("attngraph.ops.") and not below else set()
    return own.union(*map(operators, below))


@given(data=st.data())
@settings(max_examples=1, phases=[Phase.generate])
def test_no_operator_is_forgotten(data):
    met = set()
    for name in TABLE:
        function, arrays = TABLE[name](data.draw)
        lazy = list(map(ag.asarray, arrays))
        outputs = [*_listed(function(*lazy)), *gradient_of_squares(function)(*lazy)]
        met |= {type(node) for node in walk([each.node for each in outputs])}
    without = {name for names in OPERATORS_WITHOUT.values() for name in names.split()}
    assert {each.__name__ for each in operators() - met} <= without


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
