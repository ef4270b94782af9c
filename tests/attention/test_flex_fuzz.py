"""Random FlexAttention programs on hostile inputs: kernels give what the interpreter gives, or its error.

A program is a tree, so that a disagreement shrinks and can be read. Where the answer depends on rounding, how much
it does is measured: the program runs again in float64 with every number in it shaken by a rounding of float32.
"""

import operator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels, program

# Of each kind of program; ten thousand together where examples are many.
EXAMPLES = 5_000 if settings.default.max_examples > 1_000 else 60
LARGEST = float(np.finfo(np.float32).max)
ROUNDING = float(np.finfo(np.float32).eps)
SHAKES = 12


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


@pytest.fixture
def swept(monkeypatch):
    """A list of the sweeps that ran."""
    ran: list[Any] = []
    run = kernels.SweepKernel.__call__
    monkeypatch.setattr(
        kernels.SweepKernel, "__call__", lambda self, *a, **k: (ran.append(self), run(self, *a, **k))[1]
    )
    return ran


# --- trees: ("name", argument, ...). What they mean at a position:

FLOAT_FUNCTIONS = ("exp", "log", "tanh", "sqrt", "abs", "negative", "square", "exp2", "log1p", "expm1", "sigmoid")
FLOAT_FUNCTIONS += ("sin", "floor", "erf", "relu", "rsqrt", "softplus")
FLOAT_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
FLOAT_OPERATORS |= {"maximum": ag.maximum, "minimum": ag.minimum}
INTEGER_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv}
INTEGER_OPERATORS |= {"%": operator.mod, "<<": operator.lshift, ">>": operator.rshift}
INTEGER_OPERATORS |= {"&": operator.and_, "|": operator.or_, "^": operator.xor}
INTEGER_OPERATORS |= {"maximum": ag.maximum, "minimum": ag.minimum}
COMPARISONS = {name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")}
LOGIC = {"&": operator.and_, "|": operator.or_, "^": operator.xor}


class Meaning:
    """What trees are at the positions of a score or mask function.

    Args:
        places: By name: ``s`` (not in masks), ``b``, ``h``, ``i`` and ``j``.
        tables: The arrays that trees index, by name.
        shaken: Multiplies what is computed in floats, if it is to be shaken.
    """

    def __init__(self, places, tables, shaken=None):
        self.places, self.tables, self.shaken = places, tables, shaken

    def __call__(self, tree):
        name, *args = tree
        found = getattr(self, name)(*args)
        is_computed = name in ("function", "operator", "float", "table")
        return found if self.shaken is None or not is_computed else self.shaken(found)

    def place(self, name):
        return self.places[name]

    def number(self, value):
        return value

    def function(self, name, x):
        # Numbers alone are Python's: functions take arrays.
        return getattr(ag, name)(self(x))

    def operator(self, name, x, y):
        return FLOAT_OPERATORS[name](*self._lazy(x, y))

    def integers(self, name, x, y):
        return INTEGER_OPERATORS[name](*self._lazy(x, y))

    def compare(self, name, x, y):
        return COMPARISONS[name](*self._lazy(x, y))

    def logic(self, name, x, y):
        return LOGIC[name](self(x), self(y))

    def invert(self, x):
        return ~self(x)

    def where(self, condition, x, y):
        return ag.where(self(condition), self(x), self(y))

    def cast(self, dtype, x):
        return ag.astype(ag.asarray(self(x)), dtype)

    def float(self, x):
        return ag.astype(ag.asarray(self(x)), "float32")

    def table(self, name, index):
        return self.tables[name][ag.asarray(self(index))]

    whole = truth = table

    def _lazy(self, x, y):
        return ag.asarray(self(x)), self(y)


NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -7.25, 1e-3, 100.0, -1e4)
ODD_NUMBERS = (1e-38, 1e-45, 1e19, -1e19, LARGEST, -LARGEST, LARGEST / 2, 1e300, np.inf, -np.inf, np.nan)
INTEGERS = (0, 1, 2, 3, 7, 16, -1, -2, -5, 31, 64, 100)
ODD_INTEGERS = (-(2**63), 2**63 - 1, 2**31, -(2**31), 2**32, 2**62 + 1, 1000, -1000)
TABLES = {"table": (1, 3, 16, 90, 200), "whole": (2, 17, 130), "truth": (5, 64)}


@st.composite
def integer_trees(draw, depth):
    kind = draw(st.integers(0, 9)) if depth > 0 else draw(st.integers(0, 3))
    inner = integer_trees(depth - 1)
    if kind <= 2:
        return "place", draw(st.sampled_from("ijbh" if kind else "ij"))
    if kind == 3:
        return "number", draw(st.sampled_from(INTEGERS if draw(st.integers(0, 4)) else ODD_INTEGERS))
    if kind <= 6:
        return "integers", draw(st.sampled_from(list(INTEGER_OPERATORS))), draw(inner), draw(inner)
    if kind == 7:
        other = draw(inner)
        return (
            other if other == ("place", "i") else ("where", draw(truth_trees(depth - 1, False)), ("place", "i"), other)
        )
    if kind == 8:
        narrow = "cast", draw(st.sampled_from(("int32", "int8"))), draw(inner)
        return draw(st.sampled_from((narrow, ("cast", "int64", narrow))))
    return draw(gathers("whole", depth - 1))


@st.composite
def gathers(draw, kind, depth):
    """An element of a table at an index that is inside for certain, likely, or by luck."""
    length = draw(st.sampled_from(TABLES[kind]))
    index = draw(integer_trees(depth))
    fit = draw(st.integers(0, 5))
    if fit <= 2:
        index = "integers", "%", index, ("number", length)
    elif fit == 3:
        index = "integers", "+", ("integers", "-", ("place", "i"), ("place", "j")), ("number", length // 2)
    elif fit == 4:
        index = "place", draw(st.sampled_from("ijbh"))
    return kind, f"{kind} {length}", index


@st.composite
def truth_trees(draw, depth, scored):
    kind = draw(st.integers(0, 7)) if depth > 0 else 0
    inner = truth_trees(depth - 1, scored)
    if kind <= 2:
        side = integer_trees(depth - 1)
        return "compare", draw(st.sampled_from(list(COMPARISONS))), draw(side), draw(side)
    if kind == 3:
        side = float_trees(depth - 1, scored)
        return "compare", draw(st.sampled_from(list(COMPARISONS))), draw(side), draw(side)
    if kind == 4:
        return "invert", draw(inner)
    if kind == 5:
        return draw(gathers("truth", depth - 1))
    return "logic", draw(st.sampled_from(list(LOGIC))), draw(inner), draw(inner)


def varies(tree):
    """Whether it depends on anything: what does not is folded, and then a mask's 0 cannot be told from another."""
    return tree[0] in ("place", "table", "whole", "truth") or any(varies(x) for x in tree[1:] if isinstance(x, tuple))


def varying(tree):
    return tree if varies(tree) else ("place", "j")


@st.composite
def float_trees(draw, depth, scored):
    kind = draw(st.integers(0, 11)) if depth > 0 else draw(st.integers(0, 3))
    inner = float_trees(depth - 1, scored)
    if kind <= 1 and scored:
        return "place", "s"
    if kind <= 2:
        return "float", varying(draw(integer_trees(depth - 1)))
    if kind == 3:
        return "number", draw(st.sampled_from(NUMBERS if draw(st.integers(0, 2)) else ODD_NUMBERS))
    if kind <= 6:
        return "operator", draw(st.sampled_from(list(FLOAT_OPERATORS))), varying(draw(inner)), draw(inner)
    if kind <= 8:
        function, operand = draw(st.sampled_from(FLOAT_FUNCTIONS)), varying(draw(inner))
        if function == "log" and operand[:2] == ("function", "exp"):  # kernels know that one: no overflow there
            function = "log1p"
        operand = "cast", "float32", operand
        if function == "sin":  # of large numbers it is anything at all, and once in a while just 1: a jump for casts
            operand = "operator", "minimum", ("operator", "maximum", operand, ("number", -1.0)), ("number", 1.0)
        return "function", function, operand
    if kind == 9:
        return draw(gathers("table", depth - 1))
    if kind == 10:
        return "float", ("cast", draw(st.sampled_from(("int32", "int64", "int8"))), varying(draw(inner)))
    # Equal branches need no condition: nobody looks at its indices then.
    left, right = draw(inner), draw(inner)
    return left if left == right else ("where", draw(truth_trees(depth - 1, scored)), left, right)


class Case(NamedTuple):
    """A program, and what it runs on."""

    score: Any
    mask: Any
    batch: int
    heads: tuple[int, int]
    rows: int
    columns: int
    widths: tuple[int, int]
    kinds: tuple[str, str, str]
    odd_table: bool
    seed: int
    target: str
    is_compiled: bool
    check_finite: bool
    wants_lse: bool


LENGTHS = st.one_of(st.integers(2, 80), st.integers(2, 20), st.sampled_from((1, 129, 200, 300)))
KINDS = ("normal",) * 6 + ("large", "huge", "half", "tiny", "zeros", "NaN", "infinity", "NaN tail")


@st.composite
def cases(draw, with_score, with_mask):
    score = mask = None
    if with_score:
        steps = draw(float_trees(3, True))
        score = ("operator", draw(st.sampled_from(("+", "*", "-"))), ("place", "s"), steps)
        score = draw(st.sampled_from((score, score, steps)))
        if draw(st.integers(0, 3)) == 0:
            score = "where", draw(truth_trees(2, True)), score, ("number", -np.inf)
    if with_mask:
        mask = draw(truth_trees(3, False))
    key_heads = draw(st.sampled_from((1, 2, 3)))
    heads = key_heads * draw(st.sampled_from((1, 1, 2)))
    rows, columns = draw(LENGTHS), draw(LENGTHS)
    return Case(
        score,
        mask,
        draw(st.integers(1, 2)),
        (heads, key_heads),
        rows,
        columns,
        (draw(st.sampled_from((1, 4, 8, 16, 20))), draw(st.sampled_from((1, 4, 16, 17)))),
        tuple(draw(st.sampled_from(KINDS)) for _ in range(3)),
        draw(st.integers(0, 5)) == 0,
        draw(st.integers(0, 2**16)),
        draw(st.sampled_from(("native", "native", "x86-64-v2", "x86-64-v3"))),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.booleans()),
    )


# --- running them


def filled(rng, shape, kind):
    """Numbers of a kind, some of which go where float32 ends, or beyond."""
    x = rng.standard_normal(shape)
    scale = {"large": 1e9, "huge": 1e19, "tiny": 1e-18, "zeros": 0.0}.get(kind, 1.0)
    x = (x * scale).astype("float32")
    if kind == "half":
        x[rng.random(shape) < 0.2] = LARGEST / 2
    if kind in ("NaN", "infinity"):
        x[tuple(rng.integers(0, shape))] = np.nan if kind == "NaN" else -np.inf
    if kind == "NaN tail":
        x[:, :, -1] = np.nan
    return x


def tables_of(case, rng):
    found = {}
    for kind, lengths in TABLES.items():
        for length in lengths:
            if kind == "table":
                made = rng.standard_normal(length).astype("float32")
                if case.odd_table:
                    made[rng.integers(0, length)] = rng.choice([np.nan, np.inf, -np.inf, LARGEST, 1e-45])
            else:
                made = rng.integers(-9, 20, length) if kind == "whole" else rng.random(length) < 0.7
            found[f"{kind} {length}"] = made
    return found


def expression(case, arrays, tables, shaken=None):
    """The attention, lazily."""
    tables = {name: ag.asarray(table) for name, table in tables.items()}

    def score_mod(s, b, h, i, j):
        s = s if shaken is None else shaken(s, 1e-300)
        meaning = Meaning({"s": s, "b": b, "h": h, "i": i, "j": j}, tables, shaken)
        found = meaning(case.score)
        return found if isinstance(found, ag.Array) else s * 0 + found

    def mask_mod(b, h, i, j):
        return Meaning({"b": b, "h": h, "i": i, "j": j}, tables, shaken)(case.mask)

    mask = None
    if case.mask is not None:
        mask = ag.create_block_mask(mask_mod, case.batch, case.heads[0], case.rows, case.columns)
    function = None if case.score is None else score_mod
    return ag.flex_attention(*arrays, function, mask, enable_gqa=True, return_lse=case.wants_lse)


def outcome(case, arrays, tables, target, shaken=None):
    """The results under a target, or the error's type."""
    with ag.config.set(target=target, check_finite=case.check_finite):
        try:
            if case.is_compiled and shaken is None:
                function = ag.compile(lambda *given: expression(case, given, tables), check_finite=case.check_finite)
                found = function(*arrays)
            else:
                found = expression(case, arrays, tables, shaken)
                found = ag.compute(*found) if isinstance(found, tuple) else found.compute()
        except ag.AttnGraphError as error:
            return type(error)
    return [np.asarray(each, np.float64) for each in (found if isinstance(found, tuple) else [found])]


def shaken_outcomes(case, arrays, tables):
    """Results in float64, everything shaken by a rounding of float32."""
    found = []
    for number in range(SHAKES):
        rng = np.random.default_rng(number)

        def noise(*shape, rng=rng):
            return 1 + ROUNDING * rng.uniform(-1, 1, shape)

        def shaken(x, least=0.0, noise=noise):
            if np.dtype(x.dtype).kind != "f":
                return x
            moved = noise(case.rows, case.columns)
            # A sum that is 0 has either sign.
            return x * ag.asarray(moved) + ag.asarray((moved - 1) * least)

        with np.errstate(all="ignore"):
            moved = [x.astype("float64") * noise(*x.shape) for x in arrays]
        found.append(outcome(case, moved, tables, "reference64", shaken))
    return found


def near(found, wanted, least=1e-37):
    """Where two results are the same number to rounding, or not finite alike."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(wanted)
        largest = np.max(np.abs(np.where(finite, wanted, 0)), axis=-1, keepdims=True, initial=0)
        close = np.abs(found - wanted) <= 2e-5 * largest + least
    return np.where(finite, close, (found == wanted) | np.isnan(found) & np.isnan(wanted))


def disputed(case, arrays, tables, found, wanted, lost):
    """Positions where the kernel gives another answer than the interpreter, and rounding does not explain it."""
    others = [outcome(case, arrays, tables, "reference64"), *shaken_outcomes(case, arrays, tables)]
    others = [each for each in others if not isinstance(each, type)]
    positions = []
    for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        # What float32 does not hold is infinite.
        rest = [
            np.where(np.abs(each[number]) > LARGEST, np.copysign(np.inf, each[number]), each[number]) for each in others
        ]
        with np.errstate(all="ignore"):
            spread = np.nanmax([np.zeros_like(theirs), *(np.abs(each - theirs) for each in rest)], axis=0)
            spread = np.broadcast_to(np.max(spread, axis=-1, keepdims=True), spread.shape)
            unstable = np.any([np.isfinite(each) != np.isfinite(theirs) for each in rest], axis=0)
            bad = ~near(mine, theirs, 1e-37 if number else lost) & ~unstable & ~(np.abs(mine - theirs) <= 16 * spread)
        positions.append(np.argwhere(bad))
    return positions


def check(case):
    rng = np.random.default_rng(case.seed)
    heads, key_heads = case.heads
    width, value_width = case.widths
    shapes = ((heads, case.rows, width), (key_heads, case.columns, width), (key_heads, case.columns, value_width))
    arrays = [filled(rng, (case.batch, *shape), kind) for shape, kind in zip(shapes, case.kinds, strict=True)]
    tables = tables_of(case, rng)
    wanted = outcome(case, arrays, tables, "reference")
    found = outcome(case, arrays, tables, case.target)
    if isinstance(wanted, type) or isinstance(found, type):
        assert found is wanted, f"{found} where the interpreter has {wanted}"
        return
    # Weights below the least normal number may be 0.
    lost = float(np.finfo(np.float32).tiny) * case.columns * np.abs(arrays[2])[np.isfinite(arrays[2])].max(initial=1)
    if all(near(*pair, least).all() for *pair, least in zip(found, wanted, (lost, 1e-37), strict=False)):
        return
    for mine, theirs, bad in zip(found, wanted, disputed(case, arrays, tables, found, wanted, lost), strict=True):
        places = [tuple(place) for place in bad[:5]]
        assert not places, f"{len(bad)} of {mine.size}: " + ", ".join(
            f"{place}: {mine[place]!r}, not {theirs[place]!r}" for place in places
        )


# Trees are deep, kernels take their time.
SETTINGS = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(case=cases(True, False))
def fuzz_scores(case):
    """Random score functions."""
    check(case)


@SETTINGS
@given(case=st.booleans().flatmap(lambda with_score: cases(with_score, True)))
def fuzz_masks(case):
    """Random mask functions, half of them with a score function."""
    check(case)


@pytest.mark.parametrize("fuzz", [fuzz_scores, fuzz_masks])
def test_random_programs(fuzz, swept):
    fuzz()
    assert len(swept) > EXAMPLES // 10
