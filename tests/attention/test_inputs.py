"""What attention functions take, and what they say of the rest."""

import math

import numpy as np
import pytest

import attngraph as ag
from attngraph.attention.inputs import checked_flag, checked_inputs, checked_scale, scores_of, weighted_values
from attngraph.engine.ir import walk
from attngraph.ops.guard import Guard

FUNCTIONS = {
    "attention": ag.attention,
    "scaled_dot_product_attention": ag.scaled_dot_product_attention,
    "flex_attention": ag.flex_attention,
}
BATCH, Q, K, V = (2, 4), (5, 8), (7, 8), (7, 3)


def given(q=BATCH + Q, k=BATCH + K, v=BATCH + V, dtypes=("float32",) * 3):
    """Placeholders: what is checked is checked before anything is computed."""
    return [ag.placeholder(shape, dtype) for shape, dtype in zip((q, k, v), dtypes, strict=True)]


WIDTHS = "query and key differ in width, 8 against 9"
LENGTHS = "key and value differ in length, 7 against 6"
BAD = {
    "query and key width": (given(k=(2, 4, 7, 9)), {}, ag.ShapeError, WIDTHS),
    "key and value length": (given(v=(2, 4, 6, 3)), {}, ag.ShapeError, LENGTHS),
    "no length": (given(q=(8,)), {}, ag.ShapeError, "query is (…, heads, length, dim), not float32[8]"),
    "a scalar value": (given(v=()), {}, ag.ShapeError, "value is (…, heads, length, dim), not float32[]"),
    "zero query heads": (given(q=(2, 0, 5, 8)), {}, ag.ShapeError, "0 query heads and 4 key heads"),
    "zero key heads": (
        given(k=(2, 0, 7, 8), v=(2, 0, 7, 3)),
        {"enable_gqa": True},
        ag.ShapeError,
        "4 query heads do not divide into groups over 0 key heads",
    ),
    "heads that could share": (
        given(k=(2, 2, 7, 8), v=(2, 2, 7, 3)),
        {},
        ag.ShapeError,
        "4 query heads and 2 key heads; enable_gqa=True lets them share",
    ),
    "heads that cannot": (given(k=(2, 3, 7, 8), v=(2, 3, 7, 3)), {}, ag.ShapeError, "4 query heads and 3 key heads: "),
    "heads that do not divide": (
        given(k=(2, 3, 7, 8), v=(2, 3, 7, 3)),
        {"enable_gqa": True},
        ag.ShapeError,
        "4 query heads do not divide into groups over 3 key heads",
    ),
    "more key heads": (
        given(k=(2, 8, 7, 8), v=(2, 8, 7, 3)),
        {"enable_gqa": True},
        ag.ShapeError,
        "4 query heads do not divide into groups over 8 key heads",
    ),
    "key and value heads": (
        given(k=(2, 2, 7, 8)),
        {"enable_gqa": True},
        ag.ShapeError,
        "2 key heads and 4 value heads",
    ),
    "groups without heads": (
        given(q=Q, k=K, v=V),
        {"enable_gqa": True},
        ag.ShapeError,
        "enable_gqa needs a heads axis",
    ),
    "batches": (given(q=(3, 4, 5, 8)), {}, ag.ShapeError, "(3, 4) and (2, 4) do not broadcast: 3 against 2"),
    "batches of values": (given(v=(3, 4, 7, 3)), {}, ag.ShapeError, "do not broadcast: 2 against 3"),
    "integers": (
        given(dtypes=("int64", "float32", "float32")),
        {},
        ag.DTypeError,
        "query is a float array, not int64[",
    ),
    "booleans": (given(dtypes=("float32", "bool", "float32")), {}, ag.DTypeError, "key is a float array, not bool["),
    "several types": (
        given(dtypes=("float32", "float64", "float32")),
        {},
        ag.DTypeError,
        "one data type for all: query float32[2, 4, 5, 8], key float64[2, 4, 7, 8], value float32[2, 4, 7, 3]; "
        "cast with astype",
    ),
    "halves of two kinds": (given(dtypes=("float16", "bfloat16", "float16")), {}, ag.DTypeError, "key bfloat16["),
    "groups as a number": (given(), {"enable_gqa": 2}, ag.ArgumentError, "enable_gqa is True or False, not 2"),
    "groups as a word": (given(), {"enable_gqa": "yes"}, ag.ArgumentError, "enable_gqa is True or False, not 'yes'"),
    "lazy groups": (given(), {"enable_gqa": ag.full((), True)}, ag.ArgumentError, "enable_gqa is True or False"),
    "scale of axes": (given(), {"scale": np.ones(4)}, ag.ArgumentError, "scale is a number, not array("),
    "lazy scale of axes": (given(), {"scale": ag.ones((4, 1, 1))}, ag.ArgumentError, "scale is a number, not <att"),
    "scale as a word": (given(), {"scale": "auto"}, ag.DTypeError, "scale: cannot make an array of str"),
    "scale as a switch": (given(), {"scale": True}, ag.ArgumentError, "scale is a number, not True"),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_go_together(function, name):
    arrays, options, error, said = BAD[name]
    with pytest.raises(error) as caught:
        FUNCTIONS[function](*arrays, **options)
    assert str(caught.value).startswith(f"{function}: ")
    assert said in str(caught.value)
    assert caught.value.line[0] == __file__
    if error is ag.ShapeError and "is (…" not in said:  # both sides
        assert all(f"{word} float32[" in str(caught.value) for word in ("query", "key", "value"))


JUNK = {
    "None": (None, ag.DTypeError, "cannot make an array of None"),
    "text": ("query", ag.DTypeError, "cannot make an array of str"),
    "a dict": ({"q": 1}, ag.DTypeError, "cannot make an array of dict"),
    "objects": (np.array([[None, 1]]), ag.DTypeError, "dtype object is not supported"),
    "complex numbers": (np.ones((5, 8), complex), ag.DTypeError, "dtype complex128 is not supported"),
    "words": (np.array([["a"]]), ag.DTypeError, "dtype <U1 is not supported"),
    "records": (np.zeros((2, 2), [("a", "f4")]), ag.DTypeError, "is not supported"),
    "a ragged list": ([[1.0, 2.0], [3.0]], ag.ShapeError, "the nested list is ragged"),
    "a masked array": (np.ma.array([[1.0]], mask=[[True]]), ag.DTypeError, "MaskedArray"),
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", JUNK)
def test_what_is_no_array(name, place):
    junk, error, said = JUNK[name]
    arrays = given()
    arrays[place] = junk
    argument = ("query", "key", "value")[place]
    for word, function in FUNCTIONS.items():
        with pytest.raises(error) as caught:
            function(*arrays)
        assert str(caught.value).startswith(f"{word}: {argument}: ")
        assert said in str(caught.value)


OPTIONS = {
    "mask of floats": (
        "attention",
        {"mask": np.zeros((5, 7), "float32")},
        ag.DTypeError,
        "mask is boolean (True = attend), not float32[5, 7]; a float array that is added to the scores is the bias",
    ),
    "mask of integers": ("attention", {"mask": np.ones((5, 7), int)}, ag.DTypeError, "mask is boolean"),
    "mask of text": ("attention", {"mask": "causal"}, ag.DTypeError, "mask: cannot make an array of str"),
    "mask of a function": ("attention", {"mask": lambda b, h, i, j: i >= j}, ag.DTypeError, "mask: cannot make"),
    "mask of other shape": (
        "attention",
        {"mask": np.ones((7, 5), bool)},
        ag.ShapeError,
        "mask of shape (7, 5) does not broadcast to the scores' (2, 4, 5, 7)",
    ),
    "mask of more axes": ("attention", {"mask": np.ones((3, 1, 1, 1, 1), bool)}, ag.ShapeError, "(3, 1, 1, 1, 1)"),
    "mask that would widen": ("attention", {"mask": np.ones((1, 2, 4, 5, 7), bool)}, ag.ShapeError, "(1, 2, 4, 5, 7)"),
    "bias of booleans": ("attention", {"bias": np.ones((5, 7), bool)}, ag.DTypeError, "a boolean is a mask"),
    "bias of integers": (
        "attention",
        {"bias": np.ones((5, 7), int)},
        ag.DTypeError,
        "bias is a float array, not int64",
    ),
    "bias of other shape": ("attention", {"bias": np.ones((4, 5, 6))}, ag.ShapeError, "bias of shape (4, 5, 6)"),
    "bias of a block mask": (
        "attention",
        {"bias": ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, 5, 7)},
        ag.DTypeError,
        "bias: cannot make an array of attngraph.attention.block_mask.BlockMask",
    ),
    "causal upper": ("attention", {"is_causal": "upper_left"}, ag.ArgumentError, "not 'upper_left'"),
    "causal as a number": ("attention", {"is_causal": 1}, ag.ArgumentError, 'True, False or "lower_right", not 1'),
    "causal None": ("attention", {"is_causal": None}, ag.ArgumentError, "not None"),
    "causal array": ("attention", {"is_causal": np.array(["lower_right"])}, ag.ArgumentError, "is_causal is"),
    "lse as a word": ("attention", {"return_lse": "yes"}, ag.ArgumentError, "return_lse is True or False"),
    "lse array": ("attention", {"return_lse": np.ones(2)}, ag.ArgumentError, "return_lse is True or False"),
    "dropout": ("scaled_dot_product_attention", {"dropout_p": 0.1}, ag.LimitError, "dropout_p=0.1 is not supported"),
    "no dropout": ("scaled_dot_product_attention", {"dropout_p": None}, ag.LimitError, "dropout_p=None"),
    "dropouts": ("scaled_dot_product_attention", {"dropout_p": np.zeros(2)}, ag.LimitError, "dropout_p="),
    "mask and causal": (
        "scaled_dot_product_attention",
        {"attn_mask": np.ones((5, 7), bool), "is_causal": True},
        ag.ArgumentError,
        "attn_mask and is_causal=True exclude each other",
    ),
    "torch's causal": ("scaled_dot_product_attention", {"is_causal": "lower_right"}, ag.ArgumentError, "is_causal"),
    "integers to add": (
        "scaled_dot_product_attention",
        {"attn_mask": np.ones((5, 7), int)},
        ag.DTypeError,
        "mask is boolean (True = attend), not int64[5, 7]",
    ),
    "float mask of other shape": (
        "scaled_dot_product_attention",
        {"attn_mask": np.ones((7, 5))},
        ag.ShapeError,
        "(7, 5) does not broadcast to the scores' (2, 4, 5, 7)",
    ),
    "score_mod": ("flex_attention", {"score_mod": "alibi"}, ag.ArgumentError, "score_mod is a function, not 'alibi'"),
    "a mask function": (
        "flex_attention",
        {"block_mask": lambda b, h, i, j: i >= j},
        ag.ArgumentError,
        "block_mask comes from ag.create_block_mask, not builtins.function",
    ),
    "a dense mask": ("flex_attention", {"block_mask": np.ones((5, 7), bool)}, ag.ArgumentError, "not numpy.ndarray"),
    "kernel options": ("flex_attention", {"kernel_options": 3}, ag.ArgumentError, "kernel_options is a dict or None"),
    "lse": ("flex_attention", {"return_lse": None}, ag.ArgumentError, "return_lse is True or False, not None"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    function, options, error, said = OPTIONS[name]
    with pytest.raises(error) as caught:
        FUNCTIONS[function](*given(), **options)
    assert str(caught.value).startswith(f"{function}: ")
    assert said in str(caught.value)
    assert caught.value.line[0] == __file__


@pytest.mark.parametrize("shape", [(5, 8), (3, 5, 8), (1, 2, 3, 5, 8)], ids=str)
def test_flex_attention_takes_four_axes(shape):
    q = ag.placeholder(shape)
    with pytest.raises(ag.ShapeError, match=r"flex_attention: arrays are \(B, heads, length, dim\)"):
        ag.flex_attention(q, q, q)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("limit", "fits"), [(4, False), (6, False), (7, True), (None, True)])
def test_the_longest_sequence(function, limit, fits):
    with ag.config.set(max_length=limit):
        if fits:
            assert FUNCTIONS[function](*given()).shape == (*BATCH, 5, 3)
            return
        with pytest.raises(ag.LimitError) as caught:
            FUNCTIONS[function](*given())
    said = f"{function}: a sequence of 7 is longer than config.max_length={limit}: query float32[2, 4, 5, 8], key"
    assert said in str(caught.value)


def test_the_longest_sequence_counts_queries_too():
    with ag.config.set(max_length=5), pytest.raises(ag.LimitError, match="a sequence of 7"):
        ag.attention(*given(q=(7, 8), k=(5, 8), v=(5, 3)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_scores_are_computed_in_float32_or_float64(dtype):
    inputs = checked_inputs("attention", *given(dtypes=(dtype,) * 3), False)
    wide = np.dtype("float64" if dtype == "float64" else "float32")
    assert {inputs.query.dtype, inputs.key.dtype, inputs.value.dtype} == {wide}
    scores = scores_of(inputs, checked_scale("attention", None, 8))
    assert (scores.shape, scores.dtype) == ((*BATCH, 5, 7), wide)
    out = weighted_values(inputs, scores)
    assert (out.shape, out.dtype.name) == ((*BATCH, 5, 3), dtype)


def test_every_input_is_guarded_under_its_name():
    out = ag.attention(*given())
    guards = [node for node in walk([out.node]) if isinstance(node, Guard)]
    assert sorted((guard.function, guard.argument) for guard in guards) == [
        ("attention", "key"),
        ("attention", "query"),
        ("attention", "value"),
    ]


@pytest.mark.parametrize(
    ("q", "k", "gqa", "scores", "groups"),
    [
        ((5, 8), (7, 8), False, (5, 7), 1),
        ((4, 5, 8), (1, 7, 8), False, (4, 5, 7), 1),
        ((1, 5, 8), (4, 7, 8), False, (4, 5, 7), 1),
        ((4, 5, 8), (2, 7, 8), True, (4, 5, 7), 2),
        ((3, 4, 5, 8), (1, 2, 7, 8), True, (3, 4, 5, 7), 2),
        ((4, 5, 8), (3, 1, 7, 8), True, (3, 4, 5, 7), 4),
        ((2, 1, 4, 5, 8), (3, 4, 7, 8), False, (2, 3, 4, 5, 7), 1),
    ],
)
def test_shape_of_scores(q, k, gqa, scores, groups):
    inputs = checked_inputs("attention", *given(q, k, (*k[:-1], 3)), gqa)
    assert inputs.scores_shape == scores
    assert inputs.groups == groups
    lazy = scores_of(inputs, 1.0)
    assert lazy.shape == scores
    assert weighted_values(inputs, lazy).shape == (*scores[:-1], 3)


@pytest.mark.parametrize(("scale", "width", "expected"), [(None, 16, 0.25), (None, 0, 1.0), (0.3, 16, 0.3), (2, 5, 2)])
def test_scale_defaults_to_the_root_of_the_width(scale, width, expected):
    assert math.isclose(checked_scale("attention", scale, width), expected)


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_flags(value):
    assert checked_flag("attention", "enable_gqa", value) is bool(value)


def test_other_names_of_arguments_are_pythons_own_error():
    with pytest.raises(TypeError, match="unexpected keyword"):
        ag.attention(*given(), attn_mask=np.ones((5, 7), bool))
    with pytest.raises(TypeError, match="missing"):
        ag.flex_attention(*given()[:2])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("options", [{}, {"enable_gqa": True}], ids=str)
@pytest.mark.parametrize("target", ["native", "reference"])
def test_zero_heads_are_as_good_as_no_batch(function, options, target):
    query, key, value = (np.ones((2, 4, *rest), np.float32) for rest in ((5, 8), (7, 8), (7, 3)))
    arrays = query[:, :0], key[:, :0], value[:, :0]
    shared = query[:, :0], key, value
    with ag.config.set(target=target):
        for each in [arrays, shared] if options else [arrays]:
            assert FUNCTIONS[function](*each, **options).compute().shape == (2, 0, 5, 3)
            assert ag.compile(lambda q, k, v: FUNCTIONS[function](q, k, v, **options))(*each).shape == (2, 0, 5, 3)
