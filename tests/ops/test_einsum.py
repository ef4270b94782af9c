import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, check, check_raises, data, wide
from strategies import LAYOUTS, laid_out

LETTERS = "abcd"


@st.composite
def contractions(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts and shapes: repeated letters, ellipses, implicit results, lengths of 1 that broadcast."""
    lengths = {letter: draw(st.sampled_from((1, 2, 3, 0, 4))) for letter in LETTERS}
    dots = draw(st.lists(st.sampled_from((1, 2, 3)), max_size=2))
    inputs, shapes = [], []
    for _ in range(draw(st.integers(1, 3))):
        labels = draw(st.lists(st.sampled_from(LETTERS), max_size=4))
        shape = [1 if labels.count(each) == 1 and draw(st.integers(0, 5)) == 0 else lengths[each] for each in labels]
        if draw(st.booleans()):
            place = draw(st.integers(0, len(labels)))
            kept = draw(st.integers(0, len(dots)))
            shape[place:place] = [draw(st.sampled_from((each, 1))) for each in dots[len(dots) - kept :]]
            labels.insert(place, "...")
        inputs.append("".join(labels))
        shapes.append(tuple(shape))
    subscripts = ",".join(inputs)
    if draw(st.booleans()):
        return subscripts, shapes
    result = draw(st.lists(st.sampled_from(sorted(set(subscripts) - set(".,")) or ["a"]), unique=True, max_size=4))
    result = [each for each in result if each in subscripts]
    if "..." in subscripts:
        result.insert(draw(st.integers(0, len(result))), "...")
    return f"{subscripts} -> {''.join(result)}", shapes


@given(contraction=contractions(), seed=st.integers(0, 9), layout=st.sampled_from(LAYOUTS))
def test_einsum_is_numpys(contraction, seed, layout):
    subscripts, shapes = contraction
    arrays = [laid_out(data(shape, "int64", seed + n), layout) for n, shape in enumerate(shapes)]
    expected = np.asarray(np.einsum(subscripts, *arrays)).astype(np.int64)
    check(ag.einsum(subscripts, *map(ag.asarray, arrays)), expected)
    floats = [array.astype(np.float32) for array in arrays]
    check(np.einsum(subscripts, ag.asarray(floats[0]), *floats[1:]), expected.astype(float), dtype="float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "subscripts", ["ij,jk->ik", "bhid,bhjd->bhij", "ij->", "ij,kj", "ii->i", "ij->ji", "i,i->i", "ij,j,i"]
)
def test_every_type(subscripts, dtype):
    lengths = {"i": 3, "j": 4, "k": 2, "b": 2, "h": 1, "d": 5}
    arrays = []
    for number, labels in enumerate(subscripts.split("->")[0].split(",")):
        arrays.append(data([lengths[each] for each in labels], dtype, number))
    expected = np.einsum(subscripts, *(wide(array) for array in arrays))
    check(ag.einsum(subscripts, *arrays), expected, dtype=dtype, roundings=40, scale=1 if dtype in FLOATS else 0)


def test_types_are_promoted():
    assert ag.einsum("i,i,i", np.ones(3, "int8"), np.ones(3, "float16"), np.ones(3, "int64")).dtype == np.float16
    check(ag.einsum("i,i", np.ones(3, bool), np.ones(3, "int8")), np.int8(3))
    check(ag.einsum("i,->i", np.arange(3.0), 2.5), np.array([0, 2.5, 5.0]))


def test_operands_may_come_as_one_list():
    x = data((3, 3))
    check(ag.einsum("ij,jk", [x, x]), np.einsum("ij,jk", x.astype(float), x), dtype="float32", roundings=4, scale=1)


def test_dots_that_the_result_leaves_out_are_summed():
    """As torch does; NumPy refuses."""
    x = data((2, 3, 4), "int64")
    check(ag.einsum("...i->i", x), x.sum((0, 1)))
    torch = pytest.importorskip("torch")
    check(ag.einsum("...i->i", x), torch.einsum("...i->i", torch.from_numpy(x)).numpy())


def test_what_a_mask_hides_adds_nothing():
    weights = ag.where(ag.arange(4) < 3, data((2, 4)), 0)
    values = data((4, 3), seed=1)
    finite = data((2, 4)).astype(float)[:, :3] @ values[:3]
    values[3] = np.nan
    check(ag.einsum("ij,jd->id", weights, values), finite, dtype="float32", roundings=8, scale=1)
    check(ag.einsum("jd,ij->id", values, weights), finite, dtype="float32", roundings=8, scale=1)
    plain = np.float32([1, 1, 1, 0])
    check(ag.einsum("j,jd->d", plain, values), np.full(3, np.nan, np.float32))


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.ArgumentError, "the first argument is the subscripts", lambda x: ag.einsum(x, "ij")),
        (ag.ArgumentError, "does not describe 0 operands", lambda x: ag.einsum("ij")),
        (ag.ArgumentError, "does not describe 1 operands", lambda x: ag.einsum("ij,jk", x)),
        (ag.ArgumentError, "does not describe", lambda x: ag.einsum("i1", x)),
        (ag.ArgumentError, "does not describe", lambda x: ag.einsum("iä", x)),
        (ag.ArgumentError, "one '...' an operand", lambda x: ag.einsum("..ij", x)),
        (ag.ArgumentError, "one '...' an operand", lambda x: ag.einsum("...i...", x)),
        (ag.ArgumentError, "one '...' an operand", lambda x: ag.einsum("ij->i.j", x)),
        (ag.ArgumentError, "does not name the axes", lambda x: ag.einsum("i", x)),
        (ag.ArgumentError, "does not name the axes", lambda x: ag.einsum("ijk...", x)),
        (ag.ArgumentError, "names a letter twice, or one", lambda x: ag.einsum("ij->ii", x)),
        (ag.ArgumentError, "names a letter twice, or one", lambda x: ag.einsum("ij->k", x)),
        (ag.ArgumentError, "names a letter twice, or one", lambda x: ag.einsum("ij->i->j", x)),
        (ag.ArgumentError, "einsum", lambda x: ag.einsum("i-j", x)),
        (ag.ArgumentError, "einsum", lambda x: ag.einsum("i>j", x)),
        (ag.ShapeError, "'j' is both 3 and 2 long", lambda x: ag.einsum("ij,jk", x, x)),
        (ag.ShapeError, "einsum: 'i' names axes of 2 and 3|both 2 and 3", lambda x: ag.einsum("ii", x)),
        (ag.ShapeError, "'i' names axes of 1 and 3", lambda x: ag.einsum("ii", x[:1])),
        (ag.ShapeError, "do not broadcast|both", lambda x: ag.einsum("...,...", x, x.T)),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call, ag.asarray(data((2, 3))))
