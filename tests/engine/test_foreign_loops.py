import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph.engine.foreign_loops import Region, regions


def named(step):
    return step.header if isinstance(step, Region) else step


def test_a_diamond_is_in_order():
    region = regions({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []})
    assert region.steps[0] == "a"
    assert region.steps[-1] == "d"
    assert set(region.steps) == set("abcd")
    assert list(region.loops()) == []


def test_a_loop_is_one_step():
    region = regions({"a": ["b"], "b": ["c", "e"], "c": ["b", "d"], "d": ["b"], "e": []})
    assert [named(step) for step in region.steps] == ["a", "b", "e"]
    (loop,) = region.loops()
    assert loop.blocks == frozenset("bcd")
    assert [named(step) for step in loop.steps] == ["b", "c", "d"]


def test_loops_inside_loops():
    region = regions({"a": ["b"], "b": ["c"], "c": ["c", "d"], "d": ["b", "e"], "e": []})
    outer, inner = region.loops()
    assert (outer.header, inner.header) == ("b", "c")
    assert inner.blocks == {"c"}
    assert [named(step) for step in outer.steps] == ["b", "c", "d"]


def test_two_ways_into_a_loop_are_refused():
    with pytest.raises(ValueError, match="two ways"):
        regions({"a": ["b", "c"], "b": ["c"], "c": ["b", "d"], "d": []})


@given(st.data())
def test_steps_stand_behind_what_leads_to_them(data):
    count = data.draw(st.integers(1, 9))
    numbers = st.lists(st.integers(1, max(count - 1, 1)), max_size=2, unique=True)
    targets = {str(n): [str(t) for t in data.draw(numbers) if t < count] for n in range(count)}
    try:
        whole = regions(targets)
    except ValueError:
        return
    for region in (whole, *whole.loops()):
        place = {}
        for number, step in enumerate(region.steps):
            place |= dict.fromkeys(step.blocks if isinstance(step, Region) else [step], number)
        assert set(place) == region.blocks
        for name in region.blocks:
            for target in set(targets[name]) & region.blocks - {region.header}:
                assert place[name] <= place[target]
                inside = isinstance(region.steps[place[name]], Region)
                assert inside or place[name] < place[target]
