"""Errors: their roots, their message, the user's line, pickling."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.errors import AttnGraphError
from attngraph.engine.location import inherited_lines, show_line, users_line

ROOTS = {
    ag.ShapeError: ValueError,
    ag.DTypeError: TypeError,
    ag.NonFiniteError: ValueError,
    ag.IndexOutOfRangeError: IndexError,
    ag.LimitError: ValueError,
    ag.StoreError: OSError,
    ag.CompileError: RuntimeError,
    ag.TraceError: TypeError,
    ag.ArgumentError: ValueError,
}


@pytest.mark.parametrize(("kind", "root"), ROOTS.items(), ids=lambda each: each.__name__)
def test_roots(kind, root):
    assert issubclass(kind, ag.AttnGraphError)
    assert issubclass(kind, root)
    error = kind("matmul: left and right")
    assert "matmul: left and right" in str(error)
    assert "test_errors.py:" in str(error)


@pytest.mark.parametrize("kind", ROOTS, ids=lambda each: each.__name__)
def test_pickling_keeps_the_message_once(kind):
    error = kind("what went wrong", ("user_file.py", 12))
    revived = pickle.loads(pickle.dumps(error))
    assert type(revived) is kind
    assert str(revived) == str(error)
    assert str(revived).count("user_file.py:12") == 1
    assert revived.line == ("user_file.py", 12)


def test_message_names_operation_both_sides_and_line():
    left, right = ag.placeholder((2, 3)), ag.placeholder((4, 5))
    with pytest.raises(ag.ShapeError) as caught:
        left @ right
    text = str(caught.value)
    for part in ("matmul", "float32[2, 3]", "float32[4, 5]", "3 against 4", "test_errors.py:"):
        assert part in text


def test_errors_at_evaluation_name_the_line_that_wrote_the_expression():
    table = ag.asarray(np.arange(3.0))
    expression = table[ag.arange(5)]  # this line
    with pytest.raises(ag.IndexOutOfRangeError) as caught:
        (expression + 1).compute()
    source, number = caught.value.line
    assert "# this line" in Path(source).read_text().splitlines()[number - 1]


def test_the_line_is_the_users_even_through_numpy():
    with pytest.raises(AttnGraphError) as caught:
        np.add(ag.placeholder((2,)), ag.placeholder((3,)))
    assert caught.value.line[0].endswith("test_errors.py")


def test_inherited_lines_win_and_end():
    with inherited_lines() as inherit:
        inherit((("there.py", 3),))
        node = ag.placeholder((7,)).node
    assert node.lines == (("there.py", 3),)
    assert ag.placeholder((7,)).node.lines[0][0].endswith("test_errors.py")
    assert show_line(("there.py", 3)) == "there.py:3"
    assert users_line()[0].endswith("test_errors.py")
